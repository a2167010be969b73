package relay

import (
	"slices"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

const (
	// handoverSettle is how long a session that moves waits for the outcomes of its
	// own messages, so that what it sends from its new node cannot overtake them.
	handoverSettle = 2 * time.Second
	// handoverKept is how long the old node waits for the new one to have the
	// session, before it keeps it.
	handoverKept = 5 * time.Second
	// handoverBytes bounds the frames of one parcel of a session.
	handoverBytes = 96 << 10
	// takeHops bounds how far a Take is handed on after a session that moved often.
	takeHops = 4
)

// A leaving is a session on its way to another node. Guarded by Session.mu.
type leaving struct {
	s      *Session
	node   string
	ticket uint64
	since  int64
	seq    uint64 // what the client has
	timer  timer
	posted bool
	last   uint64 // the last seq that was posted
}

func (h *Hub) sessionOf(secret secretHash) *Session {
	sh := h.sessionShard(secret)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.m[secret]
}

// landTake hands a session over to the node that its client came to.
func (h *Hub) landTake(t *Turn, node string, b []byte) bool {
	var v parcel.Take
	if !parcel.Read(b, &v) || len(v.Secret) != len(secretHash{}) {
		return false
	}
	if v.Asker == "" {
		v.Asker = cloneString(node)
	}
	secret := secretHash(v.Secret)
	s := h.sessionOf(secret)
	if s == nil {
		if to := h.moves.wentTo(secret); to != "" && to != v.Asker && v.Hops < takeHops {
			v.Hops++
			if h.fleet.Post(to, parcel.Append(nil, &v)) {
				return true
			}
		}
		h.answerTake(v.Asker, v.Ticket, parcel.TakeUnknown)
		return true
	}
	if s.agent.name != v.Agent {
		h.answerTake(v.Asker, v.Ticket, parcel.TakeUnknown)
		return true
	}
	s.leave(t, cloneString(v.Asker), v.Ticket, v.Seq)
	return true
}

func (h *Hub) answerTake(node string, ticket uint64, result uint8) {
	h.fleet.Post(node, parcel.Append(nil, &parcel.Handover{Ticket: ticket, Result: result}))
}

// leave takes the session from its socket and posts it to node, once the outcomes
// of what it sent are known.
func (s *Session) leave(t *Turn, node string, ticket, seq uint64) {
	h := s.hub
	var old *link
	s.mu.Lock()
	for s.link != nil && s.link != old {
		old = s.link
		s.mu.Unlock()
		old.end(t, wire.CloseReplaced, "the session was resumed by a connection to another node")
		s.mu.Lock()
	}
	if s.ended || seq > s.replay.last {
		ended := s.ended
		s.mu.Unlock()
		if !ended {
			s.closeFor(t, wire.CloseReplaced, "the session cannot be resumed any more")
		}
		h.answerTake(node, ticket, parcel.TakeUnknown)
		return
	}
	if s.arriving { // it is not whole here yet
		s.mu.Unlock()
		h.answerTake(node, ticket, parcel.TakeRefused)
		return
	}
	var subs []*subscription
	if s.goneAt == 0 {
		s.wentAt = s.taken()
		s.unplug(t)
		s.goneAt = t.clock()
		h.resumableN.Add(1)
		s.agent.connected(-1)
		h.wheels.arm(&s.timer, s.goneAt+int64(h.cfg.Resume))
		subs = slices.Clone(s.subs)
	}
	if s.leaving != nil {
		h.wheels.stop(&s.leaving.timer)
	}
	l := &leaving{s: s, node: node, ticket: ticket, since: t.clock(), seq: seq}
	l.timer.owner, l.timer.shard = l, s.secret[0]
	s.leaving = l
	s.mu.Unlock()
	for _, sub := range subs {
		sub.ch.leave(t, sub, false)
	}
	s.agent.declare()
	l.expire(t, nil)
}

// expire goes on with a session that leaves: it waits for outcomes, then for the new
// node.
func (l *leaving) expire(t *Turn, _ *timer) {
	s, h := l.s, l.s.hub
	now := t.clock()
	s.mu.Lock()
	if s.leaving != l || s.ended {
		s.mu.Unlock()
		return
	}
	switch {
	case !l.posted && s.crossingN.Load() > 0 && now < l.since+int64(handoverSettle):
		s.mu.Unlock()
		h.wheels.arm(&l.timer, now+int64(tick))
		return
	case l.posted: // the new node did not take it
		s.leaving = nil
		s.mu.Unlock()
		return
	}
	l.posted = true
	opens := s.openAsks(now)
	s.mu.Unlock()
	opens = append(opens, s.openServed(now)...)
	card, keys := s.agent.published()
	known := h.keysOf(s.agent, now)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving != l || s.ended {
		return
	}
	s.acked(l.seq)
	l.last = s.replay.last
	parts := s.pack(l, opens, known, card, keys)
	for _, p := range parts {
		if !h.fleet.Post(l.node, parcel.Append(nil, p)) {
			s.leaving = nil
			return
		}
	}
	h.wheels.arm(&l.timer, now+int64(handoverKept))
}

// landTaken lets go of a session that another node has now.
func (h *Hub) landTaken(t *Turn, node string, b []byte) bool {
	var v parcel.Taken
	if !parcel.Read(b, &v) || len(v.Secret) != len(secretHash{}) {
		return false
	}
	secret := secretHash(v.Secret)
	t.outcome(node, parcel.Outcome{Number: v.Ticket, Result: parcel.Done})
	if s := h.sessionOf(secret); s != nil && s.depart(t, node, v.Ticket) || h.moves.wentTo(secret) == node {
		return true
	}
	h.fleet.Post(node, parcel.Append(nil, &parcel.Tail{Secret: v.Secret, Refused: true}))
	return true
}

// depart ends the session here: node has it. What came since it was posted follows.
func (s *Session) depart(t *Turn, node string, ticket uint64) bool {
	h := s.hub
	s.mu.Lock()
	l := s.leaving
	if l == nil || !l.posted || l.node != node || l.ticket != ticket || s.ended || s.link != nil {
		s.mu.Unlock()
		return false
	}
	s.leaving, s.ended = nil, true
	h.wheels.stop(&l.timer)
	h.wheels.stop(&s.timer)
	h.resumableN.Add(-1)
	s.queue.Clear()
	s.account()
	left := s.replay
	s.replay = replay{last: left.last}
	tail := &parcel.Tail{Secret: slices.Clone(s.secret[:]), Lost: s.lost}
	var parked []*parkedMessage
	for seq := left.first(); left.len() > 0; seq++ {
		e := left.drop()
		if seq > l.last {
			tail.Frames = append(tail.Frames, s.packFrame(&e))
		}
		if e.parked != nil {
			parked = append(parked, e.parked)
		}
	}
	subs, asks := s.subs, s.asks
	s.subs, s.slab, s.asks = nil, nil, nil
	s.travel().movedTo = node
	s.mu.Unlock()

	sh := h.sessionShard(s.secret)
	sh.mu.Lock()
	delete(sh.m, s.secret)
	sh.mu.Unlock()
	h.sessionN.Add(-1)
	h.moves.note(s.secret, node, t.clock()+2*int64(h.cfg.Resume))
	h.noteDeparture(t.clock(), s, node)
	tail.Owed = h.sendMailAlong(t, s, node)
	h.fleet.Post(node, parcel.Append(nil, tail))
	for _, p := range asks { // answers follow the session
		p.telling.Lock()
		sh := &h.requests[p.number%shards]
		sh.mu.Lock()
		p.movedTo, p.sent = node, 0
		sh.mu.Unlock()
		p.telling.Unlock()
	}
	for _, sub := range subs {
		sub.ch.moveOut(t, sub)
	}
	others := s.agent.part(s)
	s.agent.declare()
	for _, p := range parked {
		h.handedOver(p, s, others)
	}
	h.unwant(s)
	h.forwardParked(t, s.agent.name)
	return true
}

// handedOver forgets a parked message that went with a session, unless another
// session of this node has it too, or it waits for one.
func (h *Hub) handedOver(p *parkedMessage, s *Session, others []*Session) {
	p.release(s)
	p.mu.Lock()
	wanted := len(p.holders) > 0 || p.only == nil && slices.ContainsFunc(others, func(o *Session) bool { return !slices.Contains(p.had, o) })
	p.mu.Unlock()
	if !wanted {
		h.mailDone(p)
	}
}

// moveOut takes a subscription out whose session lives at another node now: nobody
// left the channel.
func (c *channel) moveOut(t *Turn, sub *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sub.s.mu.Lock()
	sub.dead = true
	sub.s.mu.Unlock()
	if sub.index >= 0 {
		c.drop(sub)
	}
	c.forgive(sub)
}
