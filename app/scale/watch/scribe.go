package watch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/scale"
)

// A note is entries that belong together and what follows when they are on disk.
// then may be nil, and is called on the scribe's goroutine.
type note struct {
	entries []scale.Entry
	then    func(sealed []scale.LogEntry)
}

const (
	// maxNotes bounds the notes that wait for a database that does not answer.
	maxNotes = 2048
	// writeWait bounds one write.
	writeWait = 10 * time.Second
)

// A scribe writes entries to the log, in order, and keeps those that could not be
// written until they can. It drops the oldest when too many wait, and says so in
// the log afterwards.
type scribe struct {
	store Store
	node  string
	log   *slog.Logger
	own   *atomic.Pointer[string]

	wake chan struct{}

	mu      sync.Mutex
	waiting []note
	dropped uint64 // entries; told in the log when it can be written again
	total   uint64 // entries that were dropped ever
}

func newScribe(store Store, node string, log *slog.Logger, own *atomic.Pointer[string]) *scribe {
	return &scribe{store: store, node: node, log: log, own: own, wake: make(chan struct{}, 1)}
}

// write takes entries that nothing follows from.
func (s *scribe) write(entries ...scale.Entry) { s.put(note{entries: entries}) }

func (s *scribe) put(n note) {
	if len(n.entries) == 0 {
		return
	}
	s.mu.Lock()
	s.waiting = append(s.waiting, n)
	if over := len(s.waiting) - maxNotes; over > 0 {
		for _, n := range s.waiting[:over] {
			s.dropped += uint64(len(n.entries))
			s.total += uint64(len(n.entries))
		}
		s.waiting = append(s.waiting[:0], s.waiting[over:]...)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends; the rest is for flush.
func (s *scribe) run(ctx context.Context) error {
	const first, most = time.Second, 30 * time.Second
	pause := first
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		for !s.flush(ctx) {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, most)
		}
		pause = first
	}
}

// flush writes all that waits and reports whether that succeeded.
func (s *scribe) flush(ctx context.Context) bool {
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.mu.Unlock()
			return true
		}
		n, dropped := s.waiting[0], s.dropped
		s.mu.Unlock()
		entries := n.entries
		if dropped > 0 {
			e, err := scale.NewEntry(scale.KindNode, time.Now(), s.node, "", fmt.Sprintf("%d entries are missing before this one: the log could not be written", dropped), nil)
			if err == nil {
				entries = append([]scale.Entry{e}, shifted(entries)...)
			}
		}
		// A stop does not cut a write short: nobody would know whether it happened.
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeWait)
		sealed, err := s.store.AppendScaleLog(write, s.node, entries)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				s.log.Error("the scaling log cannot be written; its entries wait", "error", err)
			}
			return false
		}
		s.own.Store(&sealed[0].Origin)
		s.mu.Lock()
		// put may have dropped it meanwhile; then it is counted although it was written.
		if len(s.waiting) > 0 && len(n.entries) > 0 && &s.waiting[0].entries[0] == &n.entries[0] {
			s.waiting = s.waiting[1:]
		}
		s.dropped -= dropped
		s.mu.Unlock()
		if n.then != nil {
			n.then(sealed[len(sealed)-len(n.entries):])
		}
	}
}

// shifted moves the references among entries by the one that comes before them.
func shifted(entries []scale.Entry) []scale.Entry {
	out := make([]scale.Entry, len(entries))
	for i, e := range entries {
		if e.CauseIn > 0 {
			e.CauseIn++
		}
		out[i] = e
	}
	return out
}

// lost is how many entries were never written.
func (s *scribe) lost() (dropped uint64, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, len(s.waiting)
}
