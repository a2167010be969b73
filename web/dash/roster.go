package dash

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// An agentRow is one agent with all of its sessions on this node.
type agentRow struct {
	name     string
	state    string // slow, available, busy, away, offline
	sessions int
	online   int
	since    time.Time // of the oldest session
	rtt      time.Duration
	queue    int
	bytes    int
	unacked  int
	channels int
	sent     uint64
	heard    uint64
	sentPerS float64
	hearPerS float64
	measured bool // the rates are known
	encoding string
	subject  string
	token    string
}

// A roster is all agents of this node at one moment. It is never changed.
type roster struct {
	at   time.Time
	rows []agentRow
}

// rosterFor is how long a roster is shown before the relay is asked again; rates
// are measured over at least as long.
const rosterFor = time.Second

// rosters keeps the newest roster, so that many viewers ask once.
type rosters struct {
	mu   sync.Mutex
	last *roster // Guarded by mu.
}

func (b *Board) roster() *roster {
	s := &b.rosters
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && time.Since(s.last.at) < rosterFor {
		return s.last
	}
	now := &roster{at: time.Now(), rows: gather(b.cfg.Relay.Census(false, nil))}
	if old := s.last; old != nil && now.at.Sub(old.at) < 30*time.Second {
		now.measure(old)
	}
	s.last = now
	return now
}

// gather makes rows of sessions, in the order of names.
func gather(sessions []relay.SessionInfo) []agentRow {
	slices.SortFunc(sessions, func(a, b relay.SessionInfo) int {
		return cmp.Or(cmp.Compare(a.Agent, b.Agent), a.Since.Compare(b.Since))
	})
	var out []agentRow
	for i := range sessions {
		s := &sessions[i]
		if len(out) == 0 || out[len(out)-1].name != s.Agent {
			out = append(out, agentRow{name: s.Agent, state: string(wire.Offline), since: s.Since, encoding: s.Encoding, subject: s.Subject, token: s.Token})
		}
		a := &out[len(out)-1]
		a.sessions++
		a.queue, a.bytes, a.unacked = a.queue+s.Queue, a.bytes+s.QueueBytes, a.unacked+s.Unacked
		a.sent, a.heard, a.channels = a.sent+s.Sent, a.heard+s.Heard, max(a.channels, len(s.Channels))
		a.rtt = max(a.rtt, s.RTT)
		if a.encoding != s.Encoding {
			a.encoding = "both"
		}
		if s.Connected {
			a.online++
			a.state = better(a.state, string(s.State))
		}
		if s.Full {
			a.state = "slow"
		}
	}
	return out
}

// better is the more available of two states.
func better(a, b string) string {
	order := []string{"slow", string(wire.Available), string(wire.Busy), string(wire.Away), string(wire.Offline)}
	if slices.Index(order, a) <= slices.Index(order, b) {
		return a
	}
	return b
}

// measure works out rates from an older roster.
func (r *roster) measure(old *roster) {
	took := r.at.Sub(old.at)
	for i, k := 0, 0; i < len(r.rows); i++ {
		for k < len(old.rows) && old.rows[k].name < r.rows[i].name {
			k++
		}
		if k < len(old.rows) && old.rows[k].name == r.rows[i].name {
			a, b := &old.rows[k], &r.rows[i]
			b.sentPerS, b.hearPerS, b.measured = rate(a.sent, b.sent, took), rate(a.heard, b.heard, took), true
		}
	}
}
