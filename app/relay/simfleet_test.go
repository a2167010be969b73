package relay

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
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

// A simlink carries what one node posts to another.
type simlink struct {
	from, to *simnode
	wake     chan struct{}

	mu    sync.Mutex
	queue []simitem
	last  time.Time
	late  time.Duration // it is so much slower than others
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

// slow makes the way from one node to another slower.
func (n *simnet) slow(from, to string, late time.Duration) {
	v := n.nodes[from]
	v.mu.Lock()
	l := v.links[to]
	v.mu.Unlock()
	l.mu.Lock()
	l.late = late
	l.mu.Unlock()
}

// put queues an item. from.mu must be held, so that what a node says keeps its
// order; the delay is drawn under the link's lock.
func (l *simlink) put(it simitem) {
	l.mu.Lock()
	at := time.Now().Add(l.from.net.delay() + l.late)
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
