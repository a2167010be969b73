package relay

import (
	"sync"
)

// moves remembers where sessions of this node went, for as long as their clients may
// ask here for them.
type moves struct {
	mu sync.Mutex
	m  map[secretHash]moved
}

type moved struct {
	node  string
	until int64
}

// wentTo is the node that took a session over; "" when it is not known.
func (m *moves) wentTo(secret secretHash) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[secret].node
}

func (m *moves) note(secret secretHash, node string, until int64) {
	m.mu.Lock()
	if m.m == nil {
		m.m = make(map[secretHash]moved)
	}
	m.m[secret] = moved{node, until}
	m.mu.Unlock()
}

// forget drops those that nobody will ask for any more, or one of which came back.
func (m *moves) forget(secret secretHash) { m.mu.Lock(); delete(m.m, secret); m.mu.Unlock() }

func (m *moves) expire(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for secret, v := range m.m {
		if v.until <= now {
			delete(m.m, secret)
		}
	}
}
