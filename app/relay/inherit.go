package relay

import (
	"errors"

	"agentnet/app/relay/mailbox"
	"agentnet/app/wire"
)

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
		p.file()
		if err := h.mail.Add(&p.entry); err != nil {
			h.log.Warn("a parked message does not fit the mailbox any more; it stays on disk for a start with larger limits", "to", r.To, "error", err)
			return nil
		}
		if r.Receipts {
			h.await(r.MessageID, r.From, r.To, r.ExpiresMS, true)
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
// unacknowledged. others are the sessions that its agent still has.
func (h *Hub) inherit(t *Turn, s *Session, left *replay, others []*Session) {
	now := t.wallMS()
	for first := left.first(); left.len() > 0; first++ {
		e := left.drop()
		switch {
		case e.parked != nil && e.parked.only != nil:
			h.leavePrivate(t, e.parked, others)
		case e.parked != nil:
			if e.parked.release(s) {
				h.lapsed(t, e.parked, now)
			}
		case e.expires > now:
			h.reparkFrame(t, e, s.enc, others)
		case len(others) == 0 && (s.acks || first > s.wentAt):
			// Of a client that never acknowledges, what its socket took counts as read.
			t.count.dropped[dropSessionEnded]++
		}
	}
	h.endPrivate(t, s, others)
	h.unwant(s)
}

// reparkFrame puts a delivered but never acknowledged message with time left into
// the mailbox, unless one of the others was there when it was accepted and has it.
func (h *Hub) reparkFrame(t *Turn, e replayEntry, enc wire.Encoding, others []*Session) {
	var ev wire.Event
	if _, err := ev.Read(enc, wire.Body(e.sealed)); err != nil || ev.Kind != wire.KindMessage {
		t.count.dropped[dropSessionEnded]++
		return
	}
	v := &ev.Message
	for _, o := range others {
		if o.wasThere(e.order, v.TimeMS) {
			return
		}
	}
	m := letter{from: v.From, class: v.Class, payload: v.Payload, headers: v.Headers, id: v.MessageID, timeMS: v.TimeMS}
	h.repark(t, newParked(&m, v.To, e.expires))
}

// wasThere says whether a session of the agent had a copy of its own of a message: it
// was here when that came, or lived at another node when it was accepted.
func (s *Session) wasThere(order uint64, acceptedMS int64) bool {
	return s.order <= order || s.journey.origin() != "" && s.bornMS <= acceptedMS
}

// repark puts what an ended session leaves into the mailbox.
func (h *Hub) repark(t *Turn, p *parkedMessage) {
	switch err := h.mail.Add(&p.entry); {
	case errors.Is(err, mailbox.ErrDuplicate): // another session left it before
		return
	case err != nil:
		t.count.dropped[dropMailboxFull]++
		return
	}
	if h.cfg.Journal != nil {
		h.cfg.Journal.Put(&p.Parked, h.ready.journal)
	}
	h.offer(t, p)
}
