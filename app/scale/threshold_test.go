package scale

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestScalingTable takes every row of the document's auto-scaling table by its
// number: at it nothing happens, above it an instance comes within 30 seconds.
func TestScalingTable(t *testing.T) {
	rows := []struct {
		signal Signal
		at     float64
		above  float64
		want   int // from 2 instances
	}{
		{Connections, 200, 201, 3},
		{CPU, 0.70, 0.71, 3},
		{Memory, 0.80, 0.81, 3},
		{MessagesIn, 100, 101, 3},
		{Connections, 200, 999, 10},
	}
	for _, row := range rows {
		t.Run(row.signal.String(), func(t *testing.T) {
			p := newPilot(t, DefaultPolicy(Capacity{}))
			if changed, _ := p.run(time.Minute, fleetOf(start, 2, calm().with(row.signal, row.at))); changed {
				t.Fatalf("at the threshold: got %d instances (%s), want 2", p.d.Desired, p.d.Reason)
			}
			changed, after := p.run(time.Minute, fleetOf(start, 2, calm().with(row.signal, row.above)))
			if !changed || after > ScaleUpWithin {
				t.Fatalf("got changed %v after %v, want a change within %v", changed, after, ScaleUpWithin)
			}
			wantCount(t, p.d, row.want)
			if p.d.Winner != row.signal.String() {
				t.Errorf("got winner %s, want %v", p.d.Winner, row.signal)
			}
		})
	}
}

// TestScalingParameters takes the document's auto-scaling parameters: minimum 2,
// maximum 20, up within 30 s, down after 5 min.
func TestScalingParameters(t *testing.T) {
	policy := DefaultPolicy(Capacity{})
	if policy.Min != 2 || policy.Max != 20 || policy.Mode != Advise {
		t.Errorf("got min %d max %d mode %v, want 2, 20, advise", policy.Min, policy.Max, policy.Mode)
	}
	if lone := LonePolicy(Capacity{}); lone.Min != 1 || lone.Max != 1 {
		t.Errorf("lone: got min %d max %d, want 1, 1", lone.Min, lone.Max)
	}
	t.Run("maximum", func(t *testing.T) {
		p := newPilot(t, policy)
		busy := fleetOf(start, 2, calm().with(Connections, 1e6))
		begin := p.at
		for p.d.Desired < 20 {
			p.step(busy)
			if p.at.Sub(begin) > ScaleUpWithin {
				t.Fatalf("got %d instances after %v, want 20", p.d.Desired, ScaleUpWithin)
			}
		}
		p.run(time.Minute, busy)
		wantCount(t, p.d, 20)
		if !p.d.SuppressedBy(ByMax) {
			t.Errorf("got suppressions %v, want %q among them", p.d.Suppressions, ByMax)
		}
	})
	t.Run("minimum", func(t *testing.T) {
		p := newPilot(t, policy)
		p.run(30*time.Minute, fleetOf(start, 2, quiet().with(Connections, 0)))
		wantCount(t, p.d, 2)
	})
	t.Run("down after 5 minutes", func(t *testing.T) {
		p := newPilot(t, policy)
		p.run(10*time.Minute, fleetOf(start, 4, calm().with(Connections, 190)))
		wantCount(t, p.d, 4)
		changed, after := p.run(time.Hour, fleetOf(start, 4, quiet().with(Connections, 100)))
		if !changed || after < ScaleDownAfter || after > ScaleDownAfter+2*time.Second {
			t.Fatalf("got changed %v after %v, want a change after %v", changed, after, ScaleDownAfter)
		}
		// 400 connections with a tenth to spare need 3, and half of 4 may go.
		wantCount(t, p.d, 3)
	})
	t.Run("a fleet starts at the minimum", func(t *testing.T) {
		p := newPilot(t, policy)
		wantCount(t, p.step(fleetOf(start, 1, calm())), 2)
	})
}

// TestAlertTable takes every row of the document's alert table by its numbers.
func TestAlertTable(t *testing.T) {
	rows := []struct {
		metric, text string
		rule         string
		signal       Signal
		at, above    float64 // what one of 2 nodes shows; a capacity of 1,000 connections each
		response     string
	}{
		{"Connection Count", ">70% capacity", "connections_warning", Connections, 700, 701, "Review auto-scaling settings"},
		{"Connection Count", ">90% capacity", "connections_critical", Connections, 900, 901, "Review auto-scaling settings"},
		{"CPU Utilization", ">70%", "cpu_warning", CPU, 0.70, 0.701, "Increase instance size or count"},
		{"CPU Utilization", ">90%", "cpu_critical", CPU, 0.90, 0.901, "Increase instance size or count"},
		{"Memory Usage", ">70%", "memory_warning", Memory, 0.70, 0.701, "Investigate memory usage patterns"},
		{"Memory Usage", ">90%", "memory_critical", Memory, 0.90, 0.901, "Investigate memory usage patterns"},
		{"Error Rate", ">2%", "errors_warning", ErrorRate, 0.02, 0.0201, "Investigate and address errors"},
		{"Error Rate", ">5%", "errors_critical", ErrorRate, 0.05, 0.0501, "Investigate and address errors"},
		{"Message Latency", ">500ms", "latency_warning", DeliveryP95, 0.500, 0.501, "Optimize message handling or add capacity"},
		{"Message Latency", ">1000ms", "latency_critical", DeliveryP95, 1.000, 1.001, "Optimize message handling or add capacity"},
		{"", "", "api_critical", APIP95, 3.000, 3.001, "Optimize message handling or add capacity"},
	}
	for _, row := range rows {
		t.Run(row.rule, func(t *testing.T) {
			set, err := NewAlerts(DefaultRules(), Capacity{})
			if err != nil {
				t.Fatal(err)
			}
			rule, ok := set.Rule(row.rule)
			if !ok || rule.Response != row.response || !strings.Contains(rule.Source, row.metric+" "+row.text) && row.metric != "" {
				t.Fatalf("got rule %+v, want response %q and a source with %q", rule, row.response, row.text)
			}
			now := start
			state := func() AlertState {
				for _, a := range set.Alerts() {
					if a.Rule == row.rule {
						return a.State
					}
				}
				return Inactive
			}
			for ; now.Before(start.Add(10 * time.Minute)); now = now.Add(time.Second) {
				f := fleetOf(now, 2, calm().with(row.signal, row.at))
				set.Observe(&f)
			}
			if state() != Inactive {
				t.Fatalf("at the threshold: got %v, want inactive", state())
			}
			for begin := now; now.Sub(begin) < rule.For; now = now.Add(time.Second) {
				f := fleetOf(now, 2, calm().with(row.signal, row.above))
				set.Observe(&f)
				if state() != Pending {
					t.Fatalf("above the threshold for %v: got %v, want pending", now.Sub(begin), state())
				}
			}
			f := fleetOf(now, 2, calm().with(row.signal, row.above))
			set.Observe(&f)
			if state() != Firing {
				t.Errorf("above the threshold for %v: got %v, want firing", rule.For, state())
			}
		})
	}
}

// TestThresholdTexts holds every number of the tables to its text.
func TestThresholdTexts(t *testing.T) {
	want := map[string]float64{">200 per instance": 200, ">70%": 0.7, ">80%": 0.8, ">70% capacity": 0.7, ">90% capacity": 0.9, ">90%": 0.9,
		">2%": 0.02, ">5%": 0.05, ">500ms": 0.5, ">1000ms": 1, "<200ms": 0.2, "<1s": 1, ">3s": 3}
	rows := Thresholds()
	if len(rows) != 3+10+4 {
		t.Errorf("got %d rows, want 3 of auto-scaling, 10 of alerting, 4 of performance", len(rows))
	}
	for _, row := range rows {
		if v, known := want[row.Text]; !known || math.Abs(v-row.Value) > 1e-12 {
			t.Errorf("%s, %s %s: got %v, want %v", row.Table, row.Metric, row.Text, row.Value, v)
		}
	}
}

// TestGuardTable takes the performance table: above its numbers no instance goes,
// and above the critical ones a single one comes.
func TestGuardTable(t *testing.T) {
	rows := []struct {
		signal       Signal
		block, raise float64
	}{{DeliveryP95, 0.5, 1}, {APIP95, 1, 3}, {ErrorRate, 0.02, 0}}
	for _, row := range rows {
		t.Run(row.signal.String(), func(t *testing.T) {
			idle := quiet()
			p := newPilot(t, DefaultPolicy(Capacity{}))
			if changed, _ := p.run(time.Hour, fleetOf(start, 4, idle.with(row.signal, row.block*1.01))); changed {
				t.Fatalf("got %s, want the count to stay while %v is high", p.d.Reason, row.signal)
			}
			if !p.d.SuppressedBy(ByGuard) {
				t.Errorf("got suppressions %v, want %q", p.d.Suppressions, ByGuard)
			}
			p = newPilot(t, DefaultPolicy(Capacity{}))
			if changed, _ := p.run(time.Hour, fleetOf(start, 4, idle.with(row.signal, row.block))); !changed || p.d.Desired >= 4 {
				t.Fatalf("at the number: got %s, want fewer instances", p.d.Reason)
			}
			if row.raise == 0 {
				return
			}
			// 400 connections need 2 instances. However long users suffer, and however
			// many come, it is one more than that.
			p = newPilot(t, DefaultPolicy(Capacity{}))
			most := 0
			for n := 2; p.at.Before(start.Add(time.Hour)); n = p.d.Desired {
				each := quiet().with(Connections, 400/float64(n)).with(row.signal, row.raise*1.01)
				p.run(time.Minute, fleetOf(start, n, each))
				most = max(most, p.d.Desired)
			}
			if most != 3 || p.d.Desired != 3 {
				t.Errorf("got %d instances, at most %d, want 3 throughout", p.d.Desired, most)
			}
		})
	}
}
