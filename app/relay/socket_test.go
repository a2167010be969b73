package relay

import (
	"fmt"
	"sync"

	"agentnet/app/wire"
)

// A socket is a Conn that keeps what the relay writes and can be made to take
// nothing.
type socket struct {
	enc  wire.Encoding
	link Receiver
	turn *Turn
	home *Hub

	mu      sync.Mutex
	events  []wire.Event
	blocked bool // takes one more write, then nothing
	full    bool
	pings   int
	mute    bool
	code    wire.CloseCode // 0 while open
	reason  string
	written int
}

func (c *socket) Write(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full {
		panic("the relay wrote to a full socket")
	}
	if c.code != 0 {
		return false
	}
	c.take(p)
	c.full = c.blocked
	return c.full
}

// take decodes whole WebSocket messages.
func (c *socket) take(p []byte) {
	for len(p) > 0 {
		n, head := messageLen(p)
		msg := append([]byte(nil), p[head:n]...)
		p = p[n:]
		for len(msg) > 0 {
			var ev wire.Event
			k, err := ev.Read(c.enc, msg)
			if err != nil {
				panic(fmt.Sprintf("the relay sent what cannot be read: %v: %q", err, msg))
			}
			if ev.Kind != wire.KindNone {
				c.events = append(c.events, ev)
				c.written++
			}
			msg = msg[k:]
		}
	}
}

// messageLen returns the whole length and the header length of the first message.
func messageLen(p []byte) (n, head int) {
	switch l := int(p[1]); {
	case l < 126:
		return 2 + l, 2
	case l == 126:
		return 4 + int(p[2])<<8 + int(p[3]), 4
	}
	for _, b := range p[2:10] {
		n = n<<8 | int(b)
	}
	return n + 10, 10
}

// Ping is answered, as any WebSocket client does, unless the peer went mute.
func (c *socket) Ping() {
	c.mu.Lock()
	c.pings++
	mute := c.mute
	c.mu.Unlock()
	if !mute {
		go func() { t := c.home.NewTurn(); c.link.Seen(t); t.Flush(true) }()
	}
}

func (c *socket) Close(code wire.CloseCode, reason string) {
	c.mu.Lock()
	first := c.code == 0
	if first {
		c.code, c.reason = code, reason
	}
	c.mu.Unlock()
	if first {
		go func() { // as the owner of a real socket does it: later, from elsewhere
			t := c.home.NewTurn()
			c.mu.Lock()
			l := c.link
			c.mu.Unlock()
			l.Closed(t)
			t.Flush(true)
		}()
	}
}

func (c *socket) pinged() int { c.mu.Lock(); defer c.mu.Unlock(); return c.pings }
func (c *socket) goMute()     { c.mu.Lock(); defer c.mu.Unlock(); c.mute = true }

// rest tells which errors were not read yet, whether all was read, and whether more
// may be behind it.
func (c *socket) rest() (unread map[uint64]bool, clean, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unread = map[uint64]bool{}
	for _, ev := range c.events {
		if ev.Kind == wire.KindError {
			unread[ev.ID] = true
		}
	}
	return unread, len(c.events) == 0, c.full
}

func (c *socket) isFull() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.full }
