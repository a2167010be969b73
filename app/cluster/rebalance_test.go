package cluster

import (
	"fmt"
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
		{"few", []Member{ready("a", 0, 0), ready("b", 30, 0)}, []Move{{"b", 15, 15, []string{"a"}}}},
		{"fewer", []Member{ready("a", 3, 0), ready("b", 0, 0), ready("c", 0, 0)}, []Move{{"a", 2, 2, []string{"b", "c"}}}},
		{"the rest stays where it is", []Member{ready("a", 1, 0), ready("b", 2, 0), ready("c", 2, 0)}, nil},
		{"the rest goes where room is", []Member{ready("a", 1, 0), ready("b", 3, 0), ready("c", 1, 0)}, []Move{{"b", 1, 1, []string{"a"}}}},
		{"no taker gets too many", []Member{ready("a", 40, 0), ready("b", 0, 0), ready("c", 14, 0), ready("d", 18, 0)}, []Move{{"a", 22, 18, []string{"b"}}}},
		{"nobody", []Member{ready("a", 0, 0), ready("b", 0, 0)}, nil},
		{"one has joined", []Member{ready("a", 600, 0), ready("b", 600, 0), ready("c", 0, 0)},
			[]Move{{"a", 200, 200, []string{"c"}}, {"b", 200, 200, []string{"c"}}}},
		{"a step at a time", []Member{ready("a", 5000, 0), ready("b", 0, 0)}, []Move{{"a", 2500, 200, []string{"b"}}}},
		{"not more than there is room", []Member{ready("a", 300, 0), ready("b", 300, 0), ready("c", 150, 0)},
			[]Move{{"a", 50, 50, []string{"c"}}, {"b", 50, 50, []string{"c"}}}},
		{"by capacity", []Member{ready("big", 900, 4000), ready("small", 300, 1000)}, []Move{{"small", 60, 60, []string{"big"}}}},
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

// clientele is a fleet whose clients do what they are told, or choose by themselves among
// the nodes that they are told.
type clientele struct {
	members []Member
	rng     *rand.Rand
	chance  bool
}

func (c *clientele) carryOut(moves []Move) (moved int) {
	at := map[string]*Load{}
	for i := range c.members {
		at[c.members[i].Name] = &c.members[i].Load
	}
	for _, m := range moves {
		moved += m.Count
		at[m.Node].Connections -= m.Count
		for i := range m.Count {
			to := m.To[i%len(m.To)]
			if c.chance {
				to = m.To[c.rng.IntN(len(m.To))]
			}
			at[to].Connections++
		}
	}
	return moved
}

// uneven says what is not as it should be: a node has more than 1.1 times the average
// and more than one connection more than another.
func (c *clientele) uneven() string {
	total, least, most := 0, c.members[0].Load.Connections, 0
	for _, m := range c.members {
		n := m.Load.Connections
		total, least, most = total+n, min(least, n), max(most, n)
	}
	average := float64(total) / float64(len(c.members))
	if float64(most) <= 1.1*average || most-least <= 1 {
		return ""
	}
	return fmt.Sprintf("the fullest node has %d, the emptiest %d, the average is %.1f", most, least, average)
}

// TestRebalanceConverges carries plans out until there are none, in fleets of 2 to 20
// nodes with 3 to 10,000 connections however spread: the load is even then, it stays
// so, and where clients go as told no connection was moved in vain.
func TestRebalanceConverges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 3000 {
		c := &clientele{rng: rng, chance: round%2 == 1, members: make([]Member, 2+rng.IntN(19))}
		total := 3 + rng.IntN(10_000)
		if round%3 == 0 {
			total = 3 + rng.IntN(60)
		}
		crowded := 1 + rng.IntN(len(c.members)) // so many nodes have all of them
		for i := range c.members {
			c.members[i] = Member{Name: string(rune('a' + i)), Region: "r", State: Ready, Routed: true, Addr: "x"}
		}
		for range total {
			c.members[rng.IntN(crowded)].Load.Connections++
		}
		targets, excess := targets(c.members, shares(c.members)), 0
		for i, m := range c.members {
			excess += max(m.Load.Connections-targets[i], 0)
		}
		weigh, began := scale{}, fmt.Sprint(c.members)
		moved, still := 0, 0
		for look := 0; still < 10; look++ {
			if look > 2000 {
				t.Fatalf("no end: %v", c.members)
			}
			n := c.carryOut(weigh.plan(c.members, "r"))
			if moved += n; n == 0 {
				still++
			} else {
				still = 0
			}
		}
		if fault := c.uneven(); fault != "" {
			t.Fatalf("%s; it began with %s", fault, began)
		}
		if !c.chance && moved > excess || moved > 3*excess+1 {
			t.Fatalf("%d moves where %d would do, chance %v, of %s", moved, excess, c.chance, began)
		}
	}
}

// TestRebalanceHasPatience: few connections too many are not moved before they have
// stayed for a while, and never when they go by themselves.
func TestRebalanceHasPatience(t *testing.T) {
	members := func(a, b int) []Member {
		return []Member{{Name: "a", Region: "r", State: Ready, Routed: true, Addr: "x", Load: Load{Connections: a}},
			{Name: "b", Region: "r", State: Ready, Routed: true, Addr: "x", Load: Load{Connections: b}}}
	}
	var weigh scale
	for i, look := range []struct{ a, b, want int }{
		{16, 4, 0}, {16, 4, 0}, {10, 10, 0}, // it went by itself
		{16, 4, 0}, {4, 16, 0}, {16, 4, 0}, // it comes and goes
		{16, 4, 0}, {16, 4, 6}, // it stays
		{14, 6, 0}, {14, 6, 0}, {14, 6, 4},
		{100, 20, 40},                // this is no chance
		{500, 20, 200}, {84, 64, 10}, // nor is the rest of what a step could not take
		{84, 64, 0},
	} {
		got := 0
		for _, m := range weigh.plan(members(look.a, look.b), "r") {
			got += m.Count
		}
		if got != look.want {
			t.Errorf("look %d at %d and %d: %d were moved, want %d", i, look.a, look.b, got, look.want)
		}
	}
}
