package client

import "time"

// stallTime is how long the reader waits for a full inbox before it lets go of
// what comes. While handlers make progress the wait ends earlier and slows the
// relay down instead.
const stallTime = time.Second

// itemOverhead is what an item takes besides its payload, roughly.
const itemOverhead = 256

// An item is something received that waits for its handler.
type item struct {
	run   func()
	bytes int
}

// inbox holds what was received until the one goroutine that runs handlers takes
// it. It starts no goroutine. Guarded by Client.mu.
//
// A handler may itself wait for an answer that stands behind what does not fit in
// here, so that waiting for room without end would be a deadlock. Above the bound,
// when no handler has ended for stallTime, the inbox is overrun: everything that
// the relay can send again is dropped unacknowledged until the inbox is empty,
// then the connection is made anew and resumed.
type inbox struct {
	maxItems, maxBytes int
	items              []item
	bytes              int
	overrun            bool
	closed             bool
	drained            func()        // called once when an overrun inbox is empty
	ready              chan struct{} // has one value when there may be items
	room               chan struct{} // has one value when an item was taken
}

func newInbox(maxItems, maxBytes int) inbox {
	return inbox{maxItems: maxItems, maxBytes: maxBytes, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func (b *inbox) full() bool { return len(b.items) >= b.maxItems || b.bytes >= b.maxBytes }

func (b *inbox) add(it item) {
	b.items = append(b.items, it)
	b.bytes += it.bytes
	signal(b.ready)
}

func (b *inbox) close() {
	b.closed = true
	signal(b.ready)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// onDrained names what to call when an overrun inbox is empty, for a new
// connection, on which nothing is overrun yet.
func (c *Client) onDrained(f func()) {
	c.mu.Lock()
	c.inbox.overrun = false
	c.inbox.drained = f
	c.mu.Unlock()
}

// room waits until the inbox takes another item. It answers false when the inbox
// is overrun. Only the reader calls it.
func (c *Client) room() bool {
	timer := (*time.Timer)(nil)
	for {
		c.mu.Lock()
		full, overrun := c.inbox.full(), c.inbox.overrun
		c.mu.Unlock()
		if overrun {
			return false
		}
		if !full {
			return true
		}
		if timer == nil {
			timer = time.NewTimer(stallTime)
			defer timer.Stop()
		}
		select {
		case <-c.inbox.room:
		case <-c.ctx.Done():
			return false
		case <-timer.C:
			c.mu.Lock()
			if c.inbox.full() {
				c.inbox.overrun = true
				c.cfg.Logger.Warn("handlers stand still with a full inbox: what comes now is asked for again later",
					"items", len(c.inbox.items), "bytes", c.inbox.bytes)
			}
			c.mu.Unlock()
		}
	}
}

// deliver queues run for the goroutine of the handlers. What needs no room first
// (gaps, notices) is bounded too, by twice the inbox.
func (c *Client) deliver(bytes int, run func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.inbox.items) >= 2*c.inbox.maxItems {
		c.cfg.Logger.Error("handlers stand still: a notice or gap could not be told")
		return
	}
	c.inbox.add(item{run, bytes + itemOverhead})
}

// dispatch runs handlers, one after the other, until the client has ended.
func (c *Client) dispatch() {
	for {
		c.mu.Lock()
		b := &c.inbox
		if b.closed {
			b.items = nil
			c.mu.Unlock()
			return
		}
		if len(b.items) == 0 {
			drained := b.drained
			if !b.overrun {
				drained = nil
			}
			c.mu.Unlock()
			if drained != nil {
				drained()
			}
			<-b.ready
			continue
		}
		it := b.items[0]
		b.items[0] = item{}
		b.items = b.items[1:]
		b.bytes -= it.bytes
		c.mu.Unlock()
		signal(b.room)
		it.run()
	}
}
