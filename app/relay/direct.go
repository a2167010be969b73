package relay

import (
	"fmt"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/wire"
)

// spend takes one accepted message of size bytes from the agent's allowance. wait
// is 0 when it was taken.
func (a *agent) spend(now int64, size int) (wait time.Duration) {
	cfg := &a.hub.cfg
	n := a.nodes()
	if wait = a.messages.Take(now, cfg.MessageRate, n); wait > 0 {
		return wait
	}
	return a.traffic.Take(now, cfg.ByteRate, n*size)
}

// nodes is how many nodes hold the agent: each gives it an equal part of its rate.
func (a *agent) nodes() int { return 1 + int(a.share.Load()) }

// charge takes what spend would, whether it is there or not.
func (a *agent) charge(now int64, size int) {
	n := a.nodes()
	a.messages.Charge(now, a.hub.cfg.MessageRate, n)
	a.traffic.Charge(now, a.hub.cfg.ByteRate, n*size)
}

// admitMessage applies what all messages of a session must pass: the agent's
// limits and the relay's load. nil lets it through.
func (s *Session) admitMessage(t *Turn, l *link, c *wire.Command) *wire.Error {
	if wait := s.agent.spend(t.clock(), len(c.Payload.Data)); wait > 0 {
		l.strike(t)
		return overRate(wait)
	}
	return s.hub.shed(t, c.Kind, c.Class)
}

// queryRate bounds what an agent may ask that looks at many agents or messages:
// a directory of 100,000 agents costs some 10 ms.
var queryRate = limit.NewRate(20, 60)

// admitQuery applies queryRate. nil lets the query through.
func (s *Session) admitQuery(t *Turn, l *link) *wire.Error {
	if wait := s.agent.queries.Take(t.clock(), queryRate, 1); wait > 0 {
		l.strike(t)
		return overRate(wait)
	}
	return nil
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
	key      []byte // for dedup, while it is under way

	// Of letters from other nodes.
	onward  bool       // it is handed on: whoever posted it parks it when nobody has it
	shared  bool       // from, id and headers are part of a parcel
	spare   bool       // others of the receiver's sessions, elsewhere, are live
	targets []string   // the nodes that have it too
	others  []*Session // sessions that have had it
	origin  string     // who posted it
}

// send handles a direct message.
func (s *Session) send(t *Turn, l *link, c *wire.Command) {
	t.by = caller{link: l, session: s, id: c.ID, key: c.Key}
	s.hub.sendFrom(t, s.who, s.agent.name, c, &t.by,
		func() *wire.Error { return s.admitMessage(t, l, c) })
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
	t.mail = letter{from: from, to: c.To, class: c.Class, payload: c.Payload, headers: c.Headers,
		ttl: bounded(c.TTLMS, h.cfg.Limits.MaxTTLMS), receipts: c.Receipts, id: t.newID(by.session), timeMS: t.wallMS(), key: c.Key}
	m := &t.mail
	if e := admit(); e != nil {
		h.undo(t, once, e)
		by.fail(t, *e)
		return
	}
	if m.receipts {
		h.expectReceipt(m) // before the receiver can speak of it
	}
	if h.fleet != nil && h.cross(t, m, by, once) {
		t.count.messages++
		return
	}
	h.deliverOrPark(t, m, by, once)
}

// deliverOrPark hands m to the sessions that its receiver has on this node, or
// keeps it for them, and answers.
func (h *Hub) deliverOrPark(t *Turn, m *letter, by *caller, once *dedupEntry) {
	n, held := h.deliver(t, m, false)
	if n == 0 && !held && m.ttl <= 0 {
		h.refuse(t, m, by, once, offline(m.to))
		return
	}
	t.count.messages++
	if n == 0 {
		h.park(t, m, by, once)
		return
	}
	t.count.live++
	ok := wire.OK{For: wire.KindSend, MessageID: m.id, Outcome: wire.Delivered, Sessions: n}
	h.settle(t, once, &ok)
	by.ok(t, &ok)
}

// refuse takes back what was noted of m.
func (h *Hub) refuse(t *Turn, m *letter, by *caller, once *dedupEntry, e wire.Error) {
	if m.receipts {
		h.unawait(m.id)
	}
	h.undo(t, once, &e)
	by.fail(t, e)
}

// bounded turns ms that a client gave into a duration, at most limit ms if that is
// above 0, and never more than fits.
func bounded(ms, limit int64) time.Duration {
	const most = 10 * 365 * 24 * time.Hour
	if limit > 0 {
		ms = min(ms, limit)
	}
	return msDuration(min(ms, most.Milliseconds()))
}

func forbidden(what string, name []byte) wire.Error {
	return wire.Error{Code: wire.Forbidden, Message: fmt.Sprintf("the token does not allow to %s %q", what, name)}
}

// deliver hands m to all sessions of its receiver and returns how many live ones
// took it. held says that there are sessions at all: when no live one took it, it
// is to be parked for them. Sessions that are detached keep it for their return if
// a live one took it, or if elsewhere says that one of another node does.
func (h *Hub) deliver(t *Turn, m *letter, elsewhere bool) (live int, held bool) {
	a := h.agent(m.to)
	if a == nil {
		return 0, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) == 0 {
		return 0, false
	}
	var away uint64 // by index, those that cannot take it now; maxSessions bounds it
	for i, s := range a.sessions {
		s.mu.Lock()
		switch {
		case s.ended:
		case !s.detours(t, m) && s.deliverable() && s.deliverLetter(t, m, nil):
			live++
		default:
			away |= 1 << i
		}
		s.mu.Unlock()
	}
	if live == 0 && !elsewhere {
		return 0, true
	}
	for i, s := range a.sessions {
		if away&(1<<i) == 0 {
			continue
		}
		s.mu.Lock()
		switch {
		case s.ended:
		case s.mail && h.behind(s, m):
		case s.mail || !s.deliverLetter(t, m, nil):
			s.lost++
			t.count.dropped[dropReplayFull]++
		}
		s.mu.Unlock()
	}
	t.delivered += uint64(live)
	return live, true
}

// deliverLetter gives m the session's next seq. agent.mu and s.mu must be held.
func (s *Session) deliverLetter(t *Turn, m *letter, parked *parkedMessage) bool {
	came := s.justCame(t)
	if came && parked == nil && s.hadLately(m.id) { // its old node sent it already
		return true
	}
	// Others may have a copy of it: nodes that it went to as well, which the fleet may not
	// have told of yet (share), or the mailbox here, where it may wait for other sessions
	// of the agent longer than this one stays.
	if came || len(m.targets) > 0 || s.agent.share.Load() > 0 || m.shared && m.ttl > 0 || parked != nil && s.hub.fleet != nil {
		s.noteLately(t, m.id)
	}
	entry := replayEntry{parked: parked, order: s.agent.order.Load()}
	if m.ttl > 0 {
		entry.expires = m.timeMS + m.ttl.Milliseconds()
	}
	msg := wire.Message{From: m.from, To: s.agent.name, Payload: m.payload, MessageID: m.id, TimeMS: m.timeMS, Class: m.class, Headers: m.headers}
	return s.direct(t, m.class, entry, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
		msg.Seq = seq
		return wire.AppendMessage(dst, enc, &msg)
	})
}
