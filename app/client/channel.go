package client

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/wire"
)

// offsetWindow bounds how far messages of a channel may overtake each other (a
// more urgent one leaves first) and still be told from missing ones.
const offsetWindow = 256

// channelIDs is how many message ids of a channel are remembered. After a resume at
// most offsetWindow messages come again that had been received.
const channelIDs = 2 * offsetWindow

// relearnEvery bounds how often a channel's epoch is asked for after a gap.
const relearnEvery = 5 * time.Second

// SubscribeOptions says from where to listen and what else to hear. The zero value
// is: from now on, messages only.
type SubscribeOptions struct {
	Since    *wire.Since // everything after it is wanted too
	Presence bool        // tell Config.OnPresence who joins and leaves
}

// A Subscription is a channel that this client listens to. It outlives
// reconnects: what was missed is asked for again.
type Subscription struct {
	client   *Client
	channel  string
	presence bool
	handler  func(ctx context.Context, m *Message)

	// Guarded by Client.mu.
	active    bool // the relay has accepted it
	recovered bool
	pending   *call  // subscribe that is not yet answered
	epoch     string // "" before the first answer
	head      uint64 // the channel's end at the last answer
	placed    bool   // seen says where we are; else head does
	seen      window // offsets that were received
	ids       recent
	relearnt  time.Time
}

// Subscribe listens to a channel. handler gets its messages in order, on the same
// goroutine as Config.OnMessage. A refusal is a *wire.Error.
func (c *Client) Subscribe(ctx context.Context, channel string, o SubscribeOptions, handler func(ctx context.Context, m *Message)) (*Subscription, error) {
	s := &Subscription{client: c, channel: channel, presence: o.Presence, handler: handler, ids: newRecent(channelIDs)}
	if o.Since != nil {
		s.epoch, s.placed, s.seen = o.Since.Epoch, true, newWindow(o.Since.Offset, offsetWindow)
	}
	k, err := s.newCall(o.Since)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", channel, err)
	}
	c.mu.Lock()
	if c.subs[channel] != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("subscribe to %s: %w", channel, ErrSubscribed)
	}
	c.subs[channel] = s
	s.pending = k
	c.mu.Unlock()
	if err = c.enqueue(ctx, k); err == nil {
		_, err = c.await(ctx, k)
	}
	if err != nil {
		c.abandon(s, k)
		return nil, fmt.Errorf("subscribe to %s: %w", channel, err)
	}
	return s, nil
}

// abandon takes back a subscription that failed; when the relay may have accepted
// it, it is told.
func (c *Client) abandon(s *Subscription, k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs[s.channel] == s {
		delete(c.subs, s.channel)
	}
	s.pending = nil
	if _, refused := k.err.(*wire.Error); refused || k.number == 0 || c.cause != nil {
		return
	}
	cmd := &wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte(s.channel), Class: wire.Normal, ID: c.lastID.Add(1)}
	c.out.force(&call{
		id: cmd.ID, kind: cmd.Kind, repeat: dropped, done: make(chan struct{}),
		frame: wire.AppendCommand(nil, c.cfg.Encoding, cmd),
	})
	c.wakeWriter()
}

func (s *Subscription) newCall(since *wire.Since) (*call, error) {
	cmd := &wire.Command{Kind: wire.KindSubscribe, Channel: []byte(s.channel), Presence: s.presence, Class: wire.Normal}
	if since != nil {
		cmd.HasSince, cmd.Since = true, *since
	}
	k, err := s.client.newCall(cmd, always)
	if err == nil {
		k.subscription = s
	}
	return k, err
}

// Unsubscribe stops listening to a channel.
func (c *Client) Unsubscribe(ctx context.Context, channel string) error {
	c.mu.Lock()
	delete(c.subs, channel)
	c.mu.Unlock()
	cmd := &wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte(channel), Class: wire.Normal}
	if _, err := c.do(ctx, cmd, always); err != nil {
		return fmt.Errorf("unsubscribe from %s: %w", channel, err)
	}
	return nil
}

// Channel is the name of the channel.
func (s *Subscription) Channel() string { return s.channel }

// Recovered says whether the relay had all that was missed at the last subscribe.
func (s *Subscription) Recovered() bool {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.recovered
}

// Position is the place up to which messages were received. A later Subscribe with
// it as Since goes on from there.
func (s *Subscription) Position() wire.Since {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	p, _ := s.positionLocked()
	return wire.Since{Epoch: p.Epoch, Offset: p.Offset}
}

// positionLocked is where to resume from; ok is false before the first answer.
func (s *Subscription) positionLocked() (p wire.ChannelPosition, ok bool) {
	p = wire.ChannelPosition{Channel: s.channel, Epoch: s.epoch, Offset: s.head}
	if s.placed {
		p.Offset = s.seen.base
	}
	return p, s.active && s.epoch != ""
}

// acceptedLocked takes the answer to a subscribe.
func (s *Subscription) acceptedLocked(ok *wire.OK) {
	// A question for the epoch after a gap changes nothing about messages that
	// came since: they already belong to the epoch that it tells.
	relearning := s.active && s.pending == nil
	s.active, s.pending = true, nil
	s.recovered = ok.Recovered
	if ok.Epoch != s.epoch && !relearning {
		s.placed = false
	}
	s.epoch, s.head = ok.Epoch, ok.Offset
}

// refusedLocked takes the refusal of a subscribe that was repeated after a
// reconnect; the first one is told to the caller of Subscribe.
func (s *Subscription) refusedLocked(e *wire.Error) {
	c := s.client
	if !s.active || c.subs[s.channel] != s {
		return
	}
	delete(c.subs, s.channel)
	c.cfg.Logger.Warn("a subscription was not renewed", "channel", s.channel, "code", e.Code)
	if c.cfg.OnError != nil {
		refused := wire.Error{Code: e.Code, Message: fmt.Sprintf("subscription to %s ended: %s", s.channel, e.Message)}
		c.inbox.add(item{run: func() { c.cfg.OnError(refused) }, bytes: itemOverhead})
	}
}

// lostLocked takes a gap in the channel. Offsets may begin anew after it, in
// another epoch: the relay says so with the gap, or is asked.
func (s *Subscription) lostLocked(g *wire.Gap) {
	s.placed = false
	if g.Epoch != "" && s.active {
		s.epoch, s.head = g.Epoch, g.Offset
		return
	}
	if !s.active || s.pending != nil || time.Since(s.relearnt) < relearnEvery {
		return
	}
	s.relearnt = time.Now()
	if k, err := s.newCall(nil); err == nil {
		s.client.out.force(k)
		s.client.wakeWriter()
	}
}

// resubscribeLocked renews what a new session does not know, before anything that
// waits in the queue.
func (c *Client) resubscribeLocked(resumed bool) {
	if resumed {
		return
	}
	waiting := c.out.queue
	c.out.queue = nil
	if c.profile != nil {
		if k, err := c.newCall(&wire.Command{Kind: wire.KindProfile, Profile: c.profile, Class: wire.Normal}, always); err == nil {
			c.out.force(k)
		}
	}
	for _, s := range c.subs {
		if !s.active || s.pending != nil {
			continue
		}
		p, _ := s.positionLocked()
		if k, err := s.newCall(&wire.Since{Epoch: p.Epoch, Offset: p.Offset}); err == nil {
			s.pending = k
			c.out.force(k)
		}
	}
	c.out.queue = append(c.out.queue, waiting...)
}

// takeChannelMessage hands a message to the handler of its channel.
func (c *Client) takeChannelMessage(m *wire.Message) {
	if !c.room() {
		return // the position stays, so that it comes again
	}
	c.mu.Lock()
	s := c.subs[m.Channel]
	if s == nil { // on its way while we unsubscribed
		c.mu.Unlock()
		return
	}
	if !s.placed && m.Offset > 0 {
		s.seen = newWindow(m.Offset-1, offsetWindow)
		s.placed = true
	}
	s.seen.add(m.Offset)
	fresh := s.ids.add(m.MessageID)
	c.mu.Unlock()
	if !fresh || s.handler == nil {
		return
	}
	own := c.own(m)
	c.deliver(len(own.Payload.Data), func() { s.handler(c.ctx, own) })
}
