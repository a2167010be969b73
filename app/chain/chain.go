// Package chain links the rows of a log by hashes, and finds what was done to
// them afterwards. The scaling log and the audit log are such logs.
//
// Each row has a number, one up by one, and the hash of its content, which holds
// the hash of the row before it. Whoever edits, removes, replaces or reorders rows
// breaks the chain at that place. What a chain alone cannot show is that its end
// was cut off, or that all of it was written anew: for that the end (Head) is
// noted elsewhere and handed to Finish.
//
// The package stores nothing and knows none of the logs.
package chain

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Head is the end of a chain: what the next row follows. The zero Head begins one.
type Head struct {
	Seq  uint64
	Hash string
}

// Canonical encodes v so that equal values give equal bytes: fields in the order
// of their struct, map keys sorted, no spaces, and <, >, & escaped. The escapes
// make it stable: whoever decodes and encodes a row in between, escaping or not,
// cannot change its hash.
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical encoding: %w", err)
	}
	return raw, nil
}

// Sum is the SHA-256 of the canonical encoding of v, in hexadecimal.
func Sum(v any) (string, error) {
	raw, err := Canonical(v)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(raw)
	return hex.EncodeToString(digest[:]), nil
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
	// Origin is the chain that the row belongs to, where a log has several.
	Origin string    `json:"origin,omitempty"`
	Seq    uint64    `json:"seq"`
	Kind   FaultKind `json:"kind"`
	Text   string    `json:"text"`
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

// A Row is what a Verifier needs to know of one row.
type Row struct {
	Seq        uint64
	Prev, Hash string // as stored
	Sum        string // what the stored content gives
	Err        error  // why Sum could not be taken
}

// Add checks the next row.
func (v *Verifier) Add(e Row) {
	v.rows++
	if e.Err != nil {
		v.fault(e.Seq, FaultEdited, "entry %d cannot be encoded: %v", e.Seq, e.Err)
	} else if e.Sum != e.Hash {
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

// Rows is how many rows were read so far.
func (v *Verifier) Rows() uint64 { return v.rows }
