package account

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"agentnet/app/chain"
)

// Outcomes of what somebody did.
const (
	Done    = "done"
	Refused = "refused" // not allowed, or wrong
	Failed  = "failed"  // allowed, but it did not work
)

// Doors through which people come.
const (
	ViaPage    = "page"
	ViaAPI     = "api"
	ViaCommand = "command"
	ViaServer  = "server" // the server itself
)

// An Entry is one row of the audit log: who did what to which thing, when, from
// where, and what came of it. It never holds a password, a token or a payload.
type Entry struct {
	Place   uint64    `json:"place,omitempty"`  // in which order it came to this node; not hashed
	Origin  string    `json:"origin,omitempty"` // the data directory that wrote it; not hashed
	Seq     uint64    `json:"seq"`              // its number in the chain of its origin
	At      time.Time `json:"at"`               // whole milliseconds
	Node    string    `json:"node"`
	Actor   string    `json:"actor"`             // an account, token:ID, system:USER for a command, or server
	Role    Role      `json:"role,omitempty"`    // that it was done with
	Via     string    `json:"via"`               // page, api, command or server
	Address string    `json:"address,omitempty"` // of the client
	Action  string    `json:"action"`            // such as token.create
	Target  string    `json:"target,omitempty"`  // what it was done to
	Outcome string    `json:"outcome"`           // done, refused or failed
	Detail  string    `json:"detail,omitempty"`  // a sentence for people
	Prev    string    `json:"prev"`              // Hash of the entry before; "" in the first
	Hash    string    `json:"hash"`              // of the fields from seq to prev
}

// Lengths that a field is cut to: what a client sends must not fill the log.
const (
	maxWord   = 160
	maxDetail = 600
)

// Head is the chain's end after e.
func (e *Entry) Head() chain.Head { return chain.Head{Seq: e.Seq, Hash: e.Hash} }

// Row is what a chain.Verifier looks at.
func (e *Entry) Row() chain.Row {
	sum, err := e.sum()
	return chain.Row{Seq: e.Seq, Prev: e.Prev, Hash: e.Hash, Sum: sum, Err: err}
}

func (e Entry) sum() (string, error) {
	e.Place, e.Origin, e.Hash, e.At = 0, "", "", e.At.UTC()
	return chain.Sum(e)
}

// Seal gives e its place behind head and its hash. Text that is too long is cut,
// control characters are replaced.
func Seal(head chain.Head, e Entry) (Entry, error) {
	e.Seq, e.Prev = head.Seq+1, head.Hash
	e.At = e.At.UTC().Truncate(time.Millisecond)
	for _, f := range []*string{&e.Node, &e.Actor, &e.Via, &e.Address, &e.Action, &e.Target, &e.Outcome} {
		*f = clean(*f, maxWord)
	}
	e.Detail = clean(e.Detail, maxDetail)
	sum, err := e.sum()
	if err != nil {
		return Entry{}, fmt.Errorf("seal audit entry %d: %w", e.Seq, err)
	}
	e.Hash = sum
	return e, nil
}

// clean makes text one line of valid UTF-8 with at most limit bytes.
func clean(text string, limit int) string {
	out := make([]rune, 0, min(len(text), limit))
	size := 0
	for _, r := range text { // invalid bytes come as U+FFFD
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			r = ' '
		}
		if size += len(string(r)); size > limit {
			return string(out) + "…"
		}
		out = append(out, r)
	}
	return string(out)
}

// An AuditFilter chooses entries of the audit log. Empty fields choose all.
type AuditFilter struct {
	Before  uint64 // only with a smaller place; 0: from the newest
	Origin  string // exactly
	Actor   string // exactly
	Action  string // exactly, or all that begin with it when it ends in "."
	Outcome string
	Match   string // part of actor, action, target, address or detail, any case
	From    time.Time
	To      time.Time
	Limit   int // 1 to 1000; 0 is 100
}

// A KnownEnd is the end of one origin's chain as somebody noted it elsewhere. The
// zero value asks nothing; without Origin it is that of the data directory that is
// asked.
type KnownEnd struct {
	Origin string
	chain.Head
}

// String writes it as ParseKnownEnd reads it.
func (k KnownEnd) String() string {
	text := strconv.FormatUint(k.Seq, 10) + ":" + k.Hash
	if k.Origin != "" {
		text = k.Origin + ":" + text
	}
	return text
}

// ParseKnownEnd reads ORIGIN:SEQ:HASH or SEQ:HASH; "" is the zero value.
func ParseKnownEnd(text string) (k KnownEnd, err error) {
	if text == "" {
		return k, nil
	}
	rest, hash, whole := cutLast(text)
	origin, seq, named := cutLast(rest)
	if !named {
		origin, seq = "", rest
	}
	n, err := strconv.ParseUint(seq, 10, 63)
	if err != nil || !whole || len(hash) != 64 || len(origin) > 128 || named && origin == "" {
		return k, errors.New("expected SEQ:HASH or ORIGIN:SEQ:HASH, as a verification prints it")
	}
	return KnownEnd{origin, chain.Head{Seq: n, Hash: hash}}, nil
}

func cutLast(text string) (before, after string, found bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// An AuditReport is what a verification found out about the chain of one origin.
type AuditReport struct {
	Origin string
	Own    bool          // of the data directory that was asked
	Rows   uint64        // that are kept here
	End    chain.Head    // of the chain
	Faults []chain.Fault // by number; each names the origin too
	// Away counts entries in the middle that never came here: their origin had
	// removed them for their age before this node heard of them.
	Away uint64
}

// AuditFaults are the faults of all origins, and how many rows were read.
func AuditFaults(reports []AuditReport) (faults []chain.Fault, rows uint64) {
	for i := range reports {
		faults, rows = append(faults, reports[i].Faults...), rows+reports[i].Rows
	}
	return faults, rows
}

// Record writes an entry. Time and node are filled in. That it could not be
// written is logged and counted, and returned.
func (s *Service) Record(ctx context.Context, e Entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime) // what was done is recorded although the client has gone
	defer cancel()
	e.At, e.Node = s.now(), s.cfg.Node
	if _, err := s.rows.AppendAudit(ctx, e); err != nil {
		s.auditLost.Add(1)
		s.log.Error("the audit log could not be written", "action", e.Action, "actor", e.Actor, "outcome", e.Outcome, "error", err)
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// failures keeps a flood of failed sign-ins from filling the audit log: so many a
// minute are written one by one, the rest is counted and told with the next.
func (s *Service) recordFailure(ctx context.Context, e Entry) {
	if s.failures.take("") > 0 {
		s.failuresLeftOut.Add(1)
		return
	}
	if n := s.failuresLeftOut.Swap(0); n > 0 {
		e.Detail += fmt.Sprintf(" (and %d more failed attempts before it were not written one by one)", n)
	}
	_ = s.Record(ctx, e) // logged
}
