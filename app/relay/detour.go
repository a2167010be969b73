package relay

import (
	"slices"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// detourMax bounds the messages that one session waits for.
const detourMax = 256

// A detour is the way of messages to a session that moved a moment ago, when their
// sender's node still posts them to its old node and to the new one, which has other
// sessions of the agent. What was accepted before them may be under way through the
// old node alone, and follows the session from there in its order. Therefore the
// session takes such a message only when the old node's copy of it has come: until
// then it waits in the mailbox, with all that comes after. Guarded by Session.mu.
type detour struct {
	wait  []uint64 // hashes of the messages whose copies are missing
	since int64    // when the newest came
	timer *detourTimer
}

// over notes that the old node's copy of a message has come.
func (d *detour) over(id string) {
	if len(d.wait) == 0 {
		return
	}
	if i := slices.Index(d.wait, messageHash(id)); i >= 0 {
		d.wait = slices.Delete(d.wait, i, i+1)
	}
}

// holding says that nothing of the mailbox may be given to the session yet. s.mu must
// be held.
func (s *Session) holding() bool { return s.arriving || s.journey.waits() }

// detours says whether m, which came to this node directly, comes through the old node
// of the session too, and lets the session wait for that. s.mu must be held.
func (s *Session) detours(t *Turn, m *letter) bool {
	from := s.journey.origin()
	if from == "" || s.ended {
		return false
	}
	d := &s.journey.detour
	if m.origin == from {
		d.over(m.id)
		return false
	}
	if !slices.Contains(m.targets, from) || !s.justCame(t) || s.hadLately(m.id) || len(d.wait) == detourMax {
		return false
	}
	d.wait, d.since, s.mail = append(d.wait, messageHash(m.id)), t.clock(), true
	if d.timer == nil {
		d.timer = &detourTimer{s: s}
		d.timer.timer.owner, d.timer.timer.shard = d.timer, s.secret[0]
		s.hub.wheels.arm(&d.timer.timer, d.since+int64(crossTime))
	}
	return true
}

// A detourTimer ends the wait for copies: the old node is gone, or a parcel was lost.
type detourTimer struct {
	s     *Session
	timer timer
}

func (d *detourTimer) expire(t *Turn, _ *timer) {
	s := d.s
	s.mu.Lock()
	if left := s.journey.detour.since + int64(crossTime); s.journey.waits() && t.clock() < left && !s.ended {
		s.mu.Unlock()
		s.hub.wheels.arm(&d.timer, left)
		return
	}
	s.journey.detour = detour{}
	s.mu.Unlock()
	s.agent.deliverMail(t, s)
}

// waitBehind lets a message of the tail wait behind those that wait for its session.
// s.mu must be held.
func (s *Session) waitBehind(v *wire.Message, f *parcel.Frame) bool {
	m := letter{from: v.From, class: v.Class, payload: v.Payload, headers: v.Headers, id: v.MessageID, timeMS: v.TimeMS, shared: true}
	if f.ExpiresMS > 0 {
		m.ttl = max(time.Duration(f.ExpiresMS-v.TimeMS)*time.Millisecond, time.Millisecond)
	}
	return s.hub.behind(s, &m)
}
