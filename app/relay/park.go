package relay

import (
	"slices"
	"strings"
	"sync"

	"agentnet/app/relay/mailbox"
	"agentnet/app/wire"
)

// A parkedMessage is a message in the mailbox. It leaves it when a session that
// got it acknowledges it, or when its ttl ends.
type parkedMessage struct {
	Parked
	entry mailbox.Entry[*parkedMessage]

	mu      sync.Mutex
	holders []*Session // sessions that have it in their replay
	handed  bool       // some session was given it
	gone    bool       // removed from the mailbox
}

// letter is the message as delivery wants it.
func (p *parkedMessage) letter() letter {
	return letter{from: p.From, class: p.Class, payload: p.Payload, headers: p.Headers, receipts: p.Receipts, id: p.MessageID, timeMS: p.TimeMS}
}

func (p *parkedMessage) heldBy(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone || slices.Contains(p.holders, s)
}

// hold notes that s has the message, and says whether it is the first to.
func (p *parkedMessage) hold(s *Session) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders = append(p.holders, s)
	return len(p.holders) == 1
}

func (p *parkedMessage) release(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders = slices.DeleteFunc(p.holders, func(o *Session) bool { return o == s })
}

// handOut notes that a live session was given the message, and says whether it
// is the first time.
func (p *parkedMessage) handOut() (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = !p.handed
	p.handed = true
	return first
}

func newParked(m *letter, to string, expiresMS int64) *parkedMessage {
	data := append([]byte(nil), m.payload.Data...)
	p := &parkedMessage{Parked: Parked{MessageID: strings.Clone(m.id), From: m.from, To: to, TimeMS: m.timeMS, ExpiresMS: expiresMS,
		Class: m.class, Receipts: m.receipts, Headers: slices.Clone(m.headers), Payload: wire.Payload{Data: data, Binary: m.payload.Binary}}}
	size := len(data) + len(p.From) + len(p.To)
	for _, h := range p.Headers {
		size += len(h.Name) + len(h.Value)
	}
	p.entry = mailbox.Entry[*parkedMessage]{MessageID: p.MessageID, To: p.To, Class: p.Class, Bytes: size, ExpiresMS: expiresMS, Value: p}
	return p
}

// park keeps m for its receiver. The caller is answered `parked` when m is on
// disk, and not before.
func (h *Hub) park(t *Turn, m *letter, by *caller, once *dedupEntry) {
	ttl := m.ttl
	if ttl <= 0 {
		// The receiver's session is away and may come back: the message waits as
		// long as that can be.
		ttl = h.cfg.Resume
	}
	ttl = min(ttl, msDuration(h.cfg.Limits.MaxTTLMS))
	p := newParked(m, string(m.to), m.timeMS+ttl.Milliseconds())
	if err := h.mail.Add(&p.entry); err != nil {
		t.count.dropped[dropMailboxFull]++
		e := wire.Error{Code: wire.Overloaded, Message: err.Error(), RetryAfterMS: 5000}
		h.undo(t, once, &e)
		by.fail(t, e)
		return
	}
	h.offer(t, p)
	by = by.keep()
	if h.cfg.Journal == nil {
		h.stored(t, p, by, once, nil)
		return
	}
	h.cfg.Journal.Put(&p.Parked, func(err error) {
		t := h.borrow()
		h.stored(t, p, by, once, err)
		h.giveBack(t)
	})
}

// stored answers the sender of a parked message once the disk has it, or refused.
func (h *Hub) stored(t *Turn, p *parkedMessage, by *caller, once *dedupEntry, err error) {
	if err != nil {
		h.ready.journal(err)
		p.mu.Lock()
		handed := p.handed
		p.mu.Unlock()
		if !handed {
			h.forget(p)
			h.log.Error("a message could not be parked", "error", err)
			e := wire.Error{Code: wire.Unavailable, Message: "the message could not be stored; nothing was kept", RetryAfterMS: 5000}
			h.undo(t, once, &e)
			by.fail(t, e)
			return
		}
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
	a.mu.Lock()
	var live []*Session
	for _, s := range a.sessions {
		s.mu.Lock()
		switch {
		case s.ended:
		case s.conn != nil:
			s.mail = true
			live = append(live, s)
		case !s.mail && s.deliverLetter(t, &m, p):
			p.hold(s)
		default:
			s.mail = true // what comes next stays behind it
		}
		s.mu.Unlock()
	}
	a.mu.Unlock()
	for _, s := range live {
		a.deliverMail(t, s)
	}
}

// deliverMail hands s what waits in the mailbox, as far as its queue has room.
// What is left follows when the queue is empty.
func (a *agent) deliverMail(t *Turn, s *Session) {
	var told []*parkedMessage
	now := t.wallMS()
	a.mu.Lock()
	s.mu.Lock()
	if s.conn != nil && !s.ended {
		s.mail = false
		for _, e := range a.hub.mail.Waiting(a.name) {
			p := e.Value
			if p.heldBy(s) || p.ExpiresMS <= now {
				continue
			}
			if s.endWait || s.full || s.queue.Len() >= a.hub.cfg.Queue.Items/2 || s.queue.Bytes() >= a.hub.cfg.Queue.Bytes/2 {
				s.mail = true
				break
			}
			m := p.letter()
			if !s.deliverLetter(t, &m, p) {
				break
			}
			p.hold(s)
			t.delivered++
			if p.handOut() && p.Receipts {
				told = append(told, p)
			}
		}
	}
	// Those that were kept while the session was away were replayed by resume.
	for i := range s.replay.len() {
		if p := s.replay.at(i).parked; p != nil && s.conn != nil && p.handOut() && p.Receipts {
			told = append(told, p)
		}
	}
	s.mu.Unlock()
	a.mu.Unlock()
	for _, p := range told {
		a.hub.tellSender(t, p.From, &wire.Receipt{MessageID: p.MessageID, From: p.To, State: wire.ReceiptDelivered, TimeMS: now})
	}
}

// mailDone removes a message that its receiver has acknowledged.
func (h *Hub) mailDone(p *parkedMessage) {
	h.forget(p)
	if h.cfg.Journal != nil {
		h.cfg.Journal.Delete(p.MessageID)
	}
}

func (h *Hub) forget(p *parkedMessage) {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	h.mail.Remove(p.MessageID)
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
// still told as part of its replay, and is no loss.
func (h *Hub) expired(t *Turn, p *parkedMessage, now int64) {
	p.mu.Lock()
	p.gone = true
	lost := !p.handed
	p.mu.Unlock()
	if h.cfg.Journal != nil {
		h.cfg.Journal.Delete(p.MessageID)
	}
	if !lost {
		return
	}
	t.count.dropped[dropExpired]++
	if p.Receipts {
		h.tellSender(t, p.From, &wire.Receipt{MessageID: p.MessageID, From: p.To, State: wire.ReceiptExpired, TimeMS: now})
	}
}

// Load fills the mailbox from the Journal. It is called once, before the first
// Accept.
func (h *Hub) Load() error {
	if h.cfg.Journal == nil {
		return nil
	}
	now, n := h.started.UnixMilli(), 0
	err := h.cfg.Journal.Load(func(r *Parked) error {
		if r.ExpiresMS <= now {
			h.cfg.Journal.Delete(r.MessageID)
			return nil
		}
		p := &parkedMessage{Parked: *r}
		p.entry = mailbox.Entry[*parkedMessage]{MessageID: r.MessageID, To: r.To, Class: r.Class, Bytes: len(r.Payload.Data) + len(r.From) + len(r.To), ExpiresMS: r.ExpiresMS, Value: p}
		if err := h.mail.Add(&p.entry); err != nil {
			h.log.Warn("a parked message does not fit the mailbox any more; it stays on disk for a start with larger limits", "to", r.To, "error", err)
			return nil
		}
		if r.Receipts {
			h.await(r.MessageID, r.From, r.To, r.ExpiresMS)
		}
		n++
		return nil
	})
	if n > 0 {
		h.log.Info("parked messages loaded", "count", n)
	}
	return err
}

// inherit decides what becomes of the frames that an ended session left
// unacknowledged.
func (h *Hub) inherit(t *Turn, s *Session, left *replay, last bool) {
	now := t.wallMS()
	for first := left.first(); left.len() > 0; first++ {
		e := left.drop()
		// A client that never acknowledges is taken to have read what its socket took.
		read := !s.acks && first <= s.wentAt
		switch {
		case e.parked != nil && read:
			h.mailDone(e.parked)
		case e.parked != nil:
			e.parked.release(s)
		case read || !last:
		case e.expires > now:
			h.reparkFrame(t, e, s.enc)
		default:
			t.count.dropped[dropSessionEnded]++
		}
	}
}

// reparkFrame puts a delivered but never acknowledged message with time left into
// the mailbox.
func (h *Hub) reparkFrame(t *Turn, e replayEntry, enc wire.Encoding) {
	var ev wire.Event
	if _, err := ev.Read(enc, wire.Body(e.sealed)); err != nil || ev.Kind != wire.KindMessage {
		t.count.dropped[dropSessionEnded]++
		return
	}
	v := &ev.Message
	m := letter{from: v.From, class: v.Class, payload: v.Payload, headers: v.Headers, id: v.MessageID, timeMS: v.TimeMS}
	p := newParked(&m, v.To, e.expires)
	if h.mail.Add(&p.entry) != nil {
		t.count.dropped[dropMailboxFull]++
		return
	}
	if h.cfg.Journal != nil {
		h.cfg.Journal.Put(&p.Parked, func(err error) {
			if err != nil {
				h.ready.journal(err)
			}
		})
	}
	h.offer(t, p)
}
