package relay

import (
	"sync"
	"time"

	"agentnet/app/relay/limit"
)

// guestsMax bounds the agents without a session whose rate is remembered. When
// there are more, all are forgotten: each may then spend one burst anew.
const guestsMax = 16_384

// guests limits agents that act without a session.
type guests struct {
	mu sync.Mutex
	m  map[string]*guest
}

type guest struct{ messages, traffic limit.Bucket }

func (g *guests) spend(now int64, h *Hub, agent string, size int) time.Duration {
	if h.cfg.MessageRate.Unlimited() && h.cfg.ByteRate.Unlimited() {
		return 0
	}
	g.mu.Lock()
	b := g.m[agent]
	if b == nil {
		if g.m == nil || len(g.m) >= guestsMax {
			g.m = make(map[string]*guest)
		}
		b = new(guest)
		g.m[agent] = b
	}
	g.mu.Unlock()
	if wait := b.messages.Take(now, h.cfg.MessageRate, 1); wait > 0 {
		return wait
	}
	return b.traffic.Take(now, h.cfg.ByteRate, size)
}
