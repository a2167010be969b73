package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// version is the first byte of every parcel. A node that does not know it drops
// the parcel and counts that.
const version = 1

const (
	maxOrigins = 100_000 // heads in one parcel
	maxName    = 128     // bytes of a stream's or an origin's name
	maxEntries = 100_000 // entries in one parcel
)

// Kinds of parcels.
const (
	kindBeat  = 1 // the digest of the sender's heads
	kindWant  = 2 // the sender's heads: it asks for what it lacks
	kindBatch = 3 // entries
	kindDone  = 4 // the end of an answer
)

// A parcel is one thing that one node's stream tells another's.
type parcel struct {
	kind   byte
	stream string

	own    string            // beat: the sender's origin
	digest uint64            // beat
	heads  map[string]uint64 // want
	batch  Batch             // batch
	more   bool              // done: there is more to ask for
}

var errMalformed = errors.New("malformed parcel")

// append encodes p behind dst.
func (p *parcel) append(dst []byte) []byte {
	dst = append(dst, version, p.kind)
	dst = appendString(dst, p.stream)
	switch p.kind {
	case kindBeat:
		dst = appendString(dst, p.own)
		dst = binary.BigEndian.AppendUint64(dst, p.digest)
	case kindWant:
		dst = binary.AppendUvarint(dst, uint64(len(p.heads)))
		for _, origin := range slices.Sorted(maps.Keys(p.heads)) {
			dst = appendString(dst, origin)
			dst = binary.AppendUvarint(dst, p.heads[origin])
		}
	case kindBatch:
		b := &p.batch
		dst = appendString(dst, b.Origin)
		dst = binary.AppendUvarint(dst, b.After)
		dst = binary.AppendUvarint(dst, b.UpTo)
		dst = binary.AppendUvarint(dst, uint64(len(b.Entries)))
		for i := range b.Entries {
			dst = binary.AppendUvarint(dst, b.Entries[i].Number)
			dst = appendString(dst, b.Entries[i].Body)
		}
	case kindDone:
		more := byte(0)
		if p.more {
			more = 1
		}
		dst = append(dst, more)
	}
	return dst
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// parse decodes a parcel. The bodies of entries share its memory.
func parse(text []byte) (parcel, error) {
	r := reader{rest: text}
	var p parcel
	if v := r.byte(); v != version {
		return p, fmt.Errorf("%w: version %d, this program knows %d", errMalformed, v, version)
	}
	p.kind = r.byte()
	p.stream = r.name()
	switch p.kind {
	case kindBeat:
		p.own = r.name()
		p.digest = r.fixed64()
	case kindWant:
		n := r.count(maxOrigins)
		p.heads = make(map[string]uint64, n)
		for range n {
			origin := r.name()
			p.heads[origin] = r.uvarint()
		}
	case kindBatch:
		p.batch = r.batch()
	case kindDone:
		p.more = r.byte() == 1
	default:
		return p, fmt.Errorf("%w: kind %d", errMalformed, p.kind)
	}
	if r.failed {
		return p, fmt.Errorf("%w: kind %d ends early or has a number out of bounds", errMalformed, p.kind)
	}
	return p, nil
}

// A reader takes a parcel apart. After a fault it answers zeros and says so by
// failed. What is left behind the last field belongs to a later version.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.rest) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) fixed64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if r.failed || n <= 0 {
		r.failed = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads how many items follow. Each has two bytes at least, so that a short
// parcel cannot have memory set aside for many.
func (r *reader) count(most int) int {
	n := r.uvarint()
	if n > uint64(most) || n > uint64(len(r.rest)/2) {
		r.failed = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes(most int) []byte {
	n := r.uvarint()
	if n > uint64(most) {
		r.failed = true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) name() string { return string(r.bytes(maxName)) }

func (r *reader) batch() Batch {
	b := Batch{Origin: r.name(), After: r.uvarint(), UpTo: r.uvarint()}
	n := r.count(maxEntries)
	b.Entries = make([]Entry, 0, n)
	last := b.After
	for range n {
		e := Entry{Number: r.uvarint(), Body: r.bytes(len(r.rest))}
		if e.Number <= last || e.Number > b.UpTo {
			r.failed = true
		}
		if r.failed {
			return Batch{}
		}
		last = e.Number
		b.Entries = append(b.Entries, e)
	}
	if b.Origin == "" || b.UpTo < b.After {
		r.failed = true
	}
	return b
}
