package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// firstOf counts which endpoint clients are told first, and fails when one is told
// of none, or of one twice.
func firstOf(t *testing.T, peers []*peer, kind string) map[string]int {
	t.Helper()
	first := map[string]int{}
	for _, p := range peers {
		n := only(p.take(), wire.KindNotice)
		if len(n) != 1 || n[0].Notice.Kind != kind || n[0].Notice.Level == "" || len(n[0].Notice.Endpoints) == 0 || n[0].Notice.ReconnectInMS <= 0 {
			t.Errorf("%s: got notices %+v, want one of kind %s with endpoints", p.name, n, kind)
			continue
		}
		told := n[0].Notice.Endpoints
		first[told[0]]++
		for i, e := range told {
			if slices.Contains(told[:i], e) {
				t.Errorf("%s: an endpoint is told twice: %v", p.name, told)
			}
		}
	}
	return first
}

// TestShed: as many as wanted go, the quiet ones, not all to the same node; the
// others do not notice.
func TestShed(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		here := v.worlds[0]
		server := here.join("server")
		var quiet, busy []*peer
		for i := range 12 {
			p := here.join(fmt.Sprint("agent", i))
			if i < 4 {
				busy = append(busy, p)
				p.start(request("server", "work", "x", 60_000))
			} else {
				quiet = append(quiet, p)
			}
		}
		v.settle()
		server.take()
		endpoints := []string{"ws://n2", "ws://n3", "ws://n4", "ws://n5"}
		begun := time.Now()
		if n := here.hub.Shed(context.Background(), 8, endpoints, 2*time.Second); n != 8 {
			t.Errorf("%d connections were shed, want 8", n)
		}
		if took := time.Since(begun); took < time.Second || took > 3*time.Second {
			t.Errorf("8 connections went within %v, want them spread over 2 s", took)
		}
		gone := 0
		for _, p := range quiet {
			if p.code() == wire.CloseDrain {
				gone++
			}
		}
		if gone != 8 {
			t.Errorf("%d of the 8 quiet ones were closed with 4004", gone)
		}
		for _, p := range append(busy, server) {
			if p.code() != 0 {
				t.Errorf("%s, which waits for a reply or has to give one, was closed with %d", p.name, p.code())
			}
		}
		first := firstOf(t, quiet, "rebalance")
		for _, e := range endpoints {
			if first[e] != 2 {
				t.Errorf("clients were told these first: %v, want each 2 times", first)
				break
			}
		}
		// They go on at the other node with all that was theirs.
		moved := v.worlds[1].back(quiet[0], 0)
		v.settle()
		if ok := busy[0].ok(send(moved.name, "hello")); !moved.hello.Resumed || ok.Outcome != wire.Delivered {
			t.Errorf("after the move: resumed %v, a message to it %+v", moved.hello.Resumed, ok)
		}
		if n := here.hub.ShedByOrder(context.Background(), 100, endpoints, 0); n != 5 {
			t.Errorf("%d connections were shed of the 5 that are left", n)
		}
		if n := only(server.take(), wire.KindNotice); len(n) != 1 || n[0].Notice.Level != "order" || !strings.Contains(n[0].Notice.Message, "operator") {
			t.Errorf("by an operator's order: got notices %+v, want one that says so", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		here.join("late")
		here.join("later")
		if n := here.hub.Shed(ctx, 2, endpoints, time.Minute); n > 1 {
			t.Errorf("%d connections were shed after the end", n)
		}
	})
}

// TestDrainSpreadsClients: those of a node that goes are told the others in turn.
func TestDrainSpreadsClients(t *testing.T) {
	inNation(t, 4, 1, nil, func(v *nation) {
		var peers []*peer
		for i := range 30 {
			peers = append(peers, v.worlds[0].join(fmt.Sprint("agent", i)))
		}
		v.settle()
		done := make(chan struct{})
		go func() { _, _ = v.drains(0, time.Second); close(done) }()
		time.Sleep(2 * time.Second)
		first := firstOf(t, peers, "drain")
		for _, node := range []string{"ws://n2", "ws://n3", "ws://n4"} {
			if first[node] != 10 {
				t.Errorf("clients were told these first: %v, want each of the three others 10 times", first)
				break
			}
		}
		<-done
	})
}

// TestUndrainKeepsWhoIsStillThere: a drain that is taken back, even in its last
// moments, ends no session that no other node has fetched.
func TestUndrainKeepsWhoIsStillThere(t *testing.T) {
	for _, after := range []time.Duration{2 * time.Second, drainMoves - time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			inNation(t, 2, 1, nil, func(v *nation) {
				hub := v.worlds[0].hub
				alice, bob := v.worlds[1].join("alice"), v.worlds[0].join("bob")
				v.settle()
				v.net.mu.Lock()
				v.net.nodes["n1"].draining = true
				v.net.mu.Unlock()
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- hub.Drain(ctx, time.Second) }()
				time.Sleep(after)
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("Drain: got %v, want that it was cancelled", err)
				}
				hub.Undrain()
				v.net.mu.Lock()
				v.net.nodes["n1"].draining = false
				v.net.mu.Unlock()
				c := send("bob", "kept")
				alice.ok(c)
				v.settle()
				bob = v.worlds[0].back(bob, 0)
				v.settle()
				if got := datas(only(bob.take(), wire.KindMessage)); !bob.hello.Resumed || !slices.Equal(got, []string{`"kept"`}) {
					t.Errorf("resumed %v with %q, want the session as it was", bob.hello.Resumed, got)
				}
			})
		})
	}
}
