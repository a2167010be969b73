package cluster

import (
	"encoding/binary"
	"errors"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// publicationVersion is the first byte of an encoded publication. A layout that an
// older node could not read gets a new number.
const publicationVersion = 1

// Bits of the flags byte.
const (
	flagBinary = 1 << iota
	flagData   // Payload.Data is not nil
	flagBare   // only the place is kept: this channel has no stored history
	flagsKnown = flagBinary | flagData | flagBare
)

var errPublication = errors.New("malformed publication in redis")

// appendPublication appends p in the form that decodePublication reads, without
// the offset, which is the stream's id. bare leaves out all that agents said.
func appendPublication(b []byte, p *relay.Publication, bare bool) []byte {
	flags := byte(0)
	if p.Payload.Binary {
		flags |= flagBinary
	}
	if p.Payload.Data != nil {
		flags |= flagData
	}
	if bare {
		flags = flagBare
	}
	b = append(b, publicationVersion, flags, byte(p.Class))
	b = binary.AppendVarint(b, p.TimeMS)
	if bare {
		return b
	}
	b = appendText(b, p.MessageID)
	b = appendText(b, p.From)
	b = binary.AppendUvarint(b, uint64(len(p.Headers)))
	for _, h := range p.Headers {
		b = appendText(b, h.Name)
		b = appendText(b, h.Value)
	}
	return append(b, p.Payload.Data...) // to the end
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decodePublication reads what appendPublication wrote.
func decodePublication(s string) (p relay.Publication, bare bool, err error) {
	if len(s) < 3 || s[0] != publicationVersion || s[1]&^flagsKnown != 0 || s[2] >= wire.Classes {
		return p, false, errPublication
	}
	flags := s[1]
	p.Class = wire.Class(s[2])
	r := reader{b: []byte(s[3:])}
	p.TimeMS = r.varint()
	if bare = flags&flagBare != 0; !bare {
		p.MessageID, p.From = r.text(), r.text()
		headers := r.uvarint()
		if headers > uint64(len(r.b))/2 { // each has two lengths at least, so that a false count allocates nothing
			return p, false, errPublication
		}
		for range headers {
			p.Headers = append(p.Headers, wire.Header{Name: r.text(), Value: r.text()})
		}
		p.Payload.Binary = flags&flagBinary != 0
		if flags&flagData != 0 {
			p.Payload.Data, r.b = append([]byte{}, r.b...), nil
		}
	}
	if r.bad || len(r.b) != 0 {
		return p, false, errPublication
	}
	return p, bare, nil
}

// A reader takes fields from the front of b. After the first fault it yields zero
// values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fault() { r.bad, r.b = true, nil }

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fault()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fault()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fault()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fault()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
