package relay

import (
	"maps"
	"sync"

	"agentnet/app/wire"
)

// words counts by a word out of a small fixed vocabulary. It is for rare events.
type words struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (w *words) add(word string) {
	w.mu.Lock()
	if w.n == nil {
		w.n = make(map[string]uint64)
	}
	w.n[word]++
	w.mu.Unlock()
}

func (w *words) read() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]uint64, len(w.n))
	maps.Copy(out, w.n)
	return out
}

// closes counts closed connections by close code.
type closes struct {
	mu sync.Mutex
	n  map[wire.CloseCode]uint64
}

func (c *closes) add(code wire.CloseCode) {
	c.mu.Lock()
	if c.n == nil {
		c.n = make(map[wire.CloseCode]uint64)
	}
	c.n[code]++
	c.mu.Unlock()
}

func (c *closes) read() map[wire.CloseCode]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[wire.CloseCode]uint64, len(c.n))
	maps.Copy(out, c.n)
	return out
}
