package actuate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// A way is one control plane.
type way interface {
	name() string
	// count reads how many instances the control plane was told to keep.
	count(ctx context.Context) (int, error)
	// set carries an Order out, or says in s what it would do in a dry run. It is
	// called again after errConflict and after errors that egress calls retryable.
	set(ctx context.Context, o *scale.Order, s *steps) error
}

// steps is what a way tells of its work. before is -1 until it is known.
type steps struct {
	lines  []string
	before int
	output string
	advice string
	byHand bool // a person is asked; nothing was done
}

// maxSteps bounds the lines of one Action.
const maxSteps = 60

func (s *steps) say(format string, args ...any) {
	if len(s.lines) < maxSteps {
		s.lines = append(s.lines, egress.Shorten(fmt.Sprintf(format, args...), 500))
	}
}

// errConflict marks that somebody else wrote at the same time.
var errConflict = errors.New("the control plane was changed by somebody else meanwhile")

// final marks an error that trying again will not cure, with what to do about it.
type final struct {
	err    error
	advice string
}

func (f *final) Error() string { return f.err.Error() }
func (f *final) Unwrap() error { return f.err }

// finally makes an error final.
func finally(advice, format string, args ...any) error {
	return &final{fmt.Errorf(format, args...), advice}
}

// Limits say how a Keeper treats its control plane.
type Limits struct {
	Timeout time.Duration // of one Order with all tries; defaults to 90 s
	Pause   time.Duration // between two changes at least; defaults to 10 s
	Tries   int           // of one Order; defaults to 6
	DryRun  bool          // every Order is a dry run
	// Lease says under which number this node leads now, and whether it does. It is
	// asked before each try. Nil: nobody else leads.
	Lease func() (fence uint64, mine bool)
}

func (l *Limits) setDefaults() {
	l.Timeout, l.Pause, l.Tries = cmp.Or(l.Timeout, 90*time.Second), cmp.Or(l.Pause, 10*time.Second), cmp.Or(l.Tries, 6)
}

// rememberOrders is how many Orders a Keeper knows again.
const rememberOrders = 256

// A Keeper puts the same safeguards around every way. It is a scale.Actuator.
type Keeper struct {
	way     way
	limits  Limits
	breaker egress.Breaker
	backoff egress.Backoff
	turn    chan struct{} // one Order at a time

	mu    sync.Mutex
	fence uint64
	last  time.Time // of a change
	done  map[string]scale.Action
	order []string // keys of done, the oldest first
}

var _ scale.Actuator = (*Keeper)(nil)

func newKeeper(w way, l Limits) *Keeper {
	l.setDefaults()
	return &Keeper{way: w, limits: l, backoff: egress.Backoff{First: 500 * time.Millisecond, Most: 15 * time.Second},
		turn: make(chan struct{}, 1), done: make(map[string]scale.Action)}
}

// Name is the kind of the way.
func (k *Keeper) Name() string { return k.way.name() }

// Requested implements scale.Actuator.
func (k *Keeper) Requested(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, k.limits.Timeout)
	defer cancel()
	n, err := k.way.count(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: read the count: %w", k.Name(), err)
	}
	return n, nil
}

// Fault says why the control plane cannot be asked now; "" when it can.
func (k *Keeper) Fault() string {
	if open, _, last := k.breaker.Open(time.Now()); open {
		return last
	}
	return ""
}

// Act implements scale.Actuator. The Action is complete also when an error is
// returned; its Fault has the error's text.
func (k *Keeper) Act(ctx context.Context, o scale.Order) (scale.Action, error) {
	began := time.Now()
	o.DryRun = o.DryRun || k.limits.DryRun
	s := &steps{before: -1}
	a := scale.Action{Order: o, Actuator: k.Name(), Before: -1}
	ctx, cancel := context.WithTimeout(ctx, k.limits.Timeout)
	defer cancel()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return k.end(a, s, began, errors.New("another order was under way all the time"))
	}
	if prior, known := k.known(o); known {
		prior.Replayed, prior.Took = true, time.Since(began)
		return prior, nil
	}
	if err := k.allow(ctx, o); err != nil {
		return k.end(a, s, began, err)
	}
	err := k.tries(ctx, &o, s, &a)
	a, err = k.end(a, s, began, err)
	if err == nil && !o.DryRun {
		k.remember(o, a)
	}
	return a, err
}

// end fills in what is the same for every outcome.
func (k *Keeper) end(a scale.Action, s *steps, began time.Time, err error) (scale.Action, error) {
	a.Steps, a.Output, a.Advice, a.Before, a.Took = s.lines, s.output, s.advice, s.before, time.Since(began)
	if err != nil {
		a.Fault = egress.Shorten(err.Error(), 1000)
		if f, ok := errors.AsType[*final](err); ok && a.Advice == "" {
			a.Advice = f.advice
		}
		return a, fmt.Errorf("%s: %w", k.Name(), err)
	}
	a.Done = !s.byHand
	a.Changed = a.Done && (s.before < 0 || s.before != a.Order.To)
	return a, nil
}

func (k *Keeper) known(o scale.Order) (scale.Action, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	prior, ok := k.done[o.ID]
	return prior, ok && o.ID != "" && !o.DryRun
}

func (k *Keeper) remember(o scale.Order, a scale.Action) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.Changed {
		k.last = time.Now()
	}
	if o.ID == "" {
		return
	}
	if len(k.order) >= rememberOrders {
		delete(k.done, k.order[0])
		k.order = k.order[1:]
	}
	k.done[o.ID] = a
	k.order = append(k.order, o.ID)
}

// allow refuses what is wrong in itself, comes from an older leader, or comes too
// soon; the last waits where the time allows it.
func (k *Keeper) allow(ctx context.Context, o scale.Order) error {
	if o.To < 0 || o.To > scale.MaxInstances {
		return fmt.Errorf("%d instances are not between 0 and %d", o.To, scale.MaxInstances)
	}
	k.mu.Lock()
	if o.Fence < k.fence {
		newest := k.fence
		k.mu.Unlock()
		return fmt.Errorf("%w: order of leader %d, seen leader %d", scale.ErrFenced, o.Fence, newest)
	}
	k.fence = o.Fence
	wait := time.Duration(0)
	if !k.last.IsZero() {
		wait = k.limits.Pause - time.Since(k.last)
	}
	k.mu.Unlock()
	if wait <= 0 || o.DryRun {
		return nil
	}
	return sleep(ctx, wait)
}

// sleep waits, and fails when ctx ends first or surely would.
func sleep(ctx context.Context, d time.Duration) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return fmt.Errorf("waiting %v would take longer than there is time: %w", d.Round(time.Millisecond), context.DeadlineExceeded)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tries asks the control plane until it agrees, refuses for good, or time is over.
func (k *Keeper) tries(ctx context.Context, o *scale.Order, s *steps, a *scale.Action) error {
	var err error
	for a.Tries < k.limits.Tries {
		if k.limits.Lease != nil {
			if fence, mine := k.limits.Lease(); !mine || fence != o.Fence {
				return fmt.Errorf("%w: this node does not lead under number %d any more", scale.ErrFenced, o.Fence)
			}
		}
		if err = k.breaker.Allow(time.Now()); err != nil {
			return err
		}
		a.Tries++
		err = k.way.set(ctx, o, s)
		k.breaker.Done(time.Now(), blame(err))
		if err == nil || !again(err) {
			return err
		}
		s.say("try %d failed: %v", a.Tries, err)
		if e := sleep(ctx, k.backoff.Wait(a.Tries, err)); e != nil {
			return fmt.Errorf("%w (given up after %d tries)", err, a.Tries)
		}
	}
	return fmt.Errorf("%w (given up after %d tries)", err, a.Tries)
}

// blame leaves out what is not the control plane's fault.
func blame(err error) error {
	if errors.Is(err, errConflict) || errors.Is(err, scale.ErrFenced) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// again reports whether the same Order may succeed when it is tried once more.
func again(err error) bool {
	if errors.Is(err, errConflict) {
		return true
	}
	if _, ok := errors.AsType[*final](err); ok || errors.Is(err, scale.ErrFenced) {
		return false
	}
	return egress.Retryable(err)
}
