package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"agentnet/app/wire"
)

// A RequestHandler answers one request. What it returns is the answer, or its last
// piece after those given to Request.Reply. An error that is a *wire.Error is told
// to the asker as it is, any other as `internal` without its text. ctx ends when
// the asker no longer waits, at the deadline, and when the client is closed.
type RequestHandler func(ctx context.Context, r *Request) (wire.Payload, error)

// A Request is a question to this agent.
type Request struct {
	From     string
	Method   string
	Payload  wire.Payload
	Headers  []wire.Header
	Deadline time.Time // zero: none was given

	client *Client
	state  *incoming
}

// incoming is a request that is being answered.
type incoming struct {
	client *Client
	number uint64 // the relay's number for the reply
	cancel context.CancelCauseFunc
	// Guarded by Client.mu.
	streaming bool // a piece was sent
	broken    bool // a piece may be lost: the answer cannot be completed
}

var (
	errAskerGone    = errors.New("the asker no longer waits")
	errStreamBroken = errors.New("the connection was lost in the middle of the answer")
)

// Reply sends one piece of the answer; more follow. It returns when the piece is
// queued.
func (r *Request) Reply(ctx context.Context, p wire.Payload) error {
	c := r.client
	c.mu.Lock()
	broken := r.state.broken
	r.state.streaming = true
	c.mu.Unlock()
	if broken {
		return errStreamBroken
	}
	cmd := &wire.Command{Kind: wire.KindReply, Request: r.state.number, Payload: p, More: true, Class: wire.Normal}
	if err := c.tellRelay(ctx, cmd, always, r.state); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	return nil
}

// takeRequest starts the handler of a request.
func (c *Client) takeRequest(v *wire.Request) {
	if !c.room() {
		return
	}
	generation, fresh := c.admit(v.Seq)
	if !fresh {
		return
	}
	defer c.settle(generation, v.Seq)
	if c.cfg.OnRequest == nil {
		c.refuse(v.Request, &wire.Error{Code: wire.NotFound, Message: "this agent answers no requests"})
		return
	}
	r := &Request{
		From: v.From, Method: v.Method, Payload: v.Payload, client: c,
		Headers: append([]wire.Header(nil), v.Headers...),
	}
	r.Payload.Data = bytes.Clone(v.Payload.Data)
	ctx, cancel := context.WithCancelCause(c.ctx)
	stop := func() {}
	if v.DeadlineMS > 0 {
		r.Deadline = time.Now().Add(time.Duration(v.DeadlineMS) * time.Millisecond)
		var end context.CancelFunc
		ctx, end = context.WithDeadline(ctx, r.Deadline)
		stop = end
	}
	r.state = &incoming{client: c, number: v.Request, cancel: cancel}
	c.mu.Lock()
	busy := len(c.asked) >= c.cfg.MaxRequests
	if !busy {
		c.asked[v.Request] = r.state
	}
	c.mu.Unlock()
	if busy {
		stop()
		cancel(nil)
		c.refuse(v.Request, &wire.Error{Code: wire.Overloaded, Message: "this agent is answering as many requests as it can", RetryAfterMS: 1000})
		return
	}
	c.tasks.Go(func() {
		defer cancel(nil)
		defer stop()
		c.answer(ctx, r)
	})
}

// answer runs the handler and sends what it returned.
func (c *Client) answer(ctx context.Context, r *Request) {
	payload, err := c.cfg.OnRequest(ctx, r)
	c.mu.Lock()
	if c.asked[r.state.number] == r.state {
		delete(c.asked, r.state.number)
	}
	broken := r.state.broken
	c.mu.Unlock()
	switch cause := context.Cause(ctx); {
	case broken, errors.Is(cause, errAskerGone), errors.Is(cause, errStreamBroken):
		return
	case err != nil && errors.Is(cause, context.DeadlineExceeded):
		return // the relay has told the asker
	}
	cmd := &wire.Command{Kind: wire.KindReply, Request: r.state.number, Payload: payload, Class: wire.Normal}
	if err == nil {
		err = c.tellRelay(c.ctx, cmd, always, r.state)
		if err == nil {
			return
		}
	}
	if c.ctx.Err() != nil {
		return
	}
	refused := asError(err)
	if refused.Code == wire.Internal {
		c.cfg.Logger.Warn("a request could not be answered", "from", r.From, "method", r.Method, "err", err)
	}
	cmd.Payload, cmd.Err = wire.Payload{}, refused
	if err := c.tellRelay(c.ctx, cmd, always, r.state); err != nil && c.ctx.Err() == nil {
		c.cfg.Logger.Warn("an answer could not be sent", "from", r.From, "method", r.Method, "err", err)
	}
}

// refuse answers a request with an error without running a handler. The reader
// calls it, so that it may not wait for room.
func (c *Client) refuse(number uint64, e *wire.Error) {
	cmd := &wire.Command{Kind: wire.KindReply, Request: number, Err: e, Class: wire.Normal, ID: c.lastID.Add(1)}
	k := &call{
		id: cmd.ID, kind: wire.KindReply, repeat: always, done: make(chan struct{}),
		frame: wire.AppendCommand(nil, c.cfg.Encoding, cmd), incoming: &incoming{client: c, number: number},
	}
	c.mu.Lock()
	if !c.out.add(k) {
		// The asker then meets its deadline.
		c.cfg.Logger.Warn("no room to refuse a request: the queue is full")
	}
	c.mu.Unlock()
	c.wakeWriter()
}

func (c *Client) cancelAsked(number uint64) {
	c.mu.Lock()
	r := c.asked[number]
	c.mu.Unlock()
	if r != nil {
		r.cancel(errAskerGone)
	}
}

// cancelAskedLocked ends the handlers of a session that is gone: the relay has
// forgotten its requests.
func (c *Client) cancelAskedLocked() {
	for number, r := range c.asked {
		r.broken = true
		r.cancel(errAskerGone)
		delete(c.asked, number)
	}
}

// breakOff ends an answer of which a piece may be lost, and says so to the asker.
func (r *incoming) breakOff() {
	c := r.client
	c.mu.Lock()
	first := !r.broken
	r.broken = true
	c.mu.Unlock()
	if first {
		r.cancel(errStreamBroken)
		c.refuse(r.number, &wire.Error{Code: wire.Unavailable, Message: "the agent's connection was lost in the middle of the answer"})
	}
}
