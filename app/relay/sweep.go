package relay

// expireChannels removes channels that nobody uses, a part a second, and works
// out the rates.
func (h *Hub) expireChannels(t *Turn, round int) {
	const parts = 8 // each channel is looked at every 8 s
	for i := round % parts; i < shards; i += parts {
		sh := &h.channels[i]
		sh.mu.Lock()
		for name, c := range sh.m {
			c.mu.Lock()
			c.rate = float64(c.count) / parts
			c.count = 0
			c.window.Bound(h.recent(c.rule))
			c.window.Expire(t.wallMS())
			stays := c.sweepHome(t)
			if !stays && len(c.subs) == 0 && c.awaited == 0 && c.window.Len() == 0 && !c.opening && !c.passing && len(c.waiting) == 0 && len(c.unsaved) == 0 &&
				t.wallMS()-c.lastMS > c.rule.Recent.Age.Milliseconds() && c.idle() {
				c.dead = true
				delete(sh.m, name)
				if h.fleet != nil && c.home == "" {
					h.fleet.Yield(name, "")
				}
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
