package journal

import "sync"

// outcomes calls the done functions of Puts, in order, from a goroutine of its
// own: so a Put never calls back into its caller, and a slow callee does not keep
// the disk idle. Its queue is bounded by the Puts that were admitted, plus the
// refused ones, which leave without waiting for the disk.
type outcomes struct {
	mu     sync.Mutex
	wake   sync.Cond
	queue  []outcome
	closed bool
	ended  chan struct{}
}

type outcome struct {
	done func(error)
	err  error
}

func newOutcomes() *outcomes {
	o := &outcomes{ended: make(chan struct{})}
	o.wake.L = &o.mu
	go o.run()
	return o
}

// add queues outs. After close they are told by a goroutine of their own.
func (o *outcomes) add(outs ...outcome) {
	if len(outs) == 0 {
		return
	}
	o.mu.Lock()
	closed := o.closed
	if !closed {
		o.queue = append(o.queue, outs...)
	}
	o.mu.Unlock()
	if closed {
		go tell(outs)
		return
	}
	o.wake.Signal()
}

// close tells what is queued and returns when all of it has been told.
func (o *outcomes) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.wake.Signal()
	<-o.ended
}

func (o *outcomes) run() {
	defer close(o.ended)
	var batch []outcome
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.wake.Wait()
		}
		batch, o.queue = o.queue, batch[:0]
		o.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		tell(batch)
		clear(batch) // let go of the callers' closures
	}
}

func tell(outs []outcome) {
	for _, out := range outs {
		out.done(out.err)
	}
}
