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

// subscribe joins a channel.
func (s *Session) subscribe(t *Turn, l *link, c *wire.Command) {
	by := &caller{link: l, session: s, id: c.ID}
	if !s.who.Subscribe.MatchBytes(c.Channel) {
		by.fail(t, forbidden("subscribe to", c.Channel))
		return
	}
	if s.find(c.Channel) != nil {
		by.fail(t, wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("already subscribed to %q", c.Channel)})
		return
	}
	s.mu.Lock()
	n := len(s.subs)
	s.mu.Unlock()
	if n >= s.hub.cfg.Limits.Subscriptions {
		by.fail(t, wire.Error{Code: wire.RateLimited, Message: fmt.Sprintf("this session is subscribed to %d channels, which is the limit", n)})
		return
	}
	ch := s.hub.lockChannel(c.Channel)
	if ch == nil {
		by.fail(t, errChannels)
		return
	}
	sub := &subscription{ch: ch, s: s, index: -1, presence: c.Presence}
	s.mu.Lock()
	s.subs = append(s.subs, sub)
	s.mu.Unlock()
	var since *wire.Since
	if c.HasSince {
		since = &wire.Since{Epoch: cloneString(c.Since.Epoch), Offset: c.Since.Offset}
	}
	if !ch.whenOpen(t, func(t *Turn) { ch.admit(t, sub, by, since) }) {
		s.forgetSub(sub)
		by.fail(t, errOpening)
	}
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
// place. c.mu must be held.
func (c *channel) admit(t *Turn, sub *subscription, by *caller, since *wire.Since) {
	if by != nil {
		by = by.keep()
	}
	if since == nil || since.Offset == c.window.Last() && since.Epoch == c.epoch {
		c.enter(t, sub, by, since != nil, nil, 0)
		return
	}
	if since.Epoch != c.epoch || since.Offset > c.window.Last() {
		c.enter(t, sub, by, false, nil, unknownLoss)
		return
	}
	if _, ok := c.window.Since(since.Offset); ok {
		c.enter(t, sub, by, true, c.after(since.Offset, 0), 0)
		return
	}
	if c.rule.Keep.Count > 0 && c.hub.cfg.Broker != nil && !c.holed {
		if c.hub.later(brokerTime, func(ctx context.Context, t *Turn) { c.recover(ctx, t, sub, by, since) }) {
			return
		}
	}
	c.enterLate(t, sub, by, since.Offset)
}

// unknownLoss says that a gap's size is not known.
const unknownLoss = ^uint64(0)

// enterLate admits a subscriber that missed more than the window holds. c.mu must
// be held.
func (c *channel) enterLate(t *Turn, sub *subscription, by *caller, after uint64) {
	c.enter(t, sub, by, false, c.after(c.window.First()-1, 0), c.window.First()-1-after)
}

// recover fetches stored publications until they meet the window, then admits.
func (c *channel) recover(ctx context.Context, t *Turn, sub *subscription, by *caller, since *wire.Since) {
	at, missed := since.Offset, []Publication(nil)
	for {
		c.mu.Lock()
		if _, ok := c.window.Since(at); ok {
			c.enter(t, sub, by, true, append(missed, c.after(at, 0)...), 0)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		page, ok, err := c.hub.cfg.Broker.Read(ctx, c.name, since.Epoch, at, readPage)
		if err != nil || !ok || len(page) == 0 || len(missed) > 64*readPage {
			c.mu.Lock()
			c.enterLate(t, sub, by, since.Offset)
			c.mu.Unlock()
			return
		}
		missed = append(missed, page...)
		at = page[len(page)-1].Offset
	}
}

// after returns the window's publications after offset, limit of them if it is
// not 0. c.mu must be held.
func (c *channel) after(offset uint64, limit int) (out []Publication) {
	for _, p := range c.window.After(offset) {
		out = append(out, p)
		if limit > 0 && len(out) == limit {
			break
		}
	}
	return out
}

// enter makes sub a subscriber as of now and hands it what it missed. c.mu must
// be held.
func (c *channel) enter(t *Turn, sub *subscription, by *caller, recovered bool, missed []Publication, gap uint64) {
	s := sub.s
	first := c.watchers > 0 && !c.has(s.agent)
	s.mu.Lock()
	if sub.dead || s.ended || s.conn == nil {
		s.mu.Unlock()
		return
	}
	sub.sent, sub.epoch = c.window.Last(), c.epoch
	s.mu.Unlock()
	sub.index = len(c.subs)
	c.subs = append(c.subs, sub)
	c.hub.subscriptionN.Add(1)
	if sub.presence {
		c.watchers++
	}
	if by != nil {
		by.ok(t, &wire.OK{For: wire.KindSubscribe, Epoch: c.epoch, Offset: c.window.Last(), Recovered: recovered})
	}
	if gap > 0 {
		c.tellGap(t, s, gap)
	}
	if len(missed) > 0 {
		s.mu.Lock()
		sub.deliverSome(t, missed)
		sub.sent = c.window.Last()
		s.mu.Unlock()
	}
	if first {
		c.event(t, "join", s.agent.name, wire.Available)
	}
}

// tellGap names a loss in this channel.
func (c *channel) tellGap(t *Turn, s *Session, missed uint64) {
	if missed == unknownLoss {
		missed = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return
	}
	t.count.gaps++
	t.frame = wire.AppendGap(t.room(), s.enc, &wire.Gap{Channel: c.name, Missed: missed})
	s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.Critical)
	t.markUrgent(s)
}

// rejoin puts a resumed session's subscription back, from where the client says
// it is, else from what was last handed to its socket.
func (sub *subscription) rejoin(t *Turn, l *link, want *wire.Resume) {
	s := sub.s
	s.mu.Lock()
	since := &wire.Since{Epoch: sub.epoch, Offset: sub.sent}
	s.mu.Unlock()
	for _, p := range want.Channels {
		if p.Channel == sub.ch.name {
			since = &wire.Since{Epoch: p.Epoch, Offset: p.Offset}
		}
	}
	c := s.hub.lockChannel([]byte(sub.ch.name))
	if c == nil {
		s.forgetSub(sub)
		return
	}
	if c != sub.ch { // it was removed meanwhile and made anew
		sub = s.replaceSub(sub, c)
	}
	c.whenOpen(t, func(t *Turn) {
		if sub.index >= 0 {
			c.drop(sub) // the old socket's place: detach has not come yet
		}
		c.admit(t, sub, nil, since)
	})
}

// replaceSub puts a subscription to c in the place of old.
func (s *Session) replaceSub(old *subscription, c *channel) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := &subscription{ch: c, s: s, index: -1, presence: old.presence, sent: old.sent, epoch: old.epoch}
	if i := slices.Index(s.subs, old); i >= 0 {
		s.subs[i] = sub
	}
	old.dead = true
	return sub
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
	if forGood {
		sub.s.mu.Lock()
		sub.dead = true
		sub.s.mu.Unlock()
	} else if sub.s.attached() {
		return // it was resumed before the old socket's end was noticed
	}
	if sub.index >= 0 {
		c.drop(sub)
	}
	if forGood && c.watchers > 0 && !c.has(sub.s.agent) {
		c.event(t, "leave", sub.s.agent.name, wire.Offline)
	}
}

func (s *Session) attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
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

// expireChannels removes channels that nobody uses, a part a second, and works
// out the rates.
func (h *Hub) expireChannels(t *Turn) {
	const parts = 8 // each channel is looked at every 8 s
	turn := int(t.clock()/int64(time.Second)) % parts
	for i := turn; i < shards; i += parts {
		sh := &h.channels[i]
		sh.mu.Lock()
		for name, c := range sh.m {
			c.mu.Lock()
			c.rate = float64(c.count) / parts
			c.count = 0
			c.window.Expire(t.wallMS())
			if len(c.subs) == 0 && c.window.Len() == 0 && !c.opening && !c.passing && len(c.waiting) == 0 && len(c.unsaved) == 0 &&
				t.wallMS()-c.lastMS > c.rule.Recent.Age.Milliseconds() && c.idle() {
				c.dead = true
				delete(sh.m, name)
				h.channelN.Add(-1)
			}
			c.mu.Unlock()
		}
		sh.mu.Unlock()
	}
}

// idle counts the looks at which nobody used the channel, so that one that was
// just made is not removed before its first subscriber. c.mu must be held.
func (c *channel) idle() bool {
	c.quiet++
	return c.quiet > 2
}
