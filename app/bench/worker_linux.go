package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

var errNoRequests = errors.New("this server has no requests and replies")

// What is missing at the end counts as lost when nothing has come for drainQuiet,
// which lets TCP repeat a segment several times: on a busy machine messages come
// seconds late, and late is not lost. drainUnknown is the wait of a worker that
// cannot know whether something is missing, drainLongest the bound of all.
const (
	drainQuiet   = 5 * time.Second
	drainUnknown = 2 * time.Second
	drainLongest = 30 * time.Second
)

// A worker makes its share of the load. Its methods are called one after
// another, from one goroutine.
type worker struct {
	opts   *Options
	loop   *loop
	opener *opener
	parts  []part
}

// newWorker prepares worker number index of opts.Processes.
func newWorker(o *Options, index int) (crew, error) {
	raiseFileLimit()
	d, err := o.dialect()
	if err != nil {
		return nil, err
	}
	path, header := d.Upgrade()
	var targets []*target
	for _, base := range o.urls() {
		e, err := newTarget(base, path, header)
		if err != nil {
			return nil, err
		}
		targets = append(targets, dialTarget(e, o.Sources))
	}
	l, err := newLoop(d, targets)
	if err != nil {
		return nil, err
	}
	l.reach = func(base string) (*target, error) {
		e, err := newTarget(base, path, header)
		if err != nil {
			return nil, err
		}
		return dialTarget(e, o.Sources), nil
	}
	w := &worker{opts: o, loop: l, opener: newOpener(l, o.Concurrency)}
	if err := w.staff(d, index); err != nil {
		l.close()
		return nil, err
	}
	return w, nil
}

// staff makes the parts of the mode.
func (w *worker) staff(d Dialect, index int) error {
	o, n := w.opts, w.opts.Processes
	var err error
	add := func(p part, e error) {
		if e != nil {
			err = errors.Join(err, e)
			return
		}
		w.parts = append(w.parts, p)
	}
	switch o.Mode {
	case ModeFanout, ModeSlow:
		f, e := newFanout(o, d, index, n)
		add(f, e)
	case ModeDirect:
		p, e := newDirect(o, d, o.Rate, index, n)
		add(p, e)
	case ModeRequest:
		p, e := newRequest(o, d, o.Rate, index, n)
		add(p, e)
	case ModeIdle, ModeConnect:
		add(newIdle(o, index, n), nil)
	case ModeMixed:
		f, e := newFanout(o, d, index, n)
		add(f, e)
		p, e := newDirect(o, d, o.DirectRate, index, n)
		add(p, e)
		r, e := newRequest(o, d, o.RequestRate, index, n)
		add(r, e)
		add(newIdle(o, index, n), nil)
	default:
		err = fmt.Errorf("mode %q is not known", o.Mode)
	}
	return err
}

// raiseFileLimit asks for as many open files as this process may have.
func raiseFileLimit() {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < lim.Max {
		lim.Cur = lim.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	}
}

// connect opens all connections.
func (w *worker) connect(ctx context.Context) (Connects, error) {
	var plans []plan
	for _, p := range w.parts {
		plans = append(plans, p.plans()...)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil && uint64(len(plans)+32) > lim.Cur {
		return Connects{}, fmt.Errorf("%d connections need more than the %d files that this process may open: use --processes %d or raise `ulimit -n`",
			len(plans), lim.Cur, w.opts.Processes*(len(plans)/int(lim.Cur)+2))
	}
	err := w.opener.open(ctx, plans, w.opts.Timeout)
	return w.opener.done, err
}

// start lets the load begin.
func (w *worker) start() error {
	now := w.loop.now()
	for _, p := range w.parts {
		p.start(now)
	}
	return nil
}

// run makes load for d.
func (w *worker) run(ctx context.Context, d time.Duration) error {
	end := w.loop.now() + int64(d)
	for {
		now := w.loop.now()
		if now >= end {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next := end
		for _, p := range w.parts {
			next = min(next, p.tick(now))
		}
		w.opener.launch(now)
		if err := w.loop.step(next); err != nil {
			return fmt.Errorf("serve connections: %w", err)
		}
	}
}

// measure starts (true) or ends the measured time.
func (w *worker) measure(on bool) error {
	for _, p := range w.parts {
		if on {
			p.book().begin()
		} else {
			p.book().end()
		}
	}
	return nil
}

// drain stops sending, waits for what is still under way, and says what was sent.
func (w *worker) drain(ctx context.Context) ([]map[uint32]uint32, error) {
	for _, p := range w.parts {
		p.stop()
	}
	start := w.loop.now()
	for {
		now := w.loop.now()
		if w.drained(start, now) {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.opener.launch(now)
		if err := w.loop.step(now + int64(longestWait)); err != nil {
			return nil, fmt.Errorf("drain: %w", err)
		}
	}
	sent := make([]map[uint32]uint32, len(w.parts))
	for i, p := range w.parts {
		sent[i] = p.sent()
	}
	return sent, nil
}

// drained says that nothing more is to be waited for, draining since start.
func (w *worker) drained(start, now int64) bool {
	last, quiet := start, int64(0)
	for _, p := range w.parts {
		last = max(last, p.book().lastCame)
		switch n, known := p.missing(); {
		case !known:
			quiet = max(quiet, int64(drainUnknown))
		case n > 0:
			quiet = max(quiet, int64(drainQuiet))
		}
	}
	if w.opener.busy() {
		quiet = max(quiet, int64(drainQuiet))
	}
	return now-last >= quiet || now-start >= int64(drainLongest)
}

// finish counts what was lost and returns the results by part.
func (w *worker) finish(sent []map[uint32]uint32) ([]PartResult, error) {
	if len(sent) != len(w.parts) {
		return nil, fmt.Errorf("finish: %d parts were sent, this worker has %d", len(sent), len(w.parts))
	}
	results := make([]PartResult, len(w.parts))
	for i, p := range w.parts {
		p.finish(sent[i])
		results[i] = p.book().result()
	}
	return results, nil
}

// rest serves the connections for a moment while nothing is asked of the worker.
func (w *worker) rest() error {
	now := w.loop.now()
	next := int64(math.MaxInt64)
	for _, p := range w.parts {
		next = min(next, p.tick(now))
	}
	w.opener.launch(now)
	return w.loop.step(min(next, now+int64(longestWait)))
}

func (w *worker) pids() []int { return nil }

func (w *worker) close() { w.loop.close() }
