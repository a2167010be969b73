package cluster

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"
)

// allChannel is what all nodes of one Redis listen to. Pub/Sub knows no databases:
// nodes that reach the same Redis by different ones are not apart.
const allChannel = "agentnet:{nodes}:bus"

// nodeChannel is what one node listens to alone.
func nodeChannel(node string) string { return "agentnet:{" + node + "}:bus" }

// hello is what this node says of itself now; whole with its settings one by one.
func (n *Node) hello(whole bool) []byte {
	m := n.self()
	h := hello{name: m.Name, region: m.Region, addr: m.Addr, version: m.Version, fingerprint: m.Fingerprint,
		life: m.Life, started: m.Started, state: m.State, leader: n.leader.holds(), fence: n.leader.highest(), load: m.Load}
	for _, p := range *n.peers.Load() {
		if life := p.alive.Load(); life != 0 {
			h.hears = append(h.hears, life)
		}
	}
	if whole {
		h.settings = n.settings
	}
	return appendHello(nil, &h)
}

// beatSoon has all regions told at once how this node is.
func (n *Node) beatSoon() {
	select {
	case n.beats <- struct{}{}:
	default:
	}
}

// serveLink connects to one region and tells it again and again that this node
// lives. A node that is cut off from its own region says nothing to the others,
// because it could not hear their answers.
func (n *Node) serveLink(l *link) {
	if !n.connect(n.ctx, l) {
		return
	}
	timer := time.NewTicker(n.cfg.Beat)
	defer timer.Stop()
	var soon <-chan struct{} // the own region's link alone is woken
	if l.own {
		soon = n.beats
	}
	for {
		if l.own || !n.cut.Load() {
			n.beat(l)
		}
		select {
		case <-timer.C:
		case <-soon:
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) beat(l *link) {
	n.mu.Lock()
	quiet := n.left || l.own && len(n.listening) < 2
	n.mu.Unlock()
	if quiet {
		return
	}
	b := appendBroadcast(make([]byte, 0, 512), n.cfg.Name, n.life.Load())
	b = appendRecord(b, topicHello, n.hello(false))
	if _, err := l.publish(n.ctx, allChannel, b); err == nil {
		n.count.beatsOut.Add(1)
	}
}

// listen keeps one subscription.
func (n *Node) listen(channel string) {
	for wait := retryFirst; ; wait = min(2*wait, time.Second) {
		for !n.own.isConnected() {
			if !sleep(n.ctx, 5*time.Millisecond) {
				return
			}
		}
		err := n.own.medium.listen(n.ctx, channel, func() {
			wait = retryFirst
			n.setListening(channel, true)
			n.beatSoon()
		}, n.receive)
		n.setListening(channel, false)
		if n.ctx.Err() != nil {
			return
		}
		if n.count.resubscribed.Add(1); wait == retryFirst {
			n.log.Warn("cluster: a subscription ended; it is made again", "channel", channel, "error", err)
		}
		if !sleep(n.ctx, wait/2+rand.N(wait/2+1)) {
			return
		}
	}
}

func (n *Node) setListening(channel string, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if is {
		n.listening[channel] = struct{}{}
	} else {
		delete(n.listening, channel)
	}
}

// receive takes one batch from the subscription. It never waits.
func (n *Node) receive(b []byte) {
	h, body, err := parseHeader(b)
	if err != nil {
		n.count.dropped.add(ReasonBad, 1)
		return
	}
	n.count.batchesIn.Add(1)
	n.count.bytesIn.Add(uint64(len(b)))
	if h.kind == kindBroadcast {
		n.beaten(h, body)
		return
	}
	p := n.peer(string(h.name))
	if p == nil {
		if p = n.meet(string(h.name)); p == nil {
			return
		}
	}
	if !p.in.put(item{header: h, records: body, size: len(b)}) {
		n.count.dropped.add(ReasonBehind, uint64(h.count))
	}
}

// beaten takes the beat of a node, which may be this one.
func (n *Node) beaten(h header, body []byte) {
	for t, parcel := range records(body) {
		if t != topicHello {
			continue
		}
		said, err := parseHello(parcel)
		if err != nil || said.life != h.life || said.name != string(h.name) {
			n.count.dropped.add(ReasonBad, 1)
			continue
		}
		n.leader.saw(said.fence)
		if said.name == n.cfg.Name {
			n.echo(&said)
			continue
		}
		if said.leader && said.region == n.cfg.Region {
			n.leader.wait(n.cfg.LeaderLease)
		}
		if p := n.meet(said.name); p != nil {
			p.in.do(func() { p.hear(&said) })
		}
	}
}

// echo notes that this node's own beat went around.
func (n *Node) echo(said *hello) {
	if said.life != n.life.Load() {
		n.count.namesakes.Add(1)
		return
	}
	if said.leader {
		n.leader.heard(said.fence)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = 0
	if n.echoed.IsZero() {
		n.echoed = time.Now()
	}
}

// ticks watches over everything that depends on time.
func (n *Node) ticks() {
	every := n.cfg.Beat / 2
	timer := time.NewTicker(every)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		now := time.Now()
		slept := now.Sub(last)
		last = now
		if slept > n.cfg.Lease {
			n.awoke(slept)
		}
		awake := min(slept, 2*every) // what was not seen is not held against others
		n.watchSelf(awake)
		for _, p := range *n.peers.Load() {
			if p.in.idle() {
				p.in.do(func() { p.tick(awake) })
			}
			if gone := time.Duration(p.goneFor.Load()); gone > forgetPeer {
				n.forget(p)
			}
		}
		n.homes.tick()
		n.checkReady()
	}
}

// awoke follows a time in which this process did not run: the others have taken it
// for dead by now.
func (n *Node) awoke(slept time.Duration) {
	n.log.Warn("cluster: this process stood still; the node joins again", "for", slept.Round(time.Millisecond).String())
	n.homes.restamp()
	n.rejoin()
}

// rejoin ends all relationships and begins a new life.
func (n *Node) rejoin() {
	n.life.Store(newLife(n.life.Load()))
	for _, p := range *n.peers.Load() {
		p.in.do(func() {
			if p.alive.Load() != 0 {
				p.part(false, false)
			}
		})
	}
	n.mu.Lock()
	n.echoed, n.silent = time.Time{}, 0
	n.mu.Unlock()
	n.leader.drop(n.cfg.LeaderLease)
	n.beatSoon()
}

// watchSelf finds out whether this node is cut off: then its own beats do not come
// back.
func (n *Node) watchSelf(awake time.Duration) {
	n.mu.Lock()
	n.silent += awake
	lost, back := n.silent > n.cfg.Lease, !n.echoed.IsZero() && n.silent <= n.cfg.Lease
	n.mu.Unlock()
	switch {
	case lost && !n.cut.Swap(true):
		n.log.Warn("cluster: cut off from the other nodes; local delivery goes on", "region", n.cfg.Region, "last_fault", n.own.lastFault())
		n.rejoin()
		n.settledFlag.Store(true)
		if n.relay != nil {
			n.relay.Cut(true)
		}
	case back && n.cut.Swap(false):
		n.log.Info("cluster: the way to the other nodes is back")
		if n.relay != nil {
			n.relay.Cut(false)
		}
	}
	if lost {
		n.mu.Lock()
		n.echoed = time.Time{}
		n.mu.Unlock()
	}
}

// checkReady sets whether this node knows all others and all route to it.
func (n *Node) checkReady() {
	n.mu.Lock()
	echoed, was := n.echoed, n.ready
	n.mu.Unlock()
	why := n.unready(echoed)
	n.mu.Lock()
	n.waitsFor = why
	if why == "" {
		n.ready = true // once it was, what comes and goes later does not change it
	}
	n.mu.Unlock()
	if why == "" {
		n.settledFlag.Store(true)
		if !was {
			n.log.Info("cluster: ready", "nodes", len(n.Members()))
			n.beatSoon()
		}
	}
}

// unready says what this node waits for.
func (n *Node) unready(echoed time.Time) string {
	if n.cut.Load() {
		return "" // it serves those who come; the others are told of it when they are back
	}
	// All others have said that they live within a beat.
	if echoed.IsZero() || time.Since(echoed) < n.cfg.Beat+n.cfg.Beat/4 {
		return "it has not heard all other nodes yet"
	}
	var missing []string
	for _, p := range *n.peers.Load() {
		if p.alive.Load() != 0 && !p.routed.Load() {
			missing = append(missing, p.name)
		}
	}
	if len(missing) > 0 {
		return "these nodes do not route to it yet: " + strings.Join(missing, ", ")
	}
	return ""
}

// Ready reports whether this node should get clients, and if not, why.
func (n *Node) Ready() (ok bool, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready {
		return true, ""
	}
	return false, n.waitsFor
}

// Settled waits until this node is ready or ctx ends.
func (n *Node) Settled(ctx context.Context) error {
	for {
		if ok, _ := n.Ready(); ok {
			return nil
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}
