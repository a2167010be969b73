package relay

import (
	"context"
	"slices"

	"agentnet/app/wire"
)

// membersMax bounds an answer to presence.
const membersMax = 1000

// presence answers who is in a channel, or how an agent is.
func (s *Session) presence(t *Turn, l *link, c *wire.Command) {
	by := &caller{link: l, session: s, id: c.ID}
	if len(c.Agent) > 0 {
		if string(c.Agent) != s.agent.name && !s.who.Send.MatchBytes(c.Agent) {
			by.fail(t, forbidden("see", c.Agent))
			return
		}
		agent := string(c.Agent)
		s.hub.tellMembers(t, by, func(ctx context.Context) ([]wire.Member, bool) {
			m, partial := s.hub.member(ctx, agent)
			return []wire.Member{m}, partial
		})
		return
	}
	if !s.who.Subscribe.MatchBytes(c.Channel) {
		by.fail(t, forbidden("see", c.Channel))
		return
	}
	if e := s.admitQuery(t, l); e != nil {
		by.fail(t, *e)
		return
	}
	channel := slices.Clone(c.Channel)
	s.hub.tellMembers(t, by, func(ctx context.Context) ([]wire.Member, bool) { return s.hub.members(ctx, channel) })
}

// tellMembers answers with what look finds: at once on a lone node, else when the
// others have answered.
func (h *Hub) tellMembers(t *Turn, by *caller, look func(ctx context.Context) ([]wire.Member, bool)) {
	answer := func(t *Turn, members []wire.Member, partial bool) {
		most := h.answerBytes() / (infoOverhead + wire.NameBytes)
		by.ok(t, &wire.OK{For: wire.KindPresence, Members: members[:min(len(members), most+1)], Partial: partial})
	}
	if h.fleet == nil {
		members, _ := look(context.Background())
		answer(t, members, false)
		return
	}
	by = by.keep()
	if !h.later(queryTime, func(ctx context.Context) func(t *Turn) {
		members, partial := look(ctx)
		return func(t *Turn) { answer(t, members, partial) }
	}) {
		by.fail(t, errBusy)
	}
}

var errBusy = wire.Error{Code: wire.Overloaded, Message: "too many questions wait for other nodes", RetryAfterMS: 1000}

// membersHere lists the agents of this node that are in a channel, by name.
func (h *Hub) membersHere(name []byte) (names []string) {
	sh := &h.channels[h.shardOfBytes(name)]
	sh.mu.RLock()
	c := sh.m[string(name)]
	sh.mu.RUnlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	seen := make(map[string]struct{}, len(c.subs))
	for _, sub := range c.subs {
		if sub != nil {
			seen[sub.s.agent.name] = struct{}{}
		}
	}
	c.mu.Unlock()
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[:min(len(names), membersMax)]
}

// memberHere reads one agent's standing on this node.
func (h *Hub) memberHere(name string) wire.Member {
	a := h.agent([]byte(name))
	if a == nil {
		return wire.Member{Agent: name, State: wire.Offline}
	}
	st := a.standing()
	return wire.Member{Agent: name, State: st.state, Sessions: st.sessions, LastActiveMS: st.activeMS, Queue: st.queue}
}

// has says whether a session of a is among the subscribers. c.mu must be held.
func (c *channel) has(a *agent) bool {
	for _, sub := range c.subs {
		if sub != nil && sub.s.agent == a {
			return true
		}
	}
	return false
}

// event tells those who asked for it that somebody came, went or changed. c.mu
// must be held.
func (c *channel) event(t *Turn, what, agent string, state wire.AgentState) {
	if c.watchers == 0 && !c.watched() || c.hub.overload().DropsPresence() {
		return
	}
	ev := wire.PresenceEvent{Channel: c.name, Event: what, Agent: agent, State: state}
	if what == "leave" {
		ev.State = ""
	}
	c.eventElsewhere(t, &ev)
	c.tellWatchers(t, &ev)
}

// tellWatchers writes a presence event to those of this node who asked for it. c.mu
// must be held.
func (c *channel) tellWatchers(t *Turn, ev *wire.PresenceEvent) {
	var sealed [wire.Encodings][]byte
	for _, sub := range c.subs {
		if sub == nil || !sub.presence {
			continue
		}
		s := sub.s
		s.mu.Lock()
		switch {
		case sub.paused || !s.live():
		case s.queue.Len() > c.hub.bounds.Load().Queue.Items/4:
			t.count.dropped[dropPresence]++
		default:
			if sealed[s.enc] == nil {
				buf := wire.AppendPresence(make([]byte, wire.HeaderRoom, 256), s.enc, ev)
				sealed[s.enc] = wire.Seal(s.enc, buf)
			}
			s.push(t, sealed[s.enc], wire.Low)
			t.markUrgent(s)
		}
		s.mu.Unlock()
	}
}

// announce tells the channels of s that its agent's state is another. No lock
// may be held.
func (a *agent) announce(t *Turn, s *Session) {
	s.mu.Lock()
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	if len(subs) == 0 {
		return
	}
	state := a.standing().state
	for _, sub := range subs {
		sub.ch.mu.Lock()
		sub.ch.event(t, "state", a.name, state)
		sub.ch.mu.Unlock()
	}
}
