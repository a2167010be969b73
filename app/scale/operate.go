package scale

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// configChange is the data of a config entry: what was, and what is now.
type configChange struct {
	What   string `json:"what"`
	Before any    `json:"before"`
	After  any    `json:"after"`
}

// byPerson makes an entry of what somebody did.
func (e *Engine) byPerson(kind Kind, now time.Time, actor, summary string, data any) (Entry, error) {
	if actor == "" {
		return Entry{}, fmt.Errorf("%v: the actor is missing", kind)
	}
	entry, err := entryOf(kind, now.Round(0), e.cfg.Region, summary, data)
	entry.Actor = actor
	return entry, err
}

// SetPolicy replaces the policy. What the engine remembers stays: a change of the
// policy does not begin the windows anew.
func (e *Engine) SetPolicy(now time.Time, actor string, p Policy) (Entry, error) {
	if err := p.Validate(); err != nil {
		return Entry{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.cfg.Policy
	entry, err := e.byPerson(KindConfig, now, actor, policyChange(&old, &p), configChange{What: "policy", Before: old, After: p})
	if err != nil {
		return Entry{}, err
	}
	p.Targets, p.Guards = slices.Clone(p.Targets), slices.Clone(p.Guards)
	e.cfg.Policy = p
	return entry, nil
}

// policyChange says in words what changes from old to p.
func policyChange(old, p *Policy) string {
	var parts []string
	add := func(changed bool, format string, args ...any) {
		if changed {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(old.Mode != p.Mode, "mode %v to %v", old.Mode, p.Mode)
	add(old.Min != p.Min || old.Max != p.Max, "%d-%d to %d-%d instances", old.Min, old.Max, p.Min, p.Max)
	add(old.Pause != p.Pause, "pause %v to %v", old.Pause, p.Pause)
	add(old.Pinned != p.Pinned && p.Pinned > 0, "pinned to %d", p.Pinned)
	add(old.Pinned != p.Pinned && p.Pinned == 0, "not pinned to %d any more", old.Pinned)
	if len(parts) == 0 {
		return "policy: as it was, or changed in its targets, windows and rates only"
	}
	return "policy: " + strings.Join(parts, ", ")
}

// SetRules replaces the alert rules and the capacity. Alerts of rules that stay
// keep their state.
func (e *Engine) SetRules(now time.Time, actor string, rules []Rule, c Capacity) (Entry, error) {
	next, err := NewAlerts(rules, c)
	if err != nil {
		return Entry{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	entry, err := e.byPerson(KindConfig, now, actor, fmt.Sprintf("rules: %d to %d; capacity of an instance: %s connections, %s messages/s (%s)",
		len(e.cfg.Rules), len(rules), exactly(next.capacity.Connections), exactly(next.capacity.Messages), next.capacity.Source),
		configChange{What: "rules", Before: e.cfg.Rules, After: rules})
	if err != nil {
		return Entry{}, err
	}
	for key, a := range e.alerts.all {
		if r, kept := next.Rule(a.Rule); kept && !r.Disabled {
			next.all[key] = a
		}
	}
	next.silences = e.alerts.silences
	e.alerts, e.cfg.Rules, e.cfg.Capacity = next, next.rules, next.capacity
	return entry, nil
}

// ChangeRules is SetRules by the node that decides: whoever was told that an alert
// fires is told that it ended with its rule, and nobody waits for a value that no rule
// looks at any more.
func (e *Engine) ChangeRules(now time.Time, actor string, rules []Rule, c Capacity) (Entry, error) {
	old, _ := e.Rules()
	firing := e.firing()
	entry, err := e.SetRules(now, actor, rules, c)
	if err != nil {
		return entry, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var ended []string
	for _, a := range firing {
		r, kept := e.alerts.Rule(a.Rule)
		if kept && !r.Disabled {
			continue
		}
		why := "rule disabled"
		if !kept {
			why = "rule removed"
			if i := slices.IndexFunc(old, func(r Rule) bool { return r.Name == a.Rule }); i >= 0 {
				r = old[i]
			}
		}
		j := Judgement{Rule: r, Before: a, After: a}
		j.After.State, j.After.Since = Resolved, now.UTC().Round(0)
		j.Events = []Event{{At: j.After.Since, Alert: a.Key(), From: Firing, To: Resolved, Why: why + " by " + actor, Quiet: a.Quiet()}}
		e.groups.Add(&j)
		ended = append(ended, a.Key())
	}
	if len(ended) > 0 {
		entry.Summary = shorten(entry.Summary + "; no longer firing: " + strings.Join(ended, ", "))
	}
	return entry, nil
}

// firing are the alerts that fire now.
func (e *Engine) firing() []Alert {
	return slices.DeleteFunc(e.Alerts(), func(a Alert) bool { return a.State != Firing })
}

// Acknowledge takes an alert on.
func (e *Engine) Acknowledge(now time.Time, key, actor, reason string) (Entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ack := Ack{By: actor, Reason: shorten(reason), At: now.UTC().Round(0)}
	if err := e.alerts.Acknowledge(key, ack); err != nil {
		return Entry{}, err
	}
	return e.byPerson(KindSilence, now, actor, fmt.Sprintf("acknowledged %s: %s", key, reason), ack)
}

// Silence keeps matching alerts from being told until an end.
func (e *Engine) Silence(now time.Time, q Silence) (Entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q.Reason, q.From, q.Until = shorten(q.Reason), q.From.UTC().Round(0), q.Until.UTC().Round(0)
	if err := e.alerts.Silence(now, q); err != nil {
		return Entry{}, err
	}
	return e.byPerson(KindSilence, now, q.By, fmt.Sprintf("silenced %s until %s: %s", orElse(q.Rule, "every rule"), q.Until.Format(time.RFC3339), q.Reason), q)
}

// Unsilence ends a silence.
func (e *Engine) Unsilence(now time.Time, id, actor string) (Entry, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.alerts.Unsilence(id); err != nil {
		return Entry{}, err
	}
	return e.byPerson(KindSilence, now, actor, fmt.Sprintf("ended the silence %s", id), nil)
}

// Silences lists the silences that have not ended.
func (e *Engine) Silences(now time.Time) []Silence {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.alerts.Silences(now)
}

// NewEntry makes an entry of something that the engine does not compute: an
// action, its result, a drill, a planning trigger. data becomes canonical JSON
// and may be nil; it must hold no payload, token or secret.
func NewEntry(kind Kind, now time.Time, actor, region, summary string, data any) (Entry, error) {
	if actor == "" || summary == "" || int(kind) >= len(kindNames) {
		return Entry{}, fmt.Errorf("%v: the kind is unknown, or the actor or the summary is missing", kind)
	}
	entry, err := entryOf(kind, now.Round(0), region, summary, data)
	entry.Actor = actor
	return entry, err
}

// Note makes an entry of an admin's words.
func Note(now time.Time, actor, text string) (Entry, error) {
	return NewEntry(KindNote, now, actor, "", text, nil)
}

// ActuatorFault says why the actuator cannot act, so that the decision framework
// asks for a person; the empty text says that it can again.
func (e *Engine) ActuatorFault(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = shorten(text)
}

// Policy returns the policy in force.
func (e *Engine) Policy() Policy {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg.Policy
}

// Rules returns the rules and the capacity in force.
func (e *Engine) Rules() ([]Rule, Capacity) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.cfg.Rules), e.cfg.Capacity
}

// Decision returns the last decision; its At is zero before the first tick.
func (e *Engine) Decision() Decision {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.desired
}

// Alerts lists the alerts that are not inactive, firing first.
func (e *Engine) Alerts() []Alert {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.alerts.Alerts()
}

// State returns what the engine remembers, for Restore after a restart.
func (e *Engine) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.clone()
}

// Restore gives an engine the memory of an earlier one. A memory that is older
// than a few seconds begins its windows anew by itself.
func (e *Engine) Restore(st State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = st.clone()
}
