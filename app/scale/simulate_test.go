package scale

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustSimulate(t *testing.T, s Simulation) Simulated {
	t.Helper()
	r, err := Simulate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wide is the default policy with room for n instances.
func wide(c Capacity, n int) Policy {
	p := DefaultPolicy(c)
	p.Max = n
	return p
}

func kinds(r *Simulated, k Kind) (out []Entry) {
	for _, e := range r.Entries {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

// TestSimulateDeterministic is what a simulation is worth nothing without.
func TestSimulateDeterministic(t *testing.T) {
	for _, sc := range Scenarios() {
		run := func(seed uint64) string {
			r := mustSimulate(t, Simulation{Scenario: sc, Peak: Demand{Connections: 4000}, Policy: wide(Capacity{}, 60), Seed: seed, Length: time.Hour})
			raw, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(raw)
		}
		first := run(7)
		if again := run(7); again != first {
			t.Errorf("%s: two runs with one seed differ", sc)
		}
		if other := run(8); other == first {
			t.Errorf("%s: another seed gives the same run", sc)
		}
	}
}

func TestSimulateDaily(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioDaily, Peak: Demand{Connections: 3000}, Seed: 1})
	s := r.Summary
	// 15% of 3,000 at night are 450: three instances. 3,000 at two o'clock are 15 and with noise 16.
	if s.MinLive != 3 || s.MaxLive < 15 || s.MaxLive > 17 {
		t.Errorf("instances: got %d to %d, want 3 to 16", s.MinLive, s.MaxLive)
	}
	if s.SlowestUp > ScaleUpWithin {
		t.Errorf("a need waited %v for its decision, want at most %v", s.SlowestUp, ScaleUpWithin)
	}
	if saved := 1 - s.InstanceHours/s.StaticHours; saved < 0.4 {
		t.Errorf("saved %.0f%%, want 40%% or more", saved*100)
	}
	if s.Slow > 0 || s.Errors > 0 {
		t.Errorf("slow for %v, errors for %v, want none", s.Slow, s.Errors)
	}
	if s.Ups < 10 || s.Downs < 10 || s.Ups > 30 || s.Downs > 30 {
		t.Errorf("%d times up and %d down: want a calm climb and descent", s.Ups, s.Downs)
	}
}

// TestSimulateStorm: every client returns at once, and that is no demand.
func TestSimulateStorm(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioStorm, Peak: Demand{Connections: 3000}, Policy: wide(Capacity{}, 60), Seed: 1})
	if len(kinds(&r, KindStorm)) != 1 {
		t.Errorf("got %d storm entries, want 1", len(kinds(&r, KindStorm)))
	}
	if r.Summary.MaxLive-r.Summary.MinLive > 1 {
		t.Errorf("a storm moved the count from %d to %d", r.Summary.MinLive, r.Summary.MaxLive)
	}
	if last := r.Frames[len(r.Frames)-1]; last.Connections.Avg < 0.98*last.Demand.Avg {
		t.Errorf("at the end %.0f of %.0f are connected", last.Connections.Avg, last.Demand.Avg)
	}
}

func TestSimulateSpike(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioSpike, Peak: Demand{Connections: 6000}, Policy: wide(Capacity{}, 60), Seed: 1})
	if r.Summary.MaxLive < 30 {
		t.Errorf("got %d instances for 6,000 connections, want 30 or more", r.Summary.MaxLive)
	}
	if r.Summary.SlowestUp > ScaleUpWithin {
		t.Errorf("slowest up %v, want at most %v", r.Summary.SlowestUp, ScaleUpWithin)
	}
	// The way down begins five minutes after the load has gone, not before.
	peakEnd := r.Simulation.Start.Add(r.Simulation.Length/3 + 21*time.Minute)
	for _, e := range kinds(&r, KindDecision) {
		if strings.HasPrefix(e.Summary, "act: scale down") && e.At.Before(peakEnd.Add(ScaleDownAfter)) && e.At.After(r.Simulation.Start.Add(r.Simulation.Length/3)) {
			t.Errorf("down at %v, %v after the peak", e.At, e.At.Sub(peakEnd))
		}
	}
}

func TestSimulateLosses(t *testing.T) {
	for _, sc := range []Scenario{ScenarioNodeLoss, ScenarioRegionLoss} {
		s := Simulation{Scenario: sc, Peak: Demand{Connections: 5000}, Policy: wide(Capacity{}, 60), Seed: 3}
		r := mustSimulate(t, s)
		before := r.Frames[len(r.Frames)/3-2].Ready.Min
		low := math.Inf(1)
		for _, f := range r.Frames {
			low = min(low, f.Ready.Min)
		}
		last := r.Frames[len(r.Frames)-1]
		if want := map[Scenario]float64{ScenarioNodeLoss: 0.75, ScenarioRegionLoss: 0.5}[sc]; math.Abs(low/before-want) > 0.1 {
			t.Errorf("%s: from %v to %v serving, want about %v of them", sc, before, low, want)
		}
		if last.Ready.Min < before || last.Connections.Avg < 0.98*last.Demand.Avg {
			t.Errorf("%s: at the end %v of %v serve, %.0f of %.0f are connected", sc, last.Ready.Min, before, last.Connections.Avg, last.Demand.Avg)
		}
		for i, f := range r.Frames {
			if f.Desired.Min < before-1 && i > len(r.Frames)/3 {
				t.Errorf("%s: scaled down to %v while nodes were silent", sc, f.Desired.Min)
				break
			}
		}
	}
}

// TestSimulateNoHealing leaves the dead to the policy, which must ask again.
func TestSimulateNoHealing(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioNodeLoss, Peak: Demand{Connections: 5000}, Policy: wide(Capacity{}, 60), Seed: 3, Model: NodeModel{NoHealing: true}})
	third := len(r.Frames)/3 - 2
	if last := r.Frames[len(r.Frames)-1]; last.Ready.Min < r.Frames[third].Ready.Min {
		t.Errorf("got %v serving at the end, want %v as before", last.Ready.Min, r.Frames[third].Ready.Min)
	}
}

// TestSimulateOverload gives a fleet less than it needs: latency and errors must
// rise, alerts fire and the framework be walked.
func TestSimulateOverload(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioSpike, Peak: Demand{Connections: 20_000, Messages: 8000}, Policy: wide(Capacity{}, 5), Seed: 1})
	s := r.Summary
	if s.Critical == 0 || s.Errors == 0 || s.WorstP95 < 1 || s.Unserved < 0.1 {
		t.Errorf("20,000 clients on 5 instances of 1,000: got critical for %v, errors for %v, p95 %.2f s, %.0f%% unserved", s.Critical, s.Errors, s.WorstP95, s.Unserved*100)
	}
	if s.Alerts == 0 || s.Walks == 0 {
		t.Errorf("got %d alerts and %d walks, want some", s.Alerts, s.Walks)
	}
	if s.MaxLive > 5 {
		t.Errorf("got %d instances, want at most 5", s.MaxLive)
	}
	if r.state().Class != "crit" {
		t.Errorf("the report says %q", r.state().Word)
	}
}

// TestSimulateWithinBounds is the property over random simulations.
func TestSimulateWithinBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	rounds := 60
	if raceEnabled {
		rounds = 15 // the plain run has them all
	}
	for round := range rounds {
		lo := 1 + rnd.IntN(5)
		p := DefaultPolicy(Capacity{})
		p.Min, p.Max = lo, lo+rnd.IntN(30)
		s := Simulation{Scenario: Scenarios()[rnd.IntN(len(Scenarios()))], Peak: Demand{Connections: float64(1 + rnd.IntN(10_000))},
			Policy: p, Seed: rnd.Uint64(), Length: time.Duration(20+rnd.IntN(60)) * time.Minute, Step: time.Duration(1+rnd.IntN(10)) * time.Second,
			Regions: []string{"a", "b", "c"}, Model: NodeModel{NoHealing: rnd.IntN(2) == 0}}
		r := mustSimulate(t, s)
		for _, f := range r.Frames {
			if f.Desired.Min < float64(p.Min) || f.Desired.Max > float64(p.Max) {
				t.Fatalf("round %d: %s: desired %v to %v, bounds %d to %d", round, s.Scenario, f.Desired.Min, f.Desired.Max, p.Min, p.Max)
			}
			if f.Connections.Max > f.Demand.Max*1.2+1 || f.Connections.Min < 0 || f.P95.Max < 0 || !finite(f.P95.Max) || f.Errors.Max > 1+1e-9 {
				t.Fatalf("round %d: %s: frame %+v", round, s.Scenario, f)
			}
		}
		if r.Summary.SlowestUp > ScaleUpWithin {
			t.Errorf("round %d: %s: a need waited %v", round, s.Scenario, r.Summary.SlowestUp)
		}
	}
}

// TestSimulateForecast: scaling ahead serves at least as well, and asks within bounds.
func TestSimulateForecast(t *testing.T) {
	s := Simulation{Scenario: ScenarioDaily, Peak: Demand{Connections: 4000}, Policy: wide(Capacity{}, 40), Seed: 2, Length: dayLength,
		Model: NodeModel{Boot: 5 * time.Minute}}
	without := mustSimulate(t, s)
	s.History = 21
	with := mustSimulate(t, s)
	t.Logf("above target without %v, with %v; instance-hours %.1f and %.1f; %s", without.Summary.Breach, with.Summary.Breach,
		without.Summary.InstanceHours, with.Summary.InstanceHours, with.Forecast.Why)
	if with.Forecast == nil || !with.Forecast.Good {
		t.Fatalf("forecast: got %+v, want a good one", with.Forecast)
	}
	if with.Summary.Breach*2 > without.Summary.Breach {
		t.Errorf("above target for %v with the forecast and %v without: want less than half", with.Summary.Breach, without.Summary.Breach)
	}
	if with.Summary.InstanceHours > 1.15*without.Summary.InstanceHours {
		t.Errorf("%.1f instance-hours with the forecast, %.1f without: want at most 15%% more", with.Summary.InstanceHours, without.Summary.InstanceHours)
	}
	if with.Summary.MaxLive > 40 {
		t.Errorf("got %d instances, bound 40", with.Summary.MaxLive)
	}
}

// large are the document's maximum, 200,000 connections, and more. Measured capacity
// makes it 20 instances; the document's own table needs a thousand (200 connections
// each).
var large = []struct {
	name      string
	capacity  Capacity
	max       int
	connected float64
	work      float64 // most allocations for a simulated second of the whole fleet
}{
	{"measured capacity", Capacity{Connections: 15_000, Messages: 20_000, Source: "test"}, 30, 200_000, 60},
	{"document, 1,000 nodes", Capacity{}, 1000, 200_000, 1100},
	{"a million", Capacity{Connections: 15_000, Messages: 20_000, Source: "test"}, 200, 1_000_000, 120},
}

// TestSimulateLarge holds that simulations of large fleets end as they should, and
// what a simulated second costs, in allocations: they are the same on any machine.
// BenchmarkSimulateLarge says how many times real speed that is.
func TestSimulateLarge(t *testing.T) {
	start, length := defaultSimStart.Add(11*time.Hour), 4*time.Hour
	if raceEnabled {
		start, length = start.Add(150*time.Minute), time.Hour // around the peak
	}
	for _, tt := range large {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := mustSimulate(t, Simulation{Scenario: ScenarioDaily, Peak: Demand{Connections: tt.connected}, Capacity: tt.capacity, Policy: wide(tt.capacity, tt.max), Seed: 1,
			Start: start, Length: length})
		runtime.ReadMemStats(&after)
		work := float64(after.Mallocs-before.Mallocs) / r.Simulation.Length.Seconds()
		t.Logf("%s: %.0f allocations a simulated second, %d to %d instances", tt.name, work, r.Summary.MinLive, r.Summary.MaxLive)
		if !raceEnabled && work > tt.work {
			t.Errorf("%s: %.0f allocations a simulated second, want at most %.0f", tt.name, work, tt.work)
		}
		if r.Summary.PeakConnections < 0.97*tt.connected {
			t.Errorf("%s: %.0f connections at the peak, want %.0f", tt.name, r.Summary.PeakConnections, tt.connected)
		}
		if r.Summary.SlowestUp > ScaleUpWithin {
			t.Errorf("%s: a need waited %v", tt.name, r.Summary.SlowestUp)
		}
	}
}

// BenchmarkSimulateLarge reports the speed of large simulations, as times-real.
func BenchmarkSimulateLarge(b *testing.B) {
	for _, tt := range large {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			var simulated time.Duration
			for b.Loop() {
				r, err := Simulate(Simulation{Scenario: ScenarioDaily, Peak: Demand{Connections: tt.connected}, Capacity: tt.capacity, Policy: wide(tt.capacity, tt.max), Seed: 1,
					Start: defaultSimStart.Add(11 * time.Hour), Length: 4 * time.Hour})
				if err != nil {
					b.Fatal(err)
				}
				simulated += r.Simulation.Length
			}
			b.ReportMetric(simulated.Seconds()/b.Elapsed().Seconds(), "times-real")
		})
	}
}

func TestSimulateRecorded(t *testing.T) {
	var text strings.Builder
	text.WriteString("time,connections,messages\n")
	at := defaultSimStart
	for i := range 13 {
		c := 300.0
		if i >= 4 && i < 8 {
			c = 2000
		}
		text.WriteString(at.Add(time.Duration(i)*10*time.Minute).Format(time.RFC3339) + "," + amountExact(c) + ",40\n")
	}
	points, err := ReadLoad(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	r := mustSimulate(t, Simulation{Scenario: ScenarioRecorded, Recorded: points, Seed: 1})
	if r.Simulation.Length != 2*time.Hour || r.Summary.MaxLive < 10 || r.Summary.MinLive > 3 {
		t.Errorf("got %v with %d to %d instances, want 2 h with 2 to 10", r.Simulation.Length, r.Summary.MinLive, r.Summary.MaxLive)
	}
}

func amountExact(v float64) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

func TestSimulateRefuses(t *testing.T) {
	good := Simulation{Scenario: ScenarioSteady, Peak: Demand{Users: 100}}
	for name, change := range map[string]func(*Simulation){
		"scenario": func(s *Simulation) { s.Scenario = "apocalypse" },
		"peak":     func(s *Simulation) { s.Peak = Demand{} },
		"step":     func(s *Simulation) { s.Step = time.Minute },
		"length":   func(s *Simulation) { s.Length = time.Second },
		"long":     func(s *Simulation) { s.Length = 500 * dayLength },
		"steps":    func(s *Simulation) { s.Length, s.Step = 399*dayLength, time.Second },
		"max":      func(s *Simulation) { s.Policy = wide(Capacity{}, 5000) },
		"initial":  func(s *Simulation) { s.Initial = -1 },
		"history":  func(s *Simulation) { s.History = 1000 },
		"recorded": func(s *Simulation) { s.Scenario = ScenarioRecorded },
		"regions":  func(s *Simulation) { s.Scenario, s.Regions = ScenarioRegionLoss, []string{"a"} },
		"model":    func(s *Simulation) { s.Model.Boot = -time.Second },
		"policy":   func(s *Simulation) { s.Policy = wide(Capacity{}, 10); s.Policy.Min = 20 },
	} {
		s := good
		change(&s)
		if _, err := Simulate(s); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestReadLoad(t *testing.T) {
	tests := []struct {
		name, text string
		want       int // points, 0: refused
		says       string
	}{
		{"seconds", "100,5,1\n200,6,2\n", 2, ""},
		{"heading, comments, empty lines", "time,connections\n\n# night\n2026-03-02T00:00:00Z,5\n2026-03-02T00:10:00+01:00,6\n2026-03-02T00:20:00Z, 7\n", 0, "line 5"},
		{"two columns", "time,connections\n100,5\n\n# x\n200,6\n", 2, ""},
		{"one line", "100,5\n", 0, "1 lines"},
		{"nothing", "", 0, "0 lines"},
		{"backwards", "200,5\n100,5\n", 0, "line 2"},
		{"the same time", "200,5\n200,5\n", 0, "line 2"},
		{"negative", "100,-5\n200,5\n", 0, "column 2"},
		{"no number", "100,NaN\n200,5\n", 0, "column 2"},
		{"too many columns", "100,1,2,3\n", 0, "4 columns"},
		{"words later", "100,1\nyesterday,2\n", 0, "line 2"},
		{"far", "99999999999999,1\n", 0, "out of range"},
	}
	for _, tt := range tests {
		got, err := ReadLoad(strings.NewReader(tt.text))
		if len(got) != tt.want || (tt.want == 0) != (err != nil) {
			t.Errorf("%s: got %v, %v, want %d points", tt.name, got, err, tt.want)
		}
		if err != nil && (!errors.Is(err, ErrLoad) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %q, want it to say %q", tt.name, err, tt.says)
		}
	}
	points, _ := ReadLoad(strings.NewReader("100,50\n200,150\n"))
	if points[0].Messages != 5 {
		t.Errorf("messages of 50 connections: got %v, want 5", points[0].Messages)
	}
	for at, want := range map[int64]float64{0: 50, 100: 50, 150: 100, 200: 150, 900: 150} {
		if c, _ := demandAt(points, time.Unix(at, 0)); c != want {
			t.Errorf("at %d: got %v, want %v", at, c, want)
		}
	}
}

func FuzzReadLoad(f *testing.F) {
	for _, s := range []string{"time,connections\n100,5\n200,6\n", "2026-03-02T00:00:00Z,5,1\n", "1,2,3,4", "#\n\n", "1,1e308\n2,Inf\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		points, err := ReadLoad(strings.NewReader(text))
		if err != nil {
			if !errors.Is(err, ErrLoad) {
				t.Fatalf("%v is not ErrLoad", err)
			}
			return
		}
		if len(points) < 2 || !slices.IsSortedFunc(points, func(a, b LoadPoint) int { return a.At.Compare(b.At) }) {
			t.Fatalf("got %v", points)
		}
		for _, p := range points {
			if !(p.Connections >= 0 && p.Connections <= maxDemand) || !(p.Messages >= 0 && p.Messages <= maxDemand) {
				t.Fatalf("got %+v", p)
			}
		}
	})
}

func BenchmarkSimulateDay(b *testing.B) {
	for b.Loop() {
		if _, err := Simulate(Simulation{Scenario: ScenarioDaily, Peak: Demand{Connections: 20_000}, Policy: wide(Capacity{}, 120), Seed: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLatencyModel holds the model to the queue that it stands for: quantiles of
// an exponential distribution whose mean grows with one by the idle share.
func TestLatencyModel(t *testing.T) {
	for _, busy := range []float64{0, 0.5, 0.9} {
		var h Histogram
		observeLatency(&h, 1000, busy, 0, 2*time.Millisecond)
		mean := 0.002 / (1 - busy)
		for q, want := range map[float64]float64{0.50: math.Ln2 * mean, 0.95: 2.996 * mean, 0.99: 4.605 * mean} {
			if got := h.Quantile(q).Seconds(); math.Abs(got-want) > 0.2*want {
				t.Errorf("%.0f%% busy: quantile %v: got %.4f s, want %.4f within a bucket", busy*100, q, got, want)
			}
		}
	}
	var h Histogram
	observeLatency(&h, 1000, 1, 3, 2*time.Millisecond)
	if got := h.Quantile(0.5).Seconds(); got < 3 || got > 3.8 {
		t.Errorf("behind a backlog of 3 s: got a median of %.2f s", got)
	}
}
