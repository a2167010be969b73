package relay

import (
	"encoding/base64"
	"errors"

	"agentnet/app/relay/mailbox"
	"agentnet/app/wire"
)

// privateID names the copy of a message that waits for one session alone.
func (s *Session) privateID(id string) string {
	return id + "/" + base64.RawURLEncoding.EncodeToString(s.secret[:6])
}

// behind keeps m for a session that others wait for: its agent's other sessions had it
// at once, or its old node sent it after the session. It takes its place among those
// that wait, by the order of acceptance. s.mu must be held.
func (h *Hub) behind(s *Session, m *letter) bool {
	ttl := m.ttl
	if ttl <= 0 {
		ttl = h.cfg.Resume
	}
	p := newParked(m, s.agent.name, m.timeMS+ttl.Milliseconds())
	p.only, p.handed, s.hadMail = s, true, true
	if p.order = s.agent.order.Load(); m.ttl > 0 {
		p.untilMS = p.ExpiresMS
	}
	p.entry.MessageID = s.privateID(m.id)
	if err := h.mail.Add(&p.entry); err != nil {
		return errors.Is(err, mailbox.ErrDuplicate) // it waits already
	}
	if e := h.mail.Get(p.MessageID); e != nil {
		e.Value.pass(s) // what the sessions share does not come to this one as well
	}
	return true
}

// takePrivate keeps a letter that came along with the session for it alone.
func (s *Session) takePrivate(t *Turn, m *letter, by *caller) {
	s.mu.Lock()
	s.mail = true
	ok := s.ended || s.hub.behind(s, m)
	if e := s.hub.mail.Get(s.privateID(m.id)); m.receipts && e != nil {
		e.Value.untold() // its sender does not know yet that anybody got it
	}
	s.mu.Unlock()
	if !ok {
		by.fail(t, wire.Error{Code: wire.Overloaded, Message: "the mailbox is full"})
		return
	}
	by.ok(t, &wire.OK{For: wire.KindSend, Outcome: wire.Parked})
	s.agent.deliverMail(t, s)
}

// endPrivate removes what waited for an ended session alone.
func (h *Hub) endPrivate(t *Turn, s *Session, others []*Session) {
	if !s.hadMail {
		return
	}
	for _, e := range h.mail.Waiting(s.agent.name) {
		if e.Value.only == s {
			h.leavePrivate(t, e.Value, others)
		}
	}
}

// leavePrivate ends an ended session's copy of a message: one that may be parked waits
// for the agent's next session, unless one of the others was there when it came.
func (h *Hub) leavePrivate(t *Turn, p *parkedMessage, others []*Session) {
	h.mailDone(p)
	if p.untilMS <= t.wallMS() {
		return
	}
	for _, o := range others {
		if o.wasThere(p.order, p.TimeMS) {
			return
		}
	}
	m := p.letter()
	h.repark(t, newParked(&m, p.To, p.untilMS))
}
