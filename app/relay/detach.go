package relay

import (
	"slices"

	"agentnet/app/wire"
)

// beforeEpoch stands for the epoch of a subscriber who was not told of the present one.
// No channel has it.
const beforeEpoch = "-"

// unplug forgets the socket and what was queued for it. Direct frames are in the
// replay, channel messages in the channel's window: a subscription goes back to
// what the socket was surely given. s.mu must be held.
func (s *Session) unplug(t *Turn) {
	s.link, s.conn, s.full, s.fullAt, s.endWait = nil, nil, false, 0, false
	s.queue.Clear()
	s.account()
	for _, sub := range s.subs {
		sub.paused = true
		if sub.behind {
			sub.behind, sub.sent = false, sub.wrote
			if sub.turned { // nobody was told of this epoch: whatever comes next is behind a gap
				sub.epoch, sub.turned = beforeEpoch, false
			}
		}
	}
	s.late = nil
	s.hub.wheels.stop(&s.timer)
}

// letGo ends the session's use of l, which is being closed: it writes what waits
// and takes the session for away from then on.
func (s *Session) letGo(t *Turn, l *link) {
	s.mu.Lock()
	if s.link == l {
		s.write(t)
		s.endWait = true
	}
	s.mu.Unlock()
}

// detach begins the time in which the session may be resumed.
func (s *Session) detach(t *Turn, l *link) {
	now := t.clock()
	s.mu.Lock()
	if s.link != l || s.ended {
		s.mu.Unlock()
		return
	}
	s.wentAt = s.taken()
	s.unplug(t)
	s.goneAt = now
	s.hub.resumableN.Add(1)
	s.agent.connected(-1)
	s.hub.wheels.arm(&s.timer, now+int64(s.hub.cfg.Resume))
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	for _, sub := range subs {
		sub.ch.leave(t, sub, false)
	}
	s.agent.declare()
	s.agent.announce(t, s)
}

// taken is the last seq that the socket was given for certain: what still waits
// in the queue was not. s.mu must be held.
func (s *Session) taken() uint64 {
	return s.replay.last - min(s.replay.last, uint64(s.queue.Len()))
}

// end removes the session for good; without evenLive only when it has no socket.
// What it did not acknowledge and may still be parked goes to the mailbox, unless
// the agent's other sessions have it. It returns the link that the session had,
// nil for none, which the caller closes.
func (s *Session) end(t *Turn, evenLive bool) (had *link, ended bool) {
	s.mu.Lock()
	if s.ended || s.conn != nil && !evenLive {
		s.mu.Unlock()
		return nil, false
	}
	s.ended = true
	had = s.link
	if s.conn == nil {
		s.hub.resumableN.Add(-1)
	} else {
		s.wentAt = s.taken()
		s.agent.connected(-1)
	}
	s.unplug(t)
	left := s.replay
	s.replay = replay{last: left.last}
	subs, asks := s.subs, s.asks
	s.subs, s.slab, s.asks = nil, nil, nil
	s.mu.Unlock()

	h := s.hub
	sh := h.sessionShard(s.secret)
	sh.mu.Lock()
	delete(sh.m, s.secret)
	sh.mu.Unlock()
	h.sessionN.Add(-1)
	for _, sub := range subs {
		sub.ch.leave(t, sub, true)
	}
	for _, p := range asks {
		if h.finish(p) {
			p.callOff(t)
		}
	}
	others := s.agent.part(s)
	s.agent.declare()
	h.inherit(t, s, &left, others)
	return had, true
}

// endOldest makes room for a new session of an agent: it ends the one that lost
// its socket longest ago, as programs do that connect anew each time. false says
// that all are connected.
func (h *Hub) endOldest(t *Turn, name string) bool {
	a := h.agent([]byte(name))
	if a == nil {
		return true
	}
	var oldest *Session
	var since int64
	a.mu.Lock()
	for _, s := range a.sessions {
		s.mu.Lock()
		if s.conn == nil && (oldest == nil || s.goneAt < since) {
			oldest, since = s, s.goneAt
		}
		s.mu.Unlock()
	}
	a.mu.Unlock()
	if oldest == nil {
		return false
	}
	oldest.end(t, false)
	return true
}

// closeFor ends the session and its connection because the hub was asked to.
func (s *Session) closeFor(t *Turn, code wire.CloseCode, reason string) bool {
	had, ended := s.end(t, true)
	if had != nil {
		had.end(t, code, reason)
	}
	return ended
}
