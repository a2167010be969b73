package relay

import (
	"slices"
	"sync"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// routeWaiting bounds the messages to one agent that wait for those before them.
const routeWaiting = 1024

// A route is the way of messages to one agent of other nodes while some are on it.
// When the nodes that hold the agent change, what comes next waits until nothing
// is on the old way any more: so it cannot arrive before it.
type route struct {
	hosts   []string // where the last one went
	here    bool     // and whether it went to sessions of this node too
	out     int      // posted and without an outcome
	mail    bool     // parked messages go first: they are being forwarded
	due     bool     // and they will be, when nothing is on the way any more
	waiting []*crossing
}

type routeShard struct {
	mu sync.Mutex
	m  map[string]*route
}

// hosts appends the other nodes that hold an agent: as the fleet says, and those
// that took sessions over from here and are not known to it yet.
func (h *Hub) hosts(dst []Host, agent string) []Host {
	dst = h.fleet.Hosts(dst, agent)
	if h.departedN.Load() == 0 {
		return dst
	}
	for _, o := range h.departedUnknown(agent) {
		if !slices.ContainsFunc(dst, func(k Host) bool { return k.Node == o.Node }) {
			dst = append(dst, o)
		}
	}
	return dst
}

// cross sends m to the nodes that hold its receiver, and to its sessions here. It
// answers false when only this node is concerned.
func (h *Hub) cross(t *Turn, m *letter, by *caller, once *dedupEntry) bool {
	to := ownString(m.to)
	t.hosts = h.hosts(t.hosts[:0], to)
	if len(t.hosts) == 0 && h.routeN.Load() == 0 {
		return false
	}
	sh := &h.routes[h.shardOfBytes(m.to)]
	sh.mu.Lock()
	if sh.m[to] == nil && len(t.hosts) == 0 {
		sh.mu.Unlock()
		return false
	}
	e := h.enterRoute(t, sh, m, by, once)
	sh.mu.Unlock()
	if e != nil {
		h.refuse(t, m, by, once, *e)
	}
	t.concludeAll()
	return true
}

// enterRoute posts m, or lets it wait for those before it. sh.mu must be held, and
// t.hosts are the nodes.
func (h *Hub) enterRoute(t *Turn, sh *routeShard, m *letter, by *caller, once *dedupEntry) *wire.Error {
	x := h.newCrossing(string(m.to))
	if x.way = x.to; m.onward { // what other nodes post waits for itself only: else two nodes could wait for each other
		x.way += "\x00" + by.node
	}
	x.by, x.once, x.ttl, x.onward = *by.keep(), once, m.ttl, m.onward
	here := h.agent(m.to) != nil
	r := sh.m[x.way]
	if r == nil {
		r = new(route)
		sh.m[x.way] = r
		h.routeN.Add(1)
		r.mail = !m.onward && !here && h.mail.Len(x.to) > 0 && h.forward(t, x.to, t.hosts)
	}
	waits := r.mail || r.due || len(r.waiting) > 0 || r.out > 0 && !r.same(t.hosts, here)
	if waits && len(r.waiting) >= routeWaiting {
		return &wire.Error{Code: wire.Overloaded, Message: "too many messages wait for an agent that moves between nodes", RetryAfterMS: 500}
	}
	if !h.file(t, x, crossTime) {
		h.tidy(sh, x.way, r)
		return &errCrossings
	}
	if waits {
		x.sealed = parcel.Append(nil, x.letter(m))
		r.waiting = append(r.waiting, x)
		return nil
	}
	h.depart(t, r, x, m, t.hosts, here)
	return nil
}

// same says whether messages went this way last.
func (r *route) same(hosts []Host, here bool) bool {
	if len(hosts) != len(r.hosts) || here != r.here {
		return false
	}
	for i := range hosts {
		if !slices.Contains(r.hosts, hosts[i].Node) {
			return false
		}
	}
	return true
}

// letter is m as other nodes get it.
func (x *crossing) letter(m *letter) *parcel.Sent {
	return &parcel.Sent{Key: m.key, Letter: parcel.Letter{Number: x.number, From: m.from, To: x.to, ID: m.id, TimeMS: m.timeMS, TTLMS: m.ttl.Milliseconds(), Class: m.class,
		Receipts: m.receipts, Spare: m.spare, Targets: m.targets, Headers: m.headers, Payload: m.payload}}
}

// letterOf is the letter of a parcel, whose memory it shares.
func letterOf(l *parcel.Letter) letter {
	return letter{from: l.From, to: bytesOf(l.To), class: min(l.Class, wire.Low), payload: l.Payload, headers: l.Headers, ttl: bounded(max(l.TTLMS, 0), 0),
		receipts: l.Receipts, id: l.ID, timeMS: l.TimeMS, spare: l.Spare, targets: l.Targets, shared: true}
}

// depart posts x to the hosts and hands it to the sessions of this node. The
// route's shard must be held.
func (h *Hub) depart(t *Turn, r *route, x *crossing, m *letter, hosts []Host, here bool) {
	elsewhere := m.spare
	r.hosts, r.here = r.hosts[:0], here
	for i := range hosts {
		elsewhere = elsewhere || hosts[i].live()
		r.hosts = append(r.hosts, hosts[i].Node)
	}
	live := elsewhere || here && h.online(m.to)
	l := x.letter(m)
	if len(hosts) > 1 || m.onward || here {
		l.Targets = append(slices.Clone(m.targets), r.hosts...)
		if here {
			l.Targets = append(l.Targets, h.cfg.Node)
		}
	}
	whole := parcel.Append(make([]byte, 0, 128+len(m.from)+len(x.to)+len(m.payload.Data)), l)
	r.out++
	x.posted = true
	sh := h.crossShard(x.number)
	sh.mu.Lock()
	x.sealed, x.hosts, x.local = whole, slices.Clone(r.hosts), here
	sh.mu.Unlock()

	var spare []byte
	for i := range hosts {
		p := whole
		if live && !hosts[i].live() && !m.spare {
			if spare == nil {
				l.Spare = true
				spare = parcel.Append(nil, l)
			}
			p = spare
		}
		if !h.fleet.Post(hosts[i].Node, p) {
			node := hosts[i].Node
			t.conclude(func(t *Turn) {
				h.arrived(t, x.number, node, &parcel.Outcome{Result: parcel.Failed, Err: &errNoWay})
			})
		}
	}
	if here {
		m.targets = l.Targets
		h.departHere(t, x, m, elsewhere)
	}
}

// online says whether an agent has a session here that has a socket.
func (h *Hub) online(agent []byte) bool {
	a := h.agent(agent)
	return a != nil && a.online.Load() > 0
}

// departHere gives a crossing's message to the sessions of this node. live says
// that other nodes have live ones.
func (h *Hub) departHere(t *Turn, x *crossing, m *letter, live bool) {
	o := parcel.Outcome{Result: parcel.Absent}
	n, held := h.deliver(t, m, live)
	if held { // no copy that another node parks is needed here
		h.landed.first(h.hashOf(m.id))
	}
	switch {
	case n > 0:
		o = parcel.Outcome{Result: parcel.Delivered, Sessions: n}
	case held && live:
		o.Result = parcel.Done
	case held:
		h.park(t, m, &caller{settled: func(t *Turn, _ *wire.OK, e *wire.Error) {
			o := parcel.Outcome{Result: parcel.Parked}
			if e != nil {
				o = parcel.Outcome{Result: parcel.Failed, Err: e}
			}
			t.conclude(func(t *Turn) { h.arrived(t, x.number, "", &o) })
		}}, nil)
		return
	}
	t.conclude(func(t *Turn) { h.arrived(t, x.number, "", &o) })
}

// leaveRoute lets those go on that waited for x.
func (h *Hub) leaveRoute(t *Turn, x *crossing) {
	sh := &h.routes[h.shardOf(x.to)]
	sh.mu.Lock()
	if r := sh.m[x.way]; r != nil {
		if x.posted {
			r.out--
		} else if i := slices.Index(r.waiting, x); i >= 0 {
			r.waiting = slices.Delete(r.waiting, i, i+1)
		}
		h.advance(t, sh, x, r)
	}
	sh.mu.Unlock()
	t.concludeAll()
}

// holdRoute lets what is sent from now on wait behind a message that did not get
// through and is parked here: it is forwarded when nothing is on the way any more.
func (h *Hub) holdRoute(x *crossing) {
	sh := &h.routes[h.shardOf(x.to)]
	sh.mu.Lock()
	if r := sh.m[x.way]; r != nil && x.posted {
		r.due = true
	}
	sh.mu.Unlock()
}

// advance posts what waited, once nothing is on the old way. sh.mu must be held.
func (h *Hub) advance(t *Turn, sh *routeShard, x *crossing, r *route) {
	to := x.to
	if r.out == 0 {
		r.due = false
	}
	if r.out == 0 && !r.mail && (len(r.waiting) > 0 || !x.onward && h.parkedHere(to)) {
		hosts := h.hosts(nil, to)
		if x.onward {
			hosts = h.departedTo(to)
		}
		here := h.agent(bytesOf(to)) != nil
		if !x.onward && !here && len(hosts) > 0 && h.mail.Len(to) > 0 && h.forward(t, to, hosts) {
			r.mail = true
			return
		}
		waiting := r.waiting
		r.waiting = nil
		for _, x := range waiting {
			h.goOnWith(t, r, x, hosts, here)
		}
	}
	h.tidy(sh, x.way, r)
}

// parkedHere says whether messages are parked here for an agent that is not.
func (h *Hub) parkedHere(to string) bool { return h.agent(bytesOf(to)) == nil && h.mail.Len(to) > 0 }

// goOnWith posts a message that waited, or delivers it here if nobody else holds
// its receiver any more. The route's shard must be held.
func (h *Hub) goOnWith(t *Turn, r *route, x *crossing, hosts []Host, here bool) {
	var l parcel.Sent
	sh := h.crossShard(x.number)
	sh.mu.Lock()
	done := x.done
	parcel.Read(x.sealed, &l)
	sh.mu.Unlock()
	if done {
		return
	}
	m := letterOf(&l.Letter)
	m.key, m.onward, m.origin = l.Key, x.onward, x.by.node
	if len(hosts) > 0 {
		h.depart(t, r, x, &m, hosts, here)
		return
	}
	if !h.take(x) {
		return
	}
	if x.onward {
		h.land(t, &m, &x.by, nil)
		return
	}
	h.deliverOrPark(t, &m, &x.by, x.once)
}

// tidy removes a route that nothing is on. sh.mu must be held.
func (h *Hub) tidy(sh *routeShard, to string, r *route) {
	if r.out == 0 && !r.mail && len(r.waiting) == 0 && sh.m[to] == r {
		delete(sh.m, to)
		h.routeN.Add(-1)
	}
}
