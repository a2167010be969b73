package cluster

import (
	"strings"
	"testing"
	"time"

	proxy "agentnet/app/apptest/link"
	"agentnet/app/cluster/redistest"
	"agentnet/app/relay"
	"agentnet/app/wire"
)

// A world is three regions with a Redis each. Nodes reach the Redis of another
// region through a proxy that delays, cuts and swallows.
type world struct {
	redis map[string]*redistest.Server
	ways  map[[2]string]*proxy.Proxy // from, to
}

func newWorld(t *testing.T, names ...string) *world {
	w := &world{redis: map[string]*redistest.Server{}, ways: map[[2]string]*proxy.Proxy{}}
	for _, n := range names {
		w.redis[n] = redistest.Single(t)
	}
	for _, from := range names {
		for _, to := range names {
			if from != to {
				w.ways[[2]string{from, to}] = proxy.New(t, w.redis[to].Addr())
			}
		}
	}
	return w
}

// start runs a node of a region.
func (w *world) start(t *testing.T, name, region string) *member {
	cfg := nodeConfig(t, &store{}, name)
	cfg.Region = region
	for r, server := range w.redis {
		url := server.URL()
		if r != region {
			url = server.URLAt(w.ways[[2]string{region, r}].Addr())
		}
		cfg.Regions = append(cfg.Regions, Region{Name: r, URL: url})
	}
	return startNode(t, cfg)
}

// sever cuts a region off from all others, or brings it back.
func (w *world) sever(region string, cut bool) {
	for way, p := range w.ways {
		if way[0] == region || way[1] == region {
			p.Cut(cut)
			if cut {
				p.Reset()
			}
		}
	}
}

// TestRegions lets four nodes of three regions be one relay, with 100 ms between
// them, and takes the region of one away.
func TestRegions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "east", "west", "south")
	nodes := []*member{w.start(t, "e1", "east"), w.start(t, "e2", "east"), w.start(t, "w1", "west"), w.start(t, "s1", "south")}
	settle(t, nodes...)
	for _, p := range w.ways {
		p.Latency(50 * time.Millisecond)
	}
	e1, e2, w1, s1 := nodes[0], nodes[1], nodes[2], nodes[3]
	w1.fleet.AgentHere("alice", wire.Available, 1)
	eventually(t, 3*time.Second, func() bool {
		return len(e1.fleet.Hosts(nil, "alice")) == 1 && len(s1.fleet.Hosts(nil, "alice")) == 1
	})
	flood(t, nodes, 500)
	home, err := s1.fleet.Claim(within(t), "news", "S")
	if err != nil || home.Node != "s1" {
		t.Fatalf("Claim: %v, %v", home, err)
	}
	eventually(t, 3*time.Second, func() bool {
		h, err := e1.fleet.Claim(within(t), "news", "E")
		return err == nil && h.Node == "s1"
	})
	// Each region has a leader of its own.
	eventually(t, 10*time.Second, func() bool {
		return w1.Leader().Mine && s1.Leader().Mine && strings.HasPrefix(e1.Leader().Holder, "e")
	})
	if got := e1.Least("west", 2); len(got) != 1 || got[0] != "http://w1" {
		t.Errorf("Least(west) = %v, want w1", got)
	}

	w.sever("south", true)
	eventually(t, 8*time.Second, func() bool {
		return e1.relay.has("left s1 planned=false") && e2.relay.has("left s1 planned=false") && w1.relay.has("left s1 planned=false")
	})
	start := time.Now()
	if home, err = e2.fleet.Claim(within(t), "news", "E"); err != nil || home.Node != "e2" || time.Since(start) > time.Second {
		t.Errorf("Claim without the south: %v, %v after %v", home, err, time.Since(start))
	}
	flood(t, []*member{e1, e2, w1}, 500)
	if e1.fleet.Cut() || s1.fleet.Cut() {
		t.Error("a node says that it is cut off from its own region")
	}
	if home, err = s1.fleet.Claim(within(t), "other", "S2"); err != nil || home.Node != "s1" {
		t.Errorf("Claim in the severed region: %v, %v", home, err)
	}
	open := false
	for _, l := range e1.Stats().Links {
		open = open || l.Region == "south" && l.Breaker != "closed"
	}
	if !open {
		t.Errorf("the breaker of the severed region is closed: %+v", e1.Stats().Links)
	}

	w.sever("south", false)
	start = time.Now()
	settle(t, nodes...)
	t.Logf("together again after %v", time.Since(start).Round(time.Millisecond))
	// The older home of the two stays, on all sides.
	want := relay.Home{Node: "s1", Epoch: "S"}
	eventually(t, 5*time.Second, func() bool {
		for _, m := range nodes {
			if h, err := m.fleet.Claim(within(t), "news", "X"); err != nil || h != want {
				return false
			}
		}
		return true
	})
	if !e2.relay.has("home news s1 S planned=false") {
		t.Error("the node that was home meanwhile was not told")
	}
	flood(t, nodes, 200)
}

// TestDeadRegion stops the Redis of one region: its node is alone, the others go on.
func TestDeadRegion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "east", "west")
	e1, e2, w1 := w.start(t, "e1", "east"), w.start(t, "e2", "east"), w.start(t, "w1", "west")
	settle(t, e1, e2, w1)
	w.redis["west"].Pause()
	defer w.redis["west"].Resume()
	eventually(t, 8*time.Second, func() bool {
		return w1.fleet.Cut() && e1.relay.has("left w1 planned=false") && e2.relay.has("left w1 planned=false")
	})
	flood(t, []*member{e1, e2}, 500)
	if h, err := w1.fleet.Claim(within(t), "news", "W"); err != nil || h.Node != "w1" {
		t.Errorf("Claim in the dead region: %v, %v", h, err)
	}
	w.redis["west"].Resume()
	settle(t, e1, e2, w1)
	flood(t, []*member{e1, e2, w1}, 200)
}

// TestRegionsShareRedis lets nodes of two regions that were not told of any be one
// relay over one Redis.
func TestRegionsShareRedis(t *testing.T) {
	t.Parallel()
	s := &store{config: BrokerConfig{URL: redistest.Single(t).URL()}}
	east, west := nodeConfig(t, s, "e1"), nodeConfig(t, s, "w1")
	east.Region, west.Region = "east", "west"
	nodes := []*member{startNode(t, east), startNode(t, west)}
	settle(t, nodes...)
	flood(t, nodes, 200)
	eventually(t, 10*time.Second, func() bool { return nodes[0].Leader().Mine && nodes[1].Leader().Mine })
	if got := nodes[0].Least("west", 1); len(got) != 1 {
		t.Errorf("Least(west) = %v, want the other node", got)
	}
}
