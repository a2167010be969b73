package watch

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/scale"
)

// A Status is where scaling stands, as this node knows it.
type Status struct {
	At     time.Time `json:"at"`
	Node   string    `json:"node" doc:"Who answers."`
	Leader string    `json:"leader,omitempty" doc:"Who decides; absent: nobody."`
	Fence  uint64    `json:"fence,omitempty" doc:"Number of the leadership."`
	Leads  bool      `json:"leads" doc:"This node decides."`
	Held   string    `json:"held,omitempty" doc:"Why no count is changed now."`

	Mode      scale.Mode  `json:"mode"`
	Pause     scale.Pause `json:"pause"`
	Pinned    int         `json:"pinned,omitempty"`
	Min       int         `json:"min"`
	Max       int         `json:"max"`
	Override  Override    `json:"override" doc:"What admins changed at run time."`
	Current   int         `json:"current" doc:"Nodes that are capacity or will be."`
	Desired   int         `json:"desired"`
	Requested int         `json:"requested,omitempty" doc:"What the control plane was last told."`
	Reason    string      `json:"reason"`

	Decision scale.Decision `json:"decision"`
	Nodes    []NodeStatus   `json:"nodes"`
	Capacity scale.Capacity `json:"capacity" doc:"Of one instance, as the policy counts."`
	Alerts   AlertCounts    `json:"alerts"`
	Actuator string         `json:"actuator,omitempty"`
	Last     *scale.Action  `json:"last_action,omitempty"`
	Work     Work           `json:"work"`
}

// A NodeStatus is one node.
type NodeStatus struct {
	Name    string          `json:"name"`
	Region  string          `json:"region,omitempty"`
	State   scale.NodeState `json:"state"`
	AgeMS   int64           `json:"age_ms" doc:"Of its last sample."`
	Started time.Time       `json:"started"`
	Values  scale.Readings  `json:"values"`
}

// AlertCounts counts alerts by state.
type AlertCounts struct {
	Firing   int `json:"firing"`
	Critical int `json:"critical" doc:"Of those that fire."`
	Pending  int `json:"pending"`
	Silenced int `json:"silenced" doc:"Firing, and nobody is told."`
}

// Work is what watching costs and what was lost.
type Work struct {
	Ticks       uint64  `json:"ticks"`
	TickMicros  float64 `json:"tick_us" doc:"Mean time of one look at the fleet, in microseconds."`
	LostRows    uint64  `json:"lost_rows" doc:"Rows of samples that could not be stored."`
	LostEntries uint64  `json:"lost_entries" doc:"Entries of the log that could not be written."`
	Waiting     int     `json:"waiting_entries" doc:"Groups of entries that wait to be written."`
	Untold      uint64  `json:"untold" doc:"Notices that nobody took in time."`

	Deferred []Deferral `json:"deferred" doc:"What waits until the node is calm."`
}

// A Deferral is work that nobody waits for and that is put off.
type Deferral struct {
	Work    string    `json:"work"`
	Since   time.Time `json:"since"`
	Why     string    `json:"why"`
	Waiting int       `json:"waiting" doc:"How many of its kind wait."`
}

// Status tells where scaling stands.
func (s *Service) Status() Status {
	p, d := s.engine.Policy(), s.engine.Decision()
	_, capacity := s.engine.Rules()
	s.mu.Lock()
	f := s.fleet
	out := Status{At: f.At, Node: s.cfg.Node, Leader: s.leader, Fence: s.fence, Leads: s.leads, Held: s.held, Override: s.override}
	out.Work = Work{Ticks: s.ticks, LostRows: s.lost}
	if s.ticks > 0 {
		out.Work.TickMicros = float64(s.cost.Microseconds()) / float64(s.ticks)
	}
	s.mu.Unlock()
	out.Work.LostEntries, out.Work.Waiting = s.scribe.lost()
	out.Work.Deferred = []Deferral{}
	if s.cfg.Deferrals != nil {
		out.Work.Deferred = s.cfg.Deferrals()
	}
	s.hand.mu.Lock()
	out.Work.Untold = s.hand.held
	s.hand.mu.Unlock()
	if out.At.IsZero() {
		out.At = time.Now()
	}
	out.Mode, out.Pause, out.Pinned, out.Min, out.Max = p.Mode, p.Pause, p.Pinned, p.Min, p.Max
	out.Current, out.Desired, out.Requested, out.Reason, out.Decision, out.Capacity = f.Live(), d.Desired, f.Requested, d.Reason, d, capacity
	if d.At.IsZero() {
		out.Desired, out.Reason = f.Live(), "nothing was decided yet"
	}
	out.Nodes = make([]NodeStatus, 0, len(f.Nodes))
	for i := range f.Nodes {
		n := &f.Nodes[i]
		out.Nodes = append(out.Nodes, NodeStatus{Name: n.Name, Region: n.Region, State: n.State, AgeMS: n.Age.Milliseconds(), Started: n.Started, Values: n.Values})
	}
	out.Alerts = s.counts()
	if s.cfg.Actuator != nil {
		out.Actuator = s.cfg.Actuator.Name()
		if last := s.hand.lastAction(); last.Actuator != "" {
			out.Last = &last
		}
	}
	return out
}

func (s *Service) counts() (c AlertCounts) {
	rules, _ := s.engine.Rules()
	critical := make(map[string]bool, len(rules))
	for i := range rules {
		critical[rules[i].Name] = rules[i].Severity == scale.Critical
	}
	for _, a := range s.engine.Alerts() {
		switch {
		case a.State == scale.Pending:
			c.Pending++
		case a.State != scale.Firing:
		case a.Quiet():
			c.Silenced++
			fallthrough
		default:
			c.Firing++
			if critical[a.Rule] {
				c.Critical++
			}
		}
	}
	return c
}

// A Desire is the answer for control planes that ask themselves.
type Desire struct {
	Desired int       `json:"desired" doc:"Instances that are wanted. In the modes observe and advise it is told all the same: whoever reads it decides whether to follow."`
	Current int       `json:"current"`
	Min     int       `json:"min"`
	Max     int       `json:"max"`
	Mode    string    `json:"mode"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	Held    string    `json:"held,omitempty" doc:"Why no count is changed now."`
	// MaxConcurrency is a hint for platforms that bound the requests of an instance: a
	// WebSocket is one for as long as it lives.
	MaxConcurrency int `json:"max_concurrency" doc:"Connections that one instance holds by the best capacity known, for platforms such as Cloud Run that bound the requests of an instance."`

	// Signals are by name what one instance has of each, and what it should have.
	Signals map[string]DesireSignal `json:"signals"`
}

// A DesireSignal is one signal for scalers that do the arithmetic themselves.
type DesireSignal struct {
	Value   float64 `json:"value" doc:"Mean of one instance."`
	Target  float64 `json:"target"`
	Total   float64 `json:"total" doc:"Of the fleet; of a share the mean."`
	Desired int     `json:"desired" doc:"Instances by this signal alone."`
	Known   bool    `json:"known"`
}

// Desired tells the wanted count.
func (s *Service) Desired() Desire {
	d, p, f := s.engine.Decision(), s.engine.Policy(), s.Fleet()
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	out := Desire{Desired: d.Desired, Current: f.Live(), Min: p.Min, Max: p.Max, Mode: p.Mode.String(), Reason: d.Reason, At: d.At, Held: held,
		MaxConcurrency: int(s.Planner().Capacity.Connections), Signals: make(map[string]DesireSignal, len(d.Wants))}
	if d.At.IsZero() {
		out.Desired, out.Reason, out.At = f.Live(), "nothing was decided yet", time.Now()
	}
	for _, w := range d.Wants {
		t := f.Total(w.Signal)
		sig := DesireSignal{Value: w.Value, Target: w.Target, Total: t.Mean, Desired: w.Count, Known: w.Known}
		if w.Signal.Additive() {
			sig.Total = t.Sum
		}
		out.Signals[w.Signal.String()] = sig
	}
	return out
}

// An Outlook is what the forecast says, and when limits are reached.
type Outlook struct {
	At       time.Time        `json:"at,omitzero"`
	Good     bool             `json:"good" doc:"Its own backtest is good enough to scale ahead by it."`
	Why      string           `json:"why"`
	Accuracy scale.Accuracy   `json:"accuracy"`
	Next     []Predicted      `json:"next" doc:"The coming day."`
	Recent   []Predicted      `json:"recent" doc:"The last day as it would have been forecast before it, beside what came."`
	Limits   []scale.LimitRow `json:"limits" doc:"What is reached first comes first."`
	Ahead    scale.Ahead      `json:"ahead"`
	Measured Measured         `json:"measured"`
	Region   *RegionOutlook   `json:"region,omitempty" doc:"This node's own region, which is scaled ahead by its own forecast; absent where there is only one."`
	Regions  []RegionOutlook  `json:"regions" doc:"All regions that are known, this node's own first; none where there is only one."`
}

// Outlook tells the forecast of connections.
func (s *Service) Outlook() Outlook {
	s.mu.Lock()
	o, m := s.outlook, s.measured
	s.mu.Unlock()
	out := Outlook{At: o.at, Why: o.why, Next: []Predicted{}, Recent: o.recent, Limits: o.rows, Ahead: o.ahead, Measured: m, Region: o.region(s.cfg.Region), Regions: o.all(s.cfg.Region)}
	if out.Recent == nil {
		out.Recent = []Predicted{}
	}
	if out.Limits == nil {
		out.Limits = []scale.LimitRow{}
	}
	switch {
	case o.forecast != nil:
		out.Accuracy, out.Good, out.Why = o.forecast.Accuracy, o.forecast.Accuracy.Good, o.forecast.Accuracy.Why
		out.Next = dayAhead(o.forecast)
	case out.Why == "":
		out.Why = "nothing was learnt yet"
	}
	return out
}

// Planner plans by the best capacity that is known: configured, calibrated,
// measured, or the document's.
func (s *Service) Planner() scale.Planner {
	_, c := s.engine.Rules()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == scale.DocumentCapacity() && s.measured.Capacity != nil {
		c = *s.measured.Capacity
	}
	return scale.Planner{Capacity: c, Prices: s.cfg.Prices}
}

// Alerts lists the alerts that are not at rest, firing first.
func (s *Service) Alerts() []scale.Alert { return s.engine.Alerts() }

// Silences lists the silences that have not ended.
func (s *Service) Silences() []scale.Silence { return s.engine.Silences(time.Now()) }

// Rules returns the rules and the capacity in force.
func (s *Service) Rules() ([]scale.Rule, scale.Capacity) { return s.engine.Rules() }

// Log returns one page of the scaling log.
func (s *Service) Log(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error) {
	return s.cfg.Store.ScaleLogPage(ctx, f)
}

// LogEntry returns one entry and the entries that it led to. An empty origin is
// this node's.
func (s *Service) LogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, []scale.LogEntry, error) {
	if origin == "" {
		origin = s.origin()
	}
	e, err := s.cfg.Store.ScaleLogEntry(ctx, origin, seq)
	if err != nil {
		return e, nil, err
	}
	led, err := s.cfg.Store.ScaleLogCaused(ctx, origin, seq)
	return e, led, err
}

// Verify checks the logs of all origins.
func (s *Service) Verify(ctx context.Context) ([]scale.LogReport, error) {
	origins, err := s.cfg.Store.ScaleLogOrigins(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]scale.LogReport, 0, len(origins))
	for _, o := range origins {
		r, err := s.cfg.Store.VerifyScaleLog(ctx, o)
		if err != nil {
			return out, fmt.Errorf("log of %s: %w", o, err)
		}
		out = append(out, r)
	}
	return out, nil
}
