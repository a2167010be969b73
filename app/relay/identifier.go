package relay

import (
	"encoding/binary"
	"strings"
	"unsafe"
)

// crockford is the alphabet of a ULID.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newID makes the ULID of a message: 48 bits of time in ms, 80 random ones. The
// string is valid until the next call; who keeps it clones it.
func (t *Turn) newID() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(t.wallMS())<<16|t.rng.Uint64()&0xffff)
	binary.BigEndian.PutUint64(raw[8:], t.rng.Uint64())
	hi, lo := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for i := 25; i >= 0; i-- {
		t.id[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return unsafe.String(&t.id[0], len(t.id))
}

// ownString is b as a string without a copy. b must never change again.
func ownString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is s as bytes without a copy. They must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func cloneString(s string) string { return strings.Clone(s) }
