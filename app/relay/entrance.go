package relay

import (
	"context"
	"fmt"

	"agentnet/app/wire"
)

// An entrance is a subscription on its way to its place.
type entrance struct {
	link      *link // for this connection of the session only
	sub       *subscription
	by        *caller // nil on resume
	known     bool    // it was there before: no `join`
	recovered bool
	from      uint64 // where the client stands in this epoch
}

// unknownLoss says that a gap's size is not known.
const unknownLoss = ^uint64(0)

// enterLate admits a subscriber that missed more than the window holds. c.mu must
// be held.
func (c *channel) enterLate(t *Turn, e *entrance, after uint64) {
	e.recovered = false
	c.enter(t, e, c.after(c.window.First()-1, 0), c.window.First()-1-after)
}

// recover fetches stored publications until they meet the window, then admits.
func (c *channel) recover(ctx context.Context, e *entrance, since wire.Since) func(t *Turn) {
	at, missed := since.Offset, []Publication(nil)
	for {
		c.mu.Lock()
		_, met := c.window.Since(at)
		c.mu.Unlock()
		if met {
			break
		}
		page, ok, err := c.hub.cfg.Broker.Read(ctx, c.name, since.Epoch, at, readPage)
		if err != nil || !ok || len(page) == 0 || page[0].Offset != at+1 || len(missed) > 64*readPage {
			missed = nil
			break
		}
		missed = append(missed, page...)
		at = page[len(page)-1].Offset
	}
	return func(t *Turn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, met := c.window.Since(at); met { // still, or it became too long to catch up with
			e.recovered = true
			c.enter(t, e, append(missed, c.after(at, 0)...), 0)
			return
		}
		c.enterLate(t, e, since.Offset)
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

// enter makes a session a subscriber as of now and hands it what it missed. It
// does nothing when the session has left the channel or its connection meanwhile:
// a resume brings it back. c.mu must be held.
func (c *channel) enter(t *Turn, e *entrance, missed []Publication, gap uint64) {
	sub, s := e.sub, e.sub.s
	joins := (c.watchers > 0 || c.watched()) && e.by != nil && !e.known && !c.has(s.agent)
	last := c.window.Last()
	s.mu.Lock()
	if sub.dead || s.ended || s.link != e.link || sub.index >= 0 {
		s.mu.Unlock()
		if e.by != nil {
			e.by.fail(t, wire.Error{Code: wire.Conflict, Message: fmt.Sprintf("the session left %q, or asked for it again, before it was in", c.name)})
		}
		return
	}
	sub.sent, sub.wrote, sub.epoch, sub.paused = last, last, c.epoch, false
	s.mu.Unlock()
	c.forgive(sub)
	sub.index = len(c.subs)
	c.subs = append(c.subs, sub)
	c.hub.subscriptionN.Add(1)
	if sub.presence {
		if c.watchers++; c.watchers == 1 && c.hub.fleet != nil {
			c.tellWatch(t)
		}
	}
	if e.by != nil {
		ok := wire.OK{For: wire.KindSubscribe, Epoch: c.epoch, Offset: last, Recovered: e.recovered}
		if sub.resumes && gap != unknownLoss { // asked again, without a place: what follows is what it would have got anyway
			ok.Offset, ok.Recovered = e.from, false
		}
		e.by.ok(t, &ok)
	}
	if gap > 0 || len(missed) > 0 {
		s.mu.Lock()
		sub.wrote, sub.sent = e.from, e.from
		if gap > 0 { // lost with its socket, it has to be told again
			sub.fallBehind()
			at := e.from + gap
			if gap == unknownLoss {
				at = last
			}
			c.pushGap(t, s, c.epoch, at, gap)
		}
		if len(missed) > 0 {
			sub.deliverSome(t, missed)
		} else {
			sub.sent = last
		}
		s.mu.Unlock()
	}
	if joins {
		c.event(t, "join", s.agent.name, s.agent.standing().state)
	}
}
