package scale

import (
	"slices"
	"testing"
	"time"
)

// TestNodeSilent holds when somebody is told of a node that ended without a
// goodbye, and of a region that went dark: 15 s later, once, by who is left.
func TestNodeSilent(t *testing.T) {
	begin := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	engine, err := NewAlerts(DefaultRules(), Capacity{})
	if err != nil {
		t.Fatal(err)
	}
	view := NewView(FleetConfig{})
	first := map[string]time.Duration{}
	ended := map[string]time.Duration{}
	for s := range 400 {
		at := begin.Add(time.Duration(s) * time.Second)
		for _, n := range []struct {
			name, region string
			until        int
		}{{"n1", "north", 999}, {"n2", "north", 100}, {"n3", "north", 120}, {"s1", "south", 150}, {"s2", "south", 150}, {"w1", "west", 999}, {"w2", "west", 200}} {
			if s < n.until {
				v := Sample{Node: n.name, Region: n.region, At: at, Started: begin.Add(-time.Hour), Ready: begin.Add(-time.Hour)}
				v.Values.Set(Connections, 10)
				v.Values.Set(Broker, 1)
				view.Observe(v)
			}
		}
		if s == 120 {
			view.Remove("n3") // it said goodbye
		}
		all := view.Fleet(at)
		f := all.Region("north")
		f.Dark = all.DarkBeside("north")
		for _, j := range engine.Observe(&f) {
			for _, e := range j.Events {
				switch e.To {
				case Firing:
					first[e.Alert] = at.Sub(begin)
				case Resolved:
					ended[e.Alert] = at.Sub(begin)
				}
			}
		}
	}
	// The last sample of n2 is that of second 99, those of the south of second 149.
	// One node of the west is left, whose leader tells of the other.
	for key, last := range map[string]time.Duration{"node_silent@n2": 99 * time.Second, "node_silent@s1": 149 * time.Second, "node_silent@s2": 149 * time.Second} {
		if after := first[key] - last; after < 10*time.Second || after > 20*time.Second {
			t.Errorf("%s: fires %v after the last sample, want 10 to 20 s", key, after)
		}
		if gone := ended[key] - last; gone < time.Minute || gone > 4*time.Minute {
			t.Errorf("%s: ends %v after the last sample, want when the node is forgotten and two minutes more", key, gone)
		}
	}
	if len(first) != 3 {
		t.Errorf("fired: %v, want three alerts", first)
	}
	if r, ok := engine.Rule("node_silent"); !ok || !slices.Contains(r.InhibitedBy, "broker_down") {
		t.Error("a node that lost its broker would tell of all others")
	}
}
