package ws

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

const (
	// streamBuffer is what one reading goroutine holds. A TLS connection keeps
	// whole records of its own, so that a larger one would gain little.
	streamBuffer = 4 << 10
	// streamFull is how much may wait for a stream until the relay is asked to stop.
	streamFull = 64 << 10
)

// streams are the connections that have goroutines of their own: TLS everywhere,
// and all connections where there are no loops.
type streams struct {
	load  traffic
	turns sync.Pool // of *relay.Turn
	wg    sync.WaitGroup

	mu    sync.Mutex
	ended bool
	conns map[*streamConn]struct{}
}

// A streamConn is a connection with a reading goroutine, and a writing one while
// something waits.
type streamConn struct {
	link
	nc net.Conn

	// calls serialises what the two goroutines tell the relay, and guards link.
	calls sync.Mutex

	sent atomic.Bool // our close frame is queued or written; set under mu

	mu      sync.Mutex
	dead    bool           // nothing is queued any more
	broken  bool           // a write failed
	writing bool           // the writing goroutine runs
	full    bool           // the relay was told to wait for Writable
	code    wire.CloseCode // of Close
	queue   []byte         // lent by bufs; waits for the writing goroutine
	ponged  []byte         // lent by bufs; a pong frame that waits for the queue to leave
	flushed chan struct{}  // closed when sent is set and all is written, or cannot be
}

// take serves nc. It is false, and nc is closed, when the streams have ended.
func (ss *streams) take(s *Server, nc net.Conn, t *ticket, early []byte) bool {
	c := &streamConn{nc: nc, flushed: make(chan struct{})}
	c.link = newLink(s, c, &ss.load, t.info, t.deflate)
	ss.mu.Lock()
	if ss.ended {
		ss.mu.Unlock()
		nc.Close()
		return false
	}
	ss.conns[c] = struct{}{}
	ss.load.connections.Add(1)
	info := t.info
	ss.wg.Go(func() { c.serve(info, early) })
	ss.mu.Unlock()
	return true
}

// close ends all streams with 1001, cuts what is left when ctx ends, and waits.
func (ss *streams) close(ctx context.Context) {
	ss.each(func(c *streamConn) { c.Close(wire.CloseGoingAway, goingAway) })
	stop := context.AfterFunc(ctx, func() {
		ss.each(func(c *streamConn) { c.nc.SetDeadline(time.Unix(1, 0)) })
	})
	ss.wg.Wait()
	stop()
}

// each calls do for all streams, and lets no more in.
func (ss *streams) each(do func(*streamConn)) {
	ss.mu.Lock()
	ss.ended = true
	all := make([]*streamConn, 0, len(ss.conns))
	for c := range ss.conns {
		all = append(all, c)
	}
	ss.mu.Unlock()
	for _, c := range all {
		do(c)
	}
}

// turn runs do with a turn of the pool and flushes it.
func (c *streamConn) turn(do func(t *relay.Turn)) {
	pool := &c.srv.streams.turns
	t, _ := pool.Get().(*relay.Turn)
	if t == nil {
		t = c.srv.cfg.Hub.NewTurn()
	}
	c.calls.Lock()
	do(t)
	c.calls.Unlock()
	if t = c.srv.flushTurn(t, true); t != nil {
		pool.Put(t)
	}
}

// serve reads until the end of the connection.
func (c *streamConn) serve(info relay.ConnInfo, early []byte) {
	recv, f := c.srv.accept(c, info)
	c.calls.Lock()
	c.recv = recv
	if f.bad() {
		c.link.fail(f)
	}
	c.calls.Unlock()
	c.read(early)
	c.end()
	c.mu.Lock()
	c.dead = true
	code := c.code
	c.mu.Unlock()
	c.turn(func(t *relay.Turn) { c.closed(t, c.endCode(code)) })
	c.nc.Close()
	ss := &c.srv.streams
	ss.mu.Lock()
	delete(ss.conns, c)
	ss.mu.Unlock()
	ss.load.connections.Add(-1)
}

// read passes on what comes until the input is over or the socket is lost.
func (c *streamConn) read(early []byte) {
	buf := c.srv.bufs.get(streamBuffer)[:streamBuffer]
	defer c.srv.bufs.put(buf)
	if c.isOver() {
		return
	}
	if len(early) > 0 {
		c.feed(early)
	}
	for !c.isOver() {
		n, err := c.nc.Read(buf)
		if n > 0 {
			c.feed(buf[:n])
		}
		if err == nil || c.isOver() {
			continue
		}
		c.calls.Lock()
		late := isTimeout(err) && c.since != 0 && !c.sent.Load()
		if late {
			c.link.fail(stalledFault())
		} else {
			c.over, c.lost = true, true
		}
		c.calls.Unlock()
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func (c *streamConn) isOver() bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.over
}

// feed hands on what was read, and gives the rest of a message its deadline.
func (c *streamConn) feed(p []byte) {
	var before, after int64
	c.turn(func(t *relay.Turn) {
		before = c.since
		if !c.over {
			c.input(t, p, c.srv.now())
		}
		after = c.since
	})
	if before == after {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent.Load() || c.broken {
		return // the deadline that is set now must stay
	}
	var until time.Time
	if after != 0 {
		until = time.Now().Add(c.srv.waits.message)
	}
	c.nc.SetReadDeadline(until)
}

// end sends our close frame and waits a bounded time until the peer has it.
func (c *streamConn) end() {
	c.calls.Lock()
	lost, byPeer, last, reason := c.lost, c.byPeer, c.last, c.reason
	c.calls.Unlock()
	c.mu.Lock()
	c.dead = c.dead || lost
	if !c.sent.Load() {
		c.shut(last, reason)
	}
	usable := c.usable()
	c.mu.Unlock()
	if !usable {
		return
	}
	until := time.Now().Add(c.srv.waits.close)
	c.nc.SetDeadline(until)
	<-c.flushed // within the deadline of the socket
	// The peer may still be sending: closing a socket with unread bytes would reset
	// it and could destroy our close frame.
	half, ok := c.nc.(interface{ CloseWrite() error })
	if byPeer || !ok || half.CloseWrite() != nil {
		return
	}
	buf := c.srv.bufs.get(streamBuffer)[:streamBuffer]
	defer c.srv.bufs.put(buf)
	for time.Now().Before(until) {
		if _, err := c.nc.Read(buf); err != nil {
			return
		}
	}
}
