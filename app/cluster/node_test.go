package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// A recorder is a relay that writes down what the Fleet tells it.
type recorder struct {
	mu     sync.Mutex
	events []string
	got    map[string][]uint64 // by node: numbers in parcels
	bytes  int
	lost   uint64
	homes  map[string]relay.Home
	joined map[string]bool
	faults []string
}

func newRecorder() *recorder {
	return &recorder{got: map[string][]uint64{}, homes: map[string]relay.Home{}, joined: map[string]bool{}}
}

func (r *recorder) note(format string, args ...any) {
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

func (r *recorder) Receive(node string, parcels [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.joined[node] {
		r.faults = append(r.faults, "parcels of "+node+" before Joined")
	}
	for _, p := range parcels {
		r.bytes += len(p)
		if len(p) >= 8 {
			r.got[node] = append(r.got[node], binary.LittleEndian.Uint64(p))
		}
	}
}

func (r *recorder) Joined(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joined[node] {
		r.faults = append(r.faults, "Joined twice: "+node)
	}
	r.joined[node] = true
	r.note("joined %s", node)
}

func (r *recorder) Left(node string, planned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.joined[node] {
		r.faults = append(r.faults, "Left without Joined: "+node)
	}
	r.joined[node] = false
	r.note("left %s planned=%v", node, planned)
}

func (r *recorder) Lost(node string, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += n
	r.note("lost %s", node)
}

func (r *recorder) AgentMoved(agent string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("moved %s", agent)
}

func (r *recorder) Home(channel string, home relay.Home, planned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.homes[channel] = home
	r.note("home %s %s %s planned=%v", channel, home.Node, home.Epoch, planned)
}

func (r *recorder) Cut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("cut %v", cut)
}

func (r *recorder) has(event string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.events, event)
}

func (r *recorder) count(node string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got[node])
}

// losses is how many records were told as lost.
func (r *recorder) losses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.lost)
}

// A member is one node of a test.
type member struct {
	*Node
	relay *recorder
	fleet relay.Fleet
	stop  func() error // in order
}

// testLog shows a node's log with the test's.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// nodeConfig is the store's BrokerConfig as a Node has it.
func nodeConfig(t testing.TB, s *store, name string) Config {
	return Config{Name: name, Region: "local", Addr: "http://" + name, Version: "v", Fingerprint: "f",
		URL: s.config.URL, TLS: s.config.TLS, Dial: s.config.Dial, Password: s.config.Password, Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}
}

// startNode runs a node until the test ends.
func startNode(t testing.TB, cfg Config) *member {
	t.Helper()
	m, err := tryNode(t, cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return m
}

func tryNode(t testing.TB, cfg Config) (*member, error) {
	n, err := New(t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	m := &member{Node: n, relay: newRecorder()}
	m.fleet = n.Fleet(m.relay)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	m.stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, n.Close())
	})
	t.Cleanup(func() {
		m.stop()
		m.relay.mu.Lock()
		defer m.relay.mu.Unlock()
		for _, f := range m.relay.faults {
			t.Errorf("%s: %s", cfg.Name, f)
		}
	})
	return m, nil
}

// startNodes runs several and waits until all are ready.
func startNodes(t testing.TB, s *store, names ...string) (out []*member) {
	t.Helper()
	for _, name := range names {
		out = append(out, startNode(t, nodeConfig(t, s, name)))
	}
	settle(t, out...)
	return out
}

// settle waits until all nodes route to each other.
func settle(t testing.TB, nodes ...*member) {
	t.Helper()
	eventually(t, 10*time.Second, func() bool {
		for _, m := range nodes {
			if ok, _ := m.Ready(); !ok || m.Stats().Nodes != len(nodes)-1 {
				return false
			}
		}
		return true
	})
}

func parcel(n uint64, size int) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), make([]byte, size)...)
}

// TestTwoNodes goes through the whole life of two nodes and a third one.
func TestTwoNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		nodes := startNodes(t, s, "a", "b")
		a, b := nodes[0], nodes[1]
		a.fleet.AgentHere("alice", wire.Busy, 2)
		b.fleet.ChannelHere("news")
		eventually(t, 2*time.Second, func() bool {
			return len(b.fleet.Hosts(nil, "alice")) == 1 && len(a.fleet.Interested(nil, "news")) == 1
		})
		if got, want := b.fleet.Hosts(nil, "alice")[0], (relay.Host{Node: "a", State: wire.Busy, Sessions: 2}); got != want {
			t.Errorf("Hosts(alice) = %v, want %v", got, want)
		}
		const parcels = 50_000
		for i := range uint64(parcels) {
			for !a.fleet.Post("b", parcel(i, 100)) {
				time.Sleep(time.Millisecond)
			}
		}
		eventually(t, 10*time.Second, func() bool { return b.relay.count("a") == parcels })
		for i, n := range b.relay.got["a"] {
			if n != uint64(i) {
				t.Fatalf("parcel %d is number %d", i, n)
			}
		}
		c := startNode(t, nodeConfig(t, s, "c"))
		settle(t, a, b, c)
		if got := c.fleet.Hosts(nil, "alice"); len(got) != 1 || got[0].Node != "a" {
			t.Errorf("the third node knows of alice: %v, want a", got)
		}
		home, err := c.fleet.Claim(within(t), "news", "E1")
		if err != nil || home != (relay.Home{Node: "c", Epoch: "E1"}) {
			t.Fatalf("Claim = %v, %v, want c", home, err)
		}
		if home, err = a.fleet.Claim(within(t), "news", "E2"); err != nil || home != (relay.Home{Node: "c", Epoch: "E1"}) {
			t.Fatalf("Claim = %v, %v, want c", home, err)
		}
		eventually(t, 6*time.Second, func() bool { return a.Leader().Holder != "" && a.Leader().Fence == b.Leader().Fence })
		if err := c.stop(); err != nil {
			t.Errorf("c ended with %v", err)
		}
		eventually(t, 2*time.Second, func() bool { return a.relay.has("left c planned=true") && b.relay.has("left c planned=true") })
		if a.fleet.Post("c", parcel(1, 1)) {
			t.Error("Post to a node that left is true")
		}
		if got := len(a.Members()); got != 2 {
			t.Errorf("%d members, want 2", got)
		}
	})
}

// TestSameName shows that a second node of one name is refused, and that a node may
// come back at once after an orderly stop.
func TestSameName(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		a := startNode(t, nodeConfig(t, s, "a"))
		settle(t, a)
		if _, err := tryNode(t, nodeConfig(t, s, "a")); !errors.Is(err, ErrName) {
			t.Errorf("a second node of the name: %v, want %v", err, ErrName)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		startNode(t, nodeConfig(t, s, "a"))
		if took := time.Since(start); took > time.Second {
			t.Errorf("the name was free after %v", took)
		}
	})
}
