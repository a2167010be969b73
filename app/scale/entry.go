package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"agentnet/app/chain"
)

// A Kind says what an entry of the scaling log is about.
type Kind uint8

// The kinds of entries.
const (
	KindDecision Kind = iota // the policy said another count, or was held
	KindAlert                // an alert changed its state
	KindWalk                 // the decision framework was walked for an alert
	KindAction               // an actuator was asked to change the count
	KindResult               // what came of an action
	KindOutcome              // the 30 minutes before an action against those after it
	KindConfig               // the policy, the rules or the capacity changed
	KindDrain                // a node drains
	KindStorm                // many clients reconnect at once
	KindNote                 // an admin's words
	KindSilence              // an alert was acknowledged or silenced
	KindForecast             // the forecast asked for a count
	KindDrill                // a rehearsed fault and what came of it
	KindPlanning             // a planning trigger was reached
	KindNode                 // a node started, stopped, or began to lead

	KindUnknown // written by a newer program, or edited: never written by this one
)

var kindNames = [...]string{KindDecision: "decision", KindAlert: "alert", KindWalk: "walk", KindAction: "action",
	KindResult: "result", KindOutcome: "outcome", KindConfig: "config", KindDrain: "drain", KindStorm: "storm",
	KindNote: "note", KindSilence: "silence", KindForecast: "forecast", KindDrill: "drill", KindPlanning: "planning", KindNode: "node", KindUnknown: "unknown"}

// String returns the name of the kind.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return marshalName(kindNames[:], int(k), "kind") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	return unmarshalName(kindNames[:], text, "kind", k)
}

// An Entry is one row of the scaling log. Seq, Prev and Hash are empty until the
// Log takes the entry into its chain.
type Entry struct {
	Seq  uint64    `json:"seq"`
	At   time.Time `json:"at"`
	Kind Kind      `json:"kind"`

	Actor   string `json:"actor"`            // "engine", a node or a person
	Region  string `json:"region,omitempty"` // empty: the whole fleet
	Summary string `json:"summary"`          // one sentence for people

	// Data is the canonical JSON of what the kind carries: DecisionData, Event,
	// Walk, …; it holds all that Replay needs.
	Data json.RawMessage `json:"data,omitempty"`

	// Cause is the Seq of the entry that led to this one, 0 when there is none.
	Cause uint64 `json:"cause,omitempty"`

	// CauseIn is the same before Append: the place, counted from 1, of the cause
	// among the entries that are appended together. Append turns it into Cause.
	CauseIn int `json:"-"`

	Prev string `json:"prev"` // Hash of the entry before, in hexadecimal; empty in the first
	Hash string `json:"hash"` // of all fields above
}

// A Log keeps entries in one chain. Append seals them in order behind the last
// one (see Seal) and returns them as stored; once it has returned nil they
// survive a crash. It is all or nothing: on an error none was stored. Entries
// returns up to limit entries with a Seq above after, in order.
type Log interface {
	Append(ctx context.Context, entries []Entry) ([]Entry, error)
	Entries(ctx context.Context, after uint64, limit int) ([]Entry, error)
}

// Head returns the chain's end after e.
func (e *Entry) Head() Head { return Head{Seq: e.Seq, Hash: e.Hash} }

// Seal gives e its place behind head and its hash.
func Seal(head Head, e Entry) (Entry, error) {
	e.Seq, e.Prev = head.Seq+1, head.Hash
	e.At = e.At.UTC()
	sum, err := e.sum()
	if err != nil {
		return Entry{}, fmt.Errorf("seal entry %d: %w", e.Seq, err)
	}
	e.Hash = sum
	return e, nil
}

// sum hashes the canonical encoding: the JSON of the entry without Hash, its
// fields in the order of the struct, times in UTC, Data compacted.
func (e Entry) sum() (string, error) {
	e.Hash = ""
	e.At = e.At.UTC()
	return chain.Sum(e)
}

// Canonical encodes v so that equal values give equal bytes; see chain.Canonical.
func Canonical(v any) ([]byte, error) { return chain.Canonical(v) }
