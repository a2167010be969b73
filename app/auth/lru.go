package auth

import (
	"sync"
	"time"

	"agentnet/app/relay"
)

// verified is a JWT that was found valid.
type verified struct {
	hash       [32]byte
	id         *relay.Identity
	by         *key
	prev, next *verified
}

// An lru remembers verified JWTs by the hash of the whole token, until they
// expire, their key ends, or there is no room and others were used since.
type lru struct {
	max int

	mu   sync.Mutex
	m    map[[32]byte]*verified
	root verified // of a ring: root.next was used last, root.prev longest ago
}

func newLRU(max int) *lru {
	c := &lru{max: max, m: map[[32]byte]*verified{}}
	c.root.prev, c.root.next = &c.root, &c.root
	return c
}

func (c *lru) get(hash [32]byte, now time.Time) (*relay.Identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.m[hash]
	if e == nil {
		return nil, false
	}
	if e.by.gone.Load() || !now.Before(e.id.Expires) {
		c.drop(e)
		return nil, false
	}
	if c.root.next != e {
		e.unlink()
		c.link(e)
	}
	return e.id, true
}

func (c *lru) put(hash [32]byte, id *relay.Identity, by *key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.m[hash]; e != nil {
		c.drop(e)
	}
	for len(c.m) >= c.max {
		c.drop(c.root.prev)
	}
	e := &verified{hash: hash, id: id, by: by}
	c.m[hash] = e
	c.link(e)
}

func (c *lru) link(e *verified) {
	e.prev, e.next = &c.root, c.root.next
	e.prev.next, e.next.prev = e, e
}

func (e *verified) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (c *lru) drop(e *verified) {
	e.unlink()
	delete(c.m, e.hash)
}

// forget drops what has expired, so that a token's grants do not stay in memory
// for want of others.
func (c *lru) forget(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.root.prev; e != &c.root; {
		prev := e.prev
		if e.by.gone.Load() || !now.Before(e.id.Expires) {
			c.drop(e)
		}
		e = prev
	}
}

func (c *lru) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.m)
}
