package relay

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unsafe"
)

// crockford is the alphabet of a ULID.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// A stamp is the number behind a ULID: 48 bits of time in ms, 80 random ones.
type stamp struct{ hi, lo uint64 }

// newID makes the ULID of a message. Those of one session grow, wherever it lives and
// whatever its nodes' clocks say: by them a mailbox knows the order in which messages
// of one sender were accepted. s is nil for a sender without a session. The string is
// valid until the next call; who keeps it clones it.
func (t *Turn) newID(s *Session) string {
	v := stamp{uint64(t.wallMS())<<16 | t.rng.Uint64()&0xffff, t.rng.Uint64()}
	if s != nil {
		if v.hi>>16 <= s.newest.hi>>16 {
			v = s.newest.after(v.lo)
		}
		s.newest = v
	}
	hi, lo := v.hi, v.lo
	for i := 25; i >= 0; i-- {
		t.id[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return unsafe.String(&t.id[0], len(t.id))
}

// after is a stamp above v, by a random distance that cannot be guessed.
func (v stamp) after(random uint64) stamp {
	lo, carry := bits.Add64(v.lo, 1+random>>16, 0)
	return stamp{v.hi + carry, lo}
}

// bytes is v as a parcel carries it; nothing when no message was sent.
func (v stamp) bytes() []byte {
	if v == (stamp{}) {
		return nil
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, v.hi), v.lo)
}

// stampOf reads bytes; zero when they are not those of a stamp.
func stampOf(b []byte) stamp {
	if len(b) != 16 {
		return stamp{}
	}
	return stamp{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// ownString is b as a string without a copy. b must never change again.
func ownString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is s as bytes without a copy. They must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func cloneString(s string) string { return strings.Clone(s) }
