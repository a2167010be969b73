package relay

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/wire"
)

// maxSessions is how many sessions one agent may have, live and resumable.
const maxSessions = 64

// An agent exists while it has a session, live or resumable.
type agent struct {
	// Fixed at construction.
	hub  *Hub
	name string

	online   atomic.Int32 // sessions that have a socket
	share    atomic.Int32 // how many other nodes hold it too
	messages limit.Bucket
	traffic  limit.Bucket
	queries  limit.Bucket

	// mu guards the rest and makes delivery to the agent one sequence. It comes
	// after channel.mu and before Session.mu.
	mu       sync.Mutex
	sessions []*Session
	order    atomic.Uint64 // grows with each session that joins: who was there when a message came
	said     *profile      // nil until it publishes something
	ring     *keyring      // nil unless there are other nodes
	told     *Host         // what the fleet was told of it; nil: nothing, or that it is gone
}

// A profile is what an agent publishes of itself.
type profile struct{ card, keys []byte }

// profile is what the agent said, empty when it said nothing. a.mu must be held.
func (a *agent) profile() profile {
	if a.said == nil {
		return profile{}
	}
	return *a.said
}

// join adds s to the agent of that name; nil when it has maxSessions. s.mu must be
// held; nobody else can have reached s yet.
func (h *Hub) join(name string, s *Session) *agent {
	sh := &h.agents[h.shardOf(name)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a := sh.m[name]
	if a == nil {
		a = &agent{hub: h, name: name}
		sh.m[name] = a
		h.agentN.Add(1)
		h.historian.came(name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) >= maxSessions {
		return nil
	}
	s.order = a.order.Add(1)
	a.sessions = append(a.sessions, s)
	return a
}

// part removes an ended session and returns those that the agent has left; the
// agent goes with its last.
func (a *agent) part(s *Session) (others []*Session) {
	h := a.hub
	sh := &h.agents[h.shardOf(a.name)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.sessions, s)
	if i < 0 {
		return nil
	}
	a.sessions = slices.Delete(a.sessions, i, i+1)
	if len(a.sessions) > 0 {
		return slices.Clone(a.sessions)
	}
	said := a.profile()
	h.profileBytes.Add(-int64(len(said.card) + len(said.keys)))
	a.said = nil
	if sh.m[a.name] == a {
		delete(sh.m, a.name)
		h.agentN.Add(-1)
		h.historian.left(a.name)
		if a.told != nil {
			a.told = nil
			if !h.departed.owe(a.name) { // else others still send to it here until they know better
				h.fleet.AgentGone(a.name)
			}
		}
	}
	return nil
}

// pick chooses the session that a request goes to: live before resumable,
// available before busy before away, then the one with the shortest queue. a.mu
// must not be held.
func (a *agent) pick() *Session {
	var best *Session
	bestRank := 0
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		s.mu.Lock()
		rank := s.queue.Len()
		switch s.state {
		case wire.Busy:
			rank += 1 << 20
		case wire.Away:
			rank += 2 << 20
		}
		if !s.live() {
			rank += 4 << 20
		}
		ended := s.ended
		s.mu.Unlock()
		if !ended && (best == nil || rank < bestRank) {
			best, bestRank = s, rank
		}
	}
	return best
}

// A standing is what the directory says of an agent.
type standing struct {
	state    wire.AgentState
	sessions int // live ones
	activeMS int64
	queue    int
}

// standing reads the agent's state honestly: of its live sessions the most
// available; away when all of them lost their socket.
func (a *agent) standing() (st standing) {
	st.state = wire.Away
	rank := map[wire.AgentState]int{wire.Available: 0, wire.Busy: 1, wire.Away: 2}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		s.mu.Lock()
		st.queue += s.queue.Len()
		if s.live() {
			st.sessions++
			if rank[s.state] < rank[st.state] {
				st.state = s.state
			}
			st.activeMS = max(st.activeMS, a.hub.wall(s.link.seen.Load()))
		} else {
			st.queue += s.replay.len()
			if s.goneAt != 0 {
				st.activeMS = max(st.activeMS, a.hub.wall(s.goneAt))
			}
		}
		s.mu.Unlock()
	}
	return st
}

// wall turns the hub's clock into ms since 1970.
func (h *Hub) wall(at int64) int64 { return h.started.Add(time.Duration(at)).UnixMilli() }

// profile sets what the agent says of itself.
func (s *Session) profile(t *Turn, l *link, c *wire.Command) {
	p := c.Profile
	a := s.agent
	if e := a.describe(p); e != nil {
		l.fail(t, c.ID, "", *e)
		return
	}
	if p.State != "" {
		s.mu.Lock()
		changed := s.state != p.State
		s.state = p.State
		s.mu.Unlock()
		if changed {
			a.declare()
			a.announce(t, s)
		}
	}
	l.ok(t, &wire.OK{ID: c.ID, For: wire.KindProfile})
}

// profileBytesMax bounds the cards and keys that a node keeps.
const profileBytesMax = 256 << 20

// describe keeps the card and the keys of a profile.
func (a *agent) describe(p *wire.Profile) *wire.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) == 0 {
		return nil // the session has just ended
	}
	more, said := 0, a.profile()
	if p.Card != nil {
		more += len(p.Card) - len(said.card)
		said.card = append([]byte(nil), p.Card...)
	}
	if p.Keys != nil {
		more += len(p.Keys) - len(said.keys)
		said.keys = append([]byte(nil), p.Keys...)
	}
	if a.hub.profileBytes.Add(int64(more)) > profileBytesMax && more > 0 {
		a.hub.profileBytes.Add(-int64(more))
		return &wire.Error{Code: wire.Overloaded, Message: "profile: all agents together published as much as this node keeps; publish less", RetryAfterMS: 60_000}
	}
	if p.Card != nil || p.Keys != nil {
		a.said = &said
	}
	return nil
}

// agents answers with a page of the directory.
func (s *Session) agents(t *Turn, l *link, c *wire.Command) {
	if e := s.admitQuery(t, l); e != nil {
		l.fail(t, c.ID, "", *e)
		return
	}
	h, by := s.hub, &caller{link: l, session: s, id: c.ID}
	who, match, after, limit := s.who, string(c.Match), string(c.After), c.Limit
	look := func(ctx context.Context) func(t *Turn) {
		list, page, e := h.directory(ctx, who, s.agent.name, match, after, limit)
		return func(t *Turn) {
			if e != nil {
				by.fail(t, *e)
				return
			}
			by.ok(t, &wire.OK{For: wire.KindAgents, Agents: list, Next: page.Next, Partial: page.Partial})
		}
	}
	switch {
	case h.fleet == nil:
		look(context.Background())(t)
	case !h.later(queryTime, look):
		by.fail(t, errBusy)
	}
}

// connected counts the sessions that have a socket, and the agents that have such
// a session: by is 1 when one got a socket, -1 when one lost it.
func (a *agent) connected(by int32) {
	n := a.online.Add(by)
	if by > 0 && n == 1 {
		a.hub.onlineN.Add(1)
	} else if by < 0 && n == 0 {
		a.hub.onlineN.Add(-1)
	}
}
