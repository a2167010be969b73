package relay

import (
	"iter"
	"slices"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// pack makes the parcels of a session. s.mu must be held.
func (s *Session) pack(l *leaving, opens []parcel.Open, known []parcel.Key, card, keys []byte) (parts []*parcel.Handover) {
	head := &parcel.Handover{Ticket: l.ticket, Result: parcel.TakeGranted, Last: s.replay.last, Lost: s.lost, Blind: s.blind, Acks: s.acks, Went: s.wentAt, State: s.state,
		BornMS: s.bornMS, Newest: s.newest.bytes(), Lately: s.latelyHashes(), BeatMS: s.beat.Milliseconds(), Opens: opens, Keys: known, Card: card, AgKeys: keys}
	for _, sub := range s.subs {
		head.Places = append(head.Places, parcel.Place{Channel: sub.ch.name, Epoch: sub.epoch, Offset: sub.position(), Presence: sub.presence})
	}
	parts = append(parts, head)
	size := 0
	for i := range s.replay.len() {
		f := s.packFrame(s.replay.at(i))
		if size += len(f.Data); size > handoverBytes {
			parts[len(parts)-1].More = true
			parts = append(parts, &parcel.Handover{Ticket: l.ticket, Result: parcel.TakeGranted})
			size = len(f.Data)
		}
		last := parts[len(parts)-1]
		last.Frames = append(last.Frames, f)
	}
	return parts
}

// packFrame is one kept frame as another node gets it. s.mu must be held.
func (s *Session) packFrame(e *replayEntry) parcel.Frame {
	f := parcel.Frame{Data: e.sealed, ExpiresMS: e.expires}
	if s.enc != wire.Protobuf {
		f.Data = transcode(e.sealed, s.enc, wire.Protobuf)
	}
	if p := e.parked; p != nil {
		p.mu.Lock()
		f.Parked, f.Receipts, f.Handed = !p.gone && p.only == nil, p.Receipts, p.handed
		p.mu.Unlock()
		if f.ExpiresMS = p.ExpiresMS; p.only != nil {
			f.ExpiresMS = p.untilMS
		}
	}
	return f
}

// openAsks are the session's own requests. s.mu must be held.
func (s *Session) openAsks(now int64) (out []parcel.Open) {
	for _, p := range s.asks {
		out = append(out, parcel.Open{Number: p.number, Asked: p.askID, To: p.to, LeftMS: (p.deadline - now) / int64(time.Millisecond)})
	}
	return out
}

// openServed are the requests that the session is to answer.
func (s *Session) openServed(now int64) (out []parcel.Open) {
	h := s.hub
	s.mu.Lock()
	for number, node := range s.journey.toAnswer() {
		out = append(out, parcel.Open{Number: number, Node: node})
	}
	s.mu.Unlock()
	if h.requestN.Load() == 0 {
		return out
	}
	for i := range h.requests {
		sh := &h.requests[i]
		sh.mu.Lock()
		for number, p := range sh.m {
			if p.server == s {
				out = append(out, parcel.Open{Number: number})
			}
		}
		sh.mu.Unlock()
	}
	return out
}

// published is what the agent says of itself.
func (a *agent) published() (card, keys []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := a.profile()
	return said.card, said.keys
}

// sendMailAlong posts what waits in the mailbox for this session: its own copies, and
// what the agent's sessions share. Others of the agent that are here keep theirs. It
// returns how many letters the session is not whole without.
func (h *Hub) sendMailAlong(t *Turn, s *Session, node string) (owed uint64) {
	agent := s.agent.name
	s.agent.mu.Lock()
	alone := len(s.agent.sessions) == 1
	s.agent.mu.Unlock()
	now := t.wallMS()
	var moved, own, copies []*parkedMessage
	for _, e := range h.mail.Waiting(agent) {
		p := e.Value
		if p.only != nil {
			if p.only == s {
				own = append(own, p)
			}
			continue
		}
		p.mu.Lock()
		mine, had := slices.Contains(p.holders, s), slices.Contains(p.had, s) || p.read && !slices.Contains(p.wanted, s)
		p.mu.Unlock()
		switch {
		case had && alone: // it came on another way, and nobody else is here
			h.mailDone(p)
		case had, mine, p.ExpiresMS <= now, p.travels():
		case alone:
			moved = append(moved, p)
		default:
			copies = append(copies, p)
		}
	}
	secret := slices.Clone(s.secret[:])
	for batch := range batches(moved) {
		h.postMail(t, node, batch, &parcel.Mail{Secret: secret}, func(t *Turn, ok bool) {
			if !ok {
				h.forwardParked(t, agent)
			}
		})
	}
	for batch := range batches(own) {
		h.postMail(t, node, batch, &parcel.Mail{Secret: secret, Private: true}, func(*Turn, bool) {})
	}
	for batch := range batches(copies) {
		h.postLetters(t, node, batch, &parcel.Mail{Secret: secret, Private: true}, func(*Turn, bool) {})
	}
	return uint64(len(moved) + len(own) + len(copies))
}

// batches parts parked messages into as many parcels as their size asks for.
func batches(all []*parkedMessage) iter.Seq[[]*parkedMessage] {
	return func(yield func([]*parkedMessage) bool) {
		for len(all) > 0 {
			n, size := 0, 0
			for n < len(all) && n < forwardMax && (n == 0 || size+all[n].entry.Bytes <= forwardBytes) {
				size += all[n].entry.Bytes
				n++
			}
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}
