package cluster

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// A peer is another node, by its name, through all its lives.
//
// Whatever happens to it is done by one goroutine (run), so that all that the
// relay and the handlers are told about one node comes one after the other.
// A relationship begins when the peer is heard and ends when its lease has run
// out, when it says goodbye, or when it turns out to have another life. Within a
// relationship records are numbered; a peer that has forgotten this node shows it by
// another epoch of its stream.
type peer struct {
	node    *Node
	name    string
	slot    uint16 // in the interest tables
	channel string // that the node listens to
	stop    context.CancelFunc

	out outbox
	in  inbox

	// Set by run, read by everybody.
	member  atomic.Pointer[Member]
	alive   atomic.Uint64 // life of the relationship, 0: none
	routed  atomic.Bool   // both route to each other
	goneFor atomic.Int64  // how long the relationship is over

	// Owned by run.
	link      *link
	info      hello
	settings  string
	seen      time.Time
	rtt       time.Duration
	past      uint64 // the life that it ended in order
	theirs    uint32 // epoch of its stream to us, 0: not known yet
	mine      uint32 // epoch of ours
	stream    stream
	silent    time.Duration // since it was heard
	unheard   time.Duration // since it said that it hears us
	ticks     uint64
	whole     bool   // its snapshot was taken
	snapshot  uint32 // the one that is being taken, 0: none
	gen       uint8  // mark of what it announced since its last snapshot began
	sending   atomic.Bool
	sentSnap  uint32        // the last one that was sent
	waiting   time.Duration // for its ack
	acked     bool
	wantSnap  bool // it must be sent when the last one is out
	asking    bool // it was asked for everything, because something was lost
	asked     time.Duration
	astray    int // pings in a row whose sum was another
	relayed   [][]byte
	ackedTill uint64 // bytes of its stream that we told to have taken
}

// run does all that concerns one peer until ctx ends.
func (p *peer) run(ctx context.Context) {
	var items []item
	for {
		items = p.in.swap(items)
		for i := range items {
			if items[i].step != nil {
				items[i].step()
			} else {
				p.batch(items[i])
			}
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-p.in.wake:
		case <-ctx.Done():
			return
		}
	}
}

// hear takes what the peer says of itself.
func (p *peer) hear(h *hello) {
	if alive := p.alive.Load(); h.life == p.past || h.life < alive {
		return // said before it left, or began a new one
	} else if alive != 0 && h.life > alive {
		p.part(false, false)
	}
	was := p.info.state
	p.info, p.seen, p.silent = *h, time.Now(), 0
	p.goneFor.Store(0)
	if p.alive.Load() == 0 {
		p.link = p.node.linkTo(h.region)
		p.begin()
	}
	if slices.Contains(h.hears, p.node.life.Load()) {
		p.unheard = 0
	}
	p.publish()
	if p.routed.Load() && was != h.state {
		switch h.state {
		case Ready:
			p.node.tell(*p.member.Load(), EventReady)
		case Draining:
			p.node.tell(*p.member.Load(), EventDraining)
		}
	}
}

// publish shows others what is known of the peer.
func (p *peer) publish() {
	h := &p.info
	m := &Member{Name: p.name, Region: h.region, Addr: h.addr, Version: h.version, Fingerprint: h.fingerprint, Life: h.life,
		Started: h.started, State: h.state, Load: h.load, RTT: p.rtt, Seen: p.seen, Leader: h.leader, Routed: p.routed.Load()}
	if p.alive.Load() == 0 {
		m.State, m.Leader = Gone, false
	} else if m.State == Ready && !m.Routed {
		m.State = Joining
	}
	p.member.Store(m)
}

// begin starts a relationship with the life that the peer has now.
func (p *peer) begin() {
	p.theirs, p.stream, p.silent, p.unheard = 0, stream{}, 0, 0
	p.whole, p.snapshot, p.acked, p.wantSnap, p.waiting, p.ackedTill = false, 0, false, true, 0, 0
	p.asking = false
	p.mine = p.node.epochs.Add(1)
	p.out.reset(p.link, appendHeader(nil, p.node.cfg.Name, p.node.life.Load(), p.mine, p.info.life))
	p.alive.Store(p.info.life)
	p.out.push(topicHello, p.node.hello(true))
	p.sendSnapshot()
	p.node.beatSoon()
}

// part ends the relationship. When the peer has forgotten us and lives on, ours
// goes on (keep): it only has to be told everything again.
func (p *peer) part(planned, keep bool) {
	was := p.routed.Swap(false)
	if keep {
		p.theirs, p.stream = 0, stream{}
		p.whole, p.snapshot, p.acked, p.wantSnap, p.asking, p.ackedTill = false, 0, false, true, false, 0
	} else {
		life := p.alive.Swap(0)
		if planned {
			p.past = life
		} // else the same life may come back: only the way was cut
		p.node.count.refused.add(ReasonLeft, uint64(p.out.reset(nil, nil)))
	}
	agents, channels := p.node.interest.drop(p.slot)
	homes := p.node.homes.left(p.name)
	p.publish()
	if !was {
		p.node.homes.tell(homes) // for one that joined, Left says it
		return
	}
	p.node.log.Info("cluster: node left", "node", p.name, "planned", planned, "agents", len(agents), "channels", channels)
	if r := p.node.relay; r != nil {
		r.Left(p.name, planned)
		for _, a := range agents {
			r.AgentMoved(a)
		}
	}
	e := EventLost
	if planned {
		e = EventLeft
	}
	m := *p.member.Load()
	p.node.tell(m, e)
}

// join tells that both route to each other, once that is so.
func (p *peer) join() {
	if !p.whole || !p.acked || p.routed.Load() {
		return
	}
	p.routed.Store(true)
	p.publish()
	p.node.log.Info("cluster: node joined", "node", p.name, "region", p.info.region, "version", p.info.version, "addr", p.info.addr)
	p.node.drifts(&p.info, p.settings)
	if r := p.node.relay; r != nil {
		r.Joined(p.name)
		p.node.interest.each(p.slot, func(agent string) { r.AgentMoved(agent) })
	}
	p.node.tell(*p.member.Load(), EventJoined)
}

// tick is called every beat/2 with the time that this node was awake since.
func (p *peer) tick(awake time.Duration) {
	p.ticks++
	if p.alive.Load() == 0 {
		p.goneFor.Add(int64(awake))
		return
	}
	p.silent, p.unheard = p.silent+awake, p.unheard+awake
	if p.silent > p.node.cfg.Lease || p.unheard > p.node.cfg.Lease+2*p.node.cfg.Beat {
		p.part(false, false)
		return
	}
	p.proceed()
	if p.acked || p.sending.Load() {
		p.waiting = 0
	} else if p.waiting += awake; p.waiting > p.node.cfg.Lease/2 {
		p.wantSnap = true
	}
	if p.wantSnap {
		p.sendSnapshot()
	}
	if p.asked += awake; p.asking && p.asked > p.node.cfg.Lease/2 {
		p.asked = 0
		p.out.push(topicResync, nil)
	}
	if p.ticks%4 == 0 {
		p.node.homes.ping(p)
	}
}

// batch takes one batch of the peer's stream.
func (p *peer) batch(it item) {
	h := &it.header
	if h.to != p.node.life.Load() || h.life == p.past {
		p.node.count.dropped.add(ReasonStale, uint64(h.count))
		return
	}
	if h.life != p.alive.Load() && !p.introduced(it) {
		p.node.count.dropped.add(ReasonStranger, uint64(h.count))
		return
	}
	if h.epoch != p.theirs {
		if h.epoch < p.theirs {
			p.node.count.dropped.add(ReasonStale, uint64(h.count))
			return
		}
		if p.theirs != 0 {
			p.part(false, true)
			p.sendSnapshot()
		}
		p.theirs = h.epoch
	}
	p.silent, p.seen = 0, time.Now()
	p.out.ack(h.ack)
	p.stream.add(it, p.seen)
	p.proceed()
	if taken := h.sent + uint64(it.size); taken > p.ackedTill {
		p.out.took(taken)
		if taken-p.ackedTill >= ackEvery {
			p.ackedTill = taken
			p.out.push(topicAck, nil)
		}
	}
}

// introduced reports whether the batch is of a life that begins with it.
func (p *peer) introduced(it item) bool {
	for t, body := range records(it.records) {
		if t != topicHello {
			return false
		}
		h, err := parseHello(body)
		if err != nil || h.life != it.header.life || h.name != p.name {
			return false
		}
		p.settings = h.settings
		p.hear(&h)
		return p.alive.Load() == h.life
	}
	return false
}

// proceed handles what is in order by now.
func (p *peer) proceed() {
	for p.alive.Load() != 0 {
		it, skip, lost, ok := p.stream.ready(time.Now())
		switch {
		case !ok:
			return
		case lost > 0:
			p.lost(lost)
		default:
			p.handle(it, skip)
		}
	}
}

// lost tells that records are missing, and asks for what they may have changed.
func (p *peer) lost(n uint64) {
	p.node.count.lost.Add(n)
	p.node.log.Warn("cluster: records of a node were lost on the way", "node", p.name, "records", n)
	p.ask()
	if r := p.node.relay; r != nil && p.routed.Load() {
		r.Lost(p.name, n)
	}
}
