package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"sync"

	"agentnet/app/wire"
)

// A verdict is what the sender of a message was told.
type verdict uint8

const (
	unanswered verdict = iota
	refused
	delivered
	parked
	published
	expired   // parked, and its end was told by a receipt
	uncertain // its sender left before the answer came
)

// A deed is one accepted or attempted send or publish, as its sender saw it.
type deed struct {
	from, to int // agents; to is a channel when channel is set
	channel  bool
	class    wire.Class
	n        int  // the sender's own number, 1 up by one over all that it sends
	keep     bool // a ttl longer than the run was given
	again    bool // repeated because its answer was lost
	verdict  verdict
	id       string // message id, of a send
	offset   uint64 // of a publish
	begun    int64  // ns
	ended    int64  // ns, of the answer
}

// A sight is one message that an agent handled, after it had dropped the seqs and
// offsets that it had handled before.
type sight struct {
	lineage int
	from    int
	to      int
	channel bool
	secret  string // that the payload carries: the receiver's, or the channel's
	class   wire.Class
	n       int
	place   uint64 // seq or offset
	id      string
	at      int64
}

// A loss is a gap that an agent was told of.
type loss struct {
	lineage int
	channel int    // -1: direct frames
	missed  uint64 // 0: not known
}

// A listening is the time for which a lineage was subscribed to a channel.
type listening struct {
	lineage, channel int
	after            uint64 // offset told by the answer to subscribe
	last             uint64 // what must have come at its end; 0: not known
}

// A lineage is a session with all its resumptions.
type lineage struct {
	begun, ended int64 // ended 0: it lives
}

// A diary is what one agent saw and did. Its agent writes it, from several
// goroutines.
type diary struct {
	secret string

	mu         sync.Mutex
	deeds      []*deed
	sights     []sight
	losses     []loss
	lineages   []lineage
	listenings []listening
	foreign    []string // what came and was not a payload of this run
	questions  int
	answers    int
	silent     int // requests without any answer
	life       []event
}

// An event is one turn in the life of an agent's connection, shown with a fault.
type event struct {
	at   int64
	text string
}

// tell notes an event.
func (d *diary) tell(at int64, format string, args ...any) {
	d.mu.Lock()
	d.life = append(d.life, event{at, fmt.Sprintf(format, args...)})
	d.mu.Unlock()
}

// last is when the latest event was. d.mu must be held.
func (d *diary) last() int64 {
	if len(d.life) == 0 {
		return 0
	}
	return d.life[len(d.life)-1].at
}

// around lists the events from 3 s before from to 3 s after to. d.mu must be held.
func (d *diary) around(from, to int64) string {
	const margin = 3e9
	text := ""
	for _, e := range d.life {
		if e.at >= from-margin && e.at <= to+margin {
			text += fmt.Sprintf("\n      %d ms %s", e.at/1e6, e.text)
		}
	}
	return text
}

func (d *diary) saw(s sight) {
	d.mu.Lock()
	d.sights = append(d.sights, s)
	d.mu.Unlock()
}

// A record is the whole history of a run.
type record struct {
	agents   []*diary
	channels []string // their secrets
}

// A fault is one broken promise.
type fault struct{ kind, text string }

// Kinds of faults.
const (
	faultForeign = "foreign" // reached an agent that it was not for
	faultLost    = "lost"    // accepted, never received, nothing told
	faultDoubled = "doubled" // handled twice in one lineage, or accepted twice
	faultOrder   = "order"
	faultHole    = "hole"   // offsets missing that no gap tells
	faultSilent  = "silent" // a command without an answer
)

// check looks for every broken promise in the record.
func (r *record) check() (out []fault) {
	seen, accepted := r.received(), r.accepted()
	for i, d := range r.agents {
		d.mu.Lock()
		out = append(out, r.isolation(i, d)...)
		out = append(out, doubles(i, d)...)
		out = append(out, order(i, d, accepted)...)
		out = append(out, offsets(i, d)...)
		if d.silent > 0 {
			out = append(out, fault{faultSilent, fmt.Sprintf("agent %d: %d requests ended without any answer%s", i, d.silent, d.around(d.last(), d.last()))})
		}
		d.mu.Unlock()
	}
	return append(out, r.losses(seen)...)
}

// A name tells a message from all others of the run.
type name struct{ from, to, n int }

// received lists which direct messages reached their agent at all.
func (r *record) received() map[name]bool {
	seen := map[name]bool{}
	for i, d := range r.agents {
		d.mu.Lock()
		for j := range d.sights {
			if s := &d.sights[j]; !s.channel {
				seen[name{s.from, i, s.n}] = true
			}
		}
		d.mu.Unlock()
	}
	return seen
}

// accepted lists the direct messages by name.
func (r *record) accepted() map[name]*deed {
	out := map[name]*deed{}
	for i, d := range r.agents {
		d.mu.Lock()
		for _, m := range d.deeds {
			if !m.channel {
				out[name{i, m.to, m.n}] = m
			}
		}
		d.mu.Unlock()
	}
	return out
}

// inherited says that a message was accepted before the session began that handled
// it: what an older one left comes when that is given up, and may be overtaken by
// then. d.mu must be held.
func (d *diary) inherited(s *sight, m *deed) bool {
	return m != nil && s.lineage >= 0 && s.lineage < len(d.lineages) && m.begun <= d.lineages[s.lineage].begun
}

func (r *record) isolation(i int, d *diary) (out []fault) {
	for _, text := range d.foreign {
		out = append(out, fault{faultForeign, fmt.Sprintf("agent %d: %s", i, text)})
	}
	for j := range d.sights {
		s := &d.sights[j]
		switch {
		case s.channel && (s.to >= len(r.channels) || s.secret != r.channels[s.to]),
			!s.channel && (s.to != i || s.secret != d.secret):
			out = append(out, fault{faultForeign, fmt.Sprintf("agent %d got message %d of agent %d for %d (channel %v)", i, s.n, s.from, s.to, s.channel)})
		}
	}
	return out
}

// doubles finds what was handled twice within one lineage, and what was accepted
// under two ids.
func doubles(i int, d *diary) (out []fault) {
	type once struct {
		lineage, from, n, to int
		channel              bool
	}
	handled := map[once]*sight{}
	ids := map[once]string{}
	for j := range d.sights {
		s := &d.sights[j]
		k := once{s.lineage, s.from, s.n, s.to, s.channel}
		if o := handled[k]; o != nil {
			out = append(out, fault{faultDoubled, fmt.Sprintf("agent %d handled message %d of agent %d twice in lineage %d (channel %v %d): %s at %d, %d ms, %s at %d, %d ms%s",
				i, s.n, s.from, s.lineage, s.channel, s.to, o.id, o.place, o.at/1e6, s.id, s.place, s.at/1e6, d.around(o.at, s.at))})
		}
		handled[k] = s
		k.lineage = 0
		if id, ok := ids[k]; ok && id != s.id {
			out = append(out, fault{faultDoubled, fmt.Sprintf("agent %d got message %d of agent %d under two ids: it was accepted twice", i, s.n, s.from)})
		}
		ids[k] = s.id
	}
	return out
}

// order checks that of one sender (in a channel: of all) and one class messages
// came in the order of acceptance. A sender numbers what it sends; messages that it
// had to repeat may have been accepted at either time and are left out, as are those
// that came again in a later lineage. d.mu must be held.
func order(i int, d *diary, accepted map[name]*deed) (out []fault) {
	type lane struct {
		lineage, from, to int
		class             wire.Class
		channel           bool
	}
	last := map[lane]uint64{}
	before := map[name]bool{}
	for j := range d.sights {
		s := &d.sights[j]
		if s.channel {
			k := lane{lineage: s.lineage, to: s.to, class: s.class, channel: true}
			if s.place <= last[k] {
				out = append(out, fault{faultOrder, fmt.Sprintf("agent %d, channel %d: offset %d came after %d of the same class", i, s.to, s.place, last[k])})
			}
			last[k] = max(last[k], s.place)
			continue
		}
		m := name{s.from, i, s.n}
		if before[m] || accepted[m] != nil && accepted[m].again {
			continue
		}
		before[m] = true
		if d.inherited(s, accepted[m]) {
			continue
		}
		k := lane{lineage: s.lineage, from: s.from, class: s.class}
		if uint64(s.n) <= last[k] {
			out = append(out, fault{faultOrder, fmt.Sprintf("agent %d: message %d of agent %d (%v, seq %d, lineage %d) came after %d", i, s.n, s.from, s.class, s.place, s.lineage, last[k])})
		}
		last[k] = max(last[k], uint64(s.n))
	}
	return out
}

// offsets checks that within one listening nothing is missing that no gap tells.
// d.mu must be held.
func offsets(i int, d *diary) (out []fault) {
	got := map[[2]int][]uint64{}
	came := map[[3]uint64]int64{}
	for j := range d.sights {
		if s := &d.sights[j]; s.channel {
			k := [2]int{s.lineage, s.to}
			got[k] = append(got[k], s.place)
			came[[3]uint64{uint64(s.lineage), uint64(s.to), s.place}] = s.at
		}
	}
	for _, l := range d.listenings {
		places := got[[2]int{l.lineage, l.channel}]
		slices.Sort(places)
		told, open := uint64(0), false
		for _, g := range d.losses {
			if g.lineage == l.lineage && g.channel == l.channel {
				told += g.missed
				open = open || g.missed == 0
			}
		}
		if open {
			continue
		}
		at, missing, when := l.after, uint64(0), int64(0)
		for _, p := range places {
			if p > at {
				if missing += p - at - 1; when == 0 && missing > 0 {
					when = came[[3]uint64{uint64(l.lineage), uint64(l.channel), p}]
				}
				at = p
			}
		}
		if l.last > at {
			missing += l.last - at
		}
		if missing > told {
			out = append(out, fault{faultHole, fmt.Sprintf("agent %d, channel %d, lineage %d: %d offsets missing between %d and %d, gaps told of %d; the first before %d ms%s", i, l.channel, l.lineage, missing, l.after, max(at, l.last), told, when/1e6, d.around(cmp.Or(when, d.last()), cmp.Or(when, d.last())))})
		}
	}
	return out
}

// losses finds accepted direct messages that never came. A gap excuses as many as
// it counts. The end of the receiver's session excuses those without a ttl; one with
// a ttl has to come to the next session.
func (r *record) losses(seen map[name]bool) (out []fault) {
	missing := map[int][]*deed{}
	for i, d := range r.agents {
		d.mu.Lock()
		for _, m := range d.deeds {
			switch {
			case m.verdict == unanswered:
				out = append(out, fault{faultSilent, fmt.Sprintf("agent %d: message %d (to %d, channel %v) was never answered", i, m.n, m.to, m.channel)})
			case m.channel || m.verdict == refused || m.verdict == expired || m.verdict == uncertain || seen[name{i, m.to, m.n}]:
			default:
				missing[m.to] = append(missing[m.to], m)
			}
		}
		d.mu.Unlock()
	}
	for to, list := range missing {
		d := r.agents[to]
		d.mu.Lock()
		excused := uint64(0)
		for _, g := range d.losses {
			if g.channel < 0 {
				if excused += g.missed; g.missed == 0 {
					excused = ^uint64(0) >> 1
				}
			}
		}
		sort.Slice(list, func(a, b int) bool { return list[a].begun < list[b].begun })
		for _, m := range list {
			if !m.keep && d.endedAround(m) {
				continue
			}
			if excused > 0 {
				excused--
				continue
			}
			out = append(out, fault{faultLost, fmt.Sprintf("agent %d never got message %d of agent %d (%v, verdict %d, ttl %v, sent at %d ms)%s", to, m.n, m.from, m.class, m.verdict, m.keep, m.begun/1e6, d.around(m.begun, m.ended+20e9))})
		}
		d.mu.Unlock()
	}
	return out
}

// endedAround says whether a session that may have held m ended for good. d.mu must
// be held.
func (d *diary) endedAround(m *deed) bool {
	for _, l := range d.lineages {
		if l.ended != 0 && l.begun <= m.ended && l.ended >= m.begun {
			return true
		}
	}
	// Between two sessions the relay may have kept it for one that had ended already.
	for i, l := range d.lineages {
		next := int64(1<<63 - 1)
		if i+1 < len(d.lineages) {
			next = d.lineages[i+1].begun
		}
		if l.ended != 0 && l.ended <= m.ended && m.begun <= next {
			return true
		}
	}
	return false
}
