package relay

import (
	"slices"
	"sync"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// A ticket is a client that waits for its session, which another node has.
type ticket struct {
	hub    *Hub
	number uint64
	link   *link
	id     uint64
	who    *Identity
	name   string
	want   *wire.Resume
	timer  timer

	// Guarded by tickets.mu.
	done  bool
	all   bool     // every node was asked
	asked []string // that have not answered
	parts []*parcel.Handover
}

type tickets struct {
	mu sync.Mutex
	m  map[uint64]*ticket
}

// fetch asks the other nodes for the session that a client wants back. It answers
// false when there is nobody to ask. l.mu must be held.
func (l *link) fetch(t *Turn, id uint64, who *Identity, name string, want *wire.Resume) bool {
	h := l.hub
	if want == nil || h.fleet == nil {
		return false
	}
	nodes := h.fleet.Nodes(nil)
	if len(nodes) == 0 {
		return false
	}
	k := &ticket{hub: h, number: h.crossLast.Add(1), link: l, id: id, who: who, name: name, want: want}
	k.timer.owner, k.timer.shard = k, uint8(k.number)
	k.asked, k.all = nodes, true
	if len(want.Session) > secretBytes {
		if i := slices.IndexFunc(nodes, func(n string) bool { return nodeMark(n) == want.Session[secretBytes:] }); i >= 0 {
			k.asked, k.all = []string{nodes[i]}, len(nodes) == 1
		}
	}
	h.tickets.mu.Lock()
	full := len(h.tickets.m) >= ticketsMax
	if !full {
		h.tickets.m[k.number] = k
	}
	h.tickets.mu.Unlock()
	if full {
		l.refuseConnect(t, id, &wire.Error{Code: wire.Overloaded, Message: "too many sessions are being moved", RetryAfterMS: 1000}, wire.CloseOverloaded)
		return true
	}
	l.state = linkAuthenticating // what comes meanwhile waits
	h.wheels.stop(&l.beat)
	h.wheels.arm(&k.timer, t.clock()+int64(fetchTime))
	k.ask(slices.Clone(k.asked))
	return true
}

// ask posts a Take to nodes.
func (k *ticket) ask(nodes []string) {
	secret := hashSecret(k.want.Session)
	p := parcel.Append(nil, &parcel.Take{Ticket: k.number, Secret: secret[:], Agent: k.name, Seq: k.want.Seq})
	for _, node := range nodes {
		k.hub.fleet.Post(node, p) // a node that cannot be reached is waited for: it may have the session
	}
}

// expire sends a client away that waited too long for its session: it comes back,
// and finds it when the node that has it answers or is known to be gone.
func (k *ticket) expire(t *Turn, _ *timer) {
	if !k.hub.takeTicket(k) {
		return
	}
	l := k.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkAuthenticating {
		l.refuseConnect(t, k.id, &wire.Error{Code: wire.Unavailable, Message: "the node that has the session does not answer; come back in a moment", RetryAfterMS: 1000}, wire.CloseGoingAway)
	}
}

// takeTicket removes k; true for the one that did.
func (h *Hub) takeTicket(k *ticket) bool {
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	if k.done {
		return false
	}
	k.done = true
	delete(h.tickets.m, k.number)
	h.wheels.stop(&k.timer)
	return true
}

// landHandover goes on with a client whose session comes, or is nowhere.
func (h *Hub) landHandover(t *Turn, node string, b []byte) bool {
	v := new(parcel.Handover)
	if !parcel.Read(b, v) {
		return false
	}
	h.tickets.mu.Lock()
	k := h.tickets.m[v.Ticket]
	if k == nil {
		h.tickets.mu.Unlock()
		return true // the client went away: the old node keeps the session
	}
	switch {
	case v.Result == parcel.TakeGranted:
		k.parts = append(k.parts, v)
		h.tickets.mu.Unlock()
		if !v.More && h.takeTicket(k) {
			k.arrive(t, node)
		}
	case v.Result == parcel.TakeRefused:
		h.tickets.mu.Unlock()
		k.expire(t, nil)
	default:
		h.tickets.mu.Unlock()
		h.notThere(t, k, node)
	}
	return true
}

// notThere notes that a node does not have the session.
func (h *Hub) notThere(t *Turn, k *ticket, node string) {
	h.tickets.mu.Lock()
	if i := slices.Index(k.asked, node); i >= 0 {
		k.asked = slices.Delete(k.asked, i, i+1)
	} else if k.all { // it answers for another, which handed the question on
		k.asked = k.asked[:max(len(k.asked)-1, 0)]
	} else {
		k.asked = nil
	}
	if len(k.asked) > 0 || k.done {
		h.tickets.mu.Unlock()
		return
	}
	if !k.all {
		k.all = true
		k.asked = slices.DeleteFunc(h.fleet.Nodes(nil), func(n string) bool { return n == node })
		if more := slices.Clone(k.asked); len(more) > 0 {
			h.tickets.mu.Unlock()
			k.ask(more)
			return
		}
	}
	h.tickets.mu.Unlock()
	if h.takeTicket(k) {
		k.anew(t)
	}
}

// ticketsLeft notes that a node is gone which was asked for sessions.
func (h *Hub) ticketsLeft(t *Turn, node string) {
	var some []*ticket
	h.tickets.mu.Lock()
	for _, k := range h.tickets.m {
		if slices.Contains(k.asked, node) {
			some = append(some, k)
		}
	}
	h.tickets.mu.Unlock()
	for _, k := range some {
		h.notThere(t, k, node)
	}
}

// anew gives the client a new session and tells it that its former one is gone.
func (k *ticket) anew(t *Turn) {
	l := k.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != linkAuthenticating {
		return
	}
	l.state = linkOpen
	if !l.begin(t, k.id, k.who, k.name) {
		return
	}
	s := l.session
	s.mu.Lock()
	s.tellBlind(t)
	s.mu.Unlock()
	l.opened(t, "opened")
	l.goOnWithBacklog(t)
}

// goOnWithBacklog handles what came while the client had to wait. l.mu must be held.
func (l *link) goOnWithBacklog(t *Turn) {
	backlog := l.backlog
	l.backlog = nil
	for _, msg := range backlog {
		l.handle(t, msg)
	}
}
