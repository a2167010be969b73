package cluster

import (
	"sync"
	"time"
)

const (
	// inBytes bounds what waits for this node's handlers of one peer.
	inBytes = 32 << 20
	// holdBatches and holdFor bound the wait for a batch that another one has
	// overtaken though Redis took it before: a slot that moves, or a listener that
	// reads two connections, may bring it late.
	holdBatches = 16
	holdFor     = 300 * time.Millisecond
)

// An item is something for a peer's own goroutine: a batch of its stream, or a step.
type item struct {
	header  header
	records []byte
	size    int
	at      time.Time // when it was held
	step    func()
}

// An inbox hands items to a peer's goroutine.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex
	items []item
	bytes int
}

// put adds a batch. It reports false when too much waits already.
func (in *inbox) put(it item) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if it.size > 0 && in.bytes > 0 && in.bytes+it.size > inBytes {
		return false
	}
	in.items = append(in.items, it)
	in.bytes += it.size
	if len(in.items) == 1 {
		select {
		case in.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// do has step called by the peer's goroutine.
func (in *inbox) do(step func()) { in.put(item{step: step}) }

// idle reports whether nothing waits.
func (in *inbox) idle() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.items) == 0
}

// swap returns what waits, in place of an emptied slice.
func (in *inbox) swap(used []item) []item {
	clear(used)
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.items
	in.items, in.bytes = used[:0], 0
	return items
}

// A stream puts the batches of one stream into order and finds what is missing.
type stream struct {
	next   uint64 // number of the next record; 0: the first batch says it
	oldest uint64 // the origin sends nothing again that comes before this number
	held   []item // batches behind a hole, by number
}

// add takes a batch. Afterwards ready says what is next.
func (s *stream) add(it item, now time.Time) {
	if s.next == 0 {
		s.next = it.header.first
	}
	s.oldest = max(s.oldest, it.header.oldest)
	it.at = now
	at := len(s.held)
	for at > 0 && s.held[at-1].header.first > it.header.first {
		at--
	}
	s.held = append(s.held, item{})
	copy(s.held[at+1:], s.held[at:])
	s.held[at] = it
}

// ready returns the next batch in order and how many of its records came before
// (skip), or the number of records that are missing and will not come any more.
// It reports false when there is nothing to do but wait: a hole whose batch the
// origin is still sending is none, and the origin lets only a few overtake it.
func (s *stream) ready(now time.Time) (it item, skip, lost uint64, ok bool) {
	for len(s.held) > 0 {
		first, count := s.held[0].header.first, uint64(s.held[0].header.count)
		switch {
		case first+count <= s.next: // all of it came before
			s.drop()
			continue
		case first <= s.next:
			it, skip = s.held[0], s.next-first
			s.drop()
			s.next = first + count
			return it, skip, 0, true
		case s.oldest <= s.next:
			return item{}, 0, 0, false
		case len(s.held) >= holdBatches || now.Sub(s.held[0].at) >= holdFor:
			lost = first - s.next
			s.next = first
			return item{}, 0, lost, true
		}
		return item{}, 0, 0, false
	}
	return item{}, 0, 0, false
}

func (s *stream) drop() {
	s.held[0] = item{}
	s.held = s.held[1:]
}
