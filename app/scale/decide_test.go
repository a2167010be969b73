package scale

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// mixed sets the state and the values of single nodes, by index.
func mixed(f Fleet, change map[int]func(*Node)) Fleet {
	for i, fn := range change {
		fn(&f.Nodes[i])
	}
	f.Sum()
	return f
}

func in(state NodeState) func(*Node) {
	return func(n *Node) {
		n.State = state
		if state == Silent {
			n.Values.stale()
		}
	}
}

func set(s Signal, v float64) func(*Node) { return func(n *Node) { n.Values.Set(s, v) } }
func lose(s Signal) func(*Node)           { return func(n *Node) { n.Values[s] = Reading{} } }

// watched is a policy in which n instances have been right for long.
func watched(t *testing.T, p Policy, n int) *pilot {
	t.Helper()
	pl := newPilot(t, p)
	pl.run(20*time.Minute, fleetOf(start, n, calm().with(Connections, 190)))
	if pl.d.Desired != n {
		t.Fatalf("got %d instances (%s), want %d to begin with", pl.d.Desired, pl.d.Reason, n)
	}
	return pl
}

func TestNeverDownOnMissingData(t *testing.T) {
	q := fleetOf(start, 4, quiet())
	tests := []struct {
		name string
		f    Fleet
		by   string
	}{
		{"a silent node", mixed(fleetOf(start, 4, quiet()), map[int]func(*Node){2: in(Silent)}), BySilent},
		{"a signal that nobody has", mixed(fleetOf(start, 4, quiet()), map[int]func(*Node){0: lose(CPU), 1: lose(CPU), 2: lose(CPU), 3: lose(CPU)}), ByMissing},
		{"errors that nobody counts", mixed(fleetOf(start, 4, quiet()), map[int]func(*Node){0: lose(ErrorRate), 1: lose(ErrorRate), 2: lose(ErrorRate), 3: lose(ErrorRate)}), ByGuard},
		{"a partial view", Fleet{Nodes: q.Nodes[:1], Partial: "the broker does not answer"}, ByPartial},
		{"no node at all", Fleet{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.Sum()
			p := watched(t, DefaultPolicy(Capacity{}), 4)
			if changed, after := p.run(time.Hour, tt.f); changed {
				t.Fatalf("got %s after %v, want no change", p.d.Reason, after)
			}
			if tt.by != "" && !p.d.SuppressedBy(tt.by) {
				t.Errorf("got suppressions %v, want %q", p.d.Suppressions, tt.by)
			}
			// The window begins again with the data.
			if changed, after := p.run(time.Hour, fleetOf(start, 4, quiet())); !changed || after < ScaleDownAfter-time.Second {
				t.Errorf("with data again: got changed %v after %v, want a change after %v", changed, after, ScaleDownAfter)
			}
		})
	}
}

// TestMissingValues is the HPA's treatment: what one node does not say counts as
// full on the way down and as empty on the way up.
func TestMissingValues(t *testing.T) {
	tests := []struct {
		name string
		f    Fleet
		want int
	}{
		// CPU 30% on 3 of 4 nodes: 0.9 + 0.7 for the fourth, at 63% each.
		{"down, one unknown", mixed(fleetOf(start, 4, quiet().with(CPU, 0.3)), map[int]func(*Node){3: lose(CPU)}), 3},
		{"down, all known", fleetOf(start, 4, quiet().with(CPU, 0.3)), 2},
		// CPU 90% on 3 of 4: 2.7 over 4 nodes is 67.5%, within the target.
		{"up, one unknown", mixed(fleetOf(start, 4, calm().with(CPU, 0.9)), map[int]func(*Node){3: lose(CPU)}), 4},
		{"up, one unknown, but enough", mixed(fleetOf(start, 4, calm().with(CPU, 1)), map[int]func(*Node){3: lose(CPU)}), 5},
		{"up, all known", fleetOf(start, 4, calm().with(CPU, 0.9)), 6},
		// A node that starts burns its processor, but not for users.
		{"warming up", mixed(fleetOf(start, 4, calm()), map[int]func(*Node){2: warmAt(1), 3: warmAt(1)}), 4},
		{"connections of a warming node count", mixed(fleetOf(start, 4, calm().with(Connections, 200)), map[int]func(*Node){3: func(n *Node) { n.State = Warming; n.Values.Set(Connections, 210) }}), 5},
		// Who drains is no capacity, but its clients come to the others.
		{"draining", mixed(fleetOf(start, 4, calm().with(Connections, 180)), map[int]func(*Node){3: in(Draining)}), 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := DefaultPolicy(Capacity{})
			got := 0
			in := InputsOf(&tt.f, &p)
			for _, target := range p.Targets {
				got = max(got, in.want(target, p.Up, p.Down, false).Count)
			}
			if got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func warmAt(cpu float64) func(*Node) {
	return func(n *Node) { n.State = Warming; n.Values.Set(CPU, cpu) }
}

func TestReconnectSurgeIsNoDemand(t *testing.T) {
	storm := calm().with(CPU, 0.98).with(MessagesIn, 300).with(AcceptRate, 100).with(Reconnects, 0.95)
	t.Run("processors", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		if changed, after := p.run(100*time.Second, fleetOf(start, 4, storm)); changed {
			t.Fatalf("got %s after %v, want no change while clients return", p.d.Reason, after)
		}
		if !p.d.Surge || !p.d.SuppressedBy(BySurge) {
			t.Errorf("got surge %v, suppressions %v, want a surge", p.d.Surge, p.d.Suppressions)
		}
	})
	t.Run("not for ever", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		if changed, after := p.run(time.Hour, fleetOf(start, 4, storm)); !changed || after > 2*time.Minute+ScaleUpWithin {
			t.Errorf("got changed %v after %v, want a change soon after two minutes: then it is demand", changed, after)
		}
	})
	t.Run("connections are believed", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		if changed, after := p.run(time.Hour, fleetOf(start, 4, storm.with(Connections, 300))); !changed || after > ScaleUpWithin {
			t.Errorf("got changed %v after %v, want more instances within %v", changed, after, ScaleUpWithin)
		}
	})
	t.Run("new clients are demand", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		if changed, _ := p.run(time.Minute, fleetOf(start, 4, storm.with(Reconnects, 0.1))); !changed {
			t.Errorf("got %s, want more instances", p.d.Reason)
		}
	})
	t.Run("gone clients come back", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		if changed, _ := p.run(10*time.Minute, fleetOf(start, 4, quiet().with(AcceptRate, 10).with(Reconnects, 1))); changed {
			t.Errorf("got %s, want the count to stay", p.d.Reason)
		}
	})
}

func TestAdminsWord(t *testing.T) {
	busy, idle := fleetOf(start, 4, calm().with(Connections, 500)), fleetOf(start, 4, quiet())
	tests := []struct {
		name   string
		change func(*Policy)
		f      Fleet
		want   int
		by     string
	}{
		{"pause all, up", func(p *Policy) { p.Pause = PauseAll }, busy, 4, ByPause},
		{"pause all, down", func(p *Policy) { p.Pause = PauseAll }, idle, 4, ByPause},
		{"pause in, up", func(p *Policy) { p.Pause = PauseIn }, busy, 10, ""},
		{"pause in, down", func(p *Policy) { p.Pause = PauseIn }, idle, 4, ByPause},
		{"pause out, up", func(p *Policy) { p.Pause = PauseOut }, busy, 4, ByPause},
		{"pause out, down", func(p *Policy) { p.Pause = PauseOut }, idle, 2, ""},
		{"pinned", func(p *Policy) { p.Pinned = 7 }, busy, 7, ByPinned},
		{"select disabled", func(p *Policy) { p.Up.Select = SelectDisabled }, busy, 4, ByRateUp},
		{"max", func(p *Policy) { p.Max = 6 }, busy, 6, ByMax},
		{"min", func(p *Policy) { p.Min = 4 }, idle, 4, ByMin},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := watched(t, DefaultPolicy(Capacity{}), 4)
			tt.change(&p.p)
			p.run(20*time.Minute, tt.f)
			p.run(time.Minute, tt.f)
			p.run(10*time.Minute, tt.f)
			wantCount(t, p.d, tt.want)
			if tt.by != "" && !p.d.SuppressedBy(tt.by) {
				t.Errorf("got suppressions %v, want %q", p.d.Suppressions, tt.by)
			}
		})
	}
}

// TestModes checks that all modes decide alike, and that only Act acts.
func TestModes(t *testing.T) {
	var reasons []string
	for _, mode := range []Mode{Observe, Advise, Act} {
		policy := DefaultPolicy(Capacity{})
		policy.Mode = mode
		p := watched(t, policy, 4)
		p.run(time.Minute, fleetOf(start, 4, calm().with(Connections, 500)))
		if p.d.Act != (mode == Act) {
			t.Errorf("%v: got act %v", mode, p.d.Act)
		}
		reasons = append(reasons, p.d.Reason)
	}
	if len(slices.Compact(reasons)) != 1 {
		t.Errorf("got reasons %q, want the same in all modes", reasons)
	}
}

// TestAdviceThatMayActNow: what was only advised so far is asked for at once when the
// engine is let act, and once: it is neither late nor asked for a second time.
func TestAdviceThatMayActNow(t *testing.T) {
	busy := fleetOf(start, 4, calm().with(Connections, 250))
	advised := func(t *testing.T) *pilot {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		if changed, _ := p.run(2*time.Minute, busy); !changed || p.d.Act {
			t.Fatalf("got changed %v, act %v, want more instances advised", changed, p.d.Act)
		}
		return p
	}
	tests := []struct {
		name   string
		change func(*Policy)
		fleet  func(Fleet) Fleet
		want   int // actions within a minute
	}{
		{"act", func(p *Policy) { p.Mode = Act }, nil, 1},
		{"act, and paused", func(p *Policy) { p.Mode, p.Pause = Act, PauseOut }, nil, 0},
		{"act, and the view is partial", func(p *Policy) { p.Mode = Act }, func(f Fleet) Fleet { f.Partial = "the broker does not answer"; return f }, 0},
		{"advise still", func(*Policy) {}, nil, 0},
		{"act, and somebody did more by hand", func(p *Policy) { p.Mode = Act }, func(Fleet) Fleet { return fleetOf(start, 6, calm().with(Connections, 160)) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, f := advised(t), busy
			tt.change(&p.p)
			if tt.fleet != nil {
				f = tt.fleet(f)
			}
			asked := 0
			for range 60 {
				if p.step(f).Act {
					asked++
				}
			}
			if asked != tt.want {
				t.Errorf("got %d actions (%s), want %d: %+v", asked, p.d.Reason, tt.want, p.st.Changes)
			}
		})
	}
}

func TestFallback(t *testing.T) {
	dark := mixed(fleetOf(start, 4, quiet()), map[int]func(*Node){0: in(Silent), 1: in(Silent), 2: in(Silent), 3: in(Silent)})
	tests := []struct {
		behaviour FallbackBehaviour
		count     int
		want      int
	}{
		{FallbackCurrent, 8, 4}, {FallbackStatic, 8, 8}, {FallbackStatic, 3, 3},
		{FallbackIfHigher, 8, 8}, {FallbackIfHigher, 3, 4}, {FallbackIfLower, 8, 4}, {FallbackIfLower, 3, 3},
	}
	for _, tt := range tests {
		policy := DefaultPolicy(Capacity{})
		policy.Fallback = Fallback{Behaviour: tt.behaviour, Count: tt.count, After: time.Minute}
		p := watched(t, policy, 4)
		if changed, _ := p.run(59*time.Second, dark); changed {
			t.Errorf("%v: got a change before a minute", tt.behaviour)
		}
		p.run(10*time.Minute, dark)
		if p.d.Desired != tt.want {
			t.Errorf("behaviour %d, count %d: got %d (%s), want %d", tt.behaviour, tt.count, p.d.Desired, p.d.Reason, tt.want)
		}
	}
}

func TestZeroInstances(t *testing.T) {
	policy := DefaultPolicy(Capacity{})
	policy.Min = 0
	policy.Targets[0].Activation = 5
	p := newPilot(t, policy)
	p.run(20*time.Minute, fleetOf(start, 1, quiet().with(MessagesIn, 0)))
	wantCount(t, p.d, 1)
	p.run(20*time.Minute, fleetOf(start, 1, quiet().with(MessagesIn, 0).with(Connections, 5)))
	wantCount(t, p.d, 0) // 5 is not strictly above 5
	empty := fleetOf(start, 0, nil)
	empty.Waiting = 5
	p.run(time.Minute, empty)
	wantCount(t, p.d, 0)
	empty.Waiting = 401
	p.run(time.Minute, empty)
	wantCount(t, p.d, 3)
}

func TestFlapping(t *testing.T) {
	policy := DefaultPolicy(Capacity{})
	policy.Down.Window = time.Minute
	policy.Flap = Flap{Reversals: 3, Window: time.Hour, Widen: 3}
	p := newPilot(t, policy)
	busy, idle := fleetOf(start, 3, calm().with(Connections, 290)), fleetOf(start, 3, quiet())
	var gaps []time.Duration
	for range 5 {
		p.run(10*time.Minute, busy)
		_, after := p.run(10*time.Minute, idle)
		gaps = append(gaps, after.Round(10*time.Second))
	}
	if !p.d.Flapping || !p.d.SuppressedBy(ByFlap) || gaps[0] != time.Minute || gaps[4] != 3*time.Minute {
		t.Errorf("got flapping %v, ways down after %v, want flapping and the last three times as late as the first", p.d.Flapping, gaps)
	}
}

func TestSomebodyElse(t *testing.T) {
	t.Run("adds nodes", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		more := fleetOf(start, 6, calm().with(Connections, 120).with(CPU, 0.3))
		p.run(2*time.Minute, more)
		wantCount(t, p.d, 4)
		p.run(2*time.Minute, more)
		wantCount(t, p.d, 6)
		if changed, after := p.run(time.Hour, more); !changed || after < ScaleDownAfter-time.Minute {
			t.Errorf("got changed %v after %v, want the whole window before some go", changed, after)
		}
	})
	t.Run("rolls out", func(t *testing.T) {
		p := watched(t, DefaultPolicy(Capacity{}), 4)
		for range 3 {
			p.run(time.Minute, fleetOf(start, 8, calm().with(Connections, 95).with(CPU, 0.3)))
			p.run(time.Minute, fleetOf(start, 4, calm().with(Connections, 190)))
		}
		wantCount(t, p.d, 4)
	})
	t.Run("tells the control plane", func(t *testing.T) {
		policy := DefaultPolicy(Capacity{})
		policy.Mode = Act
		p := watched(t, policy, 4)
		f := fleetOf(start, 4, calm().with(Connections, 190))
		f.Requested = 6
		p.step(f)
		if p.d.Desired != 6 || p.d.Act || !p.d.SuppressedBy(ByRequested) {
			t.Errorf("got %d, act %v (%s), want 6 taken on without an action", p.d.Desired, p.d.Act, p.d.Reason)
		}
	})
}

func TestLateInstancesAreAskedForAgain(t *testing.T) {
	policy := DefaultPolicy(Capacity{})
	policy.Mode = Act
	p := watched(t, policy, 4)
	busy := fleetOf(start, 4, calm().with(Connections, 250))
	asked := 0
	for range 660 {
		if p.step(busy).Act {
			asked++
		}
	}
	if asked != 4 || !p.d.Late {
		t.Errorf("got %d actions in 11 minutes, late %v, want one and three repetitions, late", asked, p.d.Late)
	}
}

func TestForecastOnlyRaises(t *testing.T) {
	p := watched(t, DefaultPolicy(Capacity{}), 4)
	f := fleetOf(start, 4, calm().with(Connections, 190))
	f.Ahead = Ahead{Count: 30, Why: "the daily peak comes in 12 min"}
	p.run(time.Minute, f)
	p.run(time.Minute, f)
	wantCount(t, p.d, 20)
	f.Ahead = Ahead{Count: 1}
	p = watched(t, DefaultPolicy(Capacity{}), 4)
	if changed, _ := p.run(time.Hour, f); changed {
		t.Errorf("got %s, want no change for a low forecast", p.d.Reason)
	}
}

func TestVictims(t *testing.T) {
	f := mixed(fleetOf(start, 6, calm()), map[int]func(*Node){
		0: set(Connections, 90), 1: set(Connections, 10), 2: set(Connections, 10), 3: in(Draining), 4: lose(Connections), 5: in(Silent)})
	p := DefaultPolicy(Capacity{})
	in := InputsOf(&f, &p)
	if got, want := in.victims(9), []string{"n06", "n02", "n03", "n01", "n05"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	in.Leader = "n02"
	if got, want := in.victims(3), []string{"n06", "n03", "n02"}; !slices.Equal(got, want) {
		t.Errorf("n02 leads: got %v, want %v", got, want)
	}
	costs := DeletionCosts(&f)
	if costs["n02"] != 10 || costs["n05"] != 151 {
		t.Errorf("got %v, want the connections, and more than any for the unknown", costs)
	}
}

func TestRebalance(t *testing.T) {
	f := mixed(fleetOf(start, 4, calm().with(Connections, 100)), map[int]func(*Node){3: set(Connections, 10), 0: set(Connections, 190)})
	if got, want := Rebalance(&f, 1.1), []Move{{"n01", 90}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Rebalance(&f, 2); got != nil {
		t.Errorf("below the factor: got %v, want none", got)
	}
	f = mixed(f, map[int]func(*Node){3: in(Warming)})
	if got := Rebalance(&f, 1.1); got != nil {
		t.Errorf("while a node warms up: got %v, want none", got)
	}
}

// TestDecideIsPure checks that neither the state nor the inputs change, and that
// the same call gives the same answer.
func TestDecideIsPure(t *testing.T) {
	p := watched(t, DefaultPolicy(Capacity{}), 4)
	f := fleetOf(p.at, 4, calm().with(Connections, 400))
	in := InputsOf(&f, &p.p)
	for range 20 {
		p.step(f)
	}
	st, copied := p.st, p.st.clone()
	in.At = p.at
	d1, s1 := Decide(&p.p, st, in)
	d2, s2 := Decide(&p.p, st, in)
	if !reflect.DeepEqual(d1, d2) || !reflect.DeepEqual(s1, s2) || !reflect.DeepEqual(st, copied) {
		t.Error("got different answers or a changed state, want the same twice")
	}
}

func TestPolicyValidate(t *testing.T) {
	tests := []struct {
		change func(*Policy)
		want   string
	}{
		{func(p *Policy) { p.Min, p.Max = 5, 3 }, "max: 3 is below min (5)"},
		{func(p *Policy) { p.Targets = nil }, "targets: 0 given"},
		{func(p *Policy) { p.Targets = append(p.Targets, Target{Signal: DeliveryP95, Value: 1}) }, "latency and errors are guards"},
		{func(p *Policy) { p.Targets = append(p.Targets, p.Targets[0]) }, "connections is given twice"},
		{func(p *Policy) { p.Up.Window = time.Minute }, "up: window 1m0s"},
		{func(p *Policy) { p.Guards[0].Raise = 0.1 }, "is below block"},
		{func(p *Policy) { p.Down.Rates = []Rate{{}} }, "down: rate of 0"},
		{func(p *Policy) { p.Targets[0].Value = 0 }, "no positive number"},
		{func(p *Policy) { p.Pinned = -1 }, "pinned: -1"},
	}
	for _, tt := range tests {
		p := DefaultPolicy(Capacity{})
		tt.change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error with %q", err, tt.want)
		}
	}
}
