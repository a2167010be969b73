package scale

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// maxAlerts bounds the alerts of all rules and nodes together.
const maxAlerts = 4096

// Alerts runs rules against a fleet. It is not safe for concurrent use; the
// engine that owns it is.
type Alerts struct {
	rules    []Rule
	capacity Capacity
	all      map[string]*Alert
	silences map[string]Silence
	key      []byte // scratch of judgeNode
}

// NewAlerts returns a set with no alert. It keeps its own copy of the rules.
func NewAlerts(rules []Rule, c Capacity) (*Alerts, error) {
	if err := ValidateRules(rules); err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	return &Alerts{rules: slices.Clone(rules), capacity: c.withDefaults(),
		all: make(map[string]*Alert), silences: make(map[string]Silence)}, nil
}

// Rule returns a rule by its name.
func (s *Alerts) Rule(name string) (Rule, bool) {
	i := slices.IndexFunc(s.rules, func(r Rule) bool { return r.Name == name })
	if i < 0 {
		return Rule{}, false
	}
	return s.rules[i], true
}

// Judgement is one call of Judge that changed a state, with all it was made
// from: the data of an alert entry.
type Judgement struct {
	Rule        Rule        `json:"rule"`
	Before      Alert       `json:"before"`
	Observation Observation `json:"observation"`
	After       Alert       `json:"after"`
	Events      []Event     `json:"events"`
}

// Observe takes every alert one step further and returns the judgements that
// changed a state, in the order of the rules and then of the nodes.
func (s *Alerts) Observe(f *Fleet) []Judgement {
	now := f.At.UTC().Round(0)
	s.expire(now)
	var out []Judgement
	for i := range s.rules {
		r := &s.rules[i]
		if r.Disabled {
			continue
		}
		if r.Reduce != EachNode {
			out = s.judge(out, r, "", s.reading(r, f), now)
			continue
		}
		for k := range f.Nodes {
			out = s.judgeNode(out, r, &f.Nodes[k], now)
		}
		for k := range f.Dark {
			if r.NoData == NoDataFire {
				out = s.judgeNode(out, r, &f.Dark[k], now)
			}
		}
		for _, key := range s.ofRule(r.Name) {
			if a := s.all[key]; !f.has(a.Node) {
				// The node is gone, and what was wrong with it too.
				out = s.judge(out, r, a.Node, Reading{State: Idle}, now)
			}
		}
	}
	return out
}

// judgeNode looks at the alert of one node. Where there is none, and nothing is
// amiss, there is nothing to look at: a fleet has many nodes and few alerts.
func (s *Alerts) judgeNode(out []Judgement, r *Rule, n *Node, now time.Time) []Judgement {
	v := s.nodeReading(r, n)
	if v.State == Idle || v.State == Fresh && !r.breach(v.Value) {
		s.key = append(append(append(s.key[:0], r.Name...), '@'), n.Name...)
		if s.all[string(s.key)] == nil {
			return out
		}
	}
	return s.judge(out, r, n.Name, v, now)
}

// ofRule lists the keys of the alerts of one rule, sorted.
func (s *Alerts) ofRule(rule string) (keys []string) {
	for key, a := range s.all {
		if a.Rule == rule {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// judge looks at one alert. Alerts that are inactive and were never looked at
// for data are not kept.
func (s *Alerts) judge(out []Judgement, r *Rule, node string, reading Reading, now time.Time) []Judgement {
	before := Alert{Rule: r.Name, Node: node, Since: now}
	key := before.Key()
	if known := s.all[key]; known != nil {
		before = *known
	} else if len(s.all) >= maxAlerts {
		return out
	}
	o := Observation{At: now, Reading: reading, Under: s.inhibitor(r, node), Silent: s.silencer(r.Name, node, now)}
	after, events := Judge(r, before, o)
	if after.State == Inactive && reading.State == Idle && len(after.Turns) == 0 && node != "" {
		delete(s.all, key)
	} else {
		kept := after
		s.all[key] = &kept
	}
	if len(events) > 0 {
		out = append(out, Judgement{Rule: *r, Before: before, Observation: o, After: after, Events: events})
	}
	return out
}

// reading reduces one signal of the fleet to the value that the rule compares.
func (s *Alerts) reading(r *Rule, f *Fleet) Reading {
	t := f.Total(r.Signal)
	out := t.reading(r.Signal)
	if out.State != Fresh {
		return out
	}
	switch r.Reduce {
	case Mean:
		out.Value = t.Mean
	case Highest:
		out.Value = t.Max
	case Lowest:
		out.Value = t.Min
	case Sum:
		out.Value = t.Sum
	}
	if r.OfCapacity {
		if r.Signal == MessagesIn && s.capacity.Guessed() && f.Calm() {
			// The document's alert table has no such row, and its planning number says
			// nothing of a machine that is not even warm.
			return Reading{State: Idle}
		}
		n := 1
		if r.Reduce == Sum {
			// A silent node adds neither to the load nor to what carries it.
			n = max(1, min(t.Known, f.Live()))
		}
		return share(out, s.capacity, r.Signal, n)
	}
	return out
}

func (s *Alerts) nodeReading(r *Rule, n *Node) Reading {
	out := n.Values[r.Signal]
	if out.State == Fresh && r.OfCapacity {
		return share(out, s.capacity, r.Signal, 1)
	}
	return out
}

// share divides a value by the capacity of n instances; without any instance
// the share is unknown.
func share(v Reading, c Capacity, s Signal, n int) Reading {
	limit, ok := c.Of(s, n)
	if !ok || limit <= 0 {
		return Reading{State: Stale}
	}
	v.Value /= limit
	return v
}

// inhibitor names a firing rule that explains r, on the same node or the fleet.
func (s *Alerts) inhibitor(r *Rule, node string) string {
	for _, by := range r.InhibitedBy {
		for _, key := range []string{by, by + "@" + node} {
			if a := s.all[key]; a != nil && a.State == Firing {
				return by
			}
		}
	}
	return ""
}

// Alerts lists all alerts that are not inactive, and those without data, firing first.
func (s *Alerts) Alerts() []Alert {
	var out []Alert
	for _, a := range s.all {
		if a.State != Inactive || a.NoData {
			c := *a
			c.Turns = slices.Clone(a.Turns)
			out = append(out, c)
		}
	}
	order := [...]int{Firing: 0, Pending: 1, Resolved: 2, Inactive: 3}
	slices.SortFunc(out, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(order[a.State], order[b.State]), a.Since.Compare(b.Since), cmp.Compare(a.Key(), b.Key()))
	})
	return out
}

// Errors of the calls that people make.
var (
	ErrNoAlert   = errors.New("no such alert is pending or firing")
	ErrNoReason  = errors.New("give a reason: whoever comes next must understand it")
	ErrNoSilence = errors.New("no such silence")
	ErrTooMany   = errors.New("too many silences: end some")
	ErrEnd       = errors.New("a silence needs an end between now and 30 days from now")
)

// Acknowledge takes a pending or firing alert on, until it resolves.
func (s *Alerts) Acknowledge(key string, ack Ack) error {
	a := s.all[key]
	if a == nil || a.State != Pending && a.State != Firing {
		return fmt.Errorf("acknowledge %.100q: %w", key, ErrNoAlert)
	}
	if ack.Reason == "" || ack.By == "" {
		return fmt.Errorf("acknowledge %.100q: %w", key, ErrNoReason)
	}
	a.Ack = &ack
	return nil
}

// A Silence keeps matching alerts from being told. They are evaluated, logged
// and shown all the same.
type Silence struct {
	ID     string    `json:"id"`
	Rule   string    `json:"rule,omitempty"` // empty: every rule
	Node   string    `json:"node,omitempty"` // empty: the fleet and every node
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
}

const (
	maxSilences    = 256
	longestSilence = 30 * 24 * time.Hour
)

// Silence adds a silence, or replaces the one of the same ID.
func (s *Alerts) Silence(now time.Time, q Silence) error {
	s.expire(now)
	switch _, known := s.silences[q.ID]; {
	case q.ID == "" || q.Reason == "" || q.By == "":
		return fmt.Errorf("silence: %w", ErrNoReason)
	case !q.Until.After(now) || !q.Until.After(q.From) || q.Until.Sub(now) > longestSilence:
		return fmt.Errorf("silence: %w", ErrEnd)
	case !known && len(s.silences) >= maxSilences:
		return fmt.Errorf("silence: %w", ErrTooMany)
	}
	s.silences[q.ID] = q
	return nil
}

// Unsilence ends a silence before its time.
func (s *Alerts) Unsilence(id string) error {
	if _, ok := s.silences[id]; !ok {
		return fmt.Errorf("unsilence %.100q: %w", id, ErrNoSilence)
	}
	delete(s.silences, id)
	return nil
}

// Silences lists the silences that have not ended, by their end.
func (s *Alerts) Silences(now time.Time) []Silence {
	s.expire(now)
	return slices.SortedFunc(maps.Values(s.silences), func(a, b Silence) int {
		return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.ID, b.ID))
	})
}

func (s *Alerts) expire(now time.Time) {
	maps.DeleteFunc(s.silences, func(_ string, q Silence) bool { return !now.Before(q.Until) })
}

// silencer returns the ID of the silence that holds for an alert: of several the
// first by ID, so that equal calls give equal answers.
func (s *Alerts) silencer(rule, node string, now time.Time) string {
	found := ""
	for id, q := range s.silences {
		if (q.Rule == "" || q.Rule == rule) && (q.Node == "" || q.Node == node) && !now.Before(q.From) && (found == "" || id < found) {
			found = id
		}
	}
	return found
}
