package scale

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Order is one decision on its way to an Actuator.
type Order struct {
	// ID names the decision: the same ID is the same decision, asked again. An
	// Actuator that has carried it out answers as before and changes nothing.
	ID string    `json:"id"`
	At time.Time `json:"at"`

	// Fence is the number of the leadership under which it was decided; it grows
	// with each new leader. An Actuator refuses an Order whose Fence is below the
	// highest that it has seen.
	Fence uint64 `json:"fence"`

	From    int            `json:"from"`              // instances that were wanted before
	To      int            `json:"to"`                // instances that are wanted now
	Victims []string       `json:"victims,omitempty"` // nodes that cost least to end, the cheapest first
	Costs   map[string]int `json:"costs,omitempty"`   // of ending each node, in connections
	Region  string         `json:"region,omitempty"`
	Reason  string         `json:"reason"`

	// DryRun asks what would be done. Nothing is changed.
	DryRun bool `json:"dry_run,omitempty"`
}

// OrderOf makes the Order of a decision. fence is the leadership's number and seq
// the number of the decision's entry in the log of origin.
func OrderOf(d *Decision, region, origin string, fence, seq uint64, f *Fleet) Order {
	return Order{ID: fmt.Sprintf("%s-%d-%d", origin, fence, seq), At: f.At, Fence: fence, From: d.Base, To: d.Desired,
		Victims: d.Victims, Costs: DeletionCosts(f), Region: region, Reason: d.Reason}
}

// An Action is what came of an Order: the data of a result entry.
type Action struct {
	Order    Order         `json:"order"`
	Actuator string        `json:"actuator"`
	Done     bool          `json:"done"`               // the control plane holds To now (or would, in a dry run)
	Changed  bool          `json:"changed"`            // it held another count before
	Before   int           `json:"before"`             // count that the control plane held; -1: not known
	Tries    int           `json:"tries"`              // times that the control plane was asked
	Took     time.Duration `json:"took"`               // in nanoseconds
	Steps    []string      `json:"steps,omitempty"`    // what was asked and answered, without secrets
	Output   string        `json:"output,omitempty"`   // of a command, bounded
	Fault    string        `json:"fault,omitempty"`    // why it was not done
	Advice   string        `json:"advice,omitempty"`   // what to do about it, or by hand
	Replayed bool          `json:"replayed,omitempty"` // the same Order had been carried out before
}

// An Actuator carries decisions out. Act waits within ctx for the control plane
// and answers with what was done, also when that failed; Requested asks which
// count the control plane holds (Fleet.Requested). Both may be called
// concurrently.
type Actuator interface {
	Name() string
	Act(ctx context.Context, o Order) (Action, error)
	// Requested returns ErrNotTold where the control plane cannot be asked.
	Requested(ctx context.Context) (int, error)
}

// Errors of actuators.
var (
	ErrNotTold = errors.New("this way of acting cannot tell the present count")
	ErrFenced  = errors.New("a newer leader has given orders already")
)

// ActionEntry is written before an Order is carried out, so that the log tells of
// it even when the process dies on the way. cause is the decision's entry.
func ActionEntry(now time.Time, actuator string, o Order, cause uint64) (Entry, error) {
	how := ""
	if o.DryRun {
		how = " (dry run)"
	}
	e, err := NewEntry(KindAction, now, actorEngine, o.Region, fmt.Sprintf("%s: %d to %d instances%s: %s", actuator, o.From, o.To, how, o.Reason), o)
	e.Cause = cause
	return e, err
}

// ResultEntry is written after it. cause is the action's entry.
func ResultEntry(now time.Time, a Action, cause uint64) (Entry, error) {
	text := fmt.Sprintf("%s: done, %d instances are asked for", a.Actuator, a.Order.To)
	switch {
	case a.Fault != "":
		text = fmt.Sprintf("%s: not done: %s", a.Actuator, a.Fault)
	case a.Order.DryRun:
		text = fmt.Sprintf("%s: dry run: %d instances would be asked for", a.Actuator, a.Order.To)
	case a.Replayed:
		text = fmt.Sprintf("%s: done before, nothing changed", a.Actuator)
	case !a.Done:
		text = fmt.Sprintf("%s: %s", a.Actuator, orElse(a.Advice, "a person is asked to do it"))
	case !a.Changed:
		text = fmt.Sprintf("%s: %d instances were asked for already", a.Actuator, a.Order.To)
	}
	e, err := NewEntry(KindResult, now, actorEngine, a.Order.Region, text, a)
	e.Cause = cause
	return e, err
}

// A Notifier tells people. Notify returns when the notice is on its way (queued on
// every channel that takes its severity), not when it has arrived; an error names
// the channels that could not take it.
type Notifier interface {
	Notify(ctx context.Context, n Notice) error
}
