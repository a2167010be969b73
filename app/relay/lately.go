package relay

import (
	"slices"
	"time"
)

// lateTime is how long after a message came to one node it may still come to others:
// on its own way, or parked and forwarded because its outcome was lost.
const lateTime = int64(10 * time.Second)

// latelyMax bounds the messages that a session remembers for its next node.
const latelyMax = 1024

// A late is a message that came to a session, of which another node may have a copy.
type late struct {
	hash uint64
	at   int64
}

// messageHash is the same on all nodes. Message ids are made by nodes, not by clients.
func messageHash(id string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}

// noteLately remembers a message for as long as it may be under way to other nodes.
// s.mu must be held.
func (s *Session) noteLately(t *Turn, id string) {
	j, now := s.travel(), t.clock()
	old := 0
	for old < len(j.lately) && j.lately[old].at < now-lateTime {
		old++
	}
	if len(j.lately)-old >= latelyMax {
		old += latelyMax / 4
	}
	if old > 0 {
		j.lately = append(j.lately[:0], j.lately[old:]...)
	}
	j.lately = append(j.lately, late{messageHash(id), now})
}

// justCame says whether the session came from another node a moment ago, so that
// messages may still come on two ways. s.mu must be held.
func (s *Session) justCame(t *Turn) bool {
	return s.journey.origin() != "" && t.clock() < s.journey.cameAt+lateTime
}

// hadLately says whether a session that just came from another node has had a message
// there. s.mu must be held.
func (s *Session) hadLately(id string) bool {
	if s.journey == nil {
		return false
	}
	if _, ok := s.journey.tailed[id]; ok {
		return true
	}
	hash := messageHash(id)
	return slices.ContainsFunc(s.journey.lately, func(v late) bool { return v.hash == hash })
}

// latelyHashes are those messages. s.mu must be held.
func (s *Session) latelyHashes() (out []uint64) {
	for _, v := range s.journey.recent() {
		out = append(out, v.hash)
	}
	return out
}
