package relay

import (
	"slices"
	"strings"
	"sync"
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

	messages limit.Bucket
	traffic  limit.Bucket

	// mu guards the rest and makes delivery to the agent one sequence. It comes
	// after channel.mu and before Session.mu.
	mu       sync.Mutex
	sessions []*Session
	card     []byte
	keys     []byte
	activeMS int64 // when the last session that is gone was heard, wall ms
}

// join adds s to the agent of that name. s.mu must be held; nobody else can have
// reached s yet.
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
	a.sessions = append(a.sessions, s)
	a.mu.Unlock()
	return a
}

// part removes an ended session and says whether it was the agent's last.
func (a *agent) part(s *Session) (last bool) {
	sh := &a.hub.agents[a.hub.shardOf(a.name)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.sessions, s)
	if i < 0 {
		return false
	}
	a.sessions = slices.Delete(a.sessions, i, i+1)
	if len(a.sessions) > 0 {
		return false
	}
	if sh.m[a.name] == a {
		delete(sh.m, a.name)
		a.hub.agentN.Add(-1)
		a.hub.historian.left(a.name)
	}
	return true
}

// crowd is how many sessions the agent has.
func (h *Hub) crowd(name string) int {
	a := h.agent([]byte(name))
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sessions)
}

// pick chooses the session that a request goes to: live before resumable,
// available before busy before away, then the one with the shortest queue. a.mu
// must be held.
func (a *agent) pick() *Session {
	var best *Session
	bestRank := 0
	for _, s := range a.sessions {
		s.mu.Lock()
		rank := s.queue.Len()
		switch s.state {
		case wire.Busy:
			rank += 1 << 20
		case wire.Away:
			rank += 2 << 20
		}
		if s.conn == nil {
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
	st.activeMS = a.activeMS
	for _, s := range a.sessions {
		s.mu.Lock()
		st.queue += s.queue.Len()
		if s.link != nil {
			st.sessions++
			if rank[s.state] < rank[st.state] {
				st.state = s.state
			}
			st.activeMS = max(st.activeMS, a.hub.wall(s.link.seen.Load()))
		} else {
			st.queue += s.replay.len()
			st.activeMS = max(st.activeMS, a.hub.wall(s.goneAt))
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
	a.mu.Lock()
	if p.Card != nil {
		a.card = append([]byte(nil), p.Card...)
	}
	if p.Keys != nil {
		a.keys = append([]byte(nil), p.Keys...)
	}
	a.mu.Unlock()
	if p.State != "" {
		s.mu.Lock()
		changed := s.state != p.State
		s.state = p.State
		s.mu.Unlock()
		if changed {
			a.announce(t, s)
		}
	}
	l.ok(t, &wire.OK{ID: c.ID, For: wire.KindProfile})
}

// agents answers with a page of the directory.
func (s *Session) agents(t *Turn, l *link, c *wire.Command) {
	list, next, e := s.hub.directory(s.who, s.agent.name, string(c.Match), string(c.After), c.Limit)
	if e != nil {
		l.fail(t, c.ID, "", *e)
		return
	}
	l.ok(t, &wire.OK{ID: c.ID, For: wire.KindAgents, Agents: list, Next: next})
}

// Pages of lists: how many entries by default and at most.
const (
	pageDefault = 100
	pageMax     = 1000
)

// directory lists the agents that who may send to, in the order of names. The
// caller itself (self, may be "") is always among them.
func (h *Hub) directory(who *Identity, self, match, after string, limit int) ([]wire.AgentInfo, string, *wire.Error) {
	glob, e := parseMatch(match)
	if e != nil {
		return nil, "", e
	}
	limit = pageSize(limit)
	names := pageOf(limit, after, func(yield func(string)) {
		for i := range h.agents {
			sh := &h.agents[i]
			sh.mu.RLock()
			for name := range sh.m {
				if name > after && glob.Match(name) && (name == self || who.Send.Match(name)) {
					yield(name)
				}
			}
			sh.mu.RUnlock()
		}
	})
	out, next := make([]wire.AgentInfo, 0, min(len(names), limit)), ""
	for i, name := range names {
		if i == limit {
			next = names[i-1]
			break
		}
		a := h.agent([]byte(name))
		if a == nil {
			continue
		}
		st := a.standing()
		a.mu.Lock()
		info := wire.AgentInfo{Agent: name, State: st.state, Sessions: st.sessions, LastActiveMS: st.activeMS, Queue: st.queue, Card: a.card, Keys: a.keys}
		a.mu.Unlock()
		out = append(out, info)
	}
	return out, next, nil
}

// pageOf returns the limit+1 smallest names that each yields, sorted. It never
// holds more than twice that many.
func pageOf(limit int, after string, each func(yield func(string))) []string {
	keep := limit + 1
	names := make([]string, 0, 64)
	each(func(name string) {
		names = append(names, name)
		if len(names) >= 2*keep {
			slices.Sort(names)
			names = names[:keep]
		}
	})
	slices.Sort(names)
	if len(names) > keep {
		names = names[:keep]
	}
	for i := range names {
		names[i] = strings.Clone(names[i])
	}
	return names
}

func pageSize(limit int) int {
	if limit <= 0 {
		return pageDefault
	}
	return min(limit, pageMax)
}

// parseMatch reads the glob of a list; "" matches all.
func parseMatch(match string) (wire.Globs, *wire.Error) {
	if match == "" {
		match = "**"
	}
	globs, err := wire.ParseGlobs([]string{match})
	if err != nil {
		e := badf("match: %v", err)
		return nil, &e
	}
	return globs, nil
}
