package scale

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what an Engine works by.
type Config struct {
	Policy   Policy
	Rules    []Rule
	Capacity Capacity // of one instance; zero fields are the document's
	Region   string   // which part of the fleet it decides for; empty: all
}

// DefaultConfig is the document's, for a fleet.
func DefaultConfig() Config {
	return Config{Policy: DefaultPolicy(Capacity{}), Rules: DefaultRules(), Capacity: DocumentCapacity()}
}

// An Engine ties a tick together: alerts, walks, the decision, and the entries
// that tell of them. All methods may be called concurrently; Tick does not wait
// for anything.
type Engine struct {
	mu     sync.Mutex
	cfg    Config
	alerts *Alerts
	groups *Grouper
	state  State
	broken string // why the actuator cannot act

	desired Decision             // the last one
	told    map[string]time.Time // suppressing rules, when they were last logged
	surge   bool
	drains  map[string]bool
	ahead   int       // what the forecast was last told to ask for; 0: for no more than is wanted
	aheadAt time.Time // when that was told
}

// NewEngine checks the configuration and returns an engine that knows nothing yet.
func NewEngine(c Config) (*Engine, error) {
	c.Capacity = c.Capacity.withDefaults()
	alerts, err := NewAlerts(c.Rules, c.Capacity)
	if err = errors.Join(err, c.Policy.Validate()); err != nil {
		return nil, fmt.Errorf("scaling engine: %w", err)
	}
	return &Engine{cfg: c, alerts: alerts, groups: NewGrouper(), told: make(map[string]time.Time), drains: make(map[string]bool)}, nil
}

// An Outcome is what one tick came to.
type Outcome struct {
	Entries  []Entry  // for the log, in this order and in one Append
	Alerts   []Alert  // that are not inactive, firing first
	Notices  []Notice // that people are to be told now
	Decision Decision
	Desired  int // the count that is wanted, within the policy's bounds
}

// Tick looks at the fleet once, normally each second.
func (e *Engine) Tick(now time.Time, f Fleet) (Outcome, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.At = now.UTC().Round(0) // what is logged must read the same when it comes back
	var b batch
	b.region = e.cfg.Region

	judged := e.alerts.Observe(&f)
	before := e.state
	in := InputsOf(&f, &e.cfg.Policy)
	d, after := Decide(&e.cfg.Policy, before, in)
	e.state, e.desired = after, d

	e.logAlerts(&b, judged, d, &f)
	e.logFleet(&b, d, &f)
	e.logAhead(&b, d, &f)
	if e.worthLogging(&d, f.At) {
		b.add(decisionEntry(b.region, DecisionData{Policy: e.cfg.Policy, State: before, Inputs: in, Decision: d}))
	}
	out := Outcome{Entries: b.entries, Alerts: e.alerts.Alerts(), Notices: e.groups.Flush(f.At), Decision: d, Desired: d.Desired}
	if b.err != nil {
		return out, fmt.Errorf("tick: %w", b.err)
	}
	return out, nil
}

// logAlerts writes each change of an alert down, and walks the decision
// framework for those that begin to fire.
func (e *Engine) logAlerts(b *batch, judged []Judgement, d Decision, f *Fleet) {
	for i := range judged {
		j := &judged[i]
		e.groups.Add(j)
		b.add(alertEntry(b.region, *j))
		cause := len(b.entries)
		if j.Rule.Class == ClassOperation || !slices.ContainsFunc(j.Events, func(ev Event) bool { return ev.To == Firing }) {
			continue
		}
		q := Ask(j.After, j.Rule, d, &e.cfg.Policy, f, e.cfg.Capacity, e.broken)
		b.add(walkEntry(b.region, WalkData{Question: q, Walk: Take(&q)}))
		b.causedBy(cause)
	}
}

// logFleet writes down storms and drains where they begin.
func (e *Engine) logFleet(b *batch, d Decision, f *Fleet) {
	if d.Surge && !e.surge {
		b.add(entryOf(KindStorm, f.At, b.region, fmt.Sprintf("clients are returning: %s, %s", show(AcceptRate, f.Total(AcceptRate).Sum), show(Reconnects, f.Total(Reconnects).Mean)), nil))
	}
	e.surge = d.Surge
	draining := make(map[string]bool)
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if n.State != Draining {
			continue
		}
		draining[n.Name] = true
		if !e.drains[n.Name] {
			b.add(entryOf(KindDrain, f.At, b.region, fmt.Sprintf("%s drains with %.0f connections", n.Name, n.Values[Connections].Value), nil))
		}
	}
	e.drains = draining
}

// logAhead writes down where the forecast begins to ask for more nodes than there
// are wanted, and where it asks for still more.
func (e *Engine) logAhead(b *batch, d Decision, f *Fleet) {
	if f.Ahead.Count <= d.Base {
		e.ahead = 0
		return
	}
	if f.Ahead.Count > e.ahead && (e.ahead > 0 || f.At.Sub(e.aheadAt) >= retell) {
		b.add(entryOf(KindForecast, f.At, b.region, fmt.Sprintf("the forecast asks for %d instances, %d are wanted: %s", f.Ahead.Count, d.Base, f.Ahead.Why), f.Ahead))
		e.ahead, e.aheadAt = f.Ahead.Count, f.At
	}
}

// retell is how long a rule that keeps the count from changing stays told.
const retell = 5 * time.Minute

// steady rules are the normal course of things and are not worth an entry of
// their own: windows, rates, the lower bound, and a forecast that asks for what
// the window has not let through yet. The entry that changes the count names them.
var steady = []string{ByWindowUp, ByWindowIn, ByRateUp, ByRateDown, ByMin, ByAhead}

// worthLogging reports whether a decision is to be written down: it changed the
// count, acts, or is held by a rule that was not told of lately.
func (e *Engine) worthLogging(d *Decision, now time.Time) bool {
	worth := d.Changed() || d.Act
	for _, s := range d.Suppressions {
		if slices.Contains(steady, s.By) {
			continue
		}
		if last, ok := e.told[s.By]; !ok || now.Sub(last) > retell {
			worth = true
		}
		e.told[s.By] = now
	}
	return worth
}

// batch collects the entries of one tick and the first error among them.
type batch struct {
	region  string
	entries []Entry
	err     error
}

func (b *batch) add(e Entry, err error) {
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	b.entries = append(b.entries, e)
}

// causedBy links the last entry to the n-th of the batch.
func (b *batch) causedBy(n int) {
	if k := len(b.entries); k > n && n > 0 {
		b.entries[k-1].CauseIn = n
	}
}

// entryOf makes an unsealed entry. data may be nil.
func entryOf(kind Kind, at time.Time, region, summary string, data any) (Entry, error) {
	e := Entry{At: at.UTC(), Kind: kind, Actor: actorEngine, Region: region, Summary: shorten(summary)}
	if data != nil {
		raw, err := Canonical(data)
		if err != nil {
			return Entry{}, fmt.Errorf("entry of kind %v: %w", kind, err)
		}
		e.Data = raw
	}
	return e, nil
}

// maxSummary bounds what people write and what reasons grow to, in bytes.
const maxSummary = 2000

// shorten keeps text within maxSummary, on one line and valid.
func shorten(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) <= maxSummary {
		return s
	}
	return strings.ToValidUTF8(s[:maxSummary], "") + "…"
}
