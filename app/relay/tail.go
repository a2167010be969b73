package relay

import (
	"slices"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// An arrivalTimer ends the wait for a session's tail.
type arrivalTimer struct {
	s     *Session
	timer timer
}

func (s *Session) awaitTail() *timer {
	a := &arrivalTimer{s: s}
	a.timer.owner, a.timer.shard = a, s.secret[0]
	return &a.timer
}

// expire gives up what may have come at the old node: that is told by a gap.
func (a *arrivalTimer) expire(t *Turn, _ *timer) { a.s.arrived(t, nil, true) }

// landTail delivers what came for a session at its old node.
func (h *Hub) landTail(t *Turn, node string, b []byte) bool {
	var v parcel.Tail
	if !parcel.Read(b, &v) || len(v.Secret) != len(secretHash{}) {
		return false
	}
	secret := secretHash(v.Secret)
	s := h.sessionOf(secret)
	switch {
	case s == nil:
		if to := h.moves.wentTo(secret); to != "" && to != node && !v.Refused {
			h.fleet.Post(to, b)
		}
	case v.Refused:
		s.mu.Lock()
		mine := s.arriving && s.journey.origin() == node
		s.mu.Unlock()
		if mine {
			s.closeFor(t, wire.CloseGoingAway, "the session is back at its old node")
		}
	case v.Index == 0:
		s.arrived(t, &v, false)
	default:
		s.mu.Lock()
		for i := range v.Frames {
			s.takeFrame(t, &v.Frames[i])
		}
		more := s.mail && s.live() && !s.holding()
		s.mu.Unlock()
		if more {
			s.agent.deliverMail(t, s)
		}
	}
	return true
}

// arrived takes a session's tail: what came for it at its old node goes among what
// waited here. The session is whole when the letters that it is owed are here too, or
// when one of them is lost.
func (s *Session) arrived(t *Turn, tail *parcel.Tail, lost bool) {
	s.mu.Lock()
	if !s.arriving || s.ended {
		s.mu.Unlock()
		return
	}
	var over []uint64
	if tail != nil {
		s.lost += tail.Lost
		s.journey.tailHere, s.journey.owed = true, tail.Owed
		for i := range tail.Frames {
			if id := s.takeFrame(t, &tail.Frames[i]); id != 0 {
				over = append(over, id)
			}
		}
	}
	if lost {
		s.tellBlind(t)
	}
	whole := lost || s.journey.letters >= s.journey.owed
	var ended []*pending
	for _, p := range s.asks {
		if slices.Contains(over, p.askID) {
			ended = append(ended, p)
		}
	}
	s.mu.Unlock()
	for _, p := range ended {
		s.hub.finish(p)
	}
	if whole {
		s.whole(t)
	}
}

// mailCame notes a letter that came along with the session.
func (s *Session) mailCame(t *Turn, id string) {
	s.mu.Lock()
	s.journey.over(id)
	if s.arriving {
		s.journey.letters++
	}
	whole := s.arriving && !s.ended && s.journey.whole()
	s.mu.Unlock()
	if whole {
		s.whole(t)
	}
}

// whole begins the session's life on this node with what waits for it.
func (s *Session) whole(t *Turn) {
	s.mu.Lock()
	s.arriving = false
	s.mu.Unlock()
	s.agent.declare()
	s.agent.deliverMail(t, s)
	s.mu.Lock()
	s.journey.tailed = nil
	s.mu.Unlock()
}

// joinMail gives a message that came along with the session, and is parked here for
// others already, to the session too; false when it is not.
func (h *Hub) joinMail(t *Turn, s *Session, id string) bool {
	e := h.mail.Get(id)
	if e == nil || !e.Value.miss(s) {
		return false
	}
	e.Value.want(s)
	s.mu.Lock()
	s.mail = true
	s.mu.Unlock()
	s.mailCame(t, id)
	s.agent.deliverMail(t, s)
	return true
}

// takeFrame adds a frame of the tail to the session, with the next seq. It returns
// the request that a last reply ends, or 0. s.mu must be held.
func (s *Session) takeFrame(t *Turn, f *parcel.Frame) (ended uint64) {
	var ev wire.Event
	if _, err := ev.Read(wire.Protobuf, wire.Body(f.Data)); err != nil {
		return 0
	}
	give := func(class wire.Class, e replayEntry, encode func(dst []byte, enc wire.Encoding, seq uint64) []byte) {
		if !s.direct(t, class, e, encode) && !s.ended {
			s.lost++
			t.count.dropped[dropReplayFull]++
		}
	}
	switch ev.Kind {
	case wire.KindMessage:
		v := &ev.Message
		s.journey.over(v.MessageID)
		if f.Bare && s.hadLately(v.MessageID) {
			return 0
		}
		if s.mail {
			if s.waitBehind(v, f) {
				return 0
			}
			if f.Bare { // it must not overtake what waits
				s.lost++
				t.count.dropped[dropMailboxFull]++
				return 0
			}
		}
		if s.journey != nil && s.journey.tailed != nil {
			s.journey.tailed[v.MessageID] = struct{}{}
		}
		s.noteLately(t, v.MessageID)
		give(v.Class, replayEntry{order: s.agent.order.Load(), expires: f.ExpiresMS}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendMessage(dst, enc, v)
		})
	case wire.KindRequest:
		v := &ev.Request
		s.travel().serve(v.Request, s.journey.origin())
		give(wire.Normal, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendRequest(dst, enc, v)
		})
	case wire.KindReply:
		v := &ev.Reply
		give(wire.Normal, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendReply(dst, enc, v)
		})
		if !v.More {
			return v.ID
		}
	case wire.KindReceipt:
		v := &ev.Receipt
		give(wire.Normal, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendReceipt(dst, enc, v)
		})
	case wire.KindCancel:
		delete(s.journey.toAnswer(), ev.CancelRequest)
		if s.live() {
			t.frame = wire.AppendCancel(t.room(), s.enc, ev.CancelRequest)
			s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.High)
			t.markUrgent(s)
		}
	}
	return 0
}

// sendCopies posts a message to sessions that left a moment ago for a node which has
// it too: it may have come there before they did. The session itself knows whether
// it has had the message.
func (h *Hub) sendCopies(t *Turn, m *letter) {
	var went []departure
	d := &h.departed
	d.mu.RLock()
	for _, v := range d.m[ownString(m.to)] {
		if t.clock() < v.until-int64(departureTime)+lateTime && slices.Contains(m.targets, v.node) {
			went = append(went, v)
		}
	}
	d.mu.RUnlock()
	if len(went) == 0 {
		return
	}
	msg := wire.Message{Seq: 1, From: m.from, To: string(m.to), Payload: m.payload, MessageID: m.id, TimeMS: m.timeMS, Class: m.class, Headers: m.headers}
	sealed := wire.Seal(wire.Protobuf, wire.AppendMessage(make([]byte, wire.HeaderRoom, 512), wire.Protobuf, &msg))
	f := parcel.Frame{Data: sealed, Bare: true}
	if m.ttl > 0 {
		f.ExpiresMS = m.timeMS + m.ttl.Milliseconds()
	}
	for _, v := range went {
		h.fleet.Post(v.node, parcel.Append(nil, &parcel.Tail{Secret: v.secret[:], Index: 1, Frames: []parcel.Frame{f}}))
	}
}

// sendAfter posts a frame that came for a session after it moved: a cancel, which
// carries no seq.
func (s *Session) sendAfter(frame []byte) {
	s.mu.Lock()
	node, n := s.journey.destination(), uint64(0)
	if node != "" {
		s.journey.tailN++
		n = s.journey.tailN
	}
	s.mu.Unlock()
	if node == "" {
		return
	}
	s.hub.fleet.Post(node, parcel.Append(nil, &parcel.Tail{Secret: s.secret[:], Index: n, Frames: []parcel.Frame{{Data: frame, Bare: true}}}))
}
