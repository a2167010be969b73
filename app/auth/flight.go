package auth

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A flight is one run of work that many callers wait for.
type flight struct {
	done chan struct{} // closed when err is set
	err  error
}

// flights lets any number of callers ask for the same work while it is done by
// one goroutine, at most once an interval. Each caller gets the outcome of a run
// that began after it asked, so that it learns of all that had happened by then.
type flights struct {
	do      func(context.Context) error
	every   time.Duration // least time between the beginnings of two runs
	timeout time.Duration // of one run

	mu    sync.Mutex
	next  *flight       // asked for, not begun
	ended chan struct{} // closed when the goroutine ends; nil: there is none
	begun time.Time
}

// wait asks for a run and returns its outcome, or the error of ctx.
func (f *flights) wait(ctx context.Context) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flight{done: make(chan struct{})}
	}
	mine := f.next
	if f.ended == nil {
		f.ended = make(chan struct{})
		go f.run()
	}
	f.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// await returns when the goroutine has ended, which it does when nobody asks.
func (f *flights) await() {
	f.mu.Lock()
	ended := f.ended
	f.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// run lives while somebody asks.
func (f *flights) run() {
	for {
		f.mu.Lock()
		if f.next == nil {
			close(f.ended)
			f.ended = nil
			f.mu.Unlock()
			return
		}
		pause := f.every - time.Since(f.begun)
		f.mu.Unlock()
		if pause > 0 {
			time.Sleep(pause) // at most f.every; those who ask meanwhile join
		}
		f.mu.Lock()
		now := f.next
		f.next, f.begun = nil, time.Now()
		f.mu.Unlock()
		now.err = f.once()
		close(now.done)
	}
}

func (f *flights) once() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	return f.do(ctx)
}
