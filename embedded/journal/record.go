package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// messageVersion is the first byte of an encoded message. A layout that an older
// program could not read gets a new number.
const messageVersion = 1

// Bits of the flags byte.
const (
	flagReceipts = 1 << iota
	flagBinary
	flagData   // Payload.Data is not nil
	flagsKnown = flagReceipts | flagBinary | flagData
)

// errMessage says that an encoded message is not one. Its text names no content.
var errMessage = errors.New("malformed message")

// appendMessage appends p in the form that decodeMessage reads.
func appendMessage(b []byte, p *relay.Parked) []byte {
	flags := byte(0)
	if p.Receipts {
		flags |= flagReceipts
	}
	if p.Payload.Binary {
		flags |= flagBinary
	}
	if p.Payload.Data != nil {
		flags |= flagData
	}
	b = append(b, messageVersion, flags, byte(p.Class))
	b = appendText(b, p.MessageID)
	b = appendText(b, p.From)
	b = appendText(b, p.To)
	b = binary.AppendVarint(b, p.TimeMS)
	b = binary.AppendVarint(b, p.ExpiresMS)
	b = binary.AppendUvarint(b, uint64(len(p.Headers)))
	for _, h := range p.Headers {
		b = appendText(b, h.Name)
		b = appendText(b, h.Value)
	}
	if flags&flagData != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Payload.Data)))
		b = append(b, p.Payload.Data...)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decodeMessage reads what appendMessage wrote. The result shares nothing with b.
func decodeMessage(b []byte) (*relay.Parked, error) {
	r := reader{b: b}
	if v := r.byte(); r.ok() && v != messageVersion {
		return nil, fmt.Errorf("message of version %d: this program reads version %d", v, messageVersion)
	}
	flags, class := r.byte(), r.byte()
	if flags&^flagsKnown != 0 || class >= wire.Classes {
		return nil, errMessage
	}
	p := &relay.Parked{
		Class: wire.Class(class), Receipts: flags&flagReceipts != 0,
		MessageID: r.text(), From: r.text(), To: r.text(),
		TimeMS: r.varint(), ExpiresMS: r.varint(),
	}
	headers := r.uvarint()
	if headers > uint64(len(r.b))/2 { // each has two lengths at least, so that a false count allocates nothing
		return nil, errMessage
	}
	for range headers {
		p.Headers = append(p.Headers, wire.Header{Name: r.text(), Value: r.text()})
	}
	p.Payload.Binary = flags&flagBinary != 0
	if flags&flagData != 0 {
		p.Payload.Data = append([]byte{}, r.bytes()...)
	}
	if !r.ok() || len(r.b) != 0 {
		return nil, errMessage
	}
	return p, nil
}

// messageID reads only the id, for the index.
func messageID(b []byte) (string, bool) {
	r := reader{b: b}
	v := r.byte()
	r.byte()
	r.byte()
	id := r.text()
	return id, r.ok() && v == messageVersion
}

// A reader takes fields from the front of b. After the first fault it yields zero
// values and ok is false.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) ok() bool { return !r.bad }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return uint64(r.number(int64(v), n))
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return r.number(v, n)
}

func (r *reader) number(v int64, n int) int64 {
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) text() string { return string(r.bytes()) }
