package relay

import (
	"slices"

	"agentnet/app/wire"
)

// livesMax bounds the epochs that a channel remembers.
const livesMax = 4

// lived is how far subscribers of this node had come in an earlier epoch; 0: it is
// not known to them. c.mu must be held.
func (c *channel) lived(epoch string) uint64 {
	for _, l := range c.lives {
		if l.Epoch == epoch {
			return l.Offset
		}
	}
	return 0
}

// leaveEpoch remembers how far the channel has come in its epoch. c.mu must be held.
func (c *channel) leaveEpoch() {
	c.lives = slices.DeleteFunc(c.lives, func(l wire.Since) bool { return l.Epoch == c.epoch })
	if len(c.lives) == livesMax {
		c.lives = slices.Delete(c.lives, 0, 1)
	}
	c.lives = append(c.lives, wire.Since{Epoch: c.epoch, Offset: c.window.Last()})
}

// skipTo goes on at an offset of an epoch although subscribers here have not seen
// all before it: each is told by a gap. c.mu must be held.
func (c *channel) skipTo(t *Turn, epoch string, offset uint64) {
	same := epoch == c.epoch
	for i, sub := range c.subs {
		if sub == nil {
			continue
		}
		s := sub.s
		s.mu.Lock()
		if sub.dead || sub.paused || s.ended { // who comes back says where it was
			s.mu.Unlock()
			continue
		}
		fresh := &subscription{ch: c, s: s, index: sub.index, presence: sub.presence, resumes: sub.resumes,
			epoch: epoch, sent: offset, wrote: offset}
		missed := unknownLoss
		if at := sub.position(); same && offset >= at {
			missed, fresh.wrote = offset-at, at // a gap that is lost with its socket has to be told again
		} else {
			fresh.turned = true
		}
		sub.dead = true // what is queued of it is part of the gap
		if j := slices.Index(s.subs, sub); j >= 0 {
			s.subs[j] = fresh
		}
		if missed != 0 {
			fresh.fallBehind()
			c.pushGap(t, s, epoch, offset, missed)
		}
		s.mu.Unlock()
		sub.index = -1
		c.subs[i] = fresh
	}
	if !same {
		c.leaveEpoch()
	}
	c.epoch, c.heard = epoch, 0
	c.waiting, c.waitSize = nil, 0
	c.window.Reset(offset)
}
