package scale

import (
	"fmt"
	"slices"
	"time"
)

// An AlertState is where an alert stands.
type AlertState uint8

// The states. Resolved is kept for a while, for people who come to look.
const (
	Inactive AlertState = iota
	Pending
	Firing
	Resolved
)

var alertStateNames = [...]string{Inactive: "inactive", Pending: "pending", Firing: "firing", Resolved: "resolved"}

// String returns the name of the state.
func (s AlertState) String() string {
	if int(s) >= len(alertStateNames) {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return alertStateNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s AlertState) MarshalText() ([]byte, error) {
	return marshalName(alertStateNames[:], int(s), "alert state")
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *AlertState) UnmarshalText(text []byte) error {
	return unmarshalName(alertStateNames[:], text, "alert state", s)
}

// An Alert is one rule on the fleet or on one node.
type Alert struct {
	Rule  string     `json:"rule"`
	Node  string     `json:"node,omitempty"` // empty: the whole fleet
	State AlertState `json:"state"`

	Value   float64 `json:"value"` // last known
	Worst   float64 `json:"worst"` // since it began
	NoData  bool    `json:"no_data,omitempty"`
	Flapped bool    `json:"flapping,omitempty"`

	Since  time.Time `json:"since"`           // in this state since
	Began  time.Time `json:"began,omitzero"`  // of the breach
	Calm   time.Time `json:"calm,omitzero"`   // firing, but on the good side since
	Seen   time.Time `json:"seen,omitzero"`   // of the last value
	Turns  []Turn    `json:"turns,omitempty"` // the last times it began or ceased to fire
	Ack    *Ack      `json:"ack,omitempty"`
	Silent string    `json:"silenced_by,omitempty"`  // the silence that holds
	Under  string    `json:"inhibited_by,omitempty"` // the firing rule that explains it
}

// A Turn is one time that an alert began or ceased to fire.
type Turn struct {
	At     time.Time `json:"at"`
	Firing bool      `json:"firing"`
}

// An Ack says that somebody has taken an alert on. It ends with the alert.
type Ack struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Key names an alert: the rule, and the node where it has one.
func (a *Alert) Key() string {
	if a.Node == "" {
		return a.Rule
	}
	return a.Rule + "@" + a.Node
}

// Quiet reports whether nobody is to be told, although the alert goes on.
func (a *Alert) Quiet() bool {
	return a.Ack != nil || a.Silent != "" || a.Under != "" || a.Flapped
}

// An Event is one change of an alert.
type Event struct {
	At    time.Time  `json:"at"`
	Alert string     `json:"alert"` // its key
	From  AlertState `json:"from"`
	To    AlertState `json:"to"`
	Why   string     `json:"why"`
	Quiet bool       `json:"quiet,omitempty"` // nobody is told
}

// An Observation is what one alert is judged by at one moment.
type Observation struct {
	At      time.Time `json:"at"`
	Reading Reading   `json:"reading"`
	Under   string    `json:"inhibited_by,omitempty"`
	Silent  string    `json:"silenced_by,omitempty"`
}

// Turns within flapWindow from which an alert flaps, and the calm after which it
// no longer does. A flapping alert is told once, not each time.
const (
	flapTurns   = 6
	flapWindow  = 30 * time.Minute
	maxTurns    = 16
	resolvedFor = 15 * time.Minute
)

// Judge takes an alert one observation further. It is a pure function, so that
// every event can be replayed from the entry that holds its arguments.
func Judge(r *Rule, a Alert, o Observation) (Alert, []Event) {
	a.Turns = slices.Clone(a.Turns)
	a.Under, a.Silent = o.Under, o.Silent
	j := judge{r: r, a: &a, o: o}
	a.Flapped = j.flapping()
	switch o.Reading.State {
	case Fresh:
		a.Value, a.Seen, a.NoData = o.Reading.Value, o.At, false
		j.value(o.Reading.Value)
	case Idle:
		// Nothing to measure is nothing amiss: it counts as the clear value.
		a.Seen, a.NoData = o.At, false
		j.value(r.Clear)
	default:
		j.noData()
	}
	if a.State == Resolved && o.At.Sub(a.Since) >= resolvedFor {
		j.to(Inactive, "resolved long ago")
	}
	return a, j.events
}

type judge struct {
	r      *Rule
	a      *Alert
	o      Observation
	events []Event
}

func (j *judge) value(v float64) {
	a, r, now := j.a, j.r, j.o.At
	breach := r.breach(v)
	if a.State == Pending || a.State == Firing {
		if r.Below {
			a.Worst = min(a.Worst, v)
		} else {
			a.Worst = max(a.Worst, v)
		}
	}
	switch a.State {
	case Inactive, Resolved:
		if breach {
			a.Began, a.Worst, a.Calm = now, v, time.Time{}
			j.to(Pending, j.words(v, "is beyond"))
			j.mature(v)
		}
	case Pending:
		if !breach {
			j.to(Inactive, j.words(v, "is not beyond"))
			return
		}
		j.mature(v)
	case Firing:
		if !r.clear(v) {
			a.Calm = time.Time{}
			return
		}
		if a.Calm.IsZero() {
			a.Calm = now
		}
		if now.Sub(a.Calm) >= r.KeepFiring {
			j.resolve(j.overWords(v, now.Sub(a.Calm).Round(time.Second)))
		}
	}
}

// mature makes a pending alert fire when it has been for long enough.
func (j *judge) mature(v float64) {
	if held := j.o.At.Sub(j.a.Began); held >= j.r.For {
		j.fire(fmt.Sprintf("%s for %v", j.words(v, "is beyond"), held.Round(time.Second)))
	}
}

func (j *judge) noData() {
	a, r, now := j.a, j.r, j.o.At
	if a.Seen.IsZero() {
		a.Seen = now // the first look: the time without data begins
	}
	if now.Sub(a.Seen) < r.NoDataAfter {
		return
	}
	a.NoData = true
	why := fmt.Sprintf("%v has had no value for %v", r.Signal, now.Sub(a.Seen).Round(time.Second))
	switch {
	case r.NoData == NoDataFire && a.State != Firing:
		a.Began, a.Calm = now, time.Time{}
		j.fire(why)
	case r.NoData == NoDataResolve && a.State == Firing:
		j.resolve(why)
	case a.State == Pending:
		// A breach that nobody sees any more has not held.
		j.to(Inactive, why)
	}
}

func (j *judge) fire(why string) {
	j.turn(true)
	j.to(Firing, why)
}

func (j *judge) resolve(why string) {
	j.turn(false)
	j.to(Resolved, why)
	j.a.Ack, j.a.Calm = nil, time.Time{}
}

// turn remembers a beginning or an end, for flap detection.
func (j *judge) turn(firing bool) {
	a := j.a
	a.Turns = append(a.Turns, Turn{At: j.o.At, Firing: firing})
	if len(a.Turns) > maxTurns {
		a.Turns = a.Turns[len(a.Turns)-maxTurns:]
	}
	a.Flapped = j.flapping()
}

func (j *judge) flapping() bool {
	n := 0
	for _, t := range j.a.Turns {
		if j.o.At.Sub(t.At) <= flapWindow {
			n++
		}
	}
	return n >= flapTurns
}

func (j *judge) to(state AlertState, why string) {
	a := j.a
	j.events = append(j.events, Event{At: j.o.At, Alert: a.Key(), From: a.State, To: state, Why: why,
		Quiet: a.Quiet() || state == Pending || state == Inactive})
	a.State, a.Since = state, j.o.At
}

// words says how a value stands to the threshold.
func (j *judge) words(v float64, verb string) string {
	return j.amount(v) + " " + verb + " " + j.amount(j.r.Threshold)
}

// overWords says that and for how long the alert's cause is over.
func (j *judge) overWords(v float64, calm time.Duration) string {
	if !j.r.OfSilence() {
		return fmt.Sprintf("%s has been on the good side of %s for %v", j.amount(v), j.amount(j.r.Clear), calm)
	}
	if j.o.Reading.State == Idle {
		return fmt.Sprintf("it has been away for good, or forgotten, for %v", calm)
	}
	return fmt.Sprintf("it has been heard again for %v", calm)
}

func (j *judge) amount(v float64) string {
	if j.r.OfCapacity {
		return fmt.Sprintf("%v at %.1f%% of capacity", j.r.Signal, v*100)
	}
	return show(j.r.Signal, v)
}
