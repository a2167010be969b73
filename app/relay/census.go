package relay

import (
	"net/netip"
	"slices"
	"time"

	"agentnet/app/wire"
)

// A tally is what a session remembers for the census only. Session.mu guards it.
type tally struct {
	born  int64  // ns since the hub's start
	sent  uint64 // frames handed to the socket, over all of its connections
	rttMS int64  // as the client measured it last; 0: it never told
}

// A SessionInfo is one session as the census found it. Of messages it knows how
// many there were, never what they held.
type SessionInfo struct {
	Agent      string
	State      wire.AgentState
	Connected  bool // false: it lost its socket and may come back
	Since      time.Time
	Addr       netip.Addr // zero while it is not connected
	Encoding   string     // json or protobuf
	Token      string     // public name of the credential
	Subject    string
	RTT        time.Duration // 0: the client never told
	Heartbeat  time.Duration
	Seen       time.Time // when its client was heard last
	Queue      int       // frames that wait for the socket
	QueueBytes int
	Unacked    int // direct frames that the client has not acknowledged
	Full       bool
	Sent       uint64   // frames handed to its sockets since it began
	Heard      uint64   // frames of its present connection
	Channels   []string // names only when they were asked for; else as many empty ones
}

// MaxCensus bounds the sessions of one census.
const MaxCensus = 50_000

// Census reads all sessions of this node, at most MaxCensus of them, in no order.
// It locks one session at a time and for a moment only; asked once a second it
// does not disturb the message path. channels asks for the channels of each.
func (h *Hub) Census(channels bool, match func(agent string) bool) []SessionInfo {
	var out []SessionInfo
	var some []*Session
	for i := range h.sessions {
		sh := &h.sessions[i]
		some = some[:0]
		sh.mu.Lock()
		for _, s := range sh.m {
			some = append(some, s)
		}
		sh.mu.Unlock()
		for _, s := range some {
			if match != nil && !match(s.agent.name) {
				continue
			}
			if info, ok := s.census(channels); ok {
				out = append(out, info)
			}
			if len(out) == MaxCensus {
				return out
			}
		}
	}
	return out
}

func (s *Session) census(channels bool) (SessionInfo, bool) {
	s.mu.Lock()
	l := s.link
	info := SessionInfo{Agent: s.agent.name, State: s.state, Connected: s.conn != nil, Since: s.hub.started.Add(time.Duration(s.tally.born)),
		Encoding: encodingName(s.enc), Token: s.who.Token, Subject: s.who.Subject, RTT: time.Duration(s.tally.rttMS) * time.Millisecond, Heartbeat: s.beat,
		Queue: s.queue.Len(), QueueBytes: s.queue.Bytes(), Unacked: s.replay.len(), Full: s.full, Sent: s.tally.sent}
	if channels {
		for _, sub := range s.subs {
			info.Channels = append(info.Channels, sub.ch.name)
		}
		slices.Sort(info.Channels)
	} else {
		info.Channels = make([]string, len(s.subs))
	}
	ended := s.ended
	s.mu.Unlock()
	if ended {
		return info, false
	}
	if l == nil {
		info.State = wire.Offline
		return info, true
	}
	info.Addr, info.Seen = l.info.Addr, s.hub.started.Add(time.Duration(l.seen.Load()))
	l.mu.Lock()
	info.Heard = l.heard
	l.mu.Unlock()
	return info, true
}

func encodingName(e wire.Encoding) string {
	if e == wire.JSON {
		return "json"
	}
	return "protobuf"
}

// Disconnect ends all sessions of an agent for good and says how many there were.
// Its clients may connect anew.
func (h *Hub) Disconnect(agent, reason string) (n int) {
	t := h.borrow()
	defer h.giveBack(t)
	a := h.agent([]byte(agent))
	if a == nil {
		return 0
	}
	a.mu.Lock()
	some := slices.Clone(a.sessions)
	a.mu.Unlock()
	for _, s := range some {
		if s.closeFor(t, wire.ClosePolicy, reason) {
			n++
		}
	}
	return n
}
