package client

import (
	"context"
	"fmt"

	"agentnet/app/wire"
)

// Sent is what became of a message.
type Sent struct {
	MessageID string
	Outcome   wire.Outcome
	Sessions  int // live sessions of the receiver that it was handed to
}

// A Pending is a send or publish whose answer is on its way.
type Pending struct {
	client *Client
	call   *call
}

// Done is closed when the answer is there.
func (p *Pending) Done() <-chan struct{} { return p.call.done }

// Send gives a message to agent to and waits until the relay has said what became
// of it. A refusal is a *wire.Error.
func (c *Client) Send(ctx context.Context, to string, payload wire.Payload, opts ...Option) (Sent, error) {
	p, err := c.SendAsync(ctx, to, payload, opts...)
	if err != nil {
		return Sent{}, err
	}
	return p.Sent(ctx)
}

// SendAsync queues a message without waiting for its answer; it waits only while
// the queue is full. Messages from one goroutine leave in order, many of them in
// one WebSocket message.
func (c *Client) SendAsync(ctx context.Context, to string, payload wire.Payload, opts ...Option) (*Pending, error) {
	cmd := &wire.Command{Kind: wire.KindSend, To: []byte(to), Payload: payload}
	p, err := c.keyed(ctx, cmd, opts)
	if err != nil {
		return nil, fmt.Errorf("send to %s: %w", to, err)
	}
	return p, nil
}

// Sent waits for the answer to a send.
func (p *Pending) Sent(ctx context.Context) (Sent, error) {
	ok, err := p.client.await(ctx, p.call)
	if err != nil {
		return Sent{}, fmt.Errorf("send: %w", err)
	}
	return Sent{MessageID: ok.MessageID, Outcome: ok.Outcome, Sessions: ok.Sessions}, nil
}

// Publish gives a message to a channel and waits until it has its place there. A
// refusal is a *wire.Error.
func (c *Client) Publish(ctx context.Context, channel string, payload wire.Payload, opts ...Option) (wire.Since, error) {
	p, err := c.PublishAsync(ctx, channel, payload, opts...)
	if err != nil {
		return wire.Since{}, err
	}
	return p.Published(ctx)
}

// PublishAsync queues a publication without waiting for its answer, as SendAsync.
func (c *Client) PublishAsync(ctx context.Context, channel string, payload wire.Payload, opts ...Option) (*Pending, error) {
	cmd := &wire.Command{Kind: wire.KindPublish, Channel: []byte(channel), Payload: payload}
	p, err := c.keyed(ctx, cmd, opts)
	if err != nil {
		return nil, fmt.Errorf("publish to %s: %w", channel, err)
	}
	return p, nil
}

// Published waits for the answer to a publish.
func (p *Pending) Published(ctx context.Context) (wire.Since, error) {
	ok, err := p.client.await(ctx, p.call)
	if err != nil {
		return wire.Since{}, fmt.Errorf("publish: %w", err)
	}
	return wire.Since{Epoch: ok.Epoch, Offset: ok.Offset}, nil
}

// keyed queues a command that is repeated with its key when its answer is lost.
func (c *Client) keyed(ctx context.Context, cmd *wire.Command, opts []Option) (*Pending, error) {
	cmd.Class = wire.Normal
	for _, o := range opts {
		o(cmd)
	}
	if len(cmd.Key) == 0 {
		cmd.Key = []byte(c.newKey())
	}
	k, err := c.newCall(cmd, byKey)
	if err != nil {
		return nil, err
	}
	if err := c.enqueue(ctx, k); err != nil {
		return nil, err
	}
	return &Pending{client: c, call: k}, nil
}

// Receipt tells the sender of a direct message what became of it, if it asked.
// It returns when the receipt is queued.
func (m *Message) Receipt(ctx context.Context, state wire.ReceiptState, note string) error {
	cmd := &wire.Command{
		Kind: wire.KindReceipt, MessageID: []byte(m.MessageID), State: state, Note: []byte(note), Class: wire.Normal,
	}
	if err := m.client.tellRelay(ctx, cmd, always, nil); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	return nil
}

// tellRelay queues a command that has no answer. It gets an id all the same, so
// that a refusal of it is not taken for that of something else.
func (c *Client) tellRelay(ctx context.Context, cmd *wire.Command, repeat repetition, r *incoming) error {
	k, err := c.newCall(cmd, repeat)
	if err != nil {
		return err
	}
	k.answered, k.incoming = false, r
	return c.enqueue(ctx, k)
}
