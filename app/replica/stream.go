package replica

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// ioTime bounds one use of a ledger.
const ioTime = 5 * time.Second

// freshBatches bounds what one change broadcasts: the rest of a bulk load is asked
// for by those who lack it.
const freshBatches = 4

// A letter is a parcel and who sent it.
type letter struct {
	from string
	parcel
}

// A peer is what a stream knows of another node.
type peer struct {
	digest uint64
	asked  time.Time // when this node last asked it
}

// A stream keeps one ledger equal to the others'. All of its work is done by run.
type stream struct {
	// Fixed at construction.
	name    string
	ledger  Ledger
	bus     Bus
	log     *slog.Logger
	cfg     Config
	inbox   chan letter
	changed chan struct{} // buffered, 1

	// Owned by run.
	own     string
	heads   map[string]uint64
	digest  uint64
	known   bool // own, heads and digest were read
	sent    uint64
	peers   map[string]*peer
	asking  string // the node that owes an answer; "" is none
	until   time.Time
	budget  int // bytes that may be sent before the next beat
	pruned  time.Time
	failing bool // the ledger failed the last time

	count counters
}

// counters are read by others while run goes on.
type counters struct {
	applied, sent, asked, gaps, renewals             atomic.Uint64
	full, cannotPost, applyFailed, readFailed, later atomic.Uint64
	origins, peers                                   atomic.Int64
	equal                                            atomic.Bool
}

func newStream(s Stream, cfg Config) *stream {
	return &stream{name: s.Name, ledger: s.Ledger, bus: cfg.Bus, log: cfg.Logger.With("stream", s.Name), cfg: cfg,
		inbox: make(chan letter, cfg.Inbox), changed: make(chan struct{}, 1), peers: map[string]*peer{}}
}

func (s *stream) run(ctx context.Context) {
	s.pruned = time.Now()
	s.budget = s.cfg.BytesPerS
	// The first beat comes at once, and the beats of nodes that started together
	// are spread.
	first := time.NewTimer(rand.N(s.cfg.Beat / 10))
	defer first.Stop()
	select {
	case <-ctx.Done():
		return
	case <-first.C:
	}
	s.beat(ctx)
	tick := time.NewTicker(s.cfg.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.beat(ctx)
		case <-s.changed:
			if s.read(ctx) {
				s.broadcastFresh(ctx)
			}
		case l := <-s.inbox:
			s.take(ctx, l)
		}
	}
}

// beat compares this ledger with all others.
func (s *stream) beat(ctx context.Context) {
	s.budget = min(s.budget+int(float64(s.cfg.BytesPerS)*s.cfg.Beat.Seconds()), s.cfg.BytesPerS)
	if !s.read(ctx) {
		return
	}
	s.broadcastFresh(ctx)
	there := s.bus.Peers()
	maps.DeleteFunc(s.peers, func(name string, _ *peer) bool { return !slices.Contains(there, name) })
	if len(there) > 0 {
		p := parcel{kind: kindBeat, stream: s.name, own: s.own, digest: s.digest}
		s.bus.Broadcast(p.append(nil))
	}
	s.seek()
	equal := len(s.peers) == len(there)
	for _, p := range s.peers {
		equal = equal && p.digest == s.digest
	}
	s.count.equal.Store(equal)
	s.count.peers.Store(int64(len(s.peers)))
	s.count.origins.Store(int64(len(s.heads)))
	if equal && time.Since(s.pruned) >= s.cfg.PruneEvery {
		s.pruned = time.Now()
		io, cancel := context.WithTimeout(ctx, ioTime)
		defer cancel()
		if err := s.ledger.Prune(io); err != nil {
			s.fault(ctx, "drop overwritten entries", err)
		}
	}
}

// read learns how far the ledger is. False: it cannot be read now.
func (s *stream) read(ctx context.Context) bool {
	io, cancel := context.WithTimeout(ctx, ioTime)
	defer cancel()
	pos, err := s.ledger.Position(io)
	if err != nil {
		s.count.readFailed.Add(1)
		s.fault(ctx, "read how far it is", err)
		return false
	}
	if pos.Own != s.own || !s.known {
		s.own, s.sent = pos.Own, pos.Heads[pos.Own] // what is old is asked for, not broadcast
	}
	s.heads, s.digest, s.known, s.failing = pos.Heads, digest(pos.Heads), true, false
	if s.heads == nil {
		s.heads = map[string]uint64{}
	}
	return true
}

// fault logs the first of a row of failures.
func (s *stream) fault(ctx context.Context, what string, err error) {
	if ctx.Err() == nil && !s.failing {
		s.failing = true
		s.log.Warn("replicated data: this node's ledger fails, it is tried again", "doing", what, "error", err)
	}
}

// broadcastFresh sends what this node wrote since it did so last.
func (s *stream) broadcastFresh(ctx context.Context) {
	head := s.heads[s.own]
	for range freshBatches {
		if s.sent >= head || len(s.bus.Peers()) == 0 {
			break
		}
		b, ok := s.since(ctx, s.own, s.sent)
		if !ok || b.UpTo <= s.sent {
			break
		}
		p := parcel{kind: kindBatch, stream: s.name, batch: b}
		if s.bus.Broadcast(p.append(nil)) == 0 {
			s.count.cannotPost.Add(1)
		}
		s.count.sent.Add(uint64(len(b.Entries)))
		s.sent = b.UpTo
	}
	s.sent = max(s.sent, head) // whoever missed it asks
}

// since reads one batch if the rate allows to send it.
func (s *stream) since(ctx context.Context, origin string, after uint64) (Batch, bool) {
	if s.budget <= 0 {
		s.count.later.Add(1)
		return Batch{}, false
	}
	io, cancel := context.WithTimeout(ctx, ioTime)
	defer cancel()
	b, err := s.ledger.Since(io, origin, after, s.cfg.BatchBytes)
	if err != nil {
		s.count.readFailed.Add(1)
		s.fault(ctx, "read entries", err)
		return Batch{}, false
	}
	s.budget -= size(b)
	return b, true
}

func size(b Batch) int {
	n := 64
	for i := range b.Entries {
		n += len(b.Entries[i].Body) + 8
	}
	return n
}

// take does what a parcel asks.
func (s *stream) take(ctx context.Context, l letter) {
	if !s.known && !s.read(ctx) {
		return
	}
	p := s.peers[l.from]
	if p == nil {
		if len(s.peers) >= maxOrigins {
			return
		}
		p = &peer{digest: s.digest}
		s.peers[l.from] = p
	}
	switch l.kind {
	case kindBeat:
		p.digest = l.digest
		if l.own == s.own {
			s.renew(ctx, "another node has a copy of this node's data directory", l.from)
		}
		s.seek()
	case kindWant:
		s.answer(ctx, p, l)
	case kindBatch:
		s.apply(ctx, p, l)
	case kindDone:
		if s.asking == l.from {
			s.asking = ""
			if l.more {
				s.ask(l.from, p)
			}
		}
	}
}

// seek asks one of those that have something else than this node, the one that
// was not asked for longest.
func (s *stream) seek() {
	now := time.Now()
	if s.asking != "" && now.Before(s.until) {
		return
	}
	s.asking = ""
	var name string
	for n, p := range s.peers {
		if p.digest == s.digest || now.Sub(p.asked) < s.cfg.Beat/2 {
			continue
		}
		if name == "" || p.asked.Before(s.peers[name].asked) {
			name = n
		}
	}
	if name != "" {
		s.ask(name, s.peers[name])
	}
}

// ask sends this node's heads to a node, which answers with what they lack.
func (s *stream) ask(name string, p *peer) {
	now := time.Now()
	p.asked = now
	want := parcel{kind: kindWant, stream: s.name, heads: s.heads}
	if !s.bus.Post(name, want.append(nil)) {
		s.count.cannotPost.Add(1)
		return
	}
	s.count.asked.Add(1)
	s.asking, s.until = name, now.Add(s.cfg.PatienceFor)
}

// answer sends a node what it lacks, as far as the bounds allow.
func (s *stream) answer(ctx context.Context, p *peer, l letter) {
	if l.heads[s.own] > s.heads[s.own] && s.read(ctx) && l.heads[s.own] > s.heads[s.own] {
		s.renew(ctx, "the others have more of this node's changes than the node itself: it was restored from an older copy", l.from)
	}
	p.digest = digest(l.heads)
	left, more := s.cfg.AnswerBytes, false
	for _, origin := range slices.Sorted(maps.Keys(s.heads)) {
		after := l.heads[origin]
		for after < s.heads[origin] && !more {
			if left <= 0 {
				more = true
				break
			}
			b, ok := s.since(ctx, origin, after)
			if !ok || b.UpTo <= after {
				break // the asker tries again, here or elsewhere
			}
			out := parcel{kind: kindBatch, stream: s.name, batch: b}
			if !s.bus.Post(l.from, out.append(nil)) {
				s.count.cannotPost.Add(1)
				return
			}
			s.count.sent.Add(uint64(len(b.Entries)))
			left -= size(b)
			after = b.UpTo
		}
	}
	done := parcel{kind: kindDone, stream: s.name, more: more}
	if !s.bus.Post(l.from, done.append(nil)) {
		s.count.cannotPost.Add(1)
	}
}

// apply takes entries in. Fresh ones that come before what precedes them make
// this node ask.
func (s *stream) apply(ctx context.Context, p *peer, l letter) {
	b := l.batch
	if s.asking == l.from {
		s.until = time.Now().Add(s.cfg.PatienceFor) // it is still answering
	}
	if b.Origin == s.own && b.UpTo > s.heads[s.own] && s.read(ctx) && b.UpTo > s.heads[s.own] {
		s.renew(ctx, "another node sent changes of this node that it does not have itself", l.from)
	}
	switch have := s.heads[b.Origin]; {
	case b.UpTo <= have:
		return
	case b.After > have:
		s.count.gaps.Add(1)
		if s.asking == "" || !time.Now().Before(s.until) {
			s.ask(l.from, p)
		}
		return
	}
	io, cancel := context.WithTimeout(ctx, ioTime)
	defer cancel()
	if err := s.ledger.Apply(io, b); err != nil {
		s.count.applyFailed.Add(1)
		if errors.Is(err, ErrGap) {
			s.read(ctx) // what was read is not true any more
			return
		}
		s.fault(ctx, "write entries of another node", err)
		return
	}
	s.count.applied.Add(uint64(len(b.Entries)))
	s.heads[b.Origin] = b.UpTo
	s.digest = digest(s.heads)
}

// renew has the ledger write under another name.
func (s *stream) renew(ctx context.Context, why, node string) {
	io, cancel := context.WithTimeout(ctx, ioTime)
	defer cancel()
	s.count.renewals.Add(1)
	s.log.Warn("replicated data: this node takes a new origin", "why", why, "node", node, "old", s.own)
	if err := s.ledger.Renew(io); err != nil {
		s.fault(ctx, "take a new origin", err)
		return
	}
	s.read(ctx)
	s.sent = 0 // all of it is news under the new name
}

func (s *stream) stats() StreamStats {
	c := &s.count
	return StreamStats{Origins: int(c.origins.Load()), Peers: int(c.peers.Load()), Equal: c.equal.Load(),
		Applied: c.applied.Load(), Sent: c.sent.Load(), Asked: c.asked.Load(), Gaps: c.gaps.Load(), Renewals: c.renewals.Load(),
		InboxFull: c.full.Load(), CannotPost: c.cannotPost.Load(), ApplyFailed: c.applyFailed.Load(), ReadFailed: c.readFailed.Load(), Throttled: c.later.Load()}
}
