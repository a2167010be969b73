package relay

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// drains marks a node as one that leaves, for all others, and drains it.
func (v *nation) drains(i int, window time.Duration) (took time.Duration, err error) {
	hub := v.worlds[i].hub
	v.net.mu.Lock()
	v.net.nodes[hub.cfg.Node].draining = true
	v.net.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begun := time.Now()
	err = hub.Drain(ctx, window)
	return time.Since(begun), err
}

// TestAllNodesStop: nodes that leave together wait for nobody, keep what is parked,
// and no channel begins anew while they go.
func TestAllNodesStop(t *testing.T) {
	for _, lag := range []time.Duration{0, 1500 * time.Millisecond} {
		t.Run(lag.String(), func(t *testing.T) {
			inNation(t, 3, 1, nil, func(v *nation) {
				var peers []*peer
				for i := range 12 {
					p := v.worlds[i%3].join(fmt.Sprint("agent", i))
					p.ok(subscribe("c"))
					peers = append(peers, p)
				}
				first := peers[0].ok(publish("c", "x"))
				kept := send("nobody", "kept")
				kept.TTLMS = 600_000
				peers[1].ok(kept)
				v.settle()
				var all sync.WaitGroup
				for i := range v.worlds {
					all.Go(func() {
						time.Sleep(time.Duration(i) * lag)
						took, err := v.drains(i, time.Second)
						limit := 3 * time.Second
						if i == 0 {
							limit += 2 * lag // it waits as long as another one is there
						}
						if err != nil || took > limit {
							t.Errorf("node %d drained in %v (%v), want the window of 1 s and little more", i+1, took, err)
						}
						v.net.remove(v.worlds[i].hub.cfg.Node, true)
					})
				}
				all.Wait()
				time.Sleep(time.Second)
				parked := 0
				for i, w := range v.worlds {
					parked += w.hub.mail.Count()
					w.hub.eachChannel(func(c *channel) {
						c.mu.Lock()
						defer c.mu.Unlock()
						if c.home == "" && !c.astray && c.epoch != first.Epoch {
							t.Errorf("node %d began channel %s anew while all nodes stopped", i+1, c.name)
						}
					})
				}
				if parked != 1 {
					t.Errorf("%d messages are parked on all nodes, want the one", parked)
				}
				for i, p := range peers {
					evs := p.take()
					if n := only(evs, wire.KindNotice); p.code() != wire.CloseDrain || len(n) != 1 || n[0].Notice.Kind != "drain" {
						t.Errorf("%s of node %d: code %d, notices %+v", p.name, i%3+1, p.code(), n)
					}
					if len(only(evs, wire.KindGap)) != 0 {
						t.Errorf("%s got a gap", p.name)
					}
				}
			})
		})
	}
}

// TestDrainWaitsForANodeThatStays is the other side of it: sessions are kept for
// the node that takes them.
func TestDrainWaitsForANodeThatStays(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		a, b := v.worlds[0].join("a"), v.worlds[1].join("b")
		v.settle()
		var took [2]time.Duration
		var both sync.WaitGroup
		for i := range took {
			both.Go(func() { took[i], _ = v.drains(i, time.Second) })
		}
		time.Sleep(4 * time.Second)
		a, b = v.worlds[2].back(a, 0), v.worlds[2].back(b, 0)
		both.Wait()
		for i, p := range []*peer{a, b} {
			if !p.hello.Resumed || took[i] < 4*time.Second || took[i] > 8*time.Second {
				t.Errorf("session of node %d: resumed %v, drained in %v", i+1, p.hello.Resumed, took[i])
			}
		}
	})
}
