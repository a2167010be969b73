package scale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// SealAll seals entries one behind the other and resolves CauseIn, for a Log's Append.
func SealAll(head Head, entries []Entry) ([]Entry, error) {
	out := make([]Entry, 0, len(entries))
	for i, e := range entries {
		if e.CauseIn > 0 && e.CauseIn <= i {
			e.Cause = out[e.CauseIn-1].Seq
		}
		e.CauseIn = 0
		sealed, err := Seal(head, e)
		if err != nil {
			return nil, err
		}
		out = append(out, sealed)
		head = sealed.Head()
	}
	return out, nil
}

// A FaultKind says what happened to a row of the log.
type FaultKind string

// The kinds of faults.
const (
	FaultEdited    FaultKind = "edited"    // its content does not give its hash
	FaultRemoved   FaultKind = "removed"   // its number is missing
	FaultReordered FaultKind = "reordered" // it does not stand where its number belongs
	FaultReplaced  FaultKind = "replaced"  // it is whole, but does not follow the one before it
	FaultTruncated FaultKind = "truncated" // the log is shorter than it once was
)

// A Fault names one row that is not as it was written.
type Fault struct {
	Seq  uint64    `json:"seq"`
	Kind FaultKind `json:"kind"`
	Text string    `json:"text"`
}

// maxFaults bounds what one verification reports; a rewritten log has as many
// faults as rows.
const maxFaults = 1000

// A Verifier checks entries as they are read, in stored order. The zero value
// begins at the first entry of the log.
type Verifier struct {
	from    uint64 // entries up to this one were taken on trust
	last    uint64 // highest number so far
	hash    string // of entry last, where it came in its place
	linked  bool   // hash is that of entry last
	missing map[uint64]bool
	faults  []Fault
	more    int
	rows    uint64
}

// NewVerifier begins behind an entry that is known to be right, such as the last
// one that an earlier verification reached.
func NewVerifier(after Head) *Verifier {
	return &Verifier{from: after.Seq, last: after.Seq, hash: after.Hash, linked: after.Seq > 0}
}

func (v *Verifier) fault(seq uint64, kind FaultKind, format string, args ...any) {
	if len(v.faults) >= maxFaults {
		v.more++
		return
	}
	v.faults = append(v.faults, Fault{Seq: seq, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// Add checks the next row.
func (v *Verifier) Add(e *Entry) {
	v.rows++
	if sum, err := e.sum(); err != nil {
		v.fault(e.Seq, FaultEdited, "entry %d cannot be encoded: %v", e.Seq, err)
	} else if sum != e.Hash {
		v.fault(e.Seq, FaultEdited, "entry %d was edited: its content gives another hash than the stored one", e.Seq)
	}
	switch {
	case e.Seq == v.last+1:
		first := v.last == 0
		if first && e.Prev != "" {
			v.fault(e.Seq, FaultReplaced, "entry %d claims to follow another one, but is the first", e.Seq)
		} else if v.linked && e.Prev != v.hash {
			v.fault(e.Seq, FaultReplaced, "entry %d does not follow the stored entry %d: one of the two was replaced, or what stood between them was removed and the rest renumbered", e.Seq, v.last)
		}
	case e.Seq > v.last+1:
		v.skip(v.last+1, e.Seq-1)
	case v.missing[e.Seq]:
		delete(v.missing, e.Seq)
		v.fault(e.Seq, FaultReordered, "entry %d stands behind entry %d", e.Seq, v.last)
		return
	default:
		v.fault(e.Seq, FaultReordered, "entry %d comes again behind entry %d", e.Seq, v.last)
		return
	}
	v.last, v.hash, v.linked = e.Seq, e.Hash, true
}

// skip notes the numbers that did not come; they may come later.
func (v *Verifier) skip(first, last uint64) {
	if v.missing == nil {
		v.missing = make(map[uint64]bool)
	}
	for seq := first; seq <= last; seq++ {
		if len(v.missing) >= maxFaults {
			v.more += int(min(last-seq+1, 1<<30))
			return
		}
		v.missing[seq] = true
	}
}

// Finish ends the verification. known is the end of the log as somebody noted it
// earlier, outside of the log; the zero Head asks nothing. It returns the faults
// by number, the rows that were read, and the end that was reached.
func (v *Verifier) Finish(known Head) (faults []Fault, rows uint64, end Head) {
	for seq := range v.missing {
		v.fault(seq, FaultRemoved, "entry %d was removed", seq)
	}
	switch {
	case known.Seq > v.last:
		v.fault(known.Seq, FaultTruncated, "the log ends at entry %d, but reached entry %d before", v.last, known.Seq)
	case known.Seq > 0 && known.Seq == v.last && known.Hash != v.hash:
		v.fault(known.Seq, FaultReplaced, "entry %d is not the one that stood there before", known.Seq)
	}
	if v.more > 0 {
		v.faults = append(v.faults, Fault{Kind: FaultRemoved, Seq: v.last, Text: fmt.Sprintf("and %d more faults", v.more)})
	}
	slices.SortStableFunc(v.faults, func(a, b Fault) int { return cmp.Compare(a.Seq, b.Seq) })
	return v.faults, v.rows, Head{Seq: v.last, Hash: v.hash}
}

// Verify reads a whole log and names every row that is not as it was written.
func Verify(ctx context.Context, log Log, known Head) ([]Fault, uint64, Head, error) {
	var v Verifier
	after := uint64(0)
	for {
		page, err := log.Entries(ctx, after, 500)
		if err != nil {
			return nil, v.rows, Head{}, fmt.Errorf("verify the log behind entry %d: %w", after, err)
		}
		if len(page) == 0 {
			faults, rows, end := v.Finish(known)
			return faults, rows, end, nil
		}
		highest := after
		for i := range page {
			v.Add(&page[i])
			highest = max(highest, page[i].Seq)
		}
		if highest == after {
			return nil, v.rows, Head{}, fmt.Errorf("verify the log: it answers entries that do not lie behind entry %d", after)
		}
		after = highest
	}
}

// A MemoryLog is a Log for the simulator and for nodes without a database. It
// keeps the last entries only; the chain goes on. Safe for concurrent use.
type MemoryLog struct {
	mu      sync.Mutex
	keep    int
	head    Head
	entries []Entry
}

// NewMemoryLog returns a log that keeps the last keep entries, at least one.
func NewMemoryLog(keep int) *MemoryLog { return &MemoryLog{keep: max(1, keep)} }

// Append implements Log.
func (l *MemoryLog) Append(ctx context.Context, entries []Entry) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("append to the log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sealed, err := SealAll(l.head, entries)
	if err != nil {
		return nil, fmt.Errorf("append to the log: %w", err)
	}
	if len(sealed) == 0 {
		return nil, nil
	}
	l.head = sealed[len(sealed)-1].Head()
	l.entries = append(l.entries, sealed...)
	if over := len(l.entries) - l.keep; over > 0 {
		l.entries = slices.Delete(l.entries, 0, over)
	}
	return sealed, nil
}

// Entries implements Log.
func (l *MemoryLog) Entries(ctx context.Context, after uint64, limit int) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	if limit <= 0 {
		return nil, errors.New("read the log: the limit must be above 0")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.entries, after+1, func(e Entry, seq uint64) int { return cmp.Compare(e.Seq, seq) })
	return slices.Clone(l.entries[i:min(len(l.entries), i+limit)]), nil
}
