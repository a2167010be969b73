package ws

import (
	"encoding/binary"

	"agentnet/app/wire"
)

// A decoder finds the frames of one client in the bytes that come, however they
// are cut. It keeps only what is not whole yet, never more than limit bytes of a
// message, and allocates for what has come, not for what was announced.
type decoder struct {
	bufs    *buffers
	limit   int  // bytes of one message
	accept  byte // opText or opBinary: the type of message that the subprotocol has
	deflate bool // RSV1 may be set on the first frame of a message

	headN uint8
	head  [maxHead]byte // a header of which something is still to come

	// The frame whose payload is being read.
	inFrame bool
	fin     bool
	op      byte

	// The message of which a part has come.
	inMessage bool
	deflated  bool
	lentMsg   bool // msg was returned by next and is over
	lentCtl   bool

	key  uint32 // the frame's
	left int    // payload bytes of the frame still to come
	msg  []byte // from bufs, nil while nothing is kept
	ctl  []byte // the same for a control frame
}

// An event is what next has found.
type event struct {
	op       byte // opText, opBinary, opClose, opPing, opPong, opEmpty or opNone
	payload  []byte
	deflated bool
}

// next returns the first whole message or control frame in p, and what follows it.
// It changes p: masks are taken off in place. The event's payload is valid until
// the next call. After opNone, all of p is used up. After a fault the decoder must
// not be used any more.
func (d *decoder) next(p []byte) (ev event, rest []byte, f fault) {
	d.release()
	for {
		if !d.inFrame {
			if p, f = d.header(p); f.bad() || !d.inFrame {
				return event{op: opNone}, nil, f
			}
		}
		n := min(len(p), d.left)
		chunk := p[:n]
		p, d.left = p[n:], d.left-n
		d.key = unmask(chunk, d.key)
		whole := d.left == 0
		d.inFrame = !whole
		if d.op >= opClose {
			ev = d.control(chunk, whole)
		} else {
			ev, f = d.data(chunk, whole)
		}
		if f.bad() {
			return ev, nil, f
		}
		if ev.op != opNone {
			return ev, p, fault{}
		}
		if !whole {
			return ev, nil, fault{}
		}
	}
}

// unfinished tells whether a frame or message has begun and is not over.
func (d *decoder) unfinished() bool {
	return d.headN > 0 || d.inFrame || d.inMessage
}

// release gives back what the last event lent.
func (d *decoder) release() {
	if d.lentMsg {
		d.bufs.drop(d.msg)
		d.msg, d.lentMsg = nil, false
	}
	if d.lentCtl {
		d.bufs.put(d.ctl)
		d.ctl, d.lentCtl = nil, false
	}
}

// drop gives back everything, when the connection is over.
func (d *decoder) drop() {
	d.lentMsg, d.lentCtl = d.msg != nil, d.ctl != nil
	d.release()
}

func (d *decoder) control(chunk []byte, whole bool) event {
	if !whole || d.ctl != nil {
		if len(chunk) > 0 {
			d.ctl = d.bufs.append(d.ctl, chunk)
		}
		if !whole {
			return event{op: opNone}
		}
		chunk, d.lentCtl = d.ctl, d.ctl != nil
	}
	return event{op: d.op, payload: chunk}
}

func (d *decoder) data(chunk []byte, whole bool) (event, fault) {
	if whole && d.fin && d.msg == nil {
		d.inMessage = false
		return event{op: d.accept, payload: chunk, deflated: d.deflated}, fault{}
	}
	if len(chunk) > 0 {
		var ok bool
		if d.msg, ok = d.bufs.keep(d.msg, chunk); !ok {
			return event{op: opNone}, fault{wire.CloseOverloaded, "crowded", "too many messages are under way at once"}
		}
	}
	switch {
	case !whole:
	case d.fin:
		d.inMessage, d.lentMsg = false, d.msg != nil
		return event{op: d.accept, payload: d.msg, deflated: d.deflated}, fault{}
	case len(chunk) == 0:
		return event{op: opEmpty}, fault{}
	}
	return event{op: opNone}, fault{}
}

// header takes a header from the beginning of p, or what there is of one.
// d.inFrame tells whether it is whole.
func (d *decoder) header(p []byte) ([]byte, fault) {
	if d.headN == 0 && len(p) >= 2 {
		// The usual case: the header lies whole in p.
		if f := d.check(p[0], p[1]); f.bad() {
			return nil, f
		}
		if n := headLen(p[1]); len(p) >= n {
			return p[n:], d.open(p[:n])
		}
	}
	for len(p) > 0 {
		d.head[d.headN] = p[0]
		d.headN++
		p = p[1:]
		switch {
		case d.headN < 2:
		case d.headN == 2:
			if f := d.check(d.head[0], d.head[1]); f.bad() {
				return nil, f
			}
		case int(d.headN) == headLen(d.head[1]):
			n := d.headN
			d.headN = 0
			return p, d.open(d.head[:n])
		}
	}
	return nil, fault{}
}

// headLen is the length of the header of a masked frame with this second byte.
func headLen(second byte) int {
	switch second &^ bitMask {
	case 126:
		return 8
	case 127:
		return 14
	}
	return 6
}

// check looks at the first two bytes of a header.
func (d *decoder) check(first, second byte) fault {
	op, fin := first&0x0f, first&bitFin != 0
	rsv := first & 0x70
	if rsv == bitRSV1 && d.deflate && (op == opText || op == opBinary) {
		rsv = 0
	}
	switch {
	case rsv != 0:
		return protocolFault("rsv", "a reserved bit is set and no extension gives it a meaning here")
	case second&bitMask == 0:
		return protocolFault("unmasked", "frames of a client must be masked")
	}
	switch op {
	case opClose, opPing, opPong:
		if !fin {
			return protocolFault("control_frame", "control frames must not be fragmented")
		}
		if second&^bitMask > maxControl {
			return protocolFault("control_frame", "control frames have at most 125 bytes")
		}
		return fault{}
	case opContinuation:
		if !d.inMessage {
			return protocolFault("fragmentation", "a continuation frame came without a message to continue")
		}
		return fault{}
	case opText, opBinary:
		if d.inMessage {
			return protocolFault("fragmentation", "a new message came before the end of the last one")
		}
		if op != d.accept {
			return wrongType(d.accept)
		}
		return fault{}
	}
	return protocolFault("opcode", "the opcode is unknown")
}

func wrongType(accept byte) fault {
	if accept == opText {
		return fault{wire.CloseUnsupported, "wrong_type", wire.SubprotocolJSON + " has text messages only"}
	}
	return fault{wire.CloseUnsupported, "wrong_type", wire.SubprotocolProtobuf + " has binary messages only"}
}

// open begins the frame of a whole header h that check has passed.
func (d *decoder) open(h []byte) fault {
	length := uint64(h[1] &^ bitMask)
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(h[2:]))
		if length < 126 {
			return protocolFault("length", "the length is not written in the shortest form")
		}
	case 127:
		length = binary.BigEndian.Uint64(h[2:])
		if length>>63 != 0 {
			return protocolFault("length", "the top bit of the length is set")
		}
		if length <= 0xffff {
			return protocolFault("length", "the length is not written in the shortest form")
		}
	}
	op := h[0] & 0x0f
	if op < opClose {
		if op != opContinuation {
			d.inMessage, d.deflated = true, h[0]&bitRSV1 != 0
		}
		limit := d.limit
		if d.deflated {
			// What cannot be compressed grows by a few bytes in each block.
			limit += limit>>10 + 64
		}
		if length > uint64(limit-len(d.msg)) {
			return fault{wire.CloseTooBig, "too_big", "the message is larger than the limit"}
		}
	}
	d.op, d.fin = op, h[0]&bitFin != 0
	d.key = binary.LittleEndian.Uint32(h[len(h)-4:])
	d.left, d.inFrame = int(length), true
	return fault{}
}
