package relay

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/wire"
)

// endingKept is how long an ending is remembered: longer than a connection may
// take from the moment its token was found good to its session.
const endingKept = int64(30 * time.Second)

// An ending is one call of EndSessions. It also counts for connections whose
// identity was proved before it and whose session came after it.
type ending struct {
	number uint64
	at     int64
	match  func(*Identity) bool
	code   wire.CloseCode
	reason string
}

type endings struct {
	last atomic.Uint64 // the number of the newest
	mu   sync.Mutex
	list []ending
}

func (e *endings) add(now int64, n ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = slices.DeleteFunc(e.list, func(o ending) bool { return now-o.at > endingKept })
	n.number, n.at = e.last.Load()+1, now
	e.list = append(e.list, n)
	e.last.Store(n.number)
}

// after returns those that came after a number.
func (e *endings) after(number uint64) (out []ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.list {
		if n.number > number {
			out = append(out, n)
		}
	}
	return out
}

// EndSessions ends, at once and for good, the sessions whose identity matches, and
// says how many. Connections that are just being made with such an identity end as
// soon as they have a session; match may be called for them for half a minute.
func (h *Hub) EndSessions(match func(*Identity) bool, code wire.CloseCode, reason string) (n int) {
	t := h.borrow()
	defer h.giveBack(t)
	h.endings.add(t.clock(), ending{match: match, code: code, reason: reason})
	var some []*Session
	for i := range h.sessions {
		sh := &h.sessions[i]
		some = some[:0]
		sh.mu.Lock()
		for _, s := range sh.m {
			some = append(some, s)
		}
		sh.mu.Unlock()
		for _, s := range some {
			s.mu.Lock()
			who := s.who
			s.mu.Unlock()
			if match(who) && s.closeFor(t, code, reason) {
				n++
			}
		}
	}
	return n
}

// heedEndings ends the session that l just got if its identity was ended while the
// connection was being made. l.mu must be held.
func (l *link) heedEndings(t *Turn) {
	if l.hub.endings.last.Load() == l.known {
		return
	}
	s := l.session
	s.mu.Lock()
	who := s.who
	s.mu.Unlock()
	for _, n := range l.hub.endings.after(l.known) {
		if n.match(who) {
			l.shut(t, n.code, n.reason)
			s.end(t, true)
			return
		}
	}
}
