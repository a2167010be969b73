package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A memory is a ledger as a slice an origin: its disk outlives the node.
type memory struct {
	mu      sync.Mutex
	own     string
	logs    map[string][]Entry
	heads   map[string]uint64
	lives   int
	failing bool // a full disk
}

func newMemory(own string) *memory {
	return &memory{own: own, logs: map[string][]Entry{}, heads: map[string]uint64{own: 0}}
}

func (m *memory) write(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heads[m.own]++
	m.logs[m.own] = append(m.logs[m.own], Entry{m.heads[m.own], []byte(text)})
}

// copied is the disk as it is now, to be put back later or into another node.
func (m *memory) copied() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemory(m.own)
	for origin, log := range m.logs {
		c.logs[origin], c.heads[origin] = slices.Clone(log), m.heads[origin]
	}
	return c
}

func (m *memory) Position(context.Context) (Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := Position{Own: m.own, Heads: map[string]uint64{}}
	for origin, head := range m.heads {
		p.Heads[origin] = head
	}
	return p, nil
}

func (m *memory) Since(_ context.Context, origin string, after uint64, bytes int) (Batch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := Batch{Origin: origin, After: after, UpTo: after}
	used := 0
	for _, e := range m.logs[origin] {
		if e.Number <= after {
			continue
		}
		if used += len(e.Body); used > bytes && len(b.Entries) > 0 {
			return b, nil
		}
		b.Entries, b.UpTo = append(b.Entries, e), e.Number
	}
	b.UpTo = max(b.UpTo, m.heads[origin])
	return b, nil
}

func (m *memory) Apply(_ context.Context, b Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return fmt.Errorf("the disk is full")
	}
	head := m.heads[b.Origin]
	if b.UpTo <= head {
		return nil
	}
	if b.After > head || b.Origin == m.own {
		return ErrGap
	}
	for _, e := range b.Entries {
		if e.Number > head {
			m.logs[b.Origin] = append(m.logs[b.Origin], Entry{e.Number, slices.Clone(e.Body)})
		}
	}
	m.heads[b.Origin] = b.UpTo
	for _, e := range b.Entries {
		if string(e.Body) == abandoned+m.own { // another node has a copy of this disk
			m.renew()
		}
	}
	return nil
}

// abandoned begins the entry that tells which origin is not to be used any more.
const abandoned = "abandoned "

func (m *memory) Renew(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.renew()
	return nil
}

func (m *memory) renew() {
	old := m.own
	m.lives++
	m.own = fmt.Sprintf("%s+%d+%d", old, m.lives, rand.Uint32())
	m.logs[m.own], m.heads[m.own] = m.logs[old], m.heads[old]
	delete(m.logs, old)
	delete(m.heads, old)
	m.heads[m.own]++
	m.logs[m.own] = append(m.logs[m.own], Entry{m.heads[m.own], []byte(abandoned + old)})
}

func (m *memory) Prune(context.Context) error { return nil }

// texts is all that the ledger says, without who said it.
func (m *memory) texts() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]bool{}
	for _, log := range m.logs {
		for _, e := range log {
			if !strings.HasPrefix(string(e.Body), abandoned) {
				out[string(e.Body)] = true
			}
		}
	}
	return out
}

// A network carries parcels between the nodes of a test, badly if told to.
type network struct {
	delay time.Duration

	mu    sync.Mutex
	rng   *rand.Rand
	loss  float64 // of parcels
	twice float64
	cut   map[[2]string]bool
	last  map[[2]string]time.Time // when the parcel sent before arrives: one way, in order
	nodes map[string]*node
	sent  int // parcels
	bytes int
}

func newNetwork(seed uint64, delay time.Duration) *network {
	return &network{delay: delay, rng: rand.New(rand.NewPCG(seed, 2)), cut: map[[2]string]bool{}, last: map[[2]string]time.Time{}, nodes: map[string]*node{}}
}

// A node is a Replicator with its disk.
type node struct {
	name string
	net  *network
	disk *memory
	r    *Replicator
	stop func()
}

// start runs a node on a disk until it is stopped.
func (w *network) start(t testing.TB, name string, disk *memory, change func(*Config)) *node {
	t.Helper()
	n := &node{name: name, net: w, disk: disk}
	cfg := Config{Bus: n, Streams: []Stream{{"control", disk}}}
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.r, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { n.r.Run(ctx) })
	n.stop = func() {
		w.mu.Lock()
		if w.nodes[name] == n {
			delete(w.nodes, name)
		}
		w.mu.Unlock()
		cancel()
		wg.Wait()
	}
	t.Cleanup(n.stop) // within the bubble of the test
	w.mu.Lock()
	w.nodes[name] = n
	w.mu.Unlock()
	return n
}

func (n *node) Peers() []string {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	var out []string
	for name := range n.net.nodes {
		if name != n.name && !n.net.cut[[2]string{n.name, name}] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (n *node) Post(to string, parcel []byte) bool {
	w := n.net
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[to] == nil || w.cut[[2]string{n.name, to}] {
		return false
	}
	w.sent++
	w.bytes += len(parcel)
	if w.rng.Float64() < w.loss {
		return true
	}
	copies := 1
	if w.rng.Float64() < w.twice {
		copies = 2
	}
	for range copies {
		way := [2]string{n.name, to}
		at := time.Now().Add(w.delay + time.Duration(w.rng.Int64N(int64(w.delay)+1)))
		if !at.After(w.last[way]) {
			at = w.last[way].Add(time.Microsecond)
		}
		w.last[way] = at
		time.AfterFunc(time.Until(at), func() {
			w.mu.Lock()
			target := w.nodes[to]
			w.mu.Unlock()
			if target != nil {
				target.r.Receive(n.name, slices.Clone(parcel))
			}
		})
	}
	return true
}

func (n *node) Broadcast(parcel []byte) int {
	sent := 0
	for _, to := range n.Peers() {
		if n.Post(to, parcel) {
			sent++
		}
	}
	return sent
}

func (n *node) write(text string) {
	n.disk.write(text)
	n.r.Changed()
}

// split cuts all ways between two groups, or heals them.
func (w *network) split(a, b []string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			w.cut[[2]string{x, y}], w.cut[[2]string{y, x}] = cut, cut
		}
	}
}

func (w *network) spoil(loss, twice float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss, w.twice = loss, twice
}
