package scale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"agentnet/app/chain"
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

// The parts of a chain, which the audit log has too.
type (
	// Head is the end of a chain: what the next entry follows. The zero Head begins one.
	Head = chain.Head
	// A FaultKind says what happened to a row of the log.
	FaultKind = chain.FaultKind
	// A Fault names one row that is not as it was written.
	Fault = chain.Fault
)

// The kinds of faults.
const (
	FaultEdited    = chain.FaultEdited
	FaultRemoved   = chain.FaultRemoved
	FaultReordered = chain.FaultReordered
	FaultReplaced  = chain.FaultReplaced
	FaultTruncated = chain.FaultTruncated
)

// A Verifier checks entries as they are read, in stored order. The zero value
// begins at the first entry of the log.
type Verifier struct{ chain chain.Verifier }

// NewVerifier begins behind an entry that is known to be right, such as the last
// one that an earlier verification reached.
func NewVerifier(after Head) *Verifier { return &Verifier{*chain.NewVerifier(after)} }

// Add checks the next row.
func (v *Verifier) Add(e *Entry) {
	sum, err := e.sum()
	v.chain.Add(chain.Row{Seq: e.Seq, Prev: e.Prev, Hash: e.Hash, Sum: sum, Err: err})
}

// Finish ends the verification. known is the end of the log as somebody noted it
// earlier, outside of the log; the zero Head asks nothing. It returns the faults
// by number, the rows that were read, and the end that was reached.
func (v *Verifier) Finish(known Head) (faults []Fault, rows uint64, end Head) {
	return v.chain.Finish(known)
}

// Rows is how many rows were read so far.
func (v *Verifier) Rows() uint64 { return v.chain.Rows() }

// Verify reads a whole log and names every row that is not as it was written.
func Verify(ctx context.Context, log Log, known Head) ([]Fault, uint64, Head, error) {
	return VerifyFrom(ctx, log, Head{}, known)
}

// VerifyFrom is Verify of a log that begins behind an entry that left it.
func VerifyFrom(ctx context.Context, log Log, begin, known Head) ([]Fault, uint64, Head, error) {
	v := NewVerifier(begin)
	after := begin.Seq
	for {
		page, err := log.Entries(ctx, after, 500)
		if err != nil {
			return nil, v.Rows(), Head{}, fmt.Errorf("verify the log behind entry %d: %w", after, err)
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
			return nil, v.Rows(), Head{}, fmt.Errorf("verify the log: it answers entries that do not lie behind entry %d", after)
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
