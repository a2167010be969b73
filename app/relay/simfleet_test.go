package relay

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// A simnet joins hubs as a Fleet does: in order for each pair of nodes, with delays,
// and at will with losses, cuts and deaths.
type simnet struct {
	t     testing.TB
	delay func() time.Duration
	done  chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	rng    *rand.Rand
	loss   float64 // the share of parcels that are lost
	nodes  map[string]*simnode
	claims map[int]map[string]Home // by side
	posted int
}

// A simnode is one node's Fleet.
type simnode struct {
	net   *simnet
	name  string
	peers Peers

	mu       sync.RWMutex
	draining bool // Guarded by net.mu.
	dead     bool
	mute     bool // what is posted to it is never taken, and nobody is told
	side     int  // nodes of one side reach each other
	agents   map[string]map[string]Host
	channels map[string]map[string]bool
	known    map[string]bool // nodes
	own      map[string]Host // what this node told of its agents
	ownCh    map[string]bool
	links    map[string]*simlink // to others
}

// A simlink carries what one node posts to another.
type simlink struct {
	from, to *simnode
	wake     chan struct{}

	mu    sync.Mutex
	queue []simitem
	last  time.Time
}

// A simitem is one thing on its way.
type simitem struct {
	at   time.Time
	p    []byte
	lost uint64
	f    func(to *simnode)
}

func newSimnet(t testing.TB, seed uint64) *simnet {
	n := &simnet{t: t, done: make(chan struct{}), rng: rand.New(rand.NewPCG(seed, 3)), nodes: map[string]*simnode{}, claims: map[int]map[string]Home{}}
	var mu sync.Mutex
	delays := rand.New(rand.NewPCG(seed, 4))
	n.delay = func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(200+delays.IntN(3000)) * time.Microsecond
	}
	return n
}

func (n *simnet) lose(share float64) { n.mu.Lock(); n.loss = share; n.mu.Unlock() }

// fleet makes the Fleet of a node, which the others hear of at once.
func (n *simnet) fleet(name string) func(Peers) Fleet {
	return func(p Peers) Fleet {
		v := &simnode{net: n, name: name, peers: p, agents: map[string]map[string]Host{}, channels: map[string]map[string]bool{}, known: map[string]bool{},
			own: map[string]Host{}, ownCh: map[string]bool{}, links: map[string]*simlink{}}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.nodes[name] = v
		for _, o := range n.nodes {
			if o != v && !o.isDead() {
				n.connect(v, o)
				n.connect(o, v)
			}
		}
		return v
	}
}

// connect makes the way from one node to another and tells what from has. n.mu must
// be held.
func (n *simnet) connect(from, to *simnode) {
	l := &simlink{from: from, to: to, wake: make(chan struct{}, 1)}
	from.mu.Lock()
	from.links[to.name] = l
	own, ownCh := from.own, from.ownCh
	l.put(simitem{f: func(to *simnode) { to.learn(from.name) }})
	for a, h := range own {
		l.put(simitem{f: func(to *simnode) { to.agentAt(a, h, false) }})
	}
	for c := range ownCh {
		l.put(simitem{f: func(to *simnode) { to.channelAt(c, from.name, true) }})
	}
	from.mu.Unlock()
	n.wg.Go(l.run)
}

// put queues an item. from.mu must be held, so that what a node says keeps its
// order; the delay is drawn under the link's lock.
func (l *simlink) put(it simitem) {
	l.mu.Lock()
	at := time.Now().Add(l.from.net.delay())
	if at.Before(l.last) {
		at = l.last
	}
	l.last, it.at = at, at
	l.queue = append(l.queue, it)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *simlink) run() {
	for {
		l.mu.Lock()
		var it simitem
		ok := len(l.queue) > 0
		if ok {
			it = l.queue[0]
			l.queue = l.queue[1:]
		}
		l.mu.Unlock()
		if !ok {
			select {
			case <-l.wake:
				continue
			case <-l.from.net.done:
				return
			}
		}
		if wait := time.Until(it.at); wait > 0 {
			select {
			case <-time.After(wait):
			case <-l.from.net.done:
				return
			}
		}
		if l.to.isDead() || l.cut() && it.f == nil {
			if it.p != nil && !l.to.isDead() {
				l.to.peers.Lost(l.from.name, 1)
			}
			continue
		}
		if l.to.isMute() && it.f == nil {
			continue
		}
		switch {
		case it.f != nil:
			it.f(l.to)
		case it.lost > 0:
			l.to.peers.Lost(l.from.name, it.lost)
		default:
			l.to.peers.Receive(l.from.name, [][]byte{it.p})
		}
	}
}

func (l *simlink) cut() bool {
	l.from.mu.RLock()
	a := l.from.side
	l.from.mu.RUnlock()
	l.to.mu.RLock()
	defer l.to.mu.RUnlock()
	return a != l.to.side
}

func (v *simnode) isDead() bool { v.mu.RLock(); defer v.mu.RUnlock(); return v.dead }

func (v *simnode) isMute() bool { v.mu.RLock(); defer v.mu.RUnlock(); return v.mute }

// stall makes a node one that stands still.
func (v *simnode) stall() { v.mu.Lock(); v.mute = true; v.mu.Unlock() }

func (v *simnode) learn(node string) {
	v.mu.Lock()
	v.known[node] = true
	v.mu.Unlock()
	v.peers.Joined(node)
}

func (v *simnode) agentAt(agent string, h Host, gone bool) {
	v.mu.Lock()
	m := v.agents[agent]
	if m == nil {
		m = map[string]Host{}
		v.agents[agent] = m
	}
	if gone {
		delete(m, h.Node)
	} else {
		m[h.Node] = h
	}
	v.mu.Unlock()
	v.peers.AgentMoved(agent)
}

func (v *simnode) channelAt(channel, node string, here bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.channels[channel]
	if m == nil {
		m = map[string]bool{}
		v.channels[channel] = m
	}
	if here {
		m[node] = true
	} else {
		delete(m, node)
	}
}

func (v *simnode) Post(node string, parcel []byte) bool {
	v.net.mu.Lock()
	v.net.posted++
	lost := v.net.rng.Float64() < v.net.loss
	v.net.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.links[node]
	if v.dead || l == nil || !v.known[node] {
		return false
	}
	if lost {
		l.put(simitem{lost: 1})
	} else {
		l.put(simitem{p: parcel})
	}
	return true
}

func (v *simnode) Hosts(dst []Host, agent string) []Host {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, node := range sortedKeys(v.agents[agent]) {
		dst = append(dst, v.agents[agent][node])
	}
	return dst
}

func sortedKeys[T any](m map[string]T) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (v *simnode) Interested(dst []string, channel string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return append(dst, sortedKeys(v.channels[channel])...)
}

// tell queues an announcement for all others, in its place among the parcels.
func (v *simnode) tell(f func(to *simnode)) {
	for _, l := range v.links {
		l.put(simitem{f: f})
	}
}

func (v *simnode) AgentHere(agent string, state wire.AgentState, sessions int) {
	h := Host{Node: v.name, State: state, Sessions: sessions}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.own[agent] = h
	v.tell(func(to *simnode) { to.agentAt(agent, h, false) })
}

func (v *simnode) AgentGone(agent string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.own, agent)
	v.tell(func(to *simnode) { to.agentAt(agent, Host{Node: v.name}, true) })
}

func (v *simnode) ChannelHere(channel string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ownCh[channel] = true
	v.tell(func(to *simnode) { to.channelAt(channel, v.name, true) })
}

func (v *simnode) ChannelGone(channel string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.ownCh, channel)
	v.tell(func(to *simnode) { to.channelAt(channel, v.name, false) })
}

// Claim asks the registry of this node's side, after the time that agreement takes.
func (v *simnode) Claim(ctx context.Context, channel, epoch string) (Home, error) {
	select {
	case <-time.After(4 * time.Millisecond):
	case <-ctx.Done():
		return Home{}, ctx.Err()
	}
	v.net.mu.Lock()
	defer v.net.mu.Unlock()
	if v.isDead() {
		return Home{}, context.Canceled
	}
	side := v.net.claims[v.side]
	if side == nil {
		side = map[string]Home{}
		v.net.claims[v.side] = side
	}
	if _, ok := side[channel]; !ok {
		side[channel] = Home{Node: v.name, Epoch: epoch}
	}
	return side[channel], nil
}

func (v *simnode) Yield(channel, node string) {
	v.net.mu.Lock()
	defer v.net.mu.Unlock()
	side := v.net.claims[v.side]
	home := side[channel]
	if home.Node != v.name {
		return
	}
	home.Node = node
	if node == "" {
		delete(side, channel)
	} else {
		side[channel] = home
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tell(func(to *simnode) { to.peers.Home(channel, home, true) })
}

func (v *simnode) Nodes(dst []string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return append(dst, sortedKeys(v.known)...)
}

func (v *simnode) Takers(dst []string) []string {
	all := v.Nodes(nil)
	v.net.mu.Lock()
	defer v.net.mu.Unlock()
	for _, node := range all {
		if o := v.net.nodes[node]; o != nil && !o.draining {
			dst = append(dst, node)
		}
	}
	return dst
}

func (v *simnode) Least(n int) (out []string) {
	for _, node := range v.Takers(nil) {
		if len(out) < n {
			out = append(out, "ws://"+node)
		}
	}
	return out
}

func (v *simnode) Cut() bool { return false }

// forget removes a node that is gone.
func (v *simnode) forget(node string, planned bool) {
	v.mu.Lock()
	delete(v.known, node)
	delete(v.links, node)
	var moved []string
	for agent, m := range v.agents {
		if _, ok := m[node]; ok {
			delete(m, node)
			moved = append(moved, agent)
		}
	}
	for _, m := range v.channels {
		delete(m, node)
	}
	v.mu.Unlock()
	slices.Sort(moved)
	v.peers.Left(node, planned)
	for _, agent := range moved {
		v.peers.AgentMoved(agent)
	}
}

// remove takes a node out: after the time of its lease when it died, in its place
// among its parcels when it left.
func (n *simnet) remove(name string, planned bool) {
	n.mu.Lock()
	v := n.nodes[name]
	delete(n.nodes, name)
	for _, side := range n.claims {
		for ch, home := range side {
			if home.Node == name {
				delete(side, ch)
			}
		}
	}
	others := n.nodes
	n.mu.Unlock()
	v.mu.Lock()
	v.dead = !planned
	if planned {
		v.tell(func(to *simnode) { to.forget(name, true) })
	}
	v.mu.Unlock()
	if planned {
		return
	}
	n.wg.Go(func() {
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-n.done:
			return
		}
		for _, o := range others {
			if !o.isDead() {
				o.forget(name, false)
			}
		}
	})
}

// A nation is several nodes in one bubble.
type nation struct {
	t      testing.TB
	net    *simnet
	change func(*Config)
	grants *grants
	worlds []*world
	stops  []func()
	enc    wire.Encoding
}

// inNation runs f with n nodes, once for each encoding.
func inNation(t *testing.T, n int, seed uint64, change func(*Config), f func(v *nation)) {
	t.Helper()
	for enc, name := range []string{"json", "protobuf"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &nation{t: t, net: newSimnet(t, seed), change: change, enc: wire.Encoding(enc), grants: &grants{ids: map[string]*Identity{}}}
				v.grants.add(t, "all", &Identity{})
				for i := range n {
					v.found(fmt.Sprint("n", i+1))
				}
				v.settle()
				defer func() {
					for _, stop := range v.stops {
						stop()
					}
					close(v.net.done)
					v.net.wg.Wait()
				}()
				f(v)
			})
		})
	}
}

// found starts a node.
func (v *nation) found(name string) *world {
	cfg := Config{Node: name, Authorizer: v.grants, Version: "test", Fleet: v.net.fleet(name)}
	if os.Getenv("RELAY_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", name)
	}
	if v.change != nil {
		v.change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := h.Load(); err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { h.Run(ctx); close(done) }()
	w := &world{t: v.t, hub: h, enc: v.enc}
	v.worlds = append(v.worlds, w)
	v.stops = append(v.stops, sync.OnceFunc(func() { cancel(); <-done }))
	return w
}

// settle waits until everything on its way has arrived.
func (v *nation) settle() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}

// kill ends a node without a word: its sockets are gone.
func (v *nation) kill(i int) {
	w := v.worlds[i]
	v.net.remove(w.hub.cfg.Node, false)
	v.stops[i]()
}
