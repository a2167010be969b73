package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"
	"agentnet/store"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper is the database in the form that the service wants, as package app has it.
type keeper struct{ *store.Store }

func (k keeper) Setting(ctx context.Context, name string) (string, error) {
	v, _, err := k.Store.Setting(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return v, err
}

func (k keeper) PutSetting(ctx context.Context, name, value string) error {
	return k.Store.PutSetting(ctx, name, value, time.Now())
}

// load is what a made-up node carries; its counters grow by it each second.
type load struct {
	mu          sync.Mutex
	node        string
	started     time.Time
	connections int
	messages    float64 // per second
	latency     time.Duration
	failing     float64 // share
	draining    bool

	last  time.Time
	stats relay.Stats
}

func newLoad(node string) *load {
	now := time.Now()
	return &load{node: node, started: now, last: now, latency: 2 * time.Millisecond}
}

func (l *load) set(f func(*load)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	f(l)
}

func (l *load) advance() {
	now := time.Now()
	n := uint64(now.Sub(l.last).Seconds()*l.messages + 0.5)
	l.last = now
	l.stats.MessagesIn += n
	l.stats.DeliveredOut += n
	l.stats.BytesIn += 100 * n
	if l.stats.Errors == nil {
		l.stats.Errors = map[wire.Code]uint64{}
	}
	l.stats.Errors[wire.Internal] += uint64(float64(n) * l.failing)
	if n > 0 {
		i := 0
		for i < relay.HistogramBuckets-1 && relay.Bound(i) < l.latency {
			i++
		}
		l.stats.Delivery.Counts[i] += n
		l.stats.Delivery.Sum += l.latency * time.Duration(n)
	}
}

func (l *load) Stats() relay.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	s := l.stats
	s.Errors = map[wire.Code]uint64{wire.Internal: l.stats.Errors[wire.Internal]}
	s.Node, s.Started, s.Now, s.Connections, s.Draining = l.node, l.started, time.Now(), l.connections, l.draining
	return s
}

// a bed is one node's service with its database, which outlives it.
type bed struct {
	t    *testing.T
	load *load
	cfg  watch.Config
	db   *store.Store
	svc  *watch.Service
	stop func()
	logs *strings.Builder
}

func newBed(t *testing.T, node string, change ...func(*watch.Config)) *bed {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, load: newLoad(node), db: db, logs: &strings.Builder{}}
	policy := scale.DefaultPolicy(scale.Capacity{})
	policy.Min = 1
	// Only what the made-up load shows: there is no machine below it.
	policy.Targets = []scale.Target{{Signal: scale.Connections, Value: 200}, {Signal: scale.MessagesIn, Value: 100}}
	b.cfg = watch.Config{Node: node, Region: "eu", Version: "1.2.3", Store: keeper{db}, Sources: watch.Sources{Stats: b.load.Stats},
		Engine: scale.Config{Policy: policy, Rules: scale.DefaultRules()}, Logger: slog.New(slog.NewTextHandler(&lockedLog{b: b.logs}, nil))}
	for _, f := range change {
		f(&b.cfg)
	}
	return b
}

type lockedLog struct {
	mu sync.Mutex
	b  *strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// start runs a service on the database; stopNode ends it in order.
func (b *bed) start() *watch.Service {
	b.t.Helper()
	svc, err := watch.New(b.t.Context(), b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	b.svc = svc
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Run: got %v, want nil", err)
		}
		b.stop = func() {}
	}
	return svc
}

func (b *bed) end() {
	b.t.Helper()
	if b.stop != nil {
		b.stop()
	}
	if err := b.db.Close(); err != nil {
		b.t.Errorf("close: %v", err)
	}
}

// entries reads the whole log, oldest first, when all that is to be written by now is:
// an entry is written behind the decision that others see already, and a disk takes no
// virtual time.
func (b *bed) entries(kinds ...scale.Kind) []scale.LogEntry {
	b.t.Helper()
	synctest.Wait()
	out, err := b.db.ScaleLogPage(b.t.Context(), scale.LogFilter{Kinds: kinds, Oldest: true, Limit: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// await lets time go by until ok, or fails.
func await(t *testing.T, most time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > most {
			t.Fatalf("not within %v: %s", most, what)
		}
		time.Sleep(250 * time.Millisecond)
	}
	return time.Since(begun)
}

// wires joins services; it is what a cluster is to them.
type wires struct {
	mu     sync.Mutex
	nodes  map[string]*watch.Service
	leader string
	fence  uint64
	cut    map[string]bool
}

func newWires() *wires { return &wires{nodes: map[string]*watch.Service{}, cut: map[string]bool{}} }

func (w *wires) lead(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = node
	w.fence++
}

// wire is one node's end.
type wireEnd struct {
	w    *wires
	name string
}

func (e wireEnd) Share(parcel []byte) {
	for _, s := range e.others("") {
		s.Receive(e.name, append([]byte(nil), parcel...))
	}
}

func (e wireEnd) Tell(node string, parcel []byte) bool {
	for _, s := range e.others(node) {
		s.Receive(e.name, append([]byte(nil), parcel...))
		return true
	}
	return false
}

func (e wireEnd) others(only string) (out []*watch.Service) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.cut[e.name] {
		return nil
	}
	for name, s := range e.w.nodes {
		if name != e.name && s != nil && !e.w.cut[name] && (only == "" || only == name) {
			out = append(out, s)
		}
	}
	return out
}

func (e wireEnd) Leader() (string, uint64, bool) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.cut[e.name] {
		return "", e.w.fence, false
	}
	return e.w.leader, e.w.fence, e.w.leader == e.name
}

func (e wireEnd) Cut() bool {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	return e.w.cut[e.name]
}

// join makes beds n1 to nN on one set of wires, led by n1.
func join(t *testing.T, n int, change ...func(*watch.Config)) (*wires, []*bed) {
	t.Helper()
	w := newWires()
	var beds []*bed
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		b := newBed(t, name, append(change, func(c *watch.Config) { c.Others = wireEnd{w, name} })...)
		beds = append(beds, b)
	}
	w.lead("n1")
	for _, b := range beds {
		svc := b.start()
		w.mu.Lock()
		w.nodes[b.load.node] = svc
		w.mu.Unlock()
	}
	return w, beds
}
