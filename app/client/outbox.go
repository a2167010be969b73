package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"agentnet/app/wire"
)

// repetition says what becomes of a command that was written before the
// connection was lost and whose answer did not come.
type repetition uint8

const (
	always  repetition = iota // reading and setting: the same twice
	byKey                     // the relay knows the dedup key for a while
	never                     // may be running: wait for it when the session is resumed
	dropped                   // of no use on another connection
)

// keyMemory is how long after its first writing a keyed command may be repeated:
// the relay knows a key for two minutes, less a margin for a slow network.
const keyMemory = 100 * time.Second

// unconfirmedMax bounds the commands without an answer that are kept until
// something shows that the relay has read them.
const unconfirmedMax = 1024

// A call is one command on its way and the place of its answer.
type call struct {
	// Fixed at construction.
	id       uint64
	kind     wire.Kind
	frame    []byte // one encoded frame
	repeat   repetition
	answered bool      // the relay answers it
	incoming *incoming // reply: the request that it answers

	subscription *Subscription // subscribe
	replies      *replies      // request: where its answers go
	done         chan struct{} // closed when finished

	// Guarded by outbox.mu of the client until done is closed.
	queued   bool
	finished bool
	number   uint64    // place in the order of writing; 0: not yet written
	first    time.Time // when it was first written
	ok       wire.OK
	err      error
}

// outbox holds the commands of a client: those waiting to be written, those
// waiting for an answer, and those that are written, have no answer and are not
// yet known to have been read. It starts no goroutine. Guarded by Client.mu.
type outbox struct {
	maxFrames, maxBytes int

	queue       []*call
	stale       int // finished calls still in queue
	pending     map[uint64]*call
	unconfirmed []*call
	written     uint64 // number of the last call written

	frames, bytes int           // of queue and pending together
	room          chan struct{} // closed and replaced when something was freed
	waiters       int
}

func newOutbox(maxFrames, maxBytes int) outbox {
	return outbox{maxFrames: maxFrames, maxBytes: maxBytes, pending: map[uint64]*call{}, room: make(chan struct{})}
}

// add queues k unless there is no room; an outbox that holds nothing takes any.
func (o *outbox) add(k *call) bool {
	if o.frames > 0 && (o.frames >= o.maxFrames || o.bytes+len(k.frame) > o.maxBytes) {
		return false
	}
	o.force(k)
	return true
}

// force queues k whatever the bounds say. It is for commands whose number is
// bounded by others, such as cancel.
func (o *outbox) force(k *call) {
	o.frames++
	o.bytes += len(k.frame)
	k.queued = true
	o.queue = append(o.queue, k)
	if k.answered {
		o.pending[k.id] = k
	}
}

func (o *outbox) release(k *call) {
	o.frames--
	o.bytes -= len(k.frame)
	if o.waiters > 0 {
		close(o.room)
		o.room = make(chan struct{})
		o.waiters = 0
	}
}

// finish ends k with its answer in k.ok, or err. Only the first call counts.
func (o *outbox) finish(k *call, err error) {
	if k.finished {
		return
	}
	k.finished = true
	k.err = err
	if k.answered {
		delete(o.pending, k.id)
	}
	if k.queued {
		o.stale++
		if o.stale > 64 && o.stale > len(o.queue)/2 {
			o.queue = slices.DeleteFunc(o.queue, func(k *call) bool { return k.finished })
			o.stale = 0
		}
	}
	if k.answered || k.queued {
		o.release(k)
	}
	if k.replies != nil && err != nil {
		k.replies.fail(err)
	}
	close(k.done)
}

// take moves what waits to written, at least one call and at most max bytes, and
// appends it to batch.
func (o *outbox) take(batch []*call, max int, now time.Time) []*call {
	n, bytes := 0, 0
	for _, k := range o.queue {
		if !k.finished && bytes > 0 && bytes+len(k.frame)+frameOverhead > max {
			break
		}
		n++
		k.queued = false
		if k.finished {
			o.stale--
			continue
		}
		bytes += len(k.frame) + frameOverhead
		o.written++
		k.number = o.written
		if k.first.IsZero() {
			k.first = now
		}
		batch = append(batch, k)
		if !k.answered {
			o.unconfirm(k)
		}
	}
	rest := copy(o.queue, o.queue[n:])
	clear(o.queue[rest:])
	o.queue = o.queue[:rest]
	return batch
}

// unconfirm keeps a written call that has no answer.
func (o *outbox) unconfirm(k *call) {
	o.release(k)
	if k.repeat == dropped {
		return
	}
	if len(o.unconfirmed) >= unconfirmedMax {
		o.unconfirmed = slices.Delete(o.unconfirmed, 0, unconfirmedMax/4)
	}
	o.unconfirmed = append(o.unconfirmed, k)
}

// confirm forgets the unanswered calls that were written before number: the relay
// reads in order, and it has answered number.
func (o *outbox) confirm(number uint64) {
	n := 0
	for n < len(o.unconfirmed) && o.unconfirmed[n].number < number {
		n++
	}
	o.unconfirmed = slices.Delete(o.unconfirmed, 0, n)
}

// rejoin puts what the lost connection may have swallowed back in front of the
// queue, in the order of its first writing, and ends what cannot be repeated.
// broken are the streamed replies that lost a piece.
func (o *outbox) rejoin(resumed bool, now time.Time) (broken []*incoming) {
	var again, lost []*call
	for _, k := range o.pending {
		switch {
		case k.number == 0: // never written
		case k.repeat == always, k.repeat == byKey && now.Sub(k.first) < keyMemory:
			if !k.queued {
				again = append(again, k)
			}
		case k.repeat == never && resumed:
		default:
			lost = append(lost, k)
		}
	}
	for _, k := range lost {
		o.finish(k, fmt.Errorf("%w (the connection was lost)", ErrUncertain))
	}
	for _, k := range o.unconfirmed {
		switch {
		case k.kind != wire.KindReceipt && !resumed: // the other side has forgotten it too
		case k.incoming != nil && k.incoming.streaming:
			broken = append(broken, k.incoming)
		default:
			o.frames++
			o.bytes += len(k.frame)
			again = append(again, k)
		}
	}
	o.unconfirmed = nil
	if !resumed {
		for _, k := range o.queue {
			if k.incoming != nil && !k.finished {
				o.finish(k, ErrUncertain)
			}
		}
	}
	slices.SortFunc(again, func(a, b *call) int { return compare(a.number, b.number) })
	for _, k := range again {
		k.queued = true
	}
	o.queue = append(again, o.queue...)
	return broken
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// failAll ends everything; nothing more will be written.
func (o *outbox) failAll(err error) {
	for _, k := range slices.Clone(o.queue) {
		if !k.finished {
			o.finish(k, fmt.Errorf("%w: %w", ErrNotSent, err))
		}
	}
	for _, k := range o.pending {
		o.finish(k, fmt.Errorf("%w: %w", ErrUncertain, err))
	}
	o.unconfirmed = nil
	close(o.room)
	o.room = make(chan struct{})
}

// idle says that nothing waits to be written or answered.
func (o *outbox) idle() bool { return o.frames == 0 }

// enqueue hands k to the writer, waiting for room within ctx.
func (c *Client) enqueue(ctx context.Context, k *call) error {
	for {
		if ctx.Err() != nil {
			return notSent(ctx)
		}
		c.mu.Lock()
		if err := c.refuseLocked(k); err != nil {
			c.mu.Unlock()
			return err
		}
		if c.out.add(k) {
			c.mu.Unlock()
			c.wakeWriter()
			return nil
		}
		room := c.out.room
		c.out.waiters++
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return notSent(ctx)
		}
	}
}

// refuseLocked says why k cannot be taken at all. c.mu must be held.
func (c *Client) refuseLocked(k *call) error {
	if c.closing || c.cause != nil {
		return c.closedLocked()
	}
	if limit := c.limits.FrameBytes; limit > 0 && len(k.frame) > limit {
		return &wire.Error{Code: wire.TooLarge, Message: fmt.Sprintf(
			"the %s takes %d bytes as a frame, the relay takes %d; send less at a time", k.kind, len(k.frame), limit)}
	}
	return nil
}

// await waits for the answer to k within ctx.
func (c *Client) await(ctx context.Context, k *call) (*wire.OK, error) {
	select {
	case <-k.done:
	default:
		select {
		case <-k.done:
		case <-ctx.Done():
			c.mu.Lock()
			err := ErrUncertain
			if k.number == 0 {
				err = ErrNotSent
			}
			c.out.finish(k, fmt.Errorf("%w: %w", err, context.Cause(ctx)))
			c.mu.Unlock()
			<-k.done
		}
	}
	if k.err != nil {
		return nil, k.err
	}
	return &k.ok, nil
}

// do queues a command and waits for its answer.
func (c *Client) do(ctx context.Context, cmd *wire.Command, repeat repetition) (*wire.OK, error) {
	k, err := c.newCall(cmd, repeat)
	if err != nil {
		return nil, err
	}
	if err := c.enqueue(ctx, k); err != nil {
		return nil, err
	}
	return c.await(ctx, k)
}

// newCall encodes cmd, with a number of its own.
func (c *Client) newCall(cmd *wire.Command, repeat repetition) (*call, error) {
	if err := checkPayload(cmd.Payload); err != nil {
		return nil, err
	}
	cmd.ID = c.lastID.Add(1)
	return &call{
		id: cmd.ID, kind: cmd.Kind, repeat: repeat, answered: true,
		frame: wire.AppendCommand(nil, c.cfg.Encoding, cmd),
		done:  make(chan struct{}),
	}, nil
}
