package cluster

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestRebalance(t *testing.T) {
	ready := func(name string, connections, capacity int) Member {
		return Member{Name: name, Region: "r", State: Ready, Routed: true, Addr: "http://" + name, Load: Load{Connections: connections, Capacity: capacity}}
	}
	draining := ready("c", 500, 0)
	draining.State = Draining
	elsewhere := ready("x", 9000, 0)
	elsewhere.Region = "other"
	gone := ready("g", 0, 0)
	gone.State = Gone
	mute := ready("m", 0, 0)
	mute.Addr = ""
	tests := []struct {
		name    string
		members []Member
		want    []Move
	}{
		{"alone", []Member{ready("a", 900, 0)}, nil},
		{"even", []Member{ready("a", 1000, 0), ready("b", 1090, 0)}, nil},
		{"too few to matter", []Member{ready("a", 0, 0), ready("b", 30, 0)}, nil},
		{"one has joined", []Member{ready("a", 600, 0), ready("b", 600, 0), ready("c", 0, 0)},
			[]Move{{"a", 200, []string{"c"}}, {"b", 200, []string{"c"}}}},
		{"a step at a time", []Member{ready("a", 5000, 0), ready("b", 0, 0)}, []Move{{"a", 200, []string{"b"}}}},
		{"not more than there is room", []Member{ready("a", 300, 0), ready("b", 300, 0), ready("c", 150, 0)},
			[]Move{{"a", 50, []string{"c"}}, {"b", 50, []string{"c"}}}},
		{"by capacity", []Member{ready("big", 900, 4000), ready("small", 300, 1000)}, []Move{{"small", 60, []string{"big"}}}},
		{"in proportion", []Member{ready("big", 800, 4000), ready("small", 200, 1000)}, nil},
		{"one drains", []Member{ready("a", 1000, 0), ready("b", 0, 0), draining}, nil},
		{"other regions and the gone do not count", []Member{ready("a", 100, 0), ready("b", 100, 0), elsewhere, gone}, nil},
		{"one without an address takes nobody", []Member{ready("a", 1000, 0), mute}, nil},
	}
	for _, tt := range tests {
		if got := Rebalance(tt.members, "r", Balance{}); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestRebalanceConverges carries plans out until there are none: the load is even
// then, and no connection was moved in vain.
func TestRebalanceConverges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		members := make([]Member, 2+rng.IntN(10))
		total := 0
		for i := range members {
			members[i] = Member{Name: string(rune('a' + i)), Region: "r", State: Ready, Routed: true, Addr: "x", Load: Load{Connections: rng.IntN(20_000)}}
			total += members[i].Load.Connections
		}
		average, moved, excess := total/len(members), 0, 0
		for _, m := range members {
			excess += max(m.Load.Connections-average, 0)
		}
		for step := 0; ; step++ {
			moves := Rebalance(members, "r", Balance{})
			if len(moves) == 0 {
				break
			}
			if step > 1000 {
				t.Fatalf("no end: %v", members)
			}
			for _, m := range moves {
				moved += m.Count
				for i := range members {
					if members[i].Name == m.Node {
						members[i].Load.Connections -= m.Count
					}
				}
				for range m.Count { // clients spread over those with room
					to := m.To[rng.IntN(len(m.To))]
					for i := range members {
						if members[i].Name == to {
							members[i].Load.Connections++
						}
					}
				}
			}
		}
		if moved > 2*excess+1 {
			t.Errorf("%d moves where %d would do", moved, excess)
		}
		for _, m := range members {
			if over := float64(m.Load.Connections) / float64(average); over > 1.1 && m.Load.Connections-average >= 20 {
				t.Errorf("a node has %.2f of the average: %v", over, members)
			}
		}
	}
}
