package relay

import (
	"testing"

	"agentnet/app/wire"
)

// TestReunionOfAChannel: two nodes that cannot hear each other have a home of a
// channel each. When they meet again subscribers of the one that gives way get what
// the other accepted meanwhile, and nothing that they had before.
func TestReunionOfAChannel(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		a, b := v.worlds[0].join("a"), v.worlds[1].join("b")
		home := a.ok(subscribe("c"))
		b.ok(subscribe("c"))
		for range 5 {
			a.ok(publish("c", "before"))
		}
		v.settle()
		n1, n2 := v.net.nodes["n1"], v.net.nodes["n2"]
		side := func(n int) {
			n2.mu.Lock()
			n2.side = n
			n2.mu.Unlock()
		}
		for round := range 3 { // more than once: the epoch comes back each time
			side(round + 1)
			n2.peers.Home("c", Home{}, false)
			v.settle()
			v.settle()
			for range 3 {
				b.ok(publish("c", "lost"))
			}
			for range 4 {
				a.ok(publish("c", "kept"))
			}
			v.settle()
			side(0)
			n2.peers.Home("c", Home{Node: "n1", Epoch: home.Epoch}, false)
			n1.peers.Home("c", Home{Node: "n1", Epoch: home.Epoch}, false)
			v.settle()
			v.settle()
		}
		a.ok(publish("c", "after"))
		v.settle()
		count := func(p *peer) (before, lost, kept, after, gaps int) {
			for _, ev := range p.take() {
				switch {
				case ev.Kind == wire.KindGap:
					gaps++
				case ev.Kind != wire.KindMessage:
				case string(ev.Message.Payload.Data) == `"before"`:
					before++
				case string(ev.Message.Payload.Data) == `"lost"`:
					lost++
				case string(ev.Message.Payload.Data) == `"kept"`:
					kept++
				case string(ev.Message.Payload.Data) == `"after"`:
					after++
				}
			}
			return before, lost, kept, after, gaps
		}
		if before, lost, kept, after, gaps := count(a); before != 5 || lost != 0 || kept != 12 || after != 1 || gaps != 3 {
			t.Errorf("the home's subscriber got %d before, %d of the other side, %d of its own, %d after, %d gaps; want 5, 0, 12, 1 and 3", before, lost, kept, after, gaps)
		}
		if before, lost, kept, after, gaps := count(b); before != 5 || lost != 9 || kept != 12 || after != 1 || gaps != 6 {
			t.Errorf("the subscriber of the side that gave way got %d before, %d of its own, %d of the other, %d after, %d gaps; want 5, 9, 12, 1 and 6: each once", before, lost, kept, after, gaps)
		}
	})
}
