package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

var seeds = flag.Int("seeds", 40, "random runs of TestRandomFleets")

// A simNode is one node of a simulated fleet, through its restarts.
type simNode struct {
	name   string
	medium *simMedium
	node   *Node // nil while it is dead
	fleet  relay.Fleet
	relay  *simRelay
	stop   func()

	agents   map[string]int
	channels map[string]bool
}

// A simRelay checks what the Fleet tells it.
type simRelay struct {
	t    *testing.T
	name string

	mu     sync.Mutex
	joined map[string]int    // by node: times that it joined; negative: it left since
	next   map[string]uint64 // by node: parcel after the last one
	term   map[string]uint64 // sender's count of joins, in its last parcel
	known  map[string]bool   // by node: what was missing so far was told
	got    int
	homes  map[string]relay.Home
}

func (r *simRelay) Receive(node string, parcels [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range parcels {
		if r.joined[node] <= 0 {
			r.t.Errorf("%s: parcels of %s, which has not joined", r.name, node)
		}
		n, term := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		switch {
		case n < r.next[node]:
			r.t.Errorf("%s: parcel %d of %s came again, or late: %d was next", r.name, n, node, r.next[node])
		case n > r.next[node] && !r.known[node] && term == r.term[node]:
			r.t.Errorf("%s: parcels %d to %d of %s are missing and nobody was told", r.name, r.next[node], n-1, node)
		}
		r.next[node], r.term[node], r.known[node] = n+1, term, false
		r.got++
	}
}

func (r *simRelay) Joined(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joined[node] > 0 {
		r.t.Errorf("%s: %s joined twice", r.name, node)
	}
	r.joined[node] = max(r.joined[node], -r.joined[node]) + 1
}

func (r *simRelay) Left(node string, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joined[node] <= 0 {
		r.t.Errorf("%s: %s left and was not there", r.name, node)
	}
	r.joined[node] = -r.joined[node]
	r.known[node] = true
	for c, h := range r.homes {
		if h.Node == node {
			delete(r.homes, c)
		}
	}
}

func (r *simRelay) Lost(node string, _ uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[node] = true
}

func (r *simRelay) AgentMoved(string) {}

func (r *simRelay) Home(channel string, home relay.Home, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.homes[channel] = home
}

func (r *simRelay) Cut(bool) {}

// terms is how often a node has joined.
func (r *simRelay) terms(node string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return uint64(max(r.joined[node], -r.joined[node]))
}

// A simFleet is a whole fleet in virtual time.
type simFleet struct {
	t     *testing.T
	rng   *rand.Rand
	redis *simRedis
	nodes []*simNode
	sent  map[[2]string]uint64
	epoch int
	fence uint64 // highest that any leader had
	log   *slog.Logger
}

func newSimFleet(t *testing.T, seed uint64, size int) *simFleet {
	f := &simFleet{t: t, rng: rand.New(rand.NewPCG(seed, 1)), redis: newSimRedis(), sent: map[[2]string]uint64{}, log: slog.New(slog.DiscardHandler)}
	if os.Getenv("CLUSTER_LOG") != "" {
		f.log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	for i := range size {
		n := &simNode{name: fmt.Sprintf("n%d", i), agents: map[string]int{}, channels: map[string]bool{}}
		f.nodes = append(f.nodes, n)
		f.start(n)
	}
	return f
}

func (f *simFleet) start(n *simNode) {
	n.medium = &simMedium{redis: f.redis, rng: rand.New(rand.NewPCG(f.rng.Uint64(), 2)), latency: time.Duration(f.rng.IntN(20)) * time.Millisecond}
	node, err := New(f.t.Context(), Config{Name: n.name, Region: "local", Addr: "http://" + n.name, Logger: f.log.With("at", n.name), media: func(Region) medium { return n.medium }})
	if errors.Is(err, ErrName) {
		return // its last life's lease had not run out yet
	}
	if err != nil {
		f.t.Fatal(err)
	}
	r := &simRelay{t: f.t, name: n.name, joined: map[string]int{}, next: map[string]uint64{}, term: map[string]uint64{}, known: map[string]bool{}, homes: map[string]relay.Home{}}
	for _, other := range f.nodes {
		r.known[other.name] = true // from before this life
	}
	n.node, n.relay, n.fleet = node, r, node.Fleet(r)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := node.Run(ctx); err != nil {
			f.t.Errorf("%s ended: %v", n.name, err)
		}
	}()
	n.stop = func() {
		cancel()
		<-ended
		n.node = nil
	}
	for a, s := range n.agents {
		n.fleet.AgentHere(a, wire.Available, s)
	}
	for c := range n.channels {
		n.fleet.ChannelHere(c)
	}
}

// kill ends a node without a goodbye.
func (f *simFleet) kill(n *simNode) {
	n.node.cancel()
	n.stop()
}

// live returns the nodes that run.
func (f *simFleet) live() (out []*simNode) {
	for _, n := range f.nodes {
		if n.node != nil && n.node.ctx.Err() == nil {
			out = append(out, n)
		}
	}
	return out
}

// step does one thing at random.
func (f *simFleet) step() {
	live := f.live()
	n := f.nodes[f.rng.IntN(len(f.nodes))]
	if n.node == nil || n.node.ctx.Err() != nil {
		if f.rng.IntN(4) == 0 {
			if n.node != nil {
				n.stop()
			}
			f.start(n)
		}
		return
	}
	switch f.rng.IntN(24) {
	case 0, 1, 2:
		a := fmt.Sprintf("a%d", f.rng.IntN(30))
		if _, ok := n.agents[a]; ok && f.rng.IntN(2) == 0 {
			delete(n.agents, a)
			n.fleet.AgentGone(a)
		} else {
			n.agents[a] = 1 + f.rng.IntN(3)
			n.fleet.AgentHere(a, wire.Busy, n.agents[a])
		}
	case 3, 4:
		c := fmt.Sprintf("c%d", f.rng.IntN(10))
		if n.channels[c] {
			delete(n.channels, c)
			n.fleet.ChannelGone(c)
		} else {
			n.channels[c] = true
			n.fleet.ChannelHere(c)
		}
	case 5, 6, 7:
		f.claim(n)
	case 8:
		to := ""
		if f.rng.IntN(3) > 0 {
			to = live[f.rng.IntN(len(live))].name
		}
		f.yield(n, fmt.Sprintf("c%d", f.rng.IntN(10)), to)
	case 9:
		f.fault(n)
	default:
		f.post(n)
	}
}

// fault breaks something, or mends it.
func (f *simFleet) fault(n *simNode) {
	switch f.rng.IntN(10) {
	case 0:
		f.kill(n)
	case 1:
		n.stop() // in order
	case 2:
		n.medium.set(func(m *simMedium) { m.broken = true })
	case 3:
		f.redis.setDown(true, f.rng.IntN(2) == 0)
	case 4:
		loss := f.rng.Float64() / 2
		n.medium.set(func(m *simMedium) { m.loss = loss })
	case 5:
		n.medium.set(func(m *simMedium) { m.double = 0.3 })
	case 6:
		n.medium.set(func(m *simMedium) {
			for _, s := range m.sub {
				s.end() // the subscription alone
			}
		})
	default:
		f.heal()
	}
}

func (f *simFleet) heal() {
	f.redis.setDown(false, false)
	for _, n := range f.live() {
		n.medium.set(func(m *simMedium) { m.broken, m.loss, m.double = false, 0, 0 })
	}
}

func (f *simFleet) post(n *simNode) {
	for _, to := range n.fleet.Nodes(nil) {
		for range 1 + f.rng.IntN(5) {
			key := [2]string{n.name, to}
			b := binary.LittleEndian.AppendUint64(nil, f.sent[key])
			b = binary.LittleEndian.AppendUint64(b, n.relay.terms(to))
			if n.fleet.Post(to, append(b, make([]byte, f.rng.IntN(200))...)) {
				f.sent[key]++
			}
		}
	}
}

// claim asks for a home in the background, as the relay does.
func (f *simFleet) claim(n *simNode) {
	f.epoch++
	channel, epoch, fleet, r := fmt.Sprintf("c%d", f.rng.IntN(10)), "E"+strconv.Itoa(f.epoch), n.fleet, n.relay
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	go func() {
		defer cancel()
		if h, err := fleet.Claim(ctx, channel, epoch); err == nil && h.Node == n.name {
			r.mu.Lock()
			r.homes[channel] = h // nobody tells it to the home
			r.mu.Unlock()
		}
	}()
}

// yield gives a channel away, if it is at home here.
func (f *simFleet) yield(n *simNode, channel, to string) {
	n.relay.mu.Lock()
	if n.relay.homes[channel].Node == n.name {
		delete(n.relay.homes, channel)
	}
	n.relay.mu.Unlock()
	n.fleet.Yield(channel, to)
}

// watchLeader checks that fences only grow and that one node leads at a time.
func (f *simFleet) watchLeader() {
	leaders := 0
	for _, n := range f.live() {
		if l := n.node.Leader(); l.Mine {
			leaders++
			if l.Fence < f.fence {
				f.t.Errorf("%v: %s leads with fence %d after %d", time.Now(), n.name, l.Fence, f.fence)
			}
			f.fence = l.Fence
		}
	}
	if leaders > 1 {
		f.t.Errorf("%d nodes lead", leaders)
	}
}

// check fails unless all nodes know all of each other.
func (f *simFleet) check() {
	live := f.live()
	for _, n := range live {
		var want []string
		agents, channels := map[string][]string{}, map[string][]string{}
		for _, o := range live {
			if o == n {
				continue
			}
			want = append(want, o.name)
			for a := range o.agents {
				agents[a] = append(agents[a], o.name)
			}
			for c := range o.channels {
				channels[c] = append(channels[c], o.name)
			}
		}
		got := n.fleet.Nodes(nil)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			f.t.Errorf("%s routes to %v, want %v", n.name, got, want)
			continue
		}
		for i := range 30 {
			a := fmt.Sprintf("a%d", i)
			var hosts []string
			for _, h := range n.fleet.Hosts(nil, a) {
				hosts = append(hosts, h.Node)
			}
			slices.Sort(hosts)
			if !slices.Equal(hosts, agents[a]) {
				f.t.Errorf("%s says %s is at %v, want %v", n.name, a, hosts, agents[a])
			}
		}
		for i := range 10 {
			c := fmt.Sprintf("c%d", i)
			nodes := n.fleet.Interested(nil, c)
			slices.Sort(nodes)
			if !slices.Equal(nodes, channels[c]) {
				f.t.Errorf("%s says %s is wanted at %v, want %v", n.name, c, nodes, channels[c])
			}
		}
	}
	f.checkHomes(live)
}

// checkHomes has each node claim each channel: all must come to the same answer.
func (f *simFleet) checkHomes(live []*simNode) {
	for i := range 12 { // two of them are new
		channel := fmt.Sprintf("c%d", i)
		var mu sync.Mutex
		answers := map[relay.Home][]string{}
		var wg sync.WaitGroup
		for _, n := range live {
			f.epoch++
			epoch := "E" + strconv.Itoa(f.epoch)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				h, err := n.fleet.Claim(ctx, channel, epoch)
				if err != nil {
					f.t.Errorf("%s: %v", n.name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[h] = append(answers[h], n.name)
			})
		}
		wg.Wait()
		if len(answers) != 1 {
			f.t.Errorf("the home of %s is %v, want one", channel, answers)
			for _, n := range live {
				n.node.homes.mu.RLock()
				at := n.node.homes.at[channel]
				f.t.Logf("%s: %+v, given to %q; reaches it: %v", n.name, at, n.node.homes.gives[channel], n.node.reaches(at.node))
				n.node.homes.mu.RUnlock()
			}
			continue
		}
		for h := range answers {
			if !slices.ContainsFunc(live, func(n *simNode) bool { return n.name == h.Node }) {
				f.t.Errorf("the home of %s is %v, which is not there", channel, h)
			}
		}
		for h := range answers {
			for _, n := range live {
				n.relay.mu.Lock()
				if told := n.relay.homes[channel]; told.Node != "" && told != h && h.Node != n.name {
					f.t.Errorf("%s was told that %s is at %v; it is at %v", n.name, channel, told, h)
				}
				n.relay.mu.Unlock()
			}
		}
	}
}

// TestRandomFleets lets fleets of two to five nodes live through faults at random,
// and looks after each storm whether everybody knows everybody again.
func TestRandomFleets(t *testing.T) {
	base := uint64(1)
	if text := os.Getenv("CLUSTER_SEED"); text != "" {
		base, _ = strconv.ParseUint(text, 10, 64)
		*seeds = 1
	}
	for seed := base; seed < base+uint64(*seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomFleet(t, seed) })
		})
	}
}

func randomFleet(t *testing.T, seed uint64) {
	f := newSimFleet(t, seed, 2+int(seed%4))
	received := 0
	for range 6 {
		for range 300 {
			f.step()
			f.watchLeader()
			if len(f.live()) == 0 {
				f.start(f.nodes[0])
			}
			time.Sleep(time.Duration(f.rng.IntN(60)) * time.Millisecond)
			if t.Failed() {
				break
			}
		}
		f.heal()
		time.Sleep(10 * time.Second)
		f.check()
		for _, n := range f.live() {
			received += n.relay.got
		}
		if t.Failed() {
			break
		}
	}
	if received == 0 {
		t.Error("no parcel arrived in the whole run")
	}
	for _, n := range f.nodes {
		if n.node != nil {
			n.stop()
		}
	}
	time.Sleep(10 * time.Second) // claims end
}
