package scale

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A Notice is what people are told at once: the events of one group.
type Notice struct {
	At       time.Time `json:"at"`
	Group    string    `json:"group"`
	Severity Severity  `json:"severity"` // the highest among the events
	Resolved bool      `json:"resolved"` // every event is an end
	Events   []Event   `json:"events"`
	Details  []Detail  `json:"details,omitempty"` // of each event, in the same order
}

// A Detail is what people want to know of an event beyond its words.
type Detail struct {
	Rule      string    `json:"rule"`
	Node      string    `json:"node,omitempty"`
	Severity  Severity  `json:"severity"`
	Since     time.Time `json:"since"` // the breach began
	Value     string    `json:"value"`
	Threshold string    `json:"threshold"`
	Response  string    `json:"response,omitempty"` // what to do
	Runbook   string    `json:"runbook,omitempty"`
}

// Amount writes a value of the rule's signal for people.
func (r *Rule) Amount(v float64) string {
	q := judge{r: r}
	return q.amount(v)
}

// detail describes the alert of a judgement.
func (j *Judgement) detail() Detail {
	q := judge{r: &j.Rule}
	d := Detail{Rule: j.Rule.Name, Node: j.After.Node, Severity: j.Rule.Severity, Since: j.After.Began, Value: q.amount(j.After.Value),
		Threshold: q.amount(j.Rule.Threshold), Response: j.Rule.Response, Runbook: j.Rule.Runbook}
	if j.Rule.OfSilence() {
		d.Value, d.Threshold = j.Rule.Standing(&j.After, j.Observation.At), j.Rule.Limit()
	} else if j.After.NoData {
		d.Value = "no value"
	}
	return d
}

// How long the first event of a group waits for company. A critical one waits
// only for what the same cause brings along.
const (
	groupWait         = 30 * time.Second
	groupWaitCritical = 5 * time.Second
	maxNoticeEvents   = 100
)

// A Grouper collects events, so that one cause is told once. It is not safe for
// concurrent use.
type Grouper struct {
	open map[string]*collecting
}

type collecting struct {
	due    time.Time
	notice Notice
}

// NewGrouper returns an empty Grouper.
func NewGrouper() *Grouper { return &Grouper{open: make(map[string]*collecting)} }

// Add takes the events of one judgement that somebody is to be told.
func (g *Grouper) Add(j *Judgement) {
	for _, e := range j.Events {
		if e.Quiet || e.To != Firing && e.To != Resolved {
			continue
		}
		group := cmp.Or(j.Rule.Group, j.Rule.Name)
		wait := groupWait
		if j.Rule.Severity == Critical {
			wait = groupWaitCritical
		}
		c := g.open[group]
		if c == nil {
			c = &collecting{due: e.At.Add(wait), notice: Notice{Group: group, Resolved: true}}
			g.open[group] = c
		}
		if due := e.At.Add(wait); due.Before(c.due) {
			c.due = due
		}
		c.notice.Severity = max(c.notice.Severity, j.Rule.Severity)
		c.notice.Resolved = c.notice.Resolved && e.To == Resolved
		if len(c.notice.Events) < maxNoticeEvents {
			c.notice.Events, c.notice.Details = append(c.notice.Events, e), append(c.notice.Details, j.detail())
		}
	}
}

// Flush returns the notices that are due, by group.
func (g *Grouper) Flush(now time.Time) []Notice {
	var out []Notice
	for _, group := range slices.Sorted(maps.Keys(g.open)) {
		if c := g.open[group]; !now.Before(c.due) {
			c.notice.At = now
			out = append(out, c.notice)
			delete(g.open, group)
		}
	}
	return out
}
