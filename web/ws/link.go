package ws

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"unicode/utf8"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// An outlet is the sending side of a connection as its link needs it.
type outlet interface {
	relay.Conn
	// pong answers a ping. When a rest is kept, only the last answer is.
	pong(payload []byte)
	// closeSent tells whether our close frame was written or is kept.
	closeSent() bool
}

// A link is the protocol side of one connection: it turns bytes into calls of the
// Receiver. It belongs to whoever reads the socket; its methods never overlap.
type link struct {
	srv   *Server
	recv  relay.Receiver
	out   outlet
	load  *traffic
	dec   decoder
	flood bucket

	since int64 // ms when what is unfinished began; 0: nothing is

	// over is set by the peer's close frame or a fault: nothing more is read. Then
	// last and reason are for our own close frame, if none was sent before.
	over   bool
	byPeer bool // a valid close frame came
	lost   bool // the socket ended without a close frame
	gone   bool // Receiver.Closed was called
	last   wire.CloseCode
	reason string
}

func newLink(s *Server, out outlet, load *traffic, info relay.ConnInfo, deflate bool) link {
	accept := byte(opText)
	if info.Encoding == wire.Protobuf {
		accept = opBinary
	}
	return link{
		srv: s, out: out, load: load,
		dec: decoder{bufs: &s.bufs, limit: s.cfg.Limits.MessageBytes, accept: accept, deflate: deflate},
	}
}

// input takes what was read. p is changed. now is in milliseconds.
func (k *link) input(t *relay.Turn, p []byte, now int64) {
	k.load.bytesIn.Add(uint64(len(p)))
	for !k.over {
		ev, rest, f := k.dec.next(p)
		p = rest
		if !f.bad() {
			switch ev.op {
			case opNone:
				k.await(now)
				return
			case opText, opBinary:
				k.since = 0
				f = k.message(t, ev)
			default:
				f = k.aside(t, ev, now)
			}
		}
		if f.bad() {
			k.fail(f)
		}
	}
	if len(p) > 0 {
		k.byPeer = false // something follows the close frame: the end is not clean
	}
	k.dec.drop()
}

// await notes since when the rest of a message is missing.
func (k *link) await(now int64) {
	if !k.dec.unfinished() {
		k.since = 0
	} else if k.since == 0 {
		k.since = max(now, 1)
	}
}

// message hands one whole message over.
func (k *link) message(t *relay.Turn, ev event) fault {
	if k.out.closeSent() {
		return fault{} // what comes after our close frame is ignored
	}
	p := ev.payload
	if ev.deflated {
		whole, f := k.srv.deflater.inflate(p, k.dec.limit)
		if f.bad() {
			return f
		}
		defer k.srv.bufs.put(whole)
		p = whole
	}
	if ev.op == opText && !utf8.Valid(p) {
		return fault{wire.CloseInvalidPayload, "utf8", "the message is not UTF-8"}
	}
	k.load.messagesIn.Add(1)
	return k.guard(func() { k.recv.Receive(t, p) })
}

// aside handles what may come between the fragments of a message.
func (k *link) aside(t *relay.Turn, ev event, now int64) fault {
	if !k.flood.take(now) {
		return fault{wire.ClosePolicy, "flood", "too many control frames or empty fragments"}
	}
	switch ev.op {
	case opPing:
		if k.out.closeSent() {
			return fault{}
		}
		k.out.pong(ev.payload)
		return k.guard(func() { k.recv.Seen(t) })
	case opPong:
		if k.out.closeSent() {
			return fault{}
		}
		return k.guard(func() { k.recv.Seen(t) })
	case opClose:
		code, f := parseClose(ev.payload)
		if f.bad() {
			return f
		}
		k.over, k.byPeer, k.last = true, true, code
	}
	return fault{}
}

// fail ends the connection for f; the close frame is the owner's to send.
func (k *link) fail(f fault) {
	k.over, k.byPeer = true, false
	k.last, k.reason = f.code, f.text
	k.srv.tally.fault(f.label)
}

// writable and closed pass on what the socket's owner has to tell.
func (k *link) writable(t *relay.Turn) {
	if f := k.guard(func() { k.recv.Writable(t) }); f.bad() && !k.over {
		k.fail(f)
	}
}

// closed tells the relay that the connection is over, once. code is how it ended.
func (k *link) closed(t *relay.Turn, code wire.CloseCode) {
	if k.gone {
		return
	}
	k.gone, k.over = true, true
	k.srv.tally.close(code)
	k.dec.drop()
	k.guard(func() { k.recv.Closed(t) })
}

// endCode is the code under which the end is counted. sent is the code of our own
// close frame when the relay asked for it, 0 when it did not.
func (k *link) endCode(sent wire.CloseCode) wire.CloseCode {
	switch {
	case sent != 0:
		return sent
	case k.byPeer && k.last == 0:
		return closeNoCode
	case k.last != 0:
		return k.last
	}
	return closeAbnormal
}

// guard calls the relay. A panic there ends this connection only, and its text
// goes nowhere, because it may hold a payload.
func (k *link) guard(call func()) (f fault) {
	defer func() {
		if v := recover(); v != nil {
			k.srv.logPanic("receiver", v)
			f = fault{wire.CloseInternal, "panic", "internal error"}
		}
	}()
	call()
	return fault{}
}

// logPanic logs where a panic came from. Of its value only what the runtime made
// is shown.
func (s *Server) logPanic(where string, v any) {
	text := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		text = err.Error()
	}
	s.cfg.Logger.Error("panic", "in", where, "value", text, "stack", string(debug.Stack()))
}
