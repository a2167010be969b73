package relay

import (
	"time"

	"agentnet/app/relay/history"
	"agentnet/app/relay/limit"
	"agentnet/app/relay/overload"
	"agentnet/app/relay/queue"
)

// Bounds are what a running Hub may be told to change, because memory and load
// change. What is configured is where it begins; everything that was promised to
// clients (replay, mailbox, limits) is not among them.
type Bounds struct {
	// Queue is what may wait for one socket. Smaller bounds hold from the next frame
	// on: nothing that waits is thrown away by Adjust itself.
	Queue queue.Limits
	// HeartbeatMin and HeartbeatMax are what the interval of a connection moves
	// between. A connection takes them on with its next ping.
	HeartbeatMin, HeartbeatMax time.Duration
	// Recent is the share of each channel's configured window, in count and bytes,
	// that is kept in memory: above 0, up to 1. Channels take it on within 8 s.
	Recent float64
}

// configured returns the bounds of the configuration.
func (c *Config) configured() *Bounds {
	return &Bounds{Queue: c.Queue, HeartbeatMin: c.HeartbeatMin, HeartbeatMax: c.HeartbeatMax, Recent: 1}
}

// Adjust puts bounds in force. What is 0 is taken from the configuration; the
// heartbeat stays between the configured least and most.
func (h *Hub) Adjust(b Bounds) {
	def := h.cfg.configured()
	if b.Queue.Items <= 0 {
		b.Queue.Items = def.Queue.Items
	}
	if b.Queue.Bytes <= 0 {
		b.Queue.Bytes = def.Queue.Bytes
	}
	// A queue that cannot hold two of the largest frames would cut everybody.
	b.Queue.Bytes = max(b.Queue.Bytes, min(def.Queue.Bytes, 2*h.cfg.Limits.FrameBytes))
	within := func(d, or time.Duration) time.Duration {
		if d <= 0 {
			return or
		}
		return min(max(d, def.HeartbeatMin), def.HeartbeatMax)
	}
	b.HeartbeatMin, b.HeartbeatMax = within(b.HeartbeatMin, def.HeartbeatMin), within(b.HeartbeatMax, def.HeartbeatMax)
	b.HeartbeatMax = max(b.HeartbeatMax, b.HeartbeatMin)
	if !(b.Recent > 0 && b.Recent <= 1) {
		b.Recent = 1
	}
	h.bounds.Store(&b)
}

// Admission puts other limits on new connections in force, of the node and of each
// client address. Those who are connected stay.
func (h *Hub) Admission(gate limit.GateLimits, addresses limit.AddressLimits) {
	h.gate.Change(gate)
	h.addresses.Change(addresses)
}

// Bounds returns what is in force.
func (h *Hub) Bounds() Bounds { return *h.bounds.Load() }

// Level is the present level of load shedding. It costs one atomic read.
func (h *Hub) Level() overload.Level { return h.overload() }

// recent is the window of a channel under the bounds in force.
func (h *Hub) recent(r *ChannelRule) history.Limits {
	l := history.Limits{Count: r.Recent.Count, Bytes: r.Recent.Bytes, Age: r.Recent.Age}
	if share := h.bounds.Load().Recent; share < 1 {
		l.Count = max(1, int(share*float64(l.Count)))
		l.Bytes = max(min(l.Bytes, h.cfg.Limits.FrameBytes), int(share*float64(l.Bytes)))
	}
	return l
}
