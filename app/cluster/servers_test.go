package cluster

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
	"agentnet/app/relay"
	"agentnet/app/wire"
)

// servers are the kinds of Redis that nodes may share.
var servers = []struct {
	name  string
	start func(t *testing.T) *store
}{
	{"embedded", startEmbedded},
	{"redis", startRedis},
	{"cluster", func(t *testing.T) *store { return &store{config: BrokerConfig{URL: redistest.StartCluster(t).URL()}} }},
	{"valkey", func(t *testing.T) *store {
		return &store{config: BrokerConfig{URL: redistest.SingleOf(t, redistest.Valkey).URL()}}
	}},
	{"valkey cluster", func(t *testing.T) *store {
		return &store{config: BrokerConfig{URL: redistest.StartClusterOf(t, redistest.Valkey).URL()}}
	}},
	{"redis 6", func(t *testing.T) *store {
		return &store{config: BrokerConfig{URL: redistest.SingleOf(t, redistest.Redis6).URL()}}
	}},
	{"redis 6 cluster", func(t *testing.T) *store {
		return &store{config: BrokerConfig{URL: redistest.StartClusterOf(t, redistest.Redis6).URL()}}
	}},
	{"tls and a user", startSecure},
	{"sentinel", func(t *testing.T) *store { return &store{config: BrokerConfig{URL: redistest.StartSentinel(t).URL()}} }},
}

// TestEveryServer runs one body on every kind of Redis: three nodes meet, know each
// other's agents, get parcels in order, agree on homes and a leader, keep history,
// and part.
func TestEveryServer(t *testing.T) {
	for _, k := range servers {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := k.start(t)
			nodes := startNodes(t, s, "a", "b", "c")
			for i, m := range nodes {
				m.fleet.AgentHere(fmt.Sprintf("agent%d", i), wire.Available, 1)
				m.fleet.ChannelHere("news")
			}
			eventually(t, 5*time.Second, func() bool {
				for _, m := range nodes {
					for i, o := range nodes {
						if got := m.fleet.Hosts(nil, fmt.Sprintf("agent%d", i)); o != m && (len(got) != 1 || got[0].Node != o.cfg.Name) {
							return false
						}
					}
					if len(m.fleet.Interested(nil, "news")) != 2 {
						return false
					}
				}
				return true
			})
			floodTold(t, nodes, 3000, k.name == "redis 6 cluster")
			want := relay.Home{}
			for i, m := range nodes {
				h, err := m.fleet.Claim(within(t), "news", fmt.Sprintf("E%d", i))
				if want.Node == "" {
					want = h
				}
				if err != nil || h != want {
					t.Errorf("%s: the home is %v, %v, want %v", m.cfg.Name, h, err, want)
				}
			}
			wantHistory(t, nodes[0].Broker(), nodes[1].Broker())
			eventually(t, 10*time.Second, func() bool {
				l := nodes[0].Leader()
				return l.Holder != "" && nodes[1].Leader().Fence == l.Fence && nodes[2].Leader().Fence == l.Fence
			})
			eventually(t, 5*time.Second, func() bool { return nodes[0].Stats().Redis.UsedMemory > 0 })
		})
	}
}

// flood posts parcels from each node to each other and waits until all came, in
// order.
func flood(t *testing.T, nodes []*member, parcels int) {
	t.Helper()
	floodTold(t, nodes, parcels, false)
}

// floodTold is flood where a server may let a node that subscribes anew miss some, if
// told: those must have been told as lost.
func floodTold(t *testing.T, nodes []*member, parcels int, told bool) {
	t.Helper()
	before, lost := map[[2]string]int{}, map[*member]int{}
	for _, from := range nodes {
		lost[from] = from.relay.losses()
		for _, to := range nodes {
			before[[2]string{from.cfg.Name, to.cfg.Name}] = to.relay.count(from.cfg.Name)
		}
	}
	for i := range uint64(parcels) {
		for _, from := range nodes {
			for _, to := range nodes {
				if from == to {
					continue
				}
				for end := time.Now().Add(10 * time.Second); !from.fleet.Post(to.cfg.Name, parcel(i, 64)); time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s cannot post to %s", from.cfg.Name, to.cfg.Name)
					}
				}
			}
		}
	}
	for _, to := range nodes {
		missing := func() (n int) {
			for _, from := range nodes {
				if from != to {
					n += before[[2]string{from.cfg.Name, to.cfg.Name}] + parcels - to.relay.count(from.cfg.Name)
				}
			}
			return n
		}
		eventually(t, 10*time.Second, func() bool { n := missing(); return n == 0 || told && n <= to.relay.losses()-lost[to] })
		to.relay.mu.Lock()
		for _, from := range nodes {
			got := to.relay.got[from.cfg.Name]
			if from != to && !slices.IsSorted(got[before[[2]string{from.cfg.Name, to.cfg.Name}]:]) {
				t.Errorf("%s to %s: parcels came out of order", from.cfg.Name, to.cfg.Name)
			}
		}
		to.relay.mu.Unlock()
	}
}

// wantHistory appends by one broker and reads by another.
func wantHistory(t *testing.T, writer, reader relay.Broker) {
	t.Helper()
	eventually(t, 5*time.Second, func() bool {
		_, err := writer.Open(within(t), "news", "H")
		return err == nil
	})
	if err := writer.Append(within(t), "news", "H", hour, publications(1, 20, time.Now())); err != nil {
		t.Fatalf("Append: %v", err)
	}
	eventually(t, 5*time.Second, func() bool {
		pubs, ok, err := reader.Read(within(t), "news", "H", 0, 100)
		return err == nil && ok && len(pubs) == 20
	})
}

// TestFaults does to a single Redis all that happens to one, and wants that the
// nodes are together again within 10 s, without a word lost that nobody was told of.
func TestFaults(t *testing.T) {
	faults := []struct {
		name string
		// hurt breaks something and mends it.
		hurt func(t *testing.T, r *redistest.Server)
		cut  bool // the nodes notice that they are apart
	}{
		{"paused for long", func(t *testing.T, r *redistest.Server) { r.Pause(); time.Sleep(4 * time.Second); r.Resume() }, true},
		{"paused for a moment", func(t *testing.T, r *redistest.Server) { r.Pause(); time.Sleep(700 * time.Millisecond); r.Resume() }, false},
		{"killed and started again", func(t *testing.T, r *redistest.Server) { r.Kill(); time.Sleep(3 * time.Second); r.Start() }, true},
		{"restarted at once", func(t *testing.T, r *redistest.Server) { r.Restart() }, false},
		{"clients killed", func(t *testing.T, r *redistest.Server) {
			r.Must("CLIENT", "KILL", "TYPE", "pubsub")
			r.Must("CLIENT", "KILL", "TYPE", "normal")
		}, false},
		{"full", func(t *testing.T, r *redistest.Server) {
			r.Must("CONFIG", "SET", "maxmemory", "1")
			time.Sleep(3 * time.Second)
			r.Must("CONFIG", "SET", "maxmemory", "0")
		}, false},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Single(t)
			nodes := startNodes(t, &store{config: BrokerConfig{URL: r.URL()}}, "a", "b", "c")
			for i, m := range nodes {
				m.fleet.AgentHere(fmt.Sprintf("agent%d", i), wire.Available, 1)
			}
			flood(t, nodes, 100)
			f.hurt(t, r)
			start := time.Now()
			eventually(t, 10*time.Second, func() bool {
				for _, m := range nodes {
					if m.fleet.Cut() || m.Stats().Nodes != 2 {
						return false
					}
					for i, o := range nodes {
						if o != m && len(m.fleet.Hosts(nil, fmt.Sprintf("agent%d", i))) != 1 {
							return false
						}
					}
				}
				return true
			})
			t.Logf("together again after %v", time.Since(start).Round(time.Millisecond))
			for _, m := range nodes {
				if got := m.relay.has("cut true"); got != f.cut && f.cut {
					t.Errorf("%s was told that it is cut: %v", m.cfg.Name, got)
				}
			}
			flood(t, nodes, 1000)
			wantHistory(t, nodes[0].Broker(), nodes[1].Broker())
			eventually(t, 10*time.Second, func() bool {
				l := nodes[0].Leader()
				return l.Holder != "" && nodes[1].Leader().Fence == l.Fence
			})
		})
	}
}

// TestLateRedis starts nodes before their Redis.
func TestLateRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Single(t)
	r.Kill()
	s := &store{config: BrokerConfig{URL: r.URL()}}
	a, b := startNode(t, nodeConfig(t, s, "a")), startNode(t, nodeConfig(t, s, "b"))
	eventually(t, 5*time.Second, func() bool { return a.fleet.Cut() && b.fleet.Cut() })
	if ok, why := a.Ready(); !ok {
		t.Errorf("a node without Redis is not ready: %s", why)
	}
	start := time.Now()
	if h, err := a.fleet.Claim(within(t), "news", "E"); err != nil || h.Node != "a" || time.Since(start) > time.Second {
		t.Errorf("Claim while cut off: %v, %v, after %v", h, err, time.Since(start))
	}
	start = time.Now()
	if _, err := a.Broker().Open(within(t), "news", "E"); err == nil || time.Since(start) > 100*time.Millisecond {
		t.Errorf("Open without Redis: %v after %v, want an error at once", err, time.Since(start))
	}
	r.Start()
	settle(t, a, b)
	flood(t, []*member{a, b}, 100)
	wantHistory(t, a.Broker(), b.Broker())
}

// TestDeadNode kills a node: the others hear of it, its homes are free, and another
// leads, within 10 s.
func TestDeadNode(t *testing.T) {
	t.Parallel()
	r := redistest.Single(t)
	nodes := startNodes(t, &store{config: BrokerConfig{URL: r.URL()}}, "a", "b", "c")
	eventually(t, 10*time.Second, func() bool { return nodes[0].Leader().Holder != "" })
	lead := nodes[0].Leader()
	at := slices.IndexFunc(nodes, func(m *member) bool { return m.cfg.Name == lead.Holder })
	dead := nodes[at]
	rest := slices.Delete(slices.Clone(nodes), at, at+1)
	if h, err := dead.fleet.Claim(within(t), "news", "E1"); err != nil || h.Node != dead.cfg.Name {
		t.Fatalf("Claim: %v, %v", h, err)
	}
	eventually(t, 2*time.Second, func() bool {
		h, err := rest[0].fleet.Claim(within(t), "news", "E2")
		return err == nil && h.Node == dead.cfg.Name
	})
	start := time.Now()
	dead.cancel() // no goodbye
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	eventually(t, 10*time.Second, func() bool {
		return rest[0].relay.has("left "+dead.cfg.Name+" planned=false") && rest[1].relay.has("left "+dead.cfg.Name+" planned=false")
	})
	lost := time.Since(start)
	if h, err := rest[1].fleet.Claim(ctx, "news", "E3"); err != nil || h != (relay.Home{Node: rest[1].cfg.Name, Epoch: "E3"}) {
		t.Errorf("Claim = %v, %v, want itself with E3", h, err)
	}
	eventually(t, 10*time.Second, func() bool { l := rest[0].Leader(); return l.Holder != "" && l.Holder != dead.cfg.Name })
	led := time.Since(start)
	if l := rest[0].Leader(); l.Fence <= lead.Fence {
		t.Errorf("fence %d follows %d", l.Fence, lead.Fence)
	}
	t.Logf("left after %v, another leads after %v", lost.Round(time.Millisecond), led.Round(time.Millisecond))
	if lost > 4*time.Second || led > 10*time.Second {
		t.Errorf("left after %v, another leads after %v", lost, led)
	}
}

// TestClusterHistory shows that in a Redis Cluster a channel keeps its epoch from one
// orderly writer to the next, and gets a new one when a server was restarted.
func TestClusterHistory(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	cfg := BrokerConfig{URL: c.URL()}
	write := func(epoch string, want relay.Position) {
		t.Helper()
		b, err := OpenBroker(within(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		eventually(t, 15*time.Second, func() bool {
			pos, err := b.Open(within(t), "c", epoch)
			if err == nil && pos != want {
				t.Fatalf("Open = %v, want %v", pos, want)
			}
			return err == nil
		})
		if err := b.Append(within(t), "c", want.Epoch, hour, publications(want.Offset+1, want.Offset+5, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	write("E1", relay.Position{Epoch: "E1"})
	for i := range 5 { // INFO is asked of another server each time
		write(fmt.Sprint("E2-", i), relay.Position{Epoch: "E1", Offset: uint64(5 + 5*i)})
	}
	c.Servers[1].Restart()
	write("E3", relay.Position{Epoch: "E3"})
}

// TestClusterSlotMove moves the slots of the nodes' channels to another server while
// parcels go: the subscriptions move along.
func TestClusterSlotMove(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	nodes := startNodes(t, &store{config: BrokerConfig{URL: c.URL()}}, "a", "b")
	flood(t, nodes, 100)
	for _, channel := range []string{nodeChannel("a"), nodeChannel("b"), allChannel, nodeChannel("b")} {
		slot := c.Slot(channel)
		c.MoveSlot(slot, (c.Owner(slot)+1)%3)
		flood(t, nodes, 200)
	}
	settle(t, nodes...)
	wantHistory(t, nodes[0].Broker(), nodes[1].Broker())
}

// TestSentinelFailover kills the primary: the nodes find the promoted one and each
// other within 10 s of its promotion.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	c := redistest.StartSentinel(t)
	nodes := startNodes(t, &store{config: BrokerConfig{URL: c.URL()}}, "a", "b", "c")
	flood(t, nodes, 100)
	c.Failover()
	start := time.Now()
	eventually(t, 10*time.Second, func() bool {
		for _, m := range nodes {
			if m.fleet.Cut() || m.Stats().Nodes != 2 {
				return false
			}
		}
		return true
	})
	t.Logf("together again %v after the promotion", time.Since(start).Round(time.Millisecond))
	flood(t, nodes, 100)
	wantHistory(t, nodes[0].Broker(), nodes[1].Broker())
}
