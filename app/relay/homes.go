package relay

import (
	"slices"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// eachChannel calls f for every channel, without a lock held.
func (h *Hub) eachChannel(f func(c *channel)) {
	var some []*channel
	for i := range h.channels {
		sh := &h.channels[i]
		some = some[:0]
		sh.mu.RLock()
		for _, c := range sh.m {
			some = append(some, c)
		}
		sh.mu.RUnlock()
		for _, c := range some {
			f(c)
		}
	}
}

// refind looks anew for the homes of the channels that match. c.mu is held in which.
func (h *Hub) refind(which func(c *channel) bool) {
	h.eachChannel(func(c *channel) {
		c.mu.Lock()
		if !c.dead && c.settled && which(c) {
			c.synced = false
			c.find()
		}
		c.mu.Unlock()
	})
}

// homeMoved heeds what the fleet says of a channel's home.
func (h *Hub) homeMoved(channel string, home Home, planned bool) {
	sh := &h.channels[h.shardOf(channel)]
	sh.mu.RLock()
	c := sh.m[channel]
	sh.mu.RUnlock()
	if c == nil {
		return
	}
	t := h.borrow()
	defer h.giveBack(t) // when the channel is free again
	c.mu.Lock()
	defer c.mu.Unlock()
	node := home.Node
	if node == h.cfg.Node {
		node = ""
	}
	if c.dead || !c.settled {
		return
	}
	if home.Node != "" && c.home == node {
		if home.Epoch == c.epoch && !planned {
			c.rivalEnded(t)
		}
		return
	}
	if c.home == "" { // another node is the home of what was ours
		if home.Node == "" {
			return
		}
		c.home = home.Node
	}
	c.synced = false
	c.find()
}

// rivalEnded tells the subscribers here that there was another home, which has given
// way to this channel's: what was published there never comes. c.mu must be held.
func (c *channel) rivalEnded(t *Turn) {
	for _, sub := range c.subs {
		if sub == nil {
			continue
		}
		sub.s.mu.Lock()
		c.pushGap(t, sub.s, c.epoch, sub.sent, unknownLoss)
		sub.s.mu.Unlock()
	}
}

// yield makes another node the home of a channel, with its epoch and its window.
// c.mu must be held, and this node be the home.
func (c *channel) yield(t *Turn, node string) bool {
	if c.opening || c.home != "" || c.hub.fleet == nil {
		return false
	}
	if !c.postState(node, 0, c.window.First()-1, true) {
		return false
	}
	c.unsaved = nil
	c.home, c.synced = node, c.wanted
	c.hub.fleet.Yield(c.name, node)
	if c.wanted { // what the new home accepts comes from there
		c.synced = false
		c.find()
	}
	return true
}

// yieldAll gives the channels of a node that leaves to others, to those with
// subscribers first.
func (h *Hub) yieldAll(t *Turn) {
	takers := h.fleet.Takers(nil)
	h.eachChannel(func(c *channel) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.dead || c.home != "" || c.opening || !c.settled {
			return
		}
		heirs := h.fleet.Interested(nil, c.name)
		heirs = slices.DeleteFunc(heirs, func(node string) bool { return !slices.Contains(takers, node) })
		if len(heirs) == 0 {
			heirs = takers
		}
		for _, node := range heirs {
			if c.yield(t, node) {
				return
			}
		}
	})
	t.Flush(true)
}

// sweepHome lets go of what nobody here reads any more, and gives the channel to the
// one node that does. c.mu must be held. It answers true when the channel is to
// stay although nobody of this node uses it.
func (c *channel) sweepHome(t *Turn) (stays bool) {
	h := c.hub
	if h.fleet == nil || c.opening {
		return false
	}
	for node, until := range c.far {
		if until <= t.clock() {
			delete(c.far, node)
		}
	}
	if c.watchers > 0 {
		c.tellWatch(t)
	}
	c.unsure = max(0, c.unsure-1)
	unread := len(c.subs) == 0 && c.awaited == 0
	if unread && c.told && c.quiet > 0 {
		c.told, c.wanted, c.synced = false, false, false
		h.fleet.ChannelGone(c.name)
		if c.home != "" {
			c.window.Reset(c.window.Last())
		}
	}
	if c.home != "" {
		return false
	}
	t.nodes = h.fleet.Interested(t.nodes[:0], c.name)
	if unread && !c.told && len(t.nodes) == 1 && len(c.waiting) == 0 && !c.passing && c.quiet > 1 {
		c.yield(t, t.nodes[0])
	}
	return len(t.nodes) > 0
}

// watchTime is how long other nodes believe that somebody wants presence events; it
// is told again every 8 s.
const watchTime = int64(20e9)

// watchEvent is the word by which a node asks others for presence events.
const watchEvent = "watch"

// tellWatch asks the other nodes for a channel's presence events. c.mu must be held.
func (c *channel) tellWatch(t *Turn) {
	c.postEvent(t, &parcel.Event{Channel: c.name, What: watchEvent}, c.hub.fleet.Interested(nil, c.name))
}

func (c *channel) postEvent(t *Turn, ev *parcel.Event, nodes []string) {
	if len(nodes) == 0 {
		return
	}
	p := parcel.Append(nil, ev)
	for _, node := range nodes {
		c.hub.fleet.Post(node, p)
	}
}

// landEvent tells those of this node who asked for it what happened elsewhere.
func (h *Hub) landEvent(t *Turn, node string, b []byte) bool {
	var v parcel.Event
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
	switch v.What {
	case watchEvent:
		if c.far == nil {
			c.far = make(map[string]int64)
		}
		c.far[cloneString(node)] = t.clock() + watchTime
	case "join", "leave", "state":
		if a := h.agent(bytesOf(v.Agent)); v.What != "state" && a != nil && c.has(a) {
			return true // it is here too: nobody came or left
		}
		c.tellWatchers(t, &wire.PresenceEvent{Channel: c.name, Event: v.What, Agent: v.Agent, State: v.State})
	default:
		return false
	}
	return true
}

// eventElsewhere posts a presence event to the nodes that want it, or to all that
// may as long as this node has not heard which do. c.mu must be held.
func (c *channel) eventElsewhere(t *Turn, ev *wire.PresenceEvent) {
	if !c.watched() {
		return
	}
	nodes := make([]string, 0, len(c.far))
	if c.unsure > 0 {
		nodes = c.hub.fleet.Interested(nodes, c.name)
	} else {
		for node, until := range c.far {
			if until > t.clock() {
				nodes = append(nodes, node)
			}
		}
	}
	slices.Sort(nodes)
	c.postEvent(t, &parcel.Event{Channel: c.name, What: ev.Event, Agent: ev.Agent, State: ev.State}, nodes)
}
