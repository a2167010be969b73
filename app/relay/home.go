package relay

import (
	"context"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

const (
	// syncTime is how long the home of a channel may take to say where it stands
	// before it is asked again.
	syncTime = time.Second
	// pubsBytes bounds the publications of one parcel.
	pubsBytes = 96 << 10
	// publishHops bounds how far a publication is handed on after a moving home.
	publishHops = 3
)

// A footing is what a channel is to this node when there are others: its home, which
// gives the offsets, or a follower, whose window repeats the home's. Guarded by
// channel.mu; the zero value is the home, as on a lone node.
type footing struct {
	home    string // "" is this node
	settled bool   // it was the home or a follower before
	synced  bool   // of a follower: its window goes on with what the home posts
	wanted  bool   // it is to be one: somebody here reads the channel
	told    bool   // the fleet knows that somebody here does
	out     int    // own publications that the home has not answered
	asked   uint64 // the Sync that is waited for
	answer  chan bool
	astray  bool             // no home was found in time: commands are refused until one is
	lives   []wire.Since     // earlier epochs, and how far this node had followed them; a split's end may bring one back
	heard   uint64           // offsets up to here are not passed: subscribers had them in an earlier life of the epoch
	far     map[string]int64 // nodes with somebody who wants presence events, until when
	unsure  int              // sweeps until all of them have told this node, which has just begun to hear the channel
}

// watched says that nodes may have somebody who wants presence events. c.mu must be
// held.
func (c *channel) watched() bool { return len(c.far) > 0 || c.unsure > 0 }

// find looks for the channel's home, or becomes it. c.mu must be held; the commands
// that wait run when it is found.
func (c *channel) find() {
	if c.hub.fleet == nil || c.dead {
		return
	}
	if c.settled && c.hub.closing.Load() {
		// All nodes stop. Who took the channel over now would begin it anew, and what is
		// stored of it would be gone when the nodes are back.
		c.astray, c.synced = true, false
		return
	}
	if !c.opening {
		c.opening = true
	} else if c.answer != nil {
		return // on the way already
	}
	c.answer = make(chan bool, 1)
	go c.hub.findHome(c)
}

// follow makes the channel one whose window is kept, for somebody here reads it.
// c.mu must be held.
func (c *channel) follow() {
	if c.hub.fleet == nil {
		return
	}
	c.wanted = true
	if !c.told {
		c.told, c.unsure = true, 2
		c.hub.fleet.ChannelHere(c.name)
	}
	if c.astray || c.home != "" && !c.synced && !c.opening {
		c.find()
	}
}

// findHome claims the channel until it has a home that answers.
func (h *Hub) findHome(c *channel) {
	ctx, cancel := context.WithTimeout(h.life, brokerTime)
	defer cancel()
	wait := 10 * time.Millisecond
	for ctx.Err() == nil {
		epoch := newEpoch()
		home, err := h.fleet.Claim(ctx, c.name, epoch)
		c.awaitOutcomes(ctx, home.Node)
		switch {
		case err != nil:
		case home.Node == h.cfg.Node:
			h.becomeHome(ctx, c, home.Epoch)
			return
		case h.followHome(ctx, c, home.Node):
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, syncTime)
		}
	}
	if h.life.Err() != nil {
		return
	}
	h.log.Warn("no home of a channel was found in time; its commands are refused until one is", "channel", c.name)
	h.finishOpen(c, func(*Turn) { c.astray, c.answer, c.synced = true, nil, false })
}

// awaitOutcomes lets what was published through another home be answered first, so
// that nothing overtakes it.
func (c *channel) awaitOutcomes(ctx context.Context, home string) {
	for {
		c.mu.Lock()
		done := c.out == 0 || c.home == home
		c.mu.Unlock()
		if done || ctx.Err() != nil {
			return
		}
		time.Sleep(5 * time.Millisecond) // at most crossTime in all
	}
}

// becomeHome opens the channel as the node that gives its offsets.
func (h *Hub) becomeHome(ctx context.Context, c *channel, epoch string) {
	c.mu.Lock()
	if c.settled && c.home == "" { // it is already: an heir, or a home that was asked again
		c.mu.Unlock()
		h.finishOpen(c, func(*Turn) { c.answer, c.astray = nil, false })
		return
	}
	broken := c.settled
	c.mu.Unlock()
	at := Position{Epoch: epoch}
	holed := false
	if h.cfg.Broker != nil && c.rule.Keep.Count > 0 {
		if broken { // what the last home had not stored yet is lost
			call, done := context.WithTimeout(ctx, brokerTime/4)
			err := h.cfg.Broker.Forget(call, c.name)
			done()
			holed = err != nil
		}
		if pos, err := h.openStored(ctx, c, epoch); err == nil && !holed {
			at = pos
		} else {
			holed = true
		}
	}
	h.finishOpen(c, func(t *Turn) {
		if broken || c.epoch != at.Epoch && c.window.Last() > 0 {
			c.skipTo(t, at.Epoch, at.Offset)
		} else {
			c.epoch = at.Epoch
			c.window.Reset(at.Offset)
		}
		c.holed = holed
		c.footAs("")
	})
}

// footAs notes what the channel is to this node now. c.mu must be held.
func (c *channel) footAs(home string) {
	c.home, c.settled, c.astray, c.answer, c.asked = home, true, false, nil, 0
	c.synced = home != "" && c.wanted
}

// followHome asks the home where the channel stands. True: the channel is open.
func (h *Hub) followHome(ctx context.Context, c *channel, home string) bool {
	c.mu.Lock()
	if !c.wanted { // publications only: the home has to be known, nothing else
		c.mu.Unlock()
		h.finishOpen(c, func(*Turn) { c.footAs(home); c.synced = false })
		return true
	}
	answer := c.answer
	c.asked = h.crossLast.Add(1)
	q := parcel.Sync{Number: c.asked, Channel: c.name}
	if c.settled {
		q.Epoch, q.After = c.epoch, c.window.Last()
	}
	c.mu.Unlock()
	if !h.fleet.Post(home, parcel.Append(nil, &q)) {
		return false
	}
	limit := time.NewTimer(syncTime)
	defer limit.Stop()
	select {
	case ok := <-answer:
		return ok
	case <-limit.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answer != answer { // it came just now
		return true
	}
	c.asked = 0
	return false
}

// takePub appends one publication of the home to the window and queues it for the
// next pass; false when some before it are missing. c.mu must be held.
func (c *channel) takePub(t *Turn, v *parcel.Pub) bool {
	last := c.window.Last()
	if v.Offset <= last {
		return true
	}
	if v.Offset != last+1 {
		return false
	}
	p := publicationOf(v)
	size := p.size()
	c.window.Append(p.Offset, size, p.TimeMS, p)
	c.lastMS, c.quiet = p.TimeMS, 0
	c.count++
	if len(c.subs) > 0 && p.Offset > c.heard {
		c.queuePass(t, p, size)
	}
	return true
}

// queuePass leaves p to the next pass. c.mu must be held.
func (c *channel) queuePass(t *Turn, p Publication, size int) {
	c.waiting = append(c.waiting, p)
	c.waitSize += size
	if !c.queued {
		c.queued = true
		t.channels = append(t.channels, c)
	}
}

// landPubs takes what the home of a channel accepted.
func (h *Hub) landPubs(t *Turn, node string, b []byte) bool {
	var v parcel.Pubs
	if !parcel.Read(b, &v) {
		return false
	}
	sh := &h.channels[h.shardOf(v.Channel)]
	sh.mu.RLock()
	c := sh.m[v.Channel]
	sh.mu.RUnlock()
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.home != node || !c.synced || c.opening || c.dead {
		return true // the answer to a Sync will hold it
	}
	whole := v.Epoch == c.epoch
	for i := 0; whole && i < len(v.List); i++ {
		whole = c.takePub(t, &v.List[i])
	}
	if !whole {
		c.synced = false
		c.find()
	}
	return true
}
