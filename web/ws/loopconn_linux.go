package ws

import (
	"sync"
	"sync/atomic"

	"agentnet/app/wire"

	"golang.org/x/sys/unix"
)

// A loopConn is a connection that a loop serves. The relay holds it longer than the
// socket lives: mu and the descriptor -1 see to it that nothing is ever written to
// a number that the system has given to somebody else.
type loopConn struct {
	link
	loop *loop

	// Owned by the loop.
	deadline  int64  // ms, when isLimited
	slot      uint32 // tells this connection from others that had its descriptor
	queued    bool   // in loop.ending
	isLimited bool   // in loop.limited
	isPartial bool   // in loop.partial

	sent atomic.Bool // our close frame was written or is kept; set under mu

	mu     sync.Mutex
	fd     int            // -1 when it is closed; the loop alone changes it, and reads it freely
	code   wire.CloseCode // of Close
	broken bool
	armed  bool   // the loop is told when the socket takes more
	tailAt int    // what of tail it has taken since
	tail   []byte // lent by bufs; what the socket has not taken
	ponged []byte // lent by bufs; a pong frame that waits for the tail to leave
}

func newLoopConn(l *loop, fd int, t *ticket) *loopConn {
	c := &loopConn{loop: l, fd: fd}
	c.link = newLink(l.srv, c, &l.load, t.info, t.deflate)
	return c
}

// Write is relay.Conn's.
func (c *loopConn) Write(p []byte) (full bool) {
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
	c.loop.load.writes.Add(1)
	c.put(p)
	return len(c.tail) > 0
}

// Ping is relay.Conn's.
func (c *loopConn) Ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sent.Load() && c.usable() && len(c.tail) == 0 {
		c.put([]byte{bitFin | opPing, 0})
	}
}

// Close is relay.Conn's.
func (c *loopConn) Close(code wire.CloseCode, reason string) {
	c.mu.Lock()
	first := !c.sent.Load() && c.usable()
	if first {
		c.code = code
		c.shut(code, reason)
	}
	c.mu.Unlock()
	if first {
		c.loop.call(c)
	}
}

func (c *loopConn) closeSent() bool { return c.sent.Load() }

func (c *loopConn) pong(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.usable() {
		return
	}
	var frame [2 + maxControl]byte
	p := appendControl(frame[:0], opPong, payload)
	if len(c.tail) > 0 {
		// RFC 6455 allows to answer the last ping only; many must not pile up.
		if c.ponged == nil {
			c.ponged = c.srv.bufs.get(len(frame))
		}
		c.ponged = append(c.ponged[:0], p...)
		return
	}
	c.put(p)
}

// usable tells whether the socket may be touched. c.mu must be held.
func (c *loopConn) usable() bool { return c.fd >= 0 && !c.broken }

// shut sends or keeps our close frame. c.mu must be held.
func (c *loopConn) shut(code wire.CloseCode, reason string) {
	var frame [2 + maxControl]byte
	c.sent.Store(true)
	c.put(appendClose(frame[:0], code, reason))
}

// put writes p, and keeps what the socket does not take. c.mu must be held and the
// socket be usable.
func (c *loopConn) put(p []byte) {
	c.loop.load.bytesOut.Add(uint64(len(p)))
	if len(c.tail) == 0 {
		n, err := writeSome(c.fd, p)
		if err != nil {
			c.fail(err)
			return
		}
		if p = p[n:]; len(p) == 0 {
			return
		}
		c.loop.load.rests.Add(1)
	} else if len(c.tail)-c.tailAt+len(p) > pendingBound {
		c.srv.tally.fault("backlog")
		c.fail(unix.ENOBUFS)
		return
	}
	c.tail = c.srv.bufs.append(c.tail, p)
	if !c.armed {
		c.arm(unix.EPOLLIN | unix.EPOLLOUT)
		c.armed = true
	}
}

// flushTail writes what was kept. c.mu must be held. It tells whether nothing is left.
func (c *loopConn) flushTail() bool {
	for c.usable() && len(c.tail) > 0 {
		n, err := writeSome(c.fd, c.tail[c.tailAt:])
		if err != nil {
			c.fail(err)
			return false
		}
		if c.tailAt += n; c.tailAt < len(c.tail) {
			return false
		}
		c.srv.bufs.put(c.tail)
		c.tail, c.tailAt = nil, 0
		if c.ponged != nil && !c.sent.Load() {
			pong := c.ponged
			c.ponged = nil
			c.put(pong)
			c.srv.bufs.put(pong)
		}
	}
	if !c.usable() || len(c.tail) > 0 {
		return false
	}
	if c.armed {
		c.arm(unix.EPOLLIN)
		c.armed = false
	}
	return true
}

// fail marks the socket as broken; the loop then ends it. c.mu must be held.
func (c *loopConn) fail(error) {
	c.broken = true
	c.loop.call(c)
}

// arm sets what the loop is woken for. c.mu must be held.
func (c *loopConn) arm(events uint32) {
	ev := unix.EpollEvent{Events: events, Fd: int32(c.fd), Pad: int32(c.slot)}
	if err := unix.EpollCtl(c.loop.epfd, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		c.fail(err)
	}
}

// writeSome writes what the socket takes at once; a full socket is no error.
func writeSome(fd int, p []byte) (int, error) {
	for {
		n, err := writeNow(fd, p)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}
