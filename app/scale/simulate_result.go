package scale

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Span is the lowest, mean and highest of one quantity in one frame.
type Span struct {
	Min float64 `json:"min"`
	Avg float64 `json:"avg"`
	Max float64 `json:"max"`
	n   int
}

func (s *Span) add(v float64) {
	if s.n == 0 {
		s.Min, s.Max = v, v
	}
	s.n++
	s.Min, s.Max = math.Min(s.Min, v), math.Max(s.Max, v)
	s.Avg += (v - s.Avg) / float64(s.n)
}

// A Frame is one column of the charts: one part of the simulated time.
type Frame struct {
	At          time.Time `json:"at"`
	Demand      Span      `json:"demand"`      // clients that want to be connected
	Connections Span      `json:"connections"` // clients that are
	Messages    Span      `json:"messages"`    // per second
	Live        Span      `json:"live"`        // instances that are paid for
	Ready       Span      `json:"ready"`       // instances that serve
	Desired     Span      `json:"desired"`
	CPU         Span      `json:"cpu"`    // mean share
	P50         Span      `json:"p50"`    // seconds
	P95         Span      `json:"p95"`    // seconds
	Errors      Span      `json:"errors"` // share
}

// A SimSummary is a simulation in numbers.
type SimSummary struct {
	Steps           int           `json:"steps"`
	PeakConnections float64       `json:"peak_connections"`
	PeakMessages    float64       `json:"peak_messages"`
	MinLive         int           `json:"min_live"`
	MaxLive         int           `json:"max_live"`
	Ups             int           `json:"ups"` // changes of the decided count
	Downs           int           `json:"downs"`
	SlowestUp       time.Duration `json:"slowest_up"` // from a need within the bounds to its decision

	InstanceHours float64 `json:"instance_hours"`
	StaticHours   float64 `json:"static_hours"` // of a fleet that is always as large as the largest
	Cost          Cost    `json:"cost"`         // of an hour and a month at this mean
	TotalCost     float64 `json:"total_cost"`   // of the simulated time
	StaticCost    float64 `json:"static_cost"`

	Breach   time.Duration `json:"breach"`    // the mean of some target signal was above its target
	Slow     time.Duration `json:"slow"`      // p95 was above the document's 200 ms
	Critical time.Duration `json:"critical"`  // p95 was above the document's 1,000 ms
	Errors   time.Duration `json:"errors"`    // the error rate was above the document's 2%
	Unserved float64       `json:"unserved"`  // connection-seconds that were wanted and not there, as a share
	WorstP95 float64       `json:"worst_p95"` // seconds
	Alerts   int           `json:"alerts"`    // that fired
	Walks    int           `json:"walks"`
}

// Simulated is what a simulation came to.
type Simulated struct {
	Simulation Simulation   `json:"simulation"` // with the defaults filled in
	Frames     []Frame      `json:"frames"`
	Summary    SimSummary   `json:"summary"`
	Entries    []Entry      `json:"entries"`           // of the scaling log, without their data
	Dropped    int          `json:"dropped,omitempty"` // entries beyond the first 5,000
	Forecast   *Accuracy    `json:"forecast,omitempty"`
	Expected   []Prediction `json:"expected,omitempty"` // what the forecast had expected, an hour ahead at most
}

// recorder gathers the result while a simulation runs.
type recorder struct {
	out     Simulated
	every   time.Duration
	live    float64 // instance-seconds
	wanted  float64 // connection-seconds
	missing float64
	need    time.Time // since when more is needed than was decided
}

func (r *recorder) begin(s *Simulation) {
	r.every = max(s.Step, (s.Length/maxSimFrames).Truncate(s.Step)+s.Step)
	r.out.Simulation = *s
	r.out.Summary.MinLive = math.MaxInt
}

func (r *recorder) take(w *simWorld, now time.Time, f *Fleet, o *Outcome, demand, messages float64) {
	frames := &r.out.Frames
	if n := len(*frames); n == 0 || now.Sub((*frames)[n-1].At) >= r.every {
		*frames = append(*frames, Frame{At: now})
	}
	live, ready, connections := 0, 0, 0.0
	for _, n := range w.nodes {
		if n.dead.IsZero() {
			live++
			connections += n.connections
			if n.serves(now) {
				ready++
			}
		}
	}
	p95 := f.Delivery.Quantile(0.95).Seconds()
	errs := f.Total(ErrorRate)
	frame := &(*frames)[len(*frames)-1]
	frame.Demand.add(demand)
	frame.Connections.add(connections)
	frame.Messages.add(messages)
	frame.Live.add(float64(live))
	frame.Ready.add(float64(ready))
	frame.Desired.add(float64(o.Desired))
	frame.CPU.add(f.Total(CPU).Mean)
	frame.P50.add(f.Delivery.Quantile(0.50).Seconds())
	frame.P95.add(p95)
	frame.Errors.add(errs.Mean)

	s := &r.out.Summary
	s.Steps++
	s.PeakConnections, s.PeakMessages = max(s.PeakConnections, connections), max(s.PeakMessages, messages)
	s.MinLive, s.MaxLive = min(s.MinLive, live), max(s.MaxLive, live)
	s.WorstP95 = max(s.WorstP95, p95)
	dt := w.Step.Seconds()
	r.live += float64(live) * dt
	r.wanted, r.missing = r.wanted+demand*dt, r.missing+max(0, demand-connections)*dt
	over := func(d *time.Duration, yes bool) {
		if yes {
			*d += w.Step
		}
	}
	over(&s.Slow, p95 > 0.2)
	over(&s.Critical, p95 > 1)
	over(&s.Errors, errs.Mean > 0.02)
	over(&s.Breach, slices.ContainsFunc(o.Decision.Wants, func(want Want) bool { return want.Value > want.Target }))
	r.decision(w, now, &o.Decision)
	r.entries(o.Entries)
}

// decision counts changes and how long a need waited for its decision.
func (r *recorder) decision(w *simWorld, now time.Time, d *Decision) {
	s := &r.out.Summary
	switch {
	case d.Desired > d.Base:
		s.Ups++
	case d.Desired < d.Base:
		s.Downs++
	}
	needed := min(d.Recommended, w.Policy.Max) > d.Base
	switch {
	case needed && r.need.IsZero():
		r.need = now
	case !needed:
		r.need = time.Time{}
	}
	if d.Desired > d.Base && !r.need.IsZero() {
		s.SlowestUp = max(s.SlowestUp, now.Sub(r.need))
		r.need = time.Time{}
	}
}

func (r *recorder) entries(entries []Entry) {
	for _, e := range entries {
		switch e.Kind {
		case KindWalk:
			r.out.Summary.Walks++
		case KindAlert:
			if strings.Contains(e.Summary, ": "+Firing.String()) {
				r.out.Summary.Alerts++
			}
		}
		if len(r.out.Entries) >= maxSimEntries {
			r.out.Dropped++
			continue
		}
		e.Data = nil // a node each: too much to keep for a picture
		r.out.Entries = append(r.out.Entries, e)
	}
}

func (r *recorder) end(w *simWorld) Simulated {
	s := &r.out.Summary
	hours := w.Length.Hours()
	s.InstanceHours = r.live / 3600
	s.StaticHours = float64(s.MaxLive) * hours
	if r.wanted > 0 {
		s.Unserved = r.missing / r.wanted
	}
	size := SizeFor(s.MaxLive)
	if price := w.Prices.Instance[size.Name]; price > 0 {
		s.TotalCost, s.StaticCost = s.InstanceHours*price, s.StaticHours*price
	}
	mean := s.InstanceHours / hours
	s.Cost = w.Prices.Of(1, size, 0, 1)
	s.Cost.Hour = mean * w.Prices.Instance[size.Name]
	s.Cost.Month = s.Cost.Hour * HoursPerMonth
	if w.ahead.on {
		a := w.ahead.now.Accuracy
		r.out.Forecast, r.out.Expected = &a, w.ahead.warned
	}
	return r.out
}

// Text writes the result for people.
func (r *Simulated) Text() string {
	s, sim := &r.Summary, &r.Simulation
	var b strings.Builder
	fmt.Fprintf(&b, "Scenario %s: %s in steps of %s, seed %d; up to %s connections and %s messages a second.\n", sim.Scenario,
		length(sim.Length), length(sim.Step), sim.Seed, amount(s.PeakConnections), amount(s.PeakMessages))
	fmt.Fprintf(&b, "Capacity of an instance: %s connections, %s messages/s (%s); grows above %s connections.\n\n", amount(sim.Capacity.Connections),
		amount(sim.Capacity.Messages), sim.Capacity.Source, amount(sim.Capacity.ScaleAt))
	fmt.Fprintf(&b, "  Instances     %d to %d (bounds %d to %d), %d times up, %d times down\n", s.MinLive, s.MaxLive, sim.Policy.Min, sim.Policy.Max, s.Ups, s.Downs)
	fmt.Fprintf(&b, "  Slowest up    decided %s after the need (the document allows %s)\n", length(s.SlowestUp), length(ScaleUpWithin))
	fmt.Fprintf(&b, "  Latency p95   at worst %.0f ms; above 200 ms for %s, above 1,000 ms for %s\n", s.WorstP95*1000, length(s.Slow), length(s.Critical))
	fmt.Fprintf(&b, "  Errors        above 2%% for %s\n", length(s.Errors))
	fmt.Fprintf(&b, "  Clients       %.2f%% of the wanted time not connected\n", s.Unserved*100)
	fmt.Fprintf(&b, "  Use           %.1f instance-hours; a fleet that is always at its largest needs %.1f", s.InstanceHours, s.StaticHours)
	if s.StaticHours > 0 {
		fmt.Fprintf(&b, ", so %.0f%% saved", (1-s.InstanceHours/s.StaticHours)*100)
	}
	b.WriteByte('\n')
	if s.TotalCost > 0 {
		fmt.Fprintf(&b, "  Cost          %.2f %s for the time; %.0f a month at this mean (without %s)\n", s.TotalCost, s.Cost.Currency, s.Cost.Month, "Redis and balancer")
	}
	fmt.Fprintf(&b, "  Log           %d entries, %d alerts fired, %d walks\n", len(r.Entries)+r.Dropped, s.Alerts, s.Walks)
	if r.Forecast != nil {
		fmt.Fprintf(&b, "  Forecast      good %v: %s\n", r.Forecast.Good, r.Forecast.Why)
	}
	return b.String()
}
