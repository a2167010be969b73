package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"agentnet/app/wire"
)

// defaultTimeout is how long a request may take when nothing is said.
const defaultTimeout = 30 * time.Second

// timeoutGrace is how long past its deadline a request waits for the relay to say
// so, before the client says it.
const timeoutGrace = 2 * time.Second

// Pieces of a streamed answer that wait for the caller are bounded by these; an
// answer that runs away from its reader is cancelled.
const (
	maxPieces     = 4096
	maxPieceBytes = 16 << 20
)

var errTooFast = errors.New("the answer came faster than it was read; it was cancelled")

// A Reply is an answer to a request, or one piece of it.
type Reply struct {
	From    string
	Payload wire.Payload
	More    bool // another piece follows
}

// replies holds the pieces of an answer. Guarded by Client.mu, but for ready.
type replies struct {
	pieces []Reply
	bytes  int
	last   bool
	err    error
	ready  chan struct{} // has one value when something changed
}

func (r *replies) fail(err error) {
	if !r.last {
		r.err, r.last = err, true
	}
	signal(r.ready)
}

// Request asks agent to and waits for its whole answer. When the answer comes in
// pieces the last one is returned; use RequestStream for all. A refusal, by the
// relay or by the agent, is a *wire.Error.
func (c *Client) Request(ctx context.Context, to, method string, payload wire.Payload, opts ...Option) (Reply, error) {
	var last Reply
	for r, err := range c.RequestStream(ctx, to, method, payload, opts...) {
		if err != nil {
			return Reply{}, err
		}
		last = r
	}
	return last, nil
}

// RequestStream asks agent to and yields the pieces of its answer as they come;
// the last one has More false. An error ends it. Leaving the loop early, or the
// end of ctx, tells the other side to stop.
func (c *Client) RequestStream(ctx context.Context, to, method string, payload wire.Payload, opts ...Option) iter.Seq2[Reply, error] {
	return func(yield func(Reply, error) bool) {
		k, deadline, err := c.ask(ctx, to, method, payload, opts)
		if err != nil {
			yield(Reply{}, fmt.Errorf("request to %s: %w", to, err))
			return
		}
		defer c.stopAsking(k)
		timer := time.NewTimer(deadline)
		defer timer.Stop()
		for {
			piece, err := c.nextPiece(ctx, k, timer.C)
			if err != nil {
				yield(Reply{}, fmt.Errorf("request to %s: %w", to, err))
				return
			}
			if !yield(piece, nil) || !piece.More {
				return
			}
		}
	}
}

// ask queues a request. deadline is how long to wait for all of the answer.
func (c *Client) ask(ctx context.Context, to, method string, payload wire.Payload, opts []Option) (*call, time.Duration, error) {
	cmd := &wire.Command{
		Kind: wire.KindRequest, To: []byte(to), Method: []byte(method), Payload: payload, Class: wire.Normal,
	}
	for _, o := range opts {
		o(cmd)
	}
	timeout := defaultTimeout
	if cmd.TimeoutMS > 0 {
		timeout = time.Duration(cmd.TimeoutMS) * time.Millisecond
	}
	if until, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(until))
	}
	if timeout <= 0 {
		return nil, 0, notSent(ctx)
	}
	cmd.TimeoutMS = milliseconds(timeout)
	k, err := c.newCall(cmd, never)
	if err != nil {
		return nil, 0, err
	}
	k.replies = &replies{ready: make(chan struct{}, 1)}
	return k, timeout + timeoutGrace, c.enqueue(ctx, k)
}

// nextPiece waits for the next piece of the answer to k.
func (c *Client) nextPiece(ctx context.Context, k *call, expired <-chan time.Time) (Reply, error) {
	for {
		c.mu.Lock()
		r := k.replies
		if len(r.pieces) > 0 {
			piece := r.pieces[0]
			r.pieces[0] = Reply{}
			r.pieces = r.pieces[1:]
			r.bytes -= len(piece.Payload.Data)
			c.mu.Unlock()
			return piece, nil
		}
		err, written := r.err, k.number > 0
		c.mu.Unlock()
		if err != nil {
			return Reply{}, err
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return Reply{}, context.Cause(ctx)
		case <-expired:
			e := &wire.Error{Code: wire.Timeout, Message: "no answer came in time"}
			if !written {
				return Reply{}, fmt.Errorf("%w: %w", ErrNotSent, e)
			}
			return Reply{}, e
		}
	}
}

// stopAsking forgets k, and tells the other side when it may still be answering.
func (c *Client) stopAsking(k *call) {
	c.mu.Lock()
	running := !k.finished && k.number > 0
	c.out.finish(k, context.Canceled)
	if running && c.cause == nil {
		c.cancelRemoteLocked(k.id)
	}
	c.mu.Unlock()
	if running {
		c.wakeWriter()
	}
}

// cancelRemoteLocked queues a cancel; there is at most one for each request.
func (c *Client) cancelRemoteLocked(request uint64) {
	cmd := &wire.Command{Kind: wire.KindCancel, Request: request, Class: wire.Normal}
	c.out.force(&call{
		kind: wire.KindCancel, repeat: always, done: make(chan struct{}),
		frame: wire.AppendCommand(nil, c.cfg.Encoding, cmd),
	})
}

// takeReply hands a piece of an answer to its request.
func (c *Client) takeReply(v *wire.Reply) {
	generation, fresh := c.admit(v.Seq)
	if !fresh {
		return
	}
	defer c.settle(generation, v.Seq)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.out.pending[v.ID]
	if k == nil || k.replies == nil {
		return // its caller no longer waits
	}
	c.out.confirm(k.number)
	r := k.replies
	if v.Err != nil {
		refused := *v.Err
		c.out.finish(k, &refused)
		c.wakeClosingLocked()
		return
	}
	p := Reply{From: v.From, Payload: v.Payload, More: v.More}
	p.Payload.Data = bytes.Clone(v.Payload.Data)
	r.pieces = append(r.pieces, p)
	r.bytes += len(p.Payload.Data)
	switch {
	case !v.More:
		r.last = true
		c.out.finish(k, nil)
		c.wakeClosingLocked()
	case len(r.pieces) > maxPieces || r.bytes > maxPieceBytes:
		c.out.finish(k, errTooFast)
		c.cancelRemoteLocked(k.id)
		c.wakeWriter()
	}
	signal(r.ready)
}
