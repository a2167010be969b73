package relay

import (
	"context"
	"time"

	"agentnet/app/wire"
)

// history answers with past publications of a channel.
func (s *Session) history(t *Turn, l *link, c *wire.Command) {
	by := &caller{link: l, session: s, id: c.ID}
	if !s.who.Subscribe.MatchBytes(c.Channel) {
		by.fail(t, forbidden("read", c.Channel))
		return
	}
	if e := s.admitQuery(t, l); e != nil {
		by.fail(t, *e)
		return
	}
	if s.hub.overload().DefersHistory() {
		by.fail(t, wire.Error{Code: wire.Overloaded, Message: "the relay is busy; history is deferred", RetryAfterMS: retryMS(t.spread(2 * time.Second))})
		return
	}
	ch := s.hub.lockChannel(c.Channel)
	if ch == nil {
		by.fail(t, errChannels)
		return
	}
	ch.follow()
	limit := pageSize(c.Limit)
	var since *wire.Since
	if c.HasSince {
		since = &wire.Since{Epoch: cloneString(c.Since.Epoch), Offset: c.Since.Offset}
	}
	if !ch.whenOpen(t, func(t *Turn) { ch.past(t, by, since, limit) }) {
		by.fail(t, errOpening)
	}
}

// past answers a history command. c.mu must be held.
func (c *channel) past(t *Turn, by *caller, since *wire.Since, limit int) {
	if c.astray {
		by.fail(t, errNoHome)
		return
	}
	from, gone := c.pastFrom(since, limit)
	if gone {
		by.fail(t, wire.Error{Code: wire.Gone, Message: "the channel began a new epoch, " + c.epoch + "; its history since the old one is gone"})
		return
	}
	_, whole := c.window.Since(from)
	if whole || c.rule.Keep.Count == 0 || c.hub.cfg.Broker == nil || c.holed {
		from = max(from, c.window.First()-1)
		c.tellPast(t, by, c.after(from, limit))
		return
	}
	by = by.keep()
	epoch := c.epoch
	if !c.hub.later(brokerTime, func(ctx context.Context) func(t *Turn) { return c.fetchPast(ctx, by, epoch, from, limit) }) {
		by.fail(t, wire.Error{Code: wire.Overloaded, Message: "too much history is being read", RetryAfterMS: 1000})
	}
}

// pastFrom is the offset after which history is wanted: the last limit
// publications when no place is given. c.mu must be held.
func (c *channel) pastFrom(since *wire.Since, limit int) (from uint64, gone bool) {
	last := c.window.Last()
	if since == nil {
		return last - min(last, uint64(limit)), false
	}
	if since.Epoch != "" && since.Epoch != c.epoch {
		return 0, true
	}
	return min(since.Offset, last), false
}

// fetchPast answers from stored history and, where that ends, from the window.
func (c *channel) fetchPast(ctx context.Context, by *caller, epoch string, from uint64, limit int) func(t *Turn) {
	page, ok, err := c.hub.cfg.Broker.Read(ctx, c.name, epoch, from, limit)
	return func(t *Turn) {
		if err != nil {
			by.fail(t, wire.Error{Code: wire.Unavailable, Message: "stored history cannot be read now", RetryAfterMS: retryMS(t.spread(2 * time.Second))})
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !ok || len(page) == 0 {
			page = c.after(max(from, c.window.First()-1), limit)
		} else if last := page[len(page)-1].Offset; len(page) < limit && last+1 >= c.window.First() {
			page = append(page, c.after(last, limit-len(page))...)
		}
		c.tellPast(t, by, page)
	}
}

// tellPast answers with pubs, as many as fit one frame. c.mu must be held.
func (c *channel) tellPast(t *Turn, by *caller, pubs []Publication) {
	ok := wire.OK{For: wire.KindHistory, Epoch: c.epoch, Offset: c.window.Last()}
	size := 0
	for i := range pubs {
		p := &pubs[i]
		if size += p.size(); size > c.hub.answerBytes() && i > 0 {
			break
		}
		ok.Messages = append(ok.Messages, wire.Message{Channel: c.name, Offset: p.Offset, From: p.From, Payload: p.Payload, MessageID: p.MessageID,
			TimeMS: p.TimeMS, Class: p.Class, Headers: p.Headers})
	}
	by.ok(t, &ok)
}

// answerBytes bounds the lists in one answer, as counted before they are encoded:
// half of what one message may have and half of what a queue may hold, as
// encoding makes them longer.
func (h *Hub) answerBytes() int {
	return min(h.cfg.Limits.MessageBytes, h.bounds.Load().Queue.Bytes) / 2
}
