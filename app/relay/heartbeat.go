package relay

import (
	"time"

	"agentnet/app/wire"
)

const (
	// beatGrace is how long after its heartbeat a silent peer has to answer our
	// ping before it is given up, as a share of the interval: 1/beatGrace.
	beatGrace = 2
	// onTimeToGrow is how many heartbeats in a row must come in time before the
	// interval grows by a quarter.
	onTimeToGrow = 4
	// slowRTT is a round trip at which a connection counts as bad.
	slowRTT = 2000
)

// armBeat starts the heartbeat of an open connection.
func (l *link) armBeat(t *Turn) {
	s := l.session
	s.mu.Lock()
	next := t.clock() + int64(s.beat) + int64(s.beat)/beatGrace
	next = l.hub.beforeExpiry(next, s.who)
	s.mu.Unlock()
	l.hub.wheels.arm(&l.beat, next)
}

// beforeExpiry is when to look at a session next, at the latest when its token
// ends.
func (h *Hub) beforeExpiry(at int64, who *Identity) int64 {
	if who.Expires.IsZero() {
		return at
	}
	return min(at, max(int64(who.Expires.Sub(h.started)), 1))
}

// expire is the end of the time to authenticate, or a look at the heartbeat.
func (l *link) expire(t *Turn, _ *timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.state {
	case linkNew, linkAuthenticating:
		l.hub.totals.connects.add(string(wire.Timeout))
		l.shut(t, wire.CloseAuthFailed, "no valid `connect` came in time")
		return
	case linkClosed:
		return
	}
	s := l.session
	now := t.clock()
	s.mu.Lock()
	beat, who := s.beat, s.who
	if s.link == l && s.replay.len() == 0 && s.queue.Empty() {
		s.slab = nil // a quiet session costs nothing
		s.replay.release()
	}
	s.mu.Unlock()
	if !who.Expires.IsZero() && now >= int64(who.Expires.Sub(l.hub.started)) {
		l.shut(t, wire.CloseTokenExpired, ErrTokenExpired.Error())
		return
	}
	silent := now - l.seen.Load()
	var next int64
	switch {
	case silent < int64(beat):
		next = l.seen.Load() + int64(beat) + int64(beat)/beatGrace
	case !l.pinged.Load():
		l.pinged.Store(true)
		l.conn.Ping()
		next = now + int64(beat)/beatGrace
	case silent >= int64(beat)+int64(beat)/beatGrace:
		l.shut(t, wire.CloseHeartbeatMissed, "nothing was heard for too long")
		return
	default:
		next = now + int64(beat)/beatGrace
	}
	l.hub.wheels.arm(&l.beat, max(l.hub.beforeExpiry(next, who), now+int64(tick)))
}

// beatAfter adapts the interval to a ping that came in time: it grows while the
// connection is good, and shrinks when its round trips are slow.
func (s *Session) beatAfter(l *link, rttMS int64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.rttMS = rttMS
	lim := s.hub.bounds.Load()
	switch {
	case rttMS >= slowRTT:
		s.onTime = 0
		s.beat /= 2
	case s.onTime+1 >= onTimeToGrow:
		s.onTime = 0
		s.beat += s.beat / 4
	default:
		s.onTime++
	}
	s.beat = min(max(s.beat, lim.HeartbeatMin), lim.HeartbeatMax)
	return s.beat
}

// rebeat shortens the interval of a session whose socket was lost: some box on
// the way may drop quiet connections. s.mu must be held.
func (s *Session) rebeat() {
	s.onTime = 0
	s.beat = max(s.beat/2, s.hub.bounds.Load().HeartbeatMin)
}
