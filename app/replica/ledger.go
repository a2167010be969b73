package replica

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
)

// An Entry is one entry of a log. What its body means is the ledger's affair.
type Entry struct {
	Number uint64
	Body   []byte
}

// A Batch is everything that a log still has of one origin with numbers above
// After and up to UpTo, in rising order. Numbers may be missing: what a later entry
// has overwritten need not be kept.
type Batch struct {
	Origin  string
	After   uint64
	UpTo    uint64
	Entries []Entry
}

// Position says what a ledger has: all of each origin up to a number.
type Position struct {
	Own   string // the origin that this node writes as
	Heads map[string]uint64
}

// A Ledger is one log of one node. Its methods may be called concurrently, also
// with writers in other processes, and return within ctx.
type Ledger interface {
	// Position reads how far the ledger has each origin, its own among them.
	Position(ctx context.Context) (Position, error)
	// Since reads a batch of an origin's entries above after: about as many as fit
	// into the given bytes, one at least when there is any. UpTo is after when there
	// is none.
	Since(ctx context.Context, origin string, after uint64, bytes int) (Batch, error)
	// Apply takes a batch in, on stable storage, all of it or nothing. What the
	// ledger has already is passed over. It is an error (ErrGap) when After is above
	// the ledger's head of that origin. An entry that cannot be understood is the
	// ledger's affair and no error: the entries behind it must not wait for it.
	Apply(ctx context.Context, b Batch) error
	// Renew makes the ledger write as a new origin from now on, and forget how far
	// it had the old one, so that it gets that again from the others. It is called
	// when the others have entries of this origin that the ledger itself does not
	// have: it was restored from an older copy, or copied to a second node. That the
	// old origin is abandoned is an entry of the log itself: a ledger that reads that
	// of its own origin renews itself too, because two of them have used it.
	Renew(ctx context.Context) error
	// Prune may drop what was overwritten. It is called now and then, when every
	// node that is there has all that this ledger has.
	Prune(ctx context.Context) error
}

// digest is one number for all heads: equal heads have equal digests.
func digest(heads map[string]uint64) uint64 {
	h := fnv.New64a()
	var number [8]byte
	for _, origin := range slices.Sorted(maps.Keys(heads)) {
		if heads[origin] == 0 {
			continue
		}
		h.Write([]byte(origin))
		binary.BigEndian.PutUint64(number[:], heads[origin])
		h.Write(number[:]) // eight bytes after each name: no two lists of heads run into one
	}
	return h.Sum64()
}
