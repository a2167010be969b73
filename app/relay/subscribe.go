package relay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"agentnet/app/wire"
)

// brokerTime bounds one command's wait for stored history.
const brokerTime = 10 * time.Second

// readPage is how many stored publications are fetched at a time.
const readPage = 256

// subscribe joins a channel. A session that is in it already may ask again: for
// what it missed since some offset, or for presence events.
func (s *Session) subscribe(t *Turn, l *link, c *wire.Command) {
	by := &caller{link: l, session: s, id: c.ID}
	if !s.who.Subscribe.MatchBytes(c.Channel) {
		by.fail(t, forbidden("subscribe to", c.Channel))
		return
	}
	s.mu.Lock()
	n, limit := len(s.subs), s.hub.cfg.Limits.Subscriptions
	s.mu.Unlock()
	old := s.find(c.Channel)
	if old == nil && n >= limit {
		by.fail(t, wire.Error{Code: wire.RateLimited, Message: fmt.Sprintf("this session is subscribed to %d channels, which is the limit", n)})
		return
	}
	ch := s.hub.lockChannel(c.Channel)
	if ch == nil {
		by.fail(t, errChannels)
		return
	}
	ch.follow()
	sub := &subscription{ch: ch, s: s, index: -1, presence: c.Presence, paused: true}
	var since *wire.Since
	if c.HasSince {
		since = &wire.Since{Epoch: c.Since.Epoch, Offset: c.Since.Offset}
	}
	s.mu.Lock()
	if i := slices.Index(s.subs, old); old != nil && i >= 0 {
		s.subs[i] = sub
		old.dead = true // nothing comes through it after its position was read
		sub.epoch, sub.sent, sub.wrote = old.epoch, old.position(), old.position()
		if since == nil && old.epoch != "" { // nothing of what is on its way to it is left out
			sub.resumes, since = true, &wire.Since{Epoch: sub.epoch, Offset: sub.sent}
		}
	} else {
		s.subs = append(s.subs, sub)
	}
	s.mu.Unlock()
	if !ch.whenOpen(t, func(t *Turn) { ch.admit(t, l, sub, old, by, since) }) {
		by.fail(t, errOpening)
		s.forgetSub(sub)
		ch.leave(t, sub, true)
		if old != nil {
			ch.leave(t, old, true)
		}
	}
}

// position is the last offset that the socket was surely given. Session.mu must be
// held.
func (sub *subscription) position() uint64 {
	if sub.behind {
		return sub.wrote
	}
	return sub.sent
}

// lose ends a subscription that the client did not end, and tells it.
func (sub *subscription) lose(t *Turn) {
	sub.s.forgetSub(sub)
	sub.ch.leave(t, sub, true)
	sub.s.mu.Lock()
	sub.ch.pushGap(t, sub.s, "", 0, unknownLoss)
	sub.s.mu.Unlock()
}

// find returns the session's subscription to a channel.
func (s *Session) find(channel []byte) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if sub.ch.name == string(channel) {
			return sub
		}
	}
	return nil
}

func (s *Session) forgetSub(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.dead = true
	if i := slices.Index(s.subs, sub); i >= 0 {
		s.subs = slices.Delete(s.subs, i, i+1)
	}
	if len(s.subs) == 0 {
		s.subs = nil
	}
}

// admit answers subscribe (by is nil on resume) and puts the subscriber in its
// place, instead of old if that is not nil. c.mu must be held.
func (c *channel) admit(t *Turn, l *link, sub, old *subscription, by *caller, since *wire.Since) {
	if c.astray {
		c.turnAway(t, sub, old, by)
		return
	}
	e := entrance{link: l, sub: sub, by: by}
	if old != nil && old.index >= 0 && old.ch == c {
		e.known = true
		c.drop(old)
	}
	if old != nil {
		c.bury(old)
	}
	last := c.window.Last()
	switch {
	case since == nil:
		c.enter(t, &e, nil, 0)
		return
	case since.Epoch != c.epoch || since.Offset > last:
		c.enter(t, &e, nil, unknownLoss)
		return
	}
	e.from = since.Offset
	if _, ok := c.window.Since(since.Offset); ok {
		e.recovered = true
		c.enter(t, &e, c.after(since.Offset, 0), 0)
		return
	}
	if c.rule.Keep.Count > 0 && c.hub.cfg.Broker != nil && !c.holed {
		if c.hub.later(brokerTime, func(ctx context.Context) func(t *Turn) { return c.recover(ctx, &e, *since) }) {
			return
		}
	}
	c.enterLate(t, &e, since.Offset)
}

// turnAway refuses a subscriber, because the channel's home cannot be reached. c.mu
// must be held.
func (c *channel) turnAway(t *Turn, sub, old *subscription, by *caller) {
	for _, gone := range []*subscription{sub, old} {
		if gone == nil {
			continue
		}
		if gone.index >= 0 {
			c.drop(gone)
		}
		c.forgive(gone)
		gone.s.forgetSub(gone)
	}
	if by != nil {
		by.fail(t, errNoHome)
		return
	}
	sub.s.mu.Lock()
	c.pushGap(t, sub.s, "", 0, unknownLoss)
	sub.s.mu.Unlock()
}

// bury makes sure that nothing of a replaced subscription is sent any more. c.mu
// must be held.
func (c *channel) bury(old *subscription) {
	c.forgive(old)
	old.s.mu.Lock()
	old.dead = true
	old.s.mu.Unlock()
}

// forgive stops waiting for a session to come back. c.mu must be held.
func (c *channel) forgive(sub *subscription) {
	if sub.awaited {
		sub.awaited = false
		c.awaited--
	}
}

// pushGap names a loss in this channel, and the epoch and offset at which the session
// stands then ("" when it is not subscribed any more). s.mu must be held.
func (c *channel) pushGap(t *Turn, s *Session, epoch string, offset, missed uint64) {
	if !s.live() {
		return
	}
	if missed == unknownLoss {
		missed = 0
	}
	t.count.gaps++
	t.frame = wire.AppendGap(t.room(), s.enc, &wire.Gap{Channel: c.name, Missed: missed, Epoch: epoch, Offset: offset})
	s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.Critical)
	t.markUrgent(s)
}

// unsubscribe leaves a channel.
func (s *Session) unsubscribe(t *Turn, l *link, c *wire.Command) {
	sub := s.find(c.Channel)
	if sub == nil {
		l.fail(t, c.ID, "", wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("not subscribed to %q", c.Channel)})
		return
	}
	s.forgetSub(sub)
	sub.ch.leave(t, sub, true)
	l.ok(t, &wire.OK{ID: c.ID, For: wire.KindUnsubscribe})
}

// leave takes sub out of the subscribers. for good says that the session will
// not come back to it.
func (c *channel) leave(t *Turn, sub *subscription, forGood bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := sub.s
	s.mu.Lock()
	sub.dead = sub.dead || forGood
	back := s.conn != nil // it was resumed before the old socket's end was noticed
	gone := sub.dead || s.ended
	s.mu.Unlock()
	if !forGood && back {
		return
	}
	if sub.index >= 0 {
		c.drop(sub)
	}
	if c.forgive(sub); !gone {
		sub.awaited = true
		c.awaited++
	}
	if forGood && (c.watchers > 0 || c.watched()) && !c.has(s.agent) {
		c.event(t, "leave", s.agent.name, wire.Offline)
	}
}

// drop removes sub from the list. c.mu must be held.
func (c *channel) drop(sub *subscription) {
	c.hub.subscriptionN.Add(-1)
	if sub.presence {
		c.watchers--
	}
	i := sub.index
	sub.index = -1
	if c.passing {
		c.subs[i] = nil
		c.holes++
		return
	}
	c.removeAt(i)
}

// removeAt fills place i with the last subscriber. c.mu must be held.
func (c *channel) removeAt(i int) {
	last := len(c.subs) - 1
	moved := c.subs[last]
	c.subs[last] = nil
	c.subs = c.subs[:last]
	if i != last {
		c.subs[i] = moved
		if moved != nil {
			moved.index = i
		}
	}
	if last == 0 {
		c.subs = nil
	}
}

// fillHoles closes the places of those that left during a pass. c.mu must be held.
func (c *channel) fillHoles() {
	if c.holes == 0 {
		return
	}
	c.holes = 0
	kept := c.subs[:0]
	for _, sub := range c.subs {
		if sub != nil {
			sub.index = len(kept)
			kept = append(kept, sub)
		}
	}
	clear(c.subs[len(kept):])
	c.subs = kept
}
