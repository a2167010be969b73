package relay

import (
	"fmt"
	"time"

	"agentnet/app/wire"
)

// spend takes one accepted message of size bytes from the agent's allowance. wait
// is 0 when it was taken.
func (a *agent) spend(now int64, size int) (wait time.Duration) {
	cfg := &a.hub.cfg
	if wait = a.messages.Take(now, cfg.MessageRate, 1); wait > 0 {
		return wait
	}
	return a.traffic.Take(now, cfg.ByteRate, size)
}

// admitMessage applies what all messages of a session must pass: the agent's
// limits and the relay's load. nil lets it through.
func (s *Session) admitMessage(t *Turn, c *wire.Command) *wire.Error {
	if wait := s.agent.spend(t.clock(), len(c.Payload.Data)); wait > 0 {
		return &wire.Error{Code: wire.RateLimited, Message: "this agent sends more than its limit", RetryAfterMS: retryMS(wait)}
	}
	return s.hub.shed(t, c.Kind, c.Class)
}

// A letter is a direct message on its way. Its fields may alias a Command; what
// keeps it makes copies.
type letter struct {
	from     string
	to       []byte
	class    wire.Class
	payload  wire.Payload
	headers  []wire.Header
	ttl      time.Duration
	receipts bool
	id       string
	timeMS   int64
}

// send handles a direct message.
func (s *Session) send(t *Turn, l *link, c *wire.Command) {
	s.hub.sendFrom(t, s.who, s.agent.name, c, &caller{link: l, session: s, id: c.ID, key: c.Key},
		func() *wire.Error { return s.admitMessage(t, c) })
}

// sendFrom is send for every kind of caller.
func (h *Hub) sendFrom(t *Turn, who *Identity, from string, c *wire.Command, by *caller, admit func() *wire.Error) {
	if !who.Send.MatchBytes(c.To) {
		by.fail(t, forbidden("send to", c.To))
		return
	}
	once, first := h.once(t, from, c, by)
	if !first {
		return
	}
	m := letter{from: from, to: c.To, class: c.Class, payload: c.Payload, headers: c.Headers,
		ttl: time.Duration(c.TTLMS) * time.Millisecond, receipts: c.Receipts, id: t.newID(), timeMS: t.wallMS()}
	e := admit()
	n := 0
	if e == nil {
		n, e = h.deliver(t, &m)
	}
	if e != nil {
		h.undo(t, once, e)
		by.fail(t, *e)
		return
	}
	t.count.messages++
	if m.receipts {
		h.expectReceipt(t, &m)
	}
	if n == 0 {
		h.park(t, &m, by, once)
		return
	}
	t.count.live++
	ok := wire.OK{For: wire.KindSend, MessageID: m.id, Outcome: wire.Delivered, Sessions: n}
	h.settle(t, once, &ok)
	by.ok(t, &ok)
}

func forbidden(what string, name []byte) wire.Error {
	return wire.Error{Code: wire.Forbidden, Message: fmt.Sprintf("the token does not allow to %s %q", what, name)}
}

// deliver hands m to all sessions of its receiver and returns how many live ones
// took it. 0 with no error says that it is to be parked. Sessions that are
// detached keep it for their return.
func (h *Hub) deliver(t *Turn, m *letter) (live int, e *wire.Error) {
	a := h.agent(m.to)
	if a == nil {
		return h.absent(m)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) == 0 {
		return h.absent(m)
	}
	var away uint64 // by index, those that cannot take it now; maxSessions bounds it
	for i, s := range a.sessions {
		s.mu.Lock()
		switch {
		case s.ended:
		case s.deliverable() && s.deliverLetter(t, m, nil):
			live++
		default:
			away |= 1 << i
		}
		s.mu.Unlock()
	}
	if live == 0 {
		return 0, nil
	}
	for i, s := range a.sessions {
		if away&(1<<i) == 0 {
			continue
		}
		s.mu.Lock()
		if !s.deliverLetter(t, m, nil) {
			s.lost++
			t.count.dropped[dropReplayFull]++
		}
		s.mu.Unlock()
	}
	t.delivered += uint64(live)
	return live, nil
}

// absent decides on a message whose receiver has no session.
func (h *Hub) absent(m *letter) (int, *wire.Error) {
	if m.ttl > 0 {
		return 0, nil
	}
	return 0, &wire.Error{Code: wire.AgentOffline, Message: fmt.Sprintf("agent %q is not connected; a ttl_ms would keep the message for it", m.to)}
}

// deliverLetter gives m the session's next seq. s.mu must be held.
func (s *Session) deliverLetter(t *Turn, m *letter, parked *parkedMessage) bool {
	entry := replayEntry{parked: parked}
	if m.ttl > 0 {
		entry.expires = m.timeMS + m.ttl.Milliseconds()
	}
	msg := wire.Message{From: m.from, To: s.agent.name, Payload: m.payload, MessageID: m.id, TimeMS: m.timeMS, Class: m.class, Headers: m.headers}
	return s.direct(t, m.class, entry, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
		msg.Seq = seq
		return wire.AppendMessage(dst, enc, &msg)
	})
}
