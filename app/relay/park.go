package relay

import (
	"errors"
	"time"

	"agentnet/app/relay/mailbox"
	"agentnet/app/wire"
)

// park keeps m for its receiver. The caller is answered `parked` when m is on
// disk, and not before.
func (h *Hub) park(t *Turn, m *letter, by *caller, once *dedupEntry) {
	ttl := m.ttl
	if ttl <= 0 {
		// The receiver's session is away and may come back: the message waits as
		// long as that can be.
		ttl = h.cfg.Resume
	}
	p := newParked(m, string(m.to), m.timeMS+ttl.Milliseconds())
	p.had = m.others
	if err := h.mail.Add(&p.entry); err != nil {
		if m.shared && errors.Is(err, mailbox.ErrDuplicate) { // another node forwards it once more
			ok := wire.OK{For: wire.KindSend, MessageID: m.id, Outcome: wire.Parked}
			h.settle(t, once, &ok)
			by.ok(t, &ok)
			return
		}
		t.count.dropped[dropMailboxFull]++
		h.refuse(t, m, by, once, wire.Error{Code: wire.Overloaded, Message: err.Error(), RetryAfterMS: retryMS(t.spread(5 * time.Second))})
		return
	}
	by = by.keep()
	if h.cfg.Journal == nil {
		h.offer(t, p)
		h.stored(t, p, by, once, nil)
		return
	}
	// The Journal has it before anybody else: what is acknowledged at once is
	// deleted after it was put.
	h.cfg.Journal.Put(&p.Parked, func(err error) {
		t := h.borrow()
		h.stored(t, p, by, once, err)
		h.giveBack(t)
	})
	h.offer(t, p)
}

// stored answers the sender of a parked message once the disk has it, or refused.
// What a session has or keeps is parked even then.
func (h *Hub) stored(t *Turn, p *parkedMessage, by *caller, once *dedupEntry, err error) {
	if h.cfg.Journal != nil {
		h.ready.journal(err)
	}
	if err != nil && p.drop() {
		h.mail.Remove(p.entry.MessageID)
		h.log.Error("a message could not be parked", "error", err)
		m := letter{id: p.MessageID, receipts: p.Receipts}
		h.refuse(t, &m, by, once, wire.Error{Code: wire.Unavailable, Message: "the message could not be stored; nothing was kept", RetryAfterMS: retryMS(t.spread(5 * time.Second))})
		return
	}
	t.count.parked++
	ok := wire.OK{For: wire.KindSend, MessageID: p.MessageID, Outcome: wire.Parked}
	h.settle(t, once, &ok)
	by.ok(t, &ok)
}

// offer gives a message that just went into the mailbox to the receiver's
// sessions: those without a socket keep it for their return, those with one get
// it in its turn.
func (h *Hub) offer(t *Turn, p *parkedMessage) {
	a := h.agent([]byte(p.To))
	if a == nil {
		return
	}
	m := p.letter()
	var room [4]*Session
	ready := room[:0]
	a.mu.Lock()
	for _, s := range a.sessions {
		s.mu.Lock()
		switch {
		case s.ended:
		case p.passed(s): // it had the message on another way
		case s.hadMail && h.mail.Get(s.privateID(p.MessageID)) != nil: // it has a copy of its own
			p.pass(s)
		case !s.holding() && s.justCame(t) && s.hadLately(p.MessageID): // its old node sent it already
			p.pass(s)
		case s.live():
			s.mail = true
			p.want(s)
			if s.hasRoom() {
				ready = append(ready, s)
			}
		case s.mail || s.replayFull(len(p.Payload.Data)) || !p.hold(s):
			s.mail = true // what comes next stays behind it
			p.want(s)
		case !s.deliverLetter(t, &m, p):
			p.release(s)
			p.want(s)
			s.mail = true
		}
		s.mu.Unlock()
	}
	a.mu.Unlock()
	for _, s := range ready {
		a.deliverMail(t, s)
	}
}

// hasRoom says whether parked messages may be queued; if not, they follow when the
// queue is empty. s.mu must be held.
func (s *Session) hasRoom() bool {
	lim := &s.hub.bounds.Load().Queue
	return s.live() && !s.full && s.queue.Len() < lim.Items/2 && s.queue.Bytes() < lim.Bytes/2
}

// replayFull says that a session without a socket surely has no room for a message
// of that size. s.mu must be held.
func (s *Session) replayFull(size int) bool {
	return s.lost > 0 || s.replay.len() >= s.hub.cfg.ReplayFrames || s.replay.bytes+size > s.hub.cfg.ReplayBytes
}

// deliverMail hands s what waits in the mailbox, as far as its queue has room.
// What is left follows when the queue is empty.
func (a *agent) deliverMail(t *Turn, s *Session) {
	now := t.wallMS()
	a.mu.Lock()
	s.mu.Lock()
	var told []*parkedMessage
	if s.live() && !s.ended && !s.holding() {
		told = s.replayedMail()
		s.mail = false
		told = append(told, s.takeMail(t, now)...)
		if !s.mail && s.lost > 0 {
			t.frame = wire.AppendGap(t.room(), s.enc, &wire.Gap{Missed: s.lost})
			s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.Critical)
			t.markUrgent(s)
			t.count.gaps++
			s.lost = 0
		}
	}
	s.mu.Unlock()
	a.mu.Unlock()
	for _, p := range told {
		a.hub.tellSender(t, p.From, &wire.Receipt{MessageID: p.MessageID, From: p.To, State: wire.ReceiptDelivered, TimeMS: now})
	}
}

// takeMail is deliverMail with both locks held. It returns the messages whose
// senders are to be told that they were delivered.
func (s *Session) takeMail(t *Turn, now int64) (told []*parkedMessage) {
	for _, e := range s.hub.mail.Waiting(s.agent.name) {
		p := e.Value
		if p.ExpiresMS <= now {
			continue
		}
		if !s.hasRoom() {
			s.mail = true
			break
		}
		if s.justCame(t) && s.hadLately(p.MessageID) { // its old node sent it too
			// What others may still want stays until it is acknowledged. A copy of its own
			// goes now: a full mailbox would let later messages overtake.
			if p.only == nil && p.heldBy(s) {
				continue
			}
			if p.take(s); p.only == s || len(s.agent.sessions) == 1 {
				s.hub.mailDone(p)
			}
			continue
		}
		first, ok := p.take(s)
		if !ok {
			continue
		}
		m := p.letter()
		s.deliverLetter(t, &m, p)
		t.delivered++
		if first && p.Receipts {
			told = append(told, p)
		}
	}
	return told
}

// replayedMail returns the messages that were kept while the session was away, were
// replayed by its resume, and whose senders are to be told. s.mu must be held.
func (s *Session) replayedMail() (told []*parkedMessage) {
	if !s.replayed {
		return nil
	}
	s.replayed = false
	for i := range s.replay.len() {
		if p := s.replay.at(i).parked; p != nil && p.handOut() && p.Receipts {
			told = append(told, p)
		}
	}
	return told
}

// mailRead takes a message that a session has acknowledged from the mailbox and the
// disk, with what the agent's sessions share of it. As long as it waits for others of
// those that were there when it came, it stays in memory for them.
func (h *Hub) mailRead(p *parkedMessage) {
	if p.only != nil {
		if e := h.mail.Get(p.MessageID); e != nil {
			h.mailRead(e.Value)
		}
	}
	if h.fleet != nil { // what a session left unread at another node may still be forwarded here
		h.landed.first(h.hashOf(p.MessageID))
	}
	p.mu.Lock()
	p.read = true
	waits := len(p.wanted) > 0
	p.mu.Unlock()
	if !waits {
		h.mailDone(p)
	} else if h.cfg.Journal != nil {
		h.cfg.Journal.Delete(p.MessageID)
	}
}

// unwant notes that no parked message waits for an ended session any more.
func (h *Hub) unwant(s *Session) {
	s.mu.Lock()
	waited := s.mail
	s.mu.Unlock()
	if !waited {
		return
	}
	for _, e := range h.mail.Waiting(s.agent.name) {
		p := e.Value
		p.mu.Lock()
		p.wanted = without(p.wanted, s)
		over := p.read && len(p.wanted) == 0 && len(p.holders) == 0
		p.mu.Unlock()
		if over {
			h.mailDone(p)
		}
	}
}

// mailDone removes a message from the mailbox and from the disk.
func (h *Hub) mailDone(p *parkedMessage) {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	h.mail.Remove(p.entry.MessageID)
	if h.cfg.Journal != nil && p.only == nil {
		h.cfg.Journal.Delete(p.MessageID)
	}
}

// expireMail removes what nobody fetched in time and tells the senders.
func (h *Hub) expireMail(t *Turn) {
	now := t.wallMS()
	const batch = 1024
	for range 16 { // at most so many batches a second, so that others get their turn
		expired := h.mail.Expire(now, batch)
		for _, e := range expired {
			h.expired(t, e.Value, now)
		}
		if len(expired) < batch {
			return
		}
	}
}

// expired ends one parked message. One that a session holds was delivered, or is
// still told as part of its replay, and is no loss yet.
func (h *Hub) expired(t *Turn, p *parkedMessage, now int64) {
	p.mu.Lock()
	p.gone, p.expired = true, true
	held := len(p.holders) > 0
	lost := !p.handed && !held
	var missed []*Session
	if p.handed { // others had it; those that it waited for are told by a gap
		missed = p.wanted
	}
	p.wanted = nil
	p.mu.Unlock()
	for _, s := range missed {
		s.mu.Lock()
		s.lost++
		s.mu.Unlock()
		t.count.dropped[dropExpired]++
	}
	if s := p.only; s != nil { // others had it; this one is told by a gap
		if !held {
			s.mu.Lock()
			s.lost++
			s.mu.Unlock()
			t.count.dropped[dropExpired]++
		}
		return
	}
	if h.cfg.Journal != nil {
		h.cfg.Journal.Delete(p.MessageID)
	}
	if lost {
		h.lapsed(t, p, now)
	}
}

// lapsed tells the sender that a message's ttl ended before anybody got it.
func (h *Hub) lapsed(t *Turn, p *parkedMessage, now int64) {
	t.count.dropped[dropExpired]++
	if p.Receipts {
		h.tellSender(t, p.From, &wire.Receipt{MessageID: p.MessageID, From: p.To, State: wire.ReceiptExpired, TimeMS: now})
	}
}
