package incident

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"agentnet/app/scale"
)

// Bounds of a report: what goes beyond them is counted and not listed.
const (
	maxTimeline = 2000
	maxRows     = 500
)

// A Report is what the log tells of a span of time.
type Report struct {
	From, To, Made time.Time
	Origins        []string
	Kinds          map[scale.Kind]int
	Entries        int

	Alerts    []Alert
	Decisions []Decision
	Compared  []Compared
	Advice    []Line // of the walks
	Notes     []Line
	Drills    []Line
	Timeline  []Line
	Left      int // entries that found no room in Timeline
}

// A Line is one entry in a list.
type Line struct {
	ID    string // ORIGIN:SEQ
	At    time.Time
	Kind  scale.Kind
	Actor string
	Text  string
}

// An Alert is one time that an alert fired.
type Alert struct {
	Key      string
	Severity scale.Severity
	Began    time.Time // of the breach; before From where it began earlier
	Fired    time.Time
	Ended    time.Time // zero: it went on at the end of the report
	Why      string
	Response string
	Runbook  string
}

// Lasted is how long it fired, up to the end of the report where it went on.
func (a *Alert) Lasted(to time.Time) time.Duration {
	if a.Ended.IsZero() {
		return to.Sub(a.Fired)
	}
	return a.Ended.Sub(a.Fired)
}

// A Decision is a change of the count, with what became of it.
type Decision struct {
	ID       string
	At       time.Time
	Mode     scale.Mode
	From, To int
	Reason   string
	Actions  []Action
}

// An Action is one order that was given for a decision.
type Action struct {
	ID       string
	At       time.Time
	Actuator string
	Done     bool
	DryRun   bool
	Took     time.Duration
	Fault    string
	Advice   string
	Answered bool // a result is in the log
}

// A Compared is the time before an action against that after it.
type Compared struct {
	ID         string
	At         time.Time
	Comparison scale.Comparison
}

// builder collects what belongs together across entries.
type builder struct {
	r       *Report
	firing  map[string]int    // alert's key and origin -> index in Alerts
	decided map[string]int    // entry -> index in Decisions
	acted   map[string][2]int // entry -> index in Decisions, index in Actions
	origins map[string]bool
}

// Make reads entries, the oldest first, and makes the report of those in the span.
// It stops at the first error of the iterator.
func Make(entries iter.Seq2[scale.LogEntry, error], from, to, now time.Time) (*Report, error) {
	b := &builder{r: &Report{From: from.UTC(), To: to.UTC(), Made: now.UTC(), Kinds: make(map[scale.Kind]int)},
		firing: make(map[string]int), decided: make(map[string]int), acted: make(map[string][2]int), origins: make(map[string]bool)}
	for e, err := range entries {
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		if e.At.Before(from) || e.At.After(to) {
			continue
		}
		b.add(&e)
	}
	for o := range b.origins {
		b.r.Origins = append(b.r.Origins, o)
	}
	slices.Sort(b.r.Origins)
	slices.SortStableFunc(b.r.Alerts, func(x, y Alert) int {
		return cmp.Or(cmp.Compare(y.Severity, x.Severity), x.Fired.Compare(y.Fired))
	})
	return b.r, nil
}

func (b *builder) add(e *scale.LogEntry) {
	r := b.r
	r.Entries++
	r.Kinds[e.Kind]++
	if e.Origin != "" {
		b.origins[e.Origin] = true
	}
	line := Line{ID: id(e.Origin, e.Seq), At: e.At, Kind: e.Kind, Actor: e.Actor, Text: e.Summary}
	if len(r.Timeline) < maxTimeline {
		r.Timeline = append(r.Timeline, line)
	} else {
		r.Left++
	}
	switch e.Kind {
	case scale.KindAlert:
		b.alert(e)
	case scale.KindDecision:
		b.decision(e)
	case scale.KindAction:
		b.action(e)
	case scale.KindResult:
		b.result(e)
	case scale.KindOutcome:
		b.compared(e)
	case scale.KindWalk:
		var w scale.WalkData
		if json.Unmarshal(e.Data, &w) == nil {
			line.Text = w.Walk.Alert + ": " + w.Walk.Advice
		}
		r.Advice = keep(r.Advice, line)
	case scale.KindNote, scale.KindSilence:
		r.Notes = keep(r.Notes, line)
	case scale.KindDrill:
		r.Drills = keep(r.Drills, line)
	}
}

func keep[T any](list []T, one T) []T {
	if len(list) >= maxRows {
		return list
	}
	return append(list, one)
}

func id(origin string, seq uint64) string {
	if origin == "" {
		return fmt.Sprint(seq)
	}
	return fmt.Sprintf("%s:%d", origin, seq)
}

// alert follows each event of an entry.
func (b *builder) alert(e *scale.LogEntry) {
	var j scale.Judgement
	if json.Unmarshal(e.Data, &j) != nil {
		return
	}
	for _, ev := range j.Events {
		key := e.Origin + "\x00" + ev.Alert
		at, open := b.firing[key]
		switch {
		case ev.To == scale.Firing && !open && len(b.r.Alerts) < maxRows:
			b.firing[key] = len(b.r.Alerts)
			b.r.Alerts = append(b.r.Alerts, Alert{Key: ev.Alert, Severity: j.Rule.Severity, Began: j.After.Began, Fired: ev.At, Why: ev.Why, Response: j.Rule.Response, Runbook: j.Rule.Runbook})
		case ev.To == scale.Resolved && open:
			b.r.Alerts[at].Ended = ev.At
			delete(b.firing, key)
		case ev.To == scale.Resolved && len(b.r.Alerts) < maxRows: // it fired before the report begins
			b.r.Alerts = append(b.r.Alerts, Alert{Key: ev.Alert, Severity: j.Rule.Severity, Began: j.Before.Began, Fired: b.r.From, Ended: ev.At, Why: ev.Why, Response: j.Rule.Response, Runbook: j.Rule.Runbook})
		}
	}
}

func (b *builder) decision(e *scale.LogEntry) {
	var d scale.DecisionData
	if json.Unmarshal(e.Data, &d) != nil || !d.Decision.Changed() && !d.Decision.Act || len(b.r.Decisions) >= maxRows {
		return
	}
	b.decided[id(e.Origin, e.Seq)] = len(b.r.Decisions)
	b.r.Decisions = append(b.r.Decisions, Decision{ID: id(e.Origin, e.Seq), At: e.At, Mode: d.Decision.Mode, From: d.Decision.Base, To: d.Decision.Desired, Reason: d.Decision.Reason})
}

func (b *builder) action(e *scale.LogEntry) {
	var o scale.Order
	if json.Unmarshal(e.Data, &o) != nil {
		return
	}
	at, known := b.decided[id(e.Origin, e.Cause)]
	if !known { // decided before the report begins, or by a person
		if len(b.r.Decisions) >= maxRows {
			return
		}
		at = len(b.r.Decisions)
		b.r.Decisions = append(b.r.Decisions, Decision{ID: id(e.Origin, e.Cause), At: e.At, Mode: scale.Act, From: o.From, To: o.To, Reason: o.Reason})
	}
	d := &b.r.Decisions[at]
	b.acted[id(e.Origin, e.Seq)] = [2]int{at, len(d.Actions)}
	d.Actions = append(d.Actions, Action{ID: id(e.Origin, e.Seq), At: e.At, DryRun: o.DryRun})
}

func (b *builder) result(e *scale.LogEntry) {
	var a scale.Action
	at, known := b.acted[id(e.Origin, e.Cause)]
	if !known || json.Unmarshal(e.Data, &a) != nil {
		return
	}
	x := &b.r.Decisions[at[0]].Actions[at[1]]
	x.Answered, x.Actuator, x.Done, x.DryRun, x.Took, x.Fault, x.Advice = true, a.Actuator, a.Done, a.Order.DryRun, a.Took, a.Fault, a.Advice
}

func (b *builder) compared(e *scale.LogEntry) {
	var o struct {
		scale.Comparison
		Inner *scale.Comparison `json:"comparison"`
	}
	if json.Unmarshal(e.Data, &o) != nil {
		return
	}
	c := o.Comparison
	if o.Inner != nil {
		c = *o.Inner
	}
	if c.Verdict != "" {
		b.r.Compared = keep(b.r.Compared, Compared{ID: id(e.Origin, e.Seq), At: e.At, Comparison: c})
	}
}
