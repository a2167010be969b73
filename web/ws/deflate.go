package ws

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	"agentnet/app/wire"

	"github.com/klauspost/compress/flate"
)

// flateEnd stands for what RFC 7692 takes off a compressed message, followed by an
// empty last block, so that the reader ends with io.EOF.
const flateEnd = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// deflateLevel is the fastest: messages are small, and the window is thrown away
// after each.
const deflateLevel = 1

// A deflater compresses and inflates messages without context takeover. All
// methods may be called concurrently.
type deflater struct {
	bufs    *buffers
	readers sync.Pool // of *inflation
	writers sync.Pool // of *deflation
}

type inflation struct {
	in   bytes.Reader
	tail bytes.Reader
	two  twoReaders
	r    io.ReadCloser
}

// twoReaders reads the first, then the second; it needs no allocation for a message.
type twoReaders struct{ a, b *bytes.Reader }

func (t *twoReaders) Read(p []byte) (int, error) {
	if t.a.Len() > 0 {
		return t.a.Read(p)
	}
	return t.b.Read(p)
}

func (t *twoReaders) ReadByte() (byte, error) {
	if t.a.Len() > 0 {
		return t.a.ReadByte()
	}
	return t.b.ReadByte()
}

// inflate returns the message that p is the compressed form of. The caller gives
// the result back to bufs. Never more than limit bytes are kept.
func (d *deflater) inflate(p []byte, limit int) ([]byte, fault) {
	v, _ := d.readers.Get().(*inflation)
	if v == nil {
		v = &inflation{}
		v.two = twoReaders{&v.in, &v.tail}
		v.r = flate.NewReader(&v.two)
	}
	defer d.readers.Put(v)
	v.in.Reset(p)
	v.tail.Reset([]byte(flateEnd))
	if err := v.r.(flate.Resetter).Reset(&v.two, nil); err != nil {
		return nil, fault{wire.CloseInternal, "inflate", "the message could not be inflated"}
	}
	defer v.in.Reset(nil)
	out := d.bufs.get(min(4*len(p)+64, limit+1))
	for {
		if len(out) == cap(out) {
			wider := append(d.bufs.get(2*cap(out)), out...)
			d.bufs.put(out)
			out = wider
		}
		room := out[len(out):min(cap(out), limit+1)]
		n, err := v.r.Read(room)
		out = out[:len(out)+n]
		switch {
		case len(out) > limit:
			d.bufs.put(out)
			return nil, fault{wire.CloseTooBig, "too_big", "the inflated message is larger than the limit"}
		case err == io.EOF:
			return out, fault{}
		case err != nil:
			d.bufs.put(out)
			return nil, fault{wire.CloseInvalidPayload, "inflate", "the message is not valid deflate data"}
		}
	}
}

type deflation struct {
	out sink
	w   *flate.Writer
}

// sink collects what a flate.Writer writes in a lent buffer.
type sink struct {
	bufs *buffers
	b    []byte
}

func (s *sink) Write(p []byte) (int, error) {
	s.b = s.bufs.append(s.b, p)
	return len(p), nil
}

// seal returns p, which is whole unmasked frames, with the payload of each message
// of at least least bytes compressed. lent tells that the result is not p and goes
// back to bufs.
func (d *deflater) seal(p []byte, least int) (out []byte, lent bool) {
	for at := 0; at < len(p); {
		first, start, end, ok := serverFrame(p[at:])
		if !ok {
			// Not a whole frame: it is passed on as it is.
			start, end = 0, len(p)-at
		}
		frame := p[at : at+end]
		payload := frame[start:]
		data := first == bitFin|opText || first == bitFin|opBinary
		if ok && data && len(payload) >= least {
			if out == nil {
				out = append(d.bufs.get(len(p)), p[:at]...)
			}
			out = d.compress(out, first, frame, payload)
		} else if out != nil {
			out = d.bufs.append(out, frame)
		}
		at += end
	}
	if out == nil {
		return p, false
	}
	return out, true
}

// compress appends one message in its compressed form, or frame as it is when that
// gains nothing.
func (d *deflater) compress(dst []byte, first byte, frame, payload []byte) []byte {
	v, _ := d.writers.Get().(*deflation)
	if v == nil {
		v = &deflation{}
		v.out.bufs = d.bufs
		v.w, _ = flate.NewWriter(&v.out, deflateLevel) // fails for an unknown level only
	}
	v.out.b = d.bufs.get(len(payload))
	v.w.Reset(&v.out)
	_, errWrite := v.w.Write(payload)
	errFlush := v.w.Flush()
	body := bytes.TrimSuffix(v.out.b, []byte(flateEnd[:4]))
	if errWrite != nil || errFlush != nil || len(body) >= len(payload) {
		dst = d.bufs.append(dst, frame)
	} else {
		var head [maxServerHead]byte
		dst = d.bufs.append(dst, appendHead(head[:0], first|bitRSV1, len(body)))
		dst = d.bufs.append(dst, body)
	}
	d.bufs.put(v.out.b)
	v.out.b = nil
	d.writers.Put(v)
	return dst
}

// serverFrame finds the first frame of p, which is unmasked: its first byte, where
// its payload begins and where it ends.
func serverFrame(p []byte) (first byte, start, end int, ok bool) {
	if len(p) < 2 {
		return 0, 0, 0, false
	}
	start = 2
	length := uint64(p[1])
	switch {
	case length == 126 && len(p) >= 4:
		start, length = 4, uint64(binary.BigEndian.Uint16(p[2:]))
	case length == 127 && len(p) >= 10:
		start, length = 10, binary.BigEndian.Uint64(p[2:])
	case length > 125:
		return 0, 0, 0, false
	}
	if length > uint64(len(p)-start) {
		return 0, 0, 0, false
	}
	return p[0], start, start + int(length), true
}
