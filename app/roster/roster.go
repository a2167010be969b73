package roster

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// A Row is one agent with all of its sessions on one node.
type Row struct {
	Agent     string        `json:"agent"`
	Node      string        `json:"node"`
	Region    string        `json:"region"`
	State     string        `json:"state" enum:"slow,available,busy,away,offline"`
	Sessions  int           `json:"sessions"`
	Connected int           `json:"connected" doc:"Sessions that have a socket now."`
	Since     time.Time     `json:"since" doc:"When the oldest session began."`
	RTT       time.Duration `json:"rtt_ns" doc:"As the client measured it; 0: it never told."`
	Queue     int           `json:"queue_frames"`
	Bytes     int           `json:"queue_bytes"`
	Unacked   int           `json:"unacked"`
	Channels  int           `json:"channels"`
	Sent      uint64        `json:"sent"`
	Heard     uint64        `json:"heard"`
	SentPerS  float64       `json:"out_per_s"`
	HeardPerS float64       `json:"in_per_s"`
	Measured  bool          `json:"measured" doc:"The rates are known."`
	Encoding  string        `json:"encoding"`
	Subject   string        `json:"subject,omitempty"`
	Token     string        `json:"token,omitempty" doc:"Public name of the credential."`
}

// A moment is all agents of this node at one time. It is never changed.
type moment struct {
	at   time.Time
	rows []Row
}

// fresh is how long a moment is shown before the relay is asked again; rates are
// measured over at least as long.
const fresh = time.Second

// A Book lists the agents of one node. Its methods may be called concurrently; the
// relay is asked once a second at most, however many look.
type Book struct {
	node, region string
	census       func(channels bool, match func(agent string) bool) []relay.SessionInfo

	mu   sync.Mutex
	last *moment // Guarded by mu.
}

// New makes a book of a node from its census, which is relay.Hub.Census.
func New(node, region string, census func(channels bool, match func(agent string) bool) []relay.SessionInfo) *Book {
	return &Book{node: node, region: region, census: census}
}

func (b *Book) now() *moment {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != nil && time.Since(b.last.at) < fresh {
		return b.last
	}
	next := &moment{at: time.Now(), rows: gather(b.census(false, nil))}
	for i := range next.rows {
		next.rows[i].Node, next.rows[i].Region = b.node, b.region
	}
	if old := b.last; old != nil && next.at.Sub(old.at) < 30*time.Second {
		next.measure(old)
	}
	b.last = next
	return next
}

// maxSessions bounds the sessions that are told of one agent.
const maxSessions = 100

// maxChannels bounds the channels that are told of one session.
const maxChannels = 1000

// A Session is one session of an agent and where it is.
type Session struct {
	Node   string `json:"node"`
	Region string `json:"region"`
	relay.SessionInfo
}

// Sessions are those of one agent on this node, with the names of their channels.
func (b *Book) Sessions(agent string) (out []Session) {
	all := b.census(true, func(name string) bool { return name == agent })
	slices.SortFunc(all, func(a, c relay.SessionInfo) int { return a.Since.Compare(c.Since) })
	for _, s := range all[:min(len(all), maxSessions)] {
		if len(s.Channels) > maxChannels {
			s.Channels = s.Channels[:maxChannels]
		}
		out = append(out, Session{b.node, b.region, s})
	}
	return out
}

// Sum is one row of all sessions of an agent, on whichever nodes they are.
func Sum(agent string, sessions []Session) Row {
	all := make([]relay.SessionInfo, len(sessions))
	for i := range sessions {
		all[i] = sessions[i].SessionInfo
	}
	if rows := gather(all); len(rows) == 1 {
		return rows[0]
	}
	return Row{Agent: agent, State: string(wire.Offline)}
}

// gather makes rows of sessions, in the order of names.
func gather(sessions []relay.SessionInfo) []Row {
	slices.SortFunc(sessions, func(a, b relay.SessionInfo) int {
		return cmp.Or(cmp.Compare(a.Agent, b.Agent), a.Since.Compare(b.Since))
	})
	var out []Row
	for i := range sessions {
		s := &sessions[i]
		if len(out) == 0 || out[len(out)-1].Agent != s.Agent {
			out = append(out, Row{Agent: s.Agent, State: string(wire.Offline), Since: s.Since, Encoding: s.Encoding, Subject: s.Subject, Token: s.Token})
		}
		a := &out[len(out)-1]
		a.Sessions++
		a.Queue, a.Bytes, a.Unacked = a.Queue+s.Queue, a.Bytes+s.QueueBytes, a.Unacked+s.Unacked
		a.Sent, a.Heard, a.Channels = a.Sent+s.Sent, a.Heard+s.Heard, max(a.Channels, len(s.Channels))
		a.RTT = max(a.RTT, s.RTT)
		if a.Encoding != s.Encoding {
			a.Encoding = "both"
		}
		if s.Connected {
			a.Connected++
			a.State = better(a.State, string(s.State))
		}
		if s.Full {
			a.State = "slow"
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
func (r *moment) measure(old *moment) {
	took := r.at.Sub(old.at)
	for i, k := 0, 0; i < len(r.rows); i++ {
		for k < len(old.rows) && old.rows[k].Agent < r.rows[i].Agent {
			k++
		}
		if k < len(old.rows) && old.rows[k].Agent == r.rows[i].Agent {
			a, b := &old.rows[k], &r.rows[i]
			b.SentPerS, b.HeardPerS, b.Measured = rate(a.Sent, b.Sent, took), rate(a.Heard, b.Heard, took), true
		}
	}
}

// rate is how many came between two counts; a count that went back began anew.
func rate(before, after uint64, took time.Duration) float64 {
	if took <= 0 || after < before {
		return 0
	}
	return float64(after-before) / took.Seconds()
}
