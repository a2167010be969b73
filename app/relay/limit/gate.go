package limit

import (
	"sync/atomic"
	"time"
)

// Reasons of a Gate's refusal, as they are counted.
const (
	ReasonConnections = "connections" // the node has all that it may have
	ReasonPending     = "pending"     // too many have not authenticated yet
	ReasonRate        = "rate"        // too many new ones a second
)

const (
	// defaultMaxWait bounds what a refused client is told to wait: longer, and a
	// node that recovered would stand empty.
	defaultMaxWait = time.Minute

	// fullWait is the least wait at a full node: places come free by chance, so
	// asking often gains nothing.
	fullWait = 5 * time.Second

	// unpaced is the spacing of refused clients where no rate is set.
	unpaced = time.Millisecond
)

// GateLimits bound the connections of a whole node.
type GateLimits struct {
	Connections int     // open connections; <= 0: unlimited
	Pending     int     // of these, not yet authenticated; <= 0: unlimited
	PerSecond   float64 // new connections a second; <= 0: unlimited
	Burst       float64 // new connections at once; below 1 counts as 1

	// MaxWait bounds the wait that a refused client is told (with its jitter it may
	// become an eighth longer). Defaults to a minute.
	MaxWait time.Duration
}

// Gate admits new connections no faster than they can be served, and spreads those
// it refuses over the time that the rest will need: each refused client is told a
// time of its own, one spacing after the client refused before it. So in a storm
// waits grow with the number refused, and once the storm is over they shrink as
// time passes. Its methods may be called concurrently and take no lock.
type Gate struct {
	rules atomic.Pointer[gateRules]

	counts   atomic.Uint64 // connections<<32 | pending, so that both change as one
	bucket   Bucket
	promised atomic.Int64  // the latest return that a refused client was told
	refused  atomic.Uint64 // turned into jitter
}

// gateRules are limits as they are used.
type gateRules struct {
	limits  GateLimits
	rate    Rate
	spacing int64 // nanoseconds between the returns of two refused clients
}

// NewGate returns a gate that has let nobody in yet.
func NewGate(l GateLimits) *Gate {
	g := &Gate{}
	g.Change(l)
	return g
}

// Change puts other limits in force, for those who come from now on.
func (g *Gate) Change(l GateLimits) {
	if l.MaxWait <= 0 {
		l.MaxWait = defaultMaxWait
	}
	r := &gateRules{limits: l, rate: NewRate(l.PerSecond, l.Burst), spacing: int64(unpaced)}
	if !r.rate.Unlimited() {
		r.spacing = r.rate.cost(1)
	}
	g.rules.Store(r)
}

// Enter counts one connection in, as pending, and answers ok; or it counts nothing
// and gives the reason and the wait after which the client may come back. Each
// Enter that was ok needs one Leave.
func (g *Gate) Enter(now int64) (wait time.Duration, reason string, ok bool) {
	rules := g.rules.Load()
	if reason = g.reserve(&rules.limits); reason != "" {
		return g.Refuse(now, fullWait), reason, false
	}
	if wait = g.bucket.Take(now, rules.rate, 1); wait > 0 {
		g.Leave(false)
		return g.Refuse(now, wait), ReasonRate, false
	}
	return 0, "", true
}

// reserve counts a connection in or says what is full.
func (g *Gate) reserve(limits *GateLimits) (reason string) {
	for {
		old := g.counts.Load()
		connections, pending := int(old>>32), int(old&0xffffffff)
		if limits.Connections > 0 && connections >= limits.Connections {
			return ReasonConnections
		}
		if limits.Pending > 0 && pending >= limits.Pending {
			return ReasonPending
		}
		if g.counts.CompareAndSwap(old, old+1<<32+1) {
			return ""
		}
	}
}

// Authenticated says that one connection is no longer pending.
func (g *Gate) Authenticated() { g.subtract(0, 1) }

// Leave counts one connection out; authenticated says whether Authenticated was
// called for it.
func (g *Gate) Leave(authenticated bool) {
	if authenticated {
		g.subtract(1, 0)
		return
	}
	g.subtract(1, 1)
}

// subtract never goes below zero: one call too many must not become four billion
// connections.
func (g *Gate) subtract(connections, pending uint64) {
	for {
		old := g.counts.Load()
		c, p := old>>32, old&0xffffffff
		next := (c-min(c, connections))<<32 | (p - min(p, pending))
		if g.counts.CompareAndSwap(old, next) {
			return
		}
	}
}

// Counts returns the open connections and how many of them are pending.
func (g *Gate) Counts() (connections, pending int) {
	n := g.counts.Load()
	return int(n >> 32), int(n & 0xffffffff)
}

// Refuse returns when a client that was refused for another reason (an overloaded
// node, say) may come back: at least atLeast from now, spread like the Gate's own
// refusals. No two waits are alike but by chance, so that clients do
// not return in step.
func (g *Gate) Refuse(now int64, atLeast time.Duration) time.Duration {
	jitter := g.jitter()
	wait := float64(atLeast) + g.place(now, jitter)
	return time.Duration(wait + wait/8*jitter)
}

// place returns the time until the next free place in the line of those refused.
func (g *Gate) place(now int64, jitter float64) float64 {
	rules := g.rules.Load()
	for {
		promised := g.promised.Load()
		slot := max(promised, now) + rules.spacing
		if slot-now > int64(rules.limits.MaxWait) {
			// The line is full. Those above are strewn over its second half.
			return float64(rules.limits.MaxWait) / 2 * (1 + jitter)
		}
		if g.promised.CompareAndSwap(promised, slot) {
			return float64(slot - now)
		}
	}
}

// jitter returns numbers in [0, 1) that fill the range evenly: multiples of the
// golden ratio need no state but a counter and never bunch as random ones do.
func (g *Gate) jitter() float64 {
	return float64(g.refused.Add(1)*0x9E3779B97F4A7C15>>11) / (1 << 53)
}
