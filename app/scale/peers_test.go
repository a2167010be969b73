package scale

import (
	"testing"
	"time"
)

// hpa is our policy with the settings that the HPA has when nothing is set.
func hpa(targets ...Target) Policy {
	return Policy{Min: 1, Max: 100, Targets: targets,
		Up: Direction{Tolerance: 0.1, Rates: []Rate{{Percent: 100, Period: 15 * time.Second}, {Count: 4, Period: 15 * time.Second}}},
		Down: Direction{Tolerance: 0.1, Window: 5 * time.Minute,
			Rates: []Rate{{Percent: 100, Period: 15 * time.Second}}}}
}

// TestPeerCounts takes the examples that other autoscalers document. Where our
// default answers otherwise, ours names the count and why says why it is better.
func TestPeerCounts(t *testing.T) {
	tests := []struct {
		peer, name string
		n          int
		l          level
		p          Policy
		want       int // with the peer's settings
		ours       int // with our defaults for both directions
		why        string
	}{
		{"HPA", "200m of 100m wanted: doubled", 3, level{CPU: 0.2}, hpa(Target{Signal: CPU, Value: 0.1}), 6, 6, ""},
		{"HPA", "50m of 100m wanted: halved", 4, level{CPU: 0.05}, hpa(Target{Signal: CPU, Value: 0.1}), 2, 3,
			"2 would stand exactly at the target, and the next client would start the third again"},
		{"HPA", "within 10%: no change", 10, level{CPU: 0.105}, hpa(Target{Signal: CPU, Value: 0.1}), 10, 11,
			"the document's thresholds are strict: above one, an instance comes"},
		{"HPA", "within 10% below: no change", 10, level{CPU: 0.095}, hpa(Target{Signal: CPU, Value: 0.1}), 10, 10, ""},
		{"HPA", "several metrics: the largest", 2, level{CPU: 0.3, Memory: 0.9}, hpa(Target{Signal: CPU, Value: 0.5}, Target{Signal: Memory, Value: 0.5}), 4, 4, ""},
		{"KEDA", "40 messages, 10 each", 2, level{MessagesIn: 20}, hpa(Target{Signal: MessagesIn, Value: 10}), 4, 4, ""},
		{"Nomad", "target-value: factor 1.5 of count 4", 4, level{CPU: 0.9}, hpa(Target{Signal: CPU, Value: 0.6}), 6, 6, ""},
		{"Nomad", "several checks: up beats down", 4, level{CPU: 0.1, Connections: 300}, hpa(Target{Signal: CPU, Value: 0.6}, Target{Signal: Connections, Value: 200}), 6, 6, ""},
		{"Cloud Run", "concurrency 60 of 60% of 80, processors 30% of 60%", 5, level{CPU: 0.3, Connections: 60}, hpa(Target{Signal: CPU, Value: 0.6}, Target{Signal: Connections, Value: 48}), 7, 7, ""},
	}
	for _, tt := range tests {
		t.Run(tt.peer+": "+tt.name, func(t *testing.T) {
			d := DefaultPolicy(Capacity{})
			f := fleetOf(start, tt.n, tt.l)
			in := InputsOf(&f, &tt.p)
			theirs, ours := 0, 0
			for _, target := range tt.p.Targets {
				theirs = max(theirs, in.want(target, tt.p.Up, tt.p.Down, false).Count)
				ours = max(ours, in.want(target, d.Up, d.Down, false).Count)
			}
			if theirs != tt.want {
				t.Errorf("with their settings: got %d, want %d", theirs, tt.want)
			}
			if ours != tt.ours || (ours != theirs) != (tt.why != "") {
				t.Errorf("with ours: got %d, want %d (%s)", ours, tt.ours, tt.why)
			}
		})
	}
}

// TestHPARates takes the example of the HPA's documentation: at most 10% or 4 pods
// a minute, from 80 to 10. "10% of 72 is 7.2, but the number is rounded up to 8";
// below 40 the 4 pods are more.
func TestHPARates(t *testing.T) {
	d := Direction{Rates: []Rate{{Count: 4, Period: time.Minute}, {Percent: 10, Period: time.Minute}}}
	var changes []Change
	n, now := 80, start
	var got []int
	for n > 24 {
		now = now.Add(time.Minute)
		to := d.least(n, changes, now)
		if again := d.least(to, append(changes, Change{now, n, to}), now.Add(59*time.Second)); again != to {
			t.Errorf("within the minute: got %d, want %d still", again, to)
		}
		changes, n = append(changes, Change{now, n, to}), to
		got = append(got, n)
	}
	want := []int{72, 64, 57, 51, 45, 40, 36, 32, 28, 24}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	d.Select = SelectMin
	if got := d.least(80, nil, start); got != 76 {
		t.Errorf("select min: got %d, want 76", got)
	}
	d.Select = SelectDisabled
	if got := d.least(80, nil, start); got != 80 {
		t.Errorf("select disabled: got %d, want 80", got)
	}
}

// TestHPAUp is the HPA's default way up: the most of 100% and 4 pods in 15 s.
func TestHPAUp(t *testing.T) {
	p := newPilot(t, hpa(Target{Signal: Connections, Value: 1}))
	var got []int
	for range 61 {
		if d := p.step(fleetOf(start, 1, level{Connections: 1000})); d.Changed() {
			got = append(got, d.Desired)
		}
	}
	for i, want := range []int{5, 10, 20, 40, 80} {
		if i >= len(got) || got[i] != want {
			t.Fatalf("got %v, want 5, 10, 20, 40, 80", got)
		}
	}
}

// TestHPAStabilization: the way down follows the highest recommendation of the
// last five minutes.
func TestHPAStabilization(t *testing.T) {
	p := newPilot(t, hpa(Target{Signal: Connections, Value: 100}))
	p.run(10*time.Minute, fleetOf(start, 10, level{Connections: 100}))
	for _, each := range []float64{50, 70, 30} { // 5, 7, 3 of 10
		p.run(100*time.Second, fleetOf(start, 10, level{Connections: each}))
	}
	// A little past five minutes after the last 10, the 7 are still in the window.
	p.run(5*time.Second, fleetOf(start, 10, level{Connections: 30}))
	wantCount(t, p.d, 7)
}

// TestKEDAActivation is KEDA's example: a threshold of 10 and an activation of 50;
// 40 messages are worth 4 instances, but do not wake the fleet.
func TestKEDAActivation(t *testing.T) {
	p := hpa(Target{Signal: MessagesIn, Value: 10, Activation: 50})
	p.Min = 0
	for _, tt := range []struct {
		messages float64
		want     int
	}{{40, 0}, {50, 0}, {51, 6}} {
		f := fleetOf(start, 1, level{MessagesIn: tt.messages})
		in := InputsOf(&f, &p)
		if got := in.want(p.Targets[0], p.Up, p.Down, true); got.Count != tt.want {
			t.Errorf("%v messages: got %d (%s), want %d", tt.messages, got.Count, got.Reason, tt.want)
		}
	}
}

// TestFailedMetric: with one metric failing the HPA scales up by the others and
// refuses to scale down.
func TestFailedMetric(t *testing.T) {
	policy := hpa(Target{Signal: CPU, Value: 0.5}, Target{Signal: Connections, Value: 100})
	p := newPilot(t, policy)
	if changed, _ := p.run(time.Hour, fleetOf(start, 4, level{CPU: 0.1})); changed {
		t.Errorf("got %s, want no way down", p.d.Reason)
	}
	p.step(fleetOf(start, 4, level{CPU: 0.9}))
	wantCount(t, p.d, 8)
}
