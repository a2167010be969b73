package ws

import (
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// Write is relay.Conn's.
func (c *streamConn) Write(p []byte) (full bool) {
	if c.dec.deflate {
		sealed, lent := c.srv.deflater.seal(p, c.srv.cfg.CompressMin)
		if lent {
			defer c.srv.bufs.put(sealed)
		}
		p = sealed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent.Load() || !c.usable() {
		return false
	}
	c.load.writes.Add(1)
	c.put(p)
	if !c.full && len(c.queue) > streamFull {
		c.full = true
		c.load.rests.Add(1)
	}
	return c.full
}

// Ping is relay.Conn's.
func (c *streamConn) Ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sent.Load() && c.usable() && !c.full {
		c.put([]byte{bitFin | opPing, 0})
	}
}

// Close is relay.Conn's.
func (c *streamConn) Close(code wire.CloseCode, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent.Load() || !c.usable() {
		return
	}
	c.code = code
	c.shut(code, reason)
	// Bounds the wait for the peer's close frame and for what is queued.
	c.nc.SetDeadline(time.Now().Add(c.srv.waits.close))
}

func (c *streamConn) closeSent() bool { return c.sent.Load() }

func (c *streamConn) pong(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usable() {
		return
	}
	var frame [2 + maxControl]byte
	p := appendControl(frame[:0], opPong, payload)
	if !c.full && len(c.queue) <= streamFull {
		c.put(p)
		return
	}
	// RFC 6455 allows to answer the last ping only; many must not pile up.
	if c.ponged == nil {
		c.ponged = c.srv.bufs.get(len(frame))
	}
	c.ponged = append(c.ponged[:0], p...)
}

// usable tells whether anything may be queued. c.mu must be held.
func (c *streamConn) usable() bool { return !c.dead && !c.broken }

// shut queues our close frame. c.mu must be held.
func (c *streamConn) shut(code wire.CloseCode, reason string) {
	c.sent.Store(true)
	if !c.usable() {
		if !c.writing {
			close(c.flushed)
		}
		return
	}
	var frame [2 + maxControl]byte
	c.put(appendClose(frame[:0], code, reason))
}

// put queues p. c.mu must be held and the connection be usable.
func (c *streamConn) put(p []byte) {
	if len(c.queue) > 0 && len(c.queue)+len(p) > pendingBound {
		c.srv.tally.fault("backlog")
		c.breakOff()
		return
	}
	c.load.bytesOut.Add(uint64(len(p)))
	c.queue = c.srv.bufs.append(c.queue, p)
	if !c.writing {
		c.writing = true
		c.srv.streams.wg.Go(c.write)
	}
}

// breakOff makes the reading goroutine find the end. c.mu must be held.
func (c *streamConn) breakOff() {
	c.broken = true
	c.nc.SetDeadline(time.Unix(1, 0))
}

// write sends what is queued, and ends when nothing is.
func (c *streamConn) write() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 && c.ponged != nil && !c.sent.Load() {
			c.queue, c.ponged = c.ponged, nil
		}
		if len(c.queue) == 0 || c.broken {
			wake := c.full && c.usable() && !c.sent.Load()
			c.full = false
			if !wake {
				c.rest()
				c.mu.Unlock()
				return
			}
			c.mu.Unlock()
			c.turn(func(t *relay.Turn) {
				if c.gone {
					return
				}
				if c.writable(t); c.over {
					c.nc.SetReadDeadline(time.Unix(1, 0)) // the reading goroutine ends it
				}
			})
			continue
		}
		batch := c.queue
		c.queue = nil
		if !c.sent.Load() {
			c.nc.SetWriteDeadline(time.Now().Add(c.srv.waits.write))
		}
		c.mu.Unlock()
		_, err := c.nc.Write(batch)
		c.srv.bufs.put(batch)
		if err != nil {
			c.mu.Lock()
			c.breakOff()
			c.mu.Unlock()
		}
	}
}

// rest ends the writing goroutine. c.mu must be held.
func (c *streamConn) rest() {
	c.writing = false
	for _, b := range [][]byte{c.queue, c.ponged} {
		if b != nil {
			c.srv.bufs.put(b)
		}
	}
	c.queue, c.ponged = nil, nil
	if c.sent.Load() {
		select {
		case <-c.flushed:
		default:
			close(c.flushed)
		}
	}
}
