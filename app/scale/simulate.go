package scale

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Simulation is what the simulator runs: the engine itself on a load and a
// fleet that are invented. The zero value of every field but Scenario and Peak
// takes a default.
type Simulation struct {
	Scenario Scenario      `json:"scenario"`
	Peak     Demand        `json:"peak"`  // the demand at its highest
	Recorded []LoadPoint   `json:"-"`     // for ScenarioRecorded
	Start    time.Time     `json:"start"` // a Monday in March where it is zero
	Length   time.Duration `json:"length"`
	Step     time.Duration `json:"step"` // of the engine; 1 s to 10 s
	Seed     uint64        `json:"seed"` // equal seeds give equal results

	Policy   Policy      `json:"policy"` // its mode is act here: see what would happen
	Rules    []Rule      `json:"-"`
	Capacity Capacity    `json:"capacity"`
	Fleet    FleetConfig `json:"fleet"`
	Model    NodeModel   `json:"model"`
	Initial  int         `json:"initial"` // instances at the start; 0: what the policy asks for
	Regions  []string    `json:"regions"`

	// History is how many days before the start are known to the forecast, which
	// then scales ahead. 0: no forecast.
	History int `json:"history,omitempty"`

	Prices Prices `json:"prices"`

	// Stop ends the simulation early with its error, such as a context's Err. Nil:
	// nothing does.
	Stop func() error `json:"-"`
}

// Bounds of a simulation.
const (
	maxSimulated  = 400 * dayLength
	maxSimSteps   = 4_000_000
	maxSimEntries = 5000
	maxSimHistory = 56 // days
	maxSimFrames  = 1440
)

var defaultSimStart = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func (s Simulation) withDefaults() Simulation {
	s.Capacity = s.Capacity.withDefaults()
	if s.Scenario == ScenarioRecorded && len(s.Recorded) > 1 {
		s.Start = s.Recorded[0].At
		s.Length = cmp.Or(s.Length, s.Recorded[len(s.Recorded)-1].At.Sub(s.Start))
		for _, p := range s.Recorded {
			s.Peak.Connections, s.Peak.Messages = max(s.Peak.Connections, p.Connections), max(s.Peak.Messages, p.Messages)
		}
	}
	s.Peak = s.Peak.withDefaults()
	if s.Start.IsZero() {
		s.Start = defaultSimStart
	}
	if s.Length == 0 {
		s.Length = 2 * time.Hour
		if s.Scenario == ScenarioDaily {
			s.Length = dayLength
		}
	}
	s.Step = cmp.Or(s.Step, 5*time.Second)
	if len(s.Policy.Targets) == 0 {
		s.Policy = DefaultPolicy(s.Capacity)
	}
	s.Policy.Mode = Act
	if s.Rules == nil {
		s.Rules = DefaultRules()
	}
	if len(s.Regions) == 0 {
		s.Regions = []string{"a"}
		if s.Scenario == ScenarioRegionLoss {
			s.Regions = []string{"a", "b"}
		}
	}
	s.Model = s.Model.withDefaults(SizeFor(s.Policy.Max))
	s.Fleet = s.Fleet.withDefaults()
	return s
}

func (s *Simulation) validate() error {
	var errs []error
	if _, known := shape(s.Scenario, s.Start, s.Length); !known && s.Scenario != ScenarioRecorded {
		errs = append(errs, fmt.Errorf("scenario %.40q: unknown, want one of %v", s.Scenario, Scenarios()))
	}
	if s.Scenario == ScenarioRecorded && len(s.Recorded) < 2 {
		errs = append(errs, fmt.Errorf("%w: %d points, want two or more", ErrLoad, len(s.Recorded)))
	}
	if s.Step < time.Second || s.Step > 10*time.Second {
		errs = append(errs, fmt.Errorf("step: %v is not between 1 s and 10 s", s.Step))
	} else if s.Length < time.Minute || s.Length > maxSimulated || s.Length/s.Step > maxSimSteps {
		errs = append(errs, fmt.Errorf("length: %v is not between a minute and %v, or has more than %d steps of %v", s.Length, maxSimulated, maxSimSteps, s.Step))
	}
	if s.Policy.Max > MaxNodes {
		errs = append(errs, fmt.Errorf("max: %d instances cannot be simulated, at most %d", s.Policy.Max, MaxNodes))
	}
	if s.Initial < 0 || s.Initial > MaxNodes {
		errs = append(errs, fmt.Errorf("initial: %d instances, want 0 to %d", s.Initial, MaxNodes))
	}
	if s.History < 0 || s.History > maxSimHistory {
		errs = append(errs, fmt.Errorf("history: %d days, want 0 to %d", s.History, maxSimHistory))
	}
	if s.Scenario == ScenarioRegionLoss && len(s.Regions) < 2 {
		errs = append(errs, errors.New("regions: the loss of a region needs two or more"))
	}
	if len(s.Regions) > maxRegions {
		errs = append(errs, fmt.Errorf("regions: %d, want at most %d", len(s.Regions), maxRegions))
	}
	errs = append(errs, s.Peak.Validate(), s.Model.validate())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	return nil
}

// simWorld is the state of a running simulation.
type simWorld struct {
	Simulation
	engine *Engine
	rnd    *rand.Rand
	shape  curve
	noise  float64 // of the demand, wandering

	nodes     []*simNode // by name; names rise with age
	made      int
	lost      map[string]time.Time // regions that are gone, and until when
	struck    bool                 // the incident has happened
	returning float64              // clients that were cut and are not yet back
	waiting   float64              // clients that nobody could take in the last step
	wanted    int                  // what the control plane was last told
	samples   []Sample             // of this step
	ahead     oracle
	rec       recorder
}

// Simulate runs a simulation to its end. It reads no clock: how fast it went is
// for the caller to measure.
func Simulate(s Simulation) (Simulated, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return Simulated{}, err
	}
	engine, err := NewEngine(Config{Policy: s.Policy, Rules: s.Rules, Capacity: s.Capacity})
	if err != nil {
		return Simulated{}, fmt.Errorf("simulate: %w", err)
	}
	w := &simWorld{Simulation: s, engine: engine, rnd: rand.New(rand.NewPCG(s.Seed, 0x5ca1e)), lost: make(map[string]time.Time)}
	w.shape, _ = shape(s.Scenario, s.Start, s.Length)
	w.ahead.begin(w)
	w.rec.begin(&w.Simulation)
	w.begin()
	steps := int(s.Length / s.Step)
	for i := 1; i <= steps; i++ {
		if s.Stop != nil && i%64 == 0 {
			if err := s.Stop(); err != nil {
				return Simulated{}, fmt.Errorf("simulate: stopped at %v of %v: %w", time.Duration(i)*s.Step, s.Length, err)
			}
		}
		if err := w.step(s.Start.Add(time.Duration(i) * s.Step)); err != nil {
			return Simulated{}, fmt.Errorf("simulate: at %v: %w", time.Duration(i)*s.Step, err)
		}
	}
	return w.rec.end(w), nil
}

// demand is what clients want at a time, before noise.
func (w *simWorld) demand(at time.Time) (connections, messages float64) {
	if w.shape == nil {
		return demandAt(w.Recorded, at)
	}
	share := w.shape(at)
	return w.Peak.Connections * share, w.Peak.Messages * share
}

// begin puts up a fleet that carries the first demand, ready and warm.
func (w *simWorld) begin() {
	connections, messages := w.demand(w.Start)
	n := w.Initial
	if n == 0 {
		for _, t := range w.Policy.Targets {
			switch t.Signal {
			case Connections:
				n = max(n, ceil(connections/t.Value))
			case MessagesIn:
				n = max(n, ceil(messages/t.Value))
			}
		}
		n = min(max(n, w.Policy.Min), w.Policy.Max)
	}
	for range n {
		node := w.add(w.Start.Add(-time.Hour))
		node.ready = w.Start.Add(-time.Hour)
		node.connections = min(connections/float64(n), w.Capacity.Connections)
	}
	w.wanted = n
}

// add orders a node. It starts at once and is ready after the boot time.
func (w *simWorld) add(now time.Time) *simNode {
	w.made++
	boot := time.Duration(float64(w.Model.Boot) * (0.8 + 0.4*w.rnd.Float64()))
	n := &simNode{name: fmt.Sprintf("n%06d", w.made), region: w.pickRegion(now), started: now, ready: now.Add(boot)}
	w.nodes = append(w.nodes, n)
	return n
}

// pickRegion is the one with the fewest nodes among those that are not lost.
func (w *simWorld) pickRegion(now time.Time) string {
	count := make(map[string]int, len(w.Regions))
	for _, n := range w.nodes {
		if n.dead.IsZero() {
			count[n.region]++
		}
	}
	best := ""
	for _, r := range w.Regions {
		if now.Before(w.lost[r]) {
			continue
		}
		if best == "" || count[r] < count[best] {
			best = r
		}
	}
	return cmp.Or(best, w.Regions[0])
}

// step takes the world one step further.
func (w *simWorld) step(now time.Time) error {
	dt := w.Step.Seconds()
	w.incident(now)
	w.drain(now, dt)
	connections, messages := w.demand(now)
	w.noise = 0.95*w.noise + 0.002*w.rnd.NormFloat64()
	connections *= max(0, 1+w.noise)
	w.connect(now, dt, connections)
	rate := 0.0
	if connections > 0 {
		rate = messages * (1 + 0.02*w.rnd.NormFloat64()) / connections
	}
	samples := w.samples[:0]
	for _, n := range w.nodes {
		if n.dead.IsZero() {
			n.carry(now, dt, &w.Model, w.Capacity, max(0, rate))
		}
		if !n.sample.At.IsZero() {
			samples = append(samples, n.sample)
		}
	}
	w.samples = samples
	f := FleetOf(now, samples, w.Fleet)
	f.Requested, f.Waiting = w.wanted, w.waiting
	f.Ahead = w.ahead.look(w, now, f.Total(Connections).Sum+w.waiting)
	out, err := w.engine.Tick(now, f)
	if err != nil {
		return err
	}
	w.act(now, &out.Decision)
	w.rebalance(now, dt, &f)
	w.rec.take(w, now, &f, &out, connections, messages)
	return nil
}
