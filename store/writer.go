package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch bounds the writes that share one commit.
const maxBatch = 128

// States of a job.
const (
	jobWaiting   = iota
	jobTaken     // the writer goroutine runs it; its outcome follows
	jobAbandoned // its caller went away before it was taken: it is skipped
)

// A job is one write. do may run more than once, each time in a transaction in
// which nothing of an earlier try is left.
type job struct {
	do    func(*sql.Tx) error
	done  chan error // buffered, gets one value
	state atomic.Int32
}

// A writer owns the one connection that writes. Jobs that wait are committed
// together: one fsync for many. None of them can undo another.
type writer struct {
	db      *sql.DB
	explain func(error) error
	log     *slog.Logger
	jobs    chan *job
	ended   chan struct{}

	mu     sync.RWMutex // held for reading while a job is put into jobs
	closed bool
}

func newWriter(db *sql.DB, explain func(error) error, log *slog.Logger, queue int) *writer {
	w := &writer{db: db, explain: explain, log: log, jobs: make(chan *job, queue), ended: make(chan struct{})}
	go w.run()
	return w
}

// apply runs do in a transaction and returns when it is on stable storage. ctx
// bounds the waiting and never cuts a transaction: a caller that leaves early is
// told by ErrUnknown that the write may still happen, or by ErrQueueFull that it
// will not.
func (w *writer) apply(ctx context.Context, do func(*sql.Tx) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultWriteWait)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{do: do, done: make(chan error, 1)}
	if err := w.put(j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return w.explain(err)
	case <-ctx.Done():
	}
	if j.state.CompareAndSwap(jobWaiting, jobAbandoned) {
		return fmt.Errorf("%w (%w)", ErrQueueFull, ctx.Err())
	}
	// It runs now. It is nearly always done at once, and an outcome is worth more
	// than the last moment of a deadline.
	select {
	case err := <-j.done:
		return w.explain(err)
	case <-time.After(100 * time.Millisecond):
		return fmt.Errorf("%w (%w)", ErrUnknown, ctx.Err())
	}
}

func (w *writer) put(j *job) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.jobs <- j:
		return nil
	default:
		return ErrQueueFull
	}
}

// close takes no more jobs and returns when those in the queue are done.
func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.jobs)
	}
	w.mu.Unlock()
	<-w.ended
}

func (w *writer) run() {
	defer close(w.ended)
	batch := make([]*job, 0, maxBatch)
	for first := range w.jobs {
		batch = take(batch[:0], first)
	fill:
		for len(batch) < maxBatch {
			select {
			case j, ok := <-w.jobs:
				if !ok {
					break fill
				}
				batch = take(batch, j)
			default:
				break fill
			}
		}
		w.commit(batch)
	}
}

func take(batch []*job, j *job) []*job {
	if j.state.CompareAndSwap(jobWaiting, jobTaken) {
		batch = append(batch, j)
	}
	return batch
}

// commit runs batch in one transaction. When that fails as a whole (a full disk,
// a lock that another process keeps), each job gets a transaction of its own, so
// that a large one does not take small ones down with it.
func (w *writer) commit(batch []*job) {
	if len(batch) == 0 {
		return
	}
	results, err := w.together(batch)
	if err == nil {
		for i, j := range batch {
			j.done <- results[i]
		}
		return
	}
	if len(batch) == 1 || isBusy(err) {
		for _, j := range batch {
			j.done <- err
		}
		return
	}
	for _, j := range batch {
		results, err := w.together([]*job{j})
		if err == nil {
			err = results[0]
		}
		j.done <- err
	}
}

// together runs jobs in one transaction. results holds the jobs' own errors; err
// means that nothing at all was written.
func (w *writer) together(jobs []*job) (results []error, err error) {
	tx, err := w.db.BeginTx(context.Background(), nil)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	results = make([]error, len(jobs))
	for i, j := range jobs {
		if _, err := tx.Exec(`SAVEPOINT job`); err != nil {
			return nil, fmt.Errorf("savepoint: %w", err)
		}
		results[i] = w.guarded(j.do, tx)
		end := `RELEASE job`
		if results[i] != nil {
			end = `ROLLBACK TO job; RELEASE job`
		}
		if _, err := tx.Exec(end); err != nil {
			// SQLite has rolled the whole transaction back, after an I/O error or a
			// full disk; the job's error says why.
			return nil, errors.Join(results[i], fmt.Errorf("savepoint: %w", err))
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return results, nil
}

// guarded turns a panic in a job into an error: the writer must live on. The
// value of the panic stays out of the error, which may travel far.
func (w *writer) guarded(do func(*sql.Tx) error, tx *sql.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("a write to the database panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("internal error in a write, the log says more")
		}
	}()
	return do(tx)
}

// write runs do on the writer and hands its value over only when it is written,
// so that a caller that left early shares no memory with the write.
func write[T any](ctx context.Context, s *Store, do func(*sql.Tx) (T, error)) (T, error) {
	var box atomic.Pointer[T]
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		v, err := do(tx)
		if err == nil {
			box.Store(&v)
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return *box.Load(), nil
}
