package dash

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxPieces bounds the pieces of slow work of one kind that are at work or kept.
	maxPieces = 16
	// soonRefresh is after how many seconds a browser without scripts asks again for
	// what is not ready yet.
	soonRefresh = 2
)

var (
	// errBusy says that so much slow work waits already that no more is taken on.
	errBusy = errors.New("this server is busy with what others asked for; try again in a few seconds")
	// errGone says that an outcome is not kept any more.
	errGone = errors.New("what came of it is not kept any more: load this page again")
)

// A workshop is where slow work is done. Closing it ends the work and waits for it.
type workshop struct {
	ctx    context.Context
	stop   context.CancelFunc
	logger *slog.Logger

	mu     sync.Mutex
	closed bool // Guarded by mu.
	work   sync.WaitGroup
}

func newWorkshop(logger *slog.Logger) *workshop {
	w := &workshop{logger: logger}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// start does f beside its caller, unless the workshop is closed.
func (w *workshop) start(f func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.work.Go(func() { f(w.ctx) })
	return true
}

func (w *workshop) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.work.Wait()
}

// A slow does one kind of work that takes longer than a page should wait for: an
// examination, a simulation, the trial of a rule. Each piece is done once for all
// who ask for the same, one after another, and its outcome is kept for a while. A
// page that asks gets the outcome if it comes soon; else it is drawn without, and
// shows the outcome when it is there.
type slow[T any] struct {
	shop  *workshop
	keep  time.Duration // how long an outcome is good
	limit time.Duration // of one piece, without its wait for others
	turn  chan struct{} // holds one element while a piece is at work

	mu     sync.Mutex
	pieces map[string]*piece[T] // Guarded by mu.
}

// A piece of work: done is closed when the rest is set.
type piece[T any] struct {
	done    chan struct{}
	outcome T
	ended   time.Time
	err     error // the work itself broke
}

func newSlow[T any](shop *workshop, keep, limit time.Duration) *slow[T] {
	return &slow[T]{shop: shop, keep: keep, limit: limit, turn: make(chan struct{}, 1), pieces: map[string]*piece[T]{}}
}

// get returns the outcome of the piece with a key, nil when it is not there within
// the wait. Where there is no such piece, or a stale one, do is started to make it;
// a nil do only asks, and does not wait. The error is errBusy, errGone or that of
// work that broke.
func (s *slow[T]) get(key string, wait time.Duration, do func(context.Context) T) (*piece[T], error) {
	p, err := s.find(key, do)
	if err != nil {
		return nil, err
	}
	if do != nil && !p.ready() {
		enough := time.NewTimer(wait)
		defer enough.Stop()
		select {
		case <-p.done:
		case <-enough.C:
		}
	}
	if !p.ready() {
		return nil, nil
	}
	return p, p.err
}

func (p *piece[T]) ready() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (s *slow[T]) find(key string, do func(context.Context) T) (*piece[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pieces[key]
	if p != nil && (do == nil || !p.ready() || time.Since(p.ended) < s.keep) {
		return p, nil
	}
	if do == nil {
		return nil, errGone
	}
	if !s.room(key) {
		return nil, errBusy
	}
	p = &piece[T]{done: make(chan struct{})}
	if !s.shop.start(func(ctx context.Context) { s.make(ctx, p, do) }) {
		return nil, errBusy
	}
	s.pieces[key] = p
	return p, nil
}

// room drops the oldest outcomes until one more has a place. s.mu must be held.
func (s *slow[T]) room(key string) bool {
	delete(s.pieces, key)
	for len(s.pieces) >= maxPieces {
		oldest := ""
		for k, p := range s.pieces {
			if p.ready() && (oldest == "" || p.ended.Before(s.pieces[oldest].ended)) {
				oldest = k
			}
		}
		if oldest == "" {
			return false
		}
		delete(s.pieces, oldest)
	}
	return true
}

// make waits for its turn and does the work.
func (s *slow[T]) make(ctx context.Context, p *piece[T], do func(context.Context) T) {
	defer close(p.done)
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	defer func() {
		p.ended = time.Now()
		if v := recover(); v != nil { // as it would be caught in a request
			s.shop.logger.Error("work for a page broke", "panic", v, "stack", string(debug.Stack()))
			p.err = errors.New("it broke on the way; the log of this server says where")
		}
	}()
	p.outcome = do(ctx)
}
