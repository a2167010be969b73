package ws

import (
	"agentnet/app/wire"

	"golang.org/x/sys/unix"
)

// What a loop does with its connections. Everything here runs in loop.run.
//
// A connection's life: welcome, then serve for each event, until its input is over
// (the peer's close frame or a fault) or the socket is lost. When the input is over,
// end sends our close frame, conclude tells the relay, and the socket lingers until
// the peer has closed its side, so that the close frame is not lost to a reset.

// welcome registers a socket and introduces it to the relay.
func (l *loop) welcome(e entrant) {
	c, early := e.c, e.early
	if l.slot++; int32(l.slot) == 0 {
		l.slot++
	}
	c.slot = l.slot
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd), Pad: int32(c.slot)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
		l.srv.cfg.Logger.Warn("socket not taken over", "error", err)
		unix.Close(c.fd)
		l.load.connections.Add(-1)
		l.srv.cfg.Hub.Unadmit(e.info.Addr)
		return
	}
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	l.count++
	recv, f := l.srv.accept(c, e.info)
	c.recv = recv
	if f.bad() {
		c.link.fail(f)
	}
	if l.draining {
		c.Close(wire.CloseGoingAway, goingAway)
	}
	if len(early) > 0 && !c.over {
		c.input(l.turn, early, l.now)
	}
	l.note(c)
}

// serve handles one event of c. When a crowd is cut off at once, a socket with a
// message waits in the kernel's list behind thousands of dead ones: these are only
// put aside here, where one costs a microsecond, and buried a few a turn.
func (l *loop) serve(c *loopConn, events uint32) {
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, c.fd, nil)
		l.fallen = append(l.fallen, c)
		return
	}
	if events&unix.EPOLLOUT != 0 {
		l.writable(c)
	}
	if events&^unix.EPOLLOUT != 0 && c.fd >= 0 {
		l.readable(c)
	}
}

// bury reads what some of the fallen still hold; the end of it frees them.
func (l *loop) bury() {
	n := min(len(l.fallen), slowBatch)
	for _, c := range l.fallen[:n] {
		if c.fd < 0 {
			continue
		}
		if l.readable(c) {
			l.fallen = append(l.fallen, c)
		} else if c.fd >= 0 {
			l.lost(c)
		}
	}
	clear(l.fallen[:n])
	if l.fallen = l.fallen[n:]; len(l.fallen) == 0 {
		l.fallen = nil // the memory of a crowd is given back
	}
}

// readable reads once and tells whether there may be more. Level-triggered epoll
// tells again when there is.
func (l *loop) readable(c *loopConn) (more bool) {
	n, err := readNow(c.fd, l.buf)
	switch {
	case err == unix.EAGAIN:
		return false
	case err == unix.EINTR:
		return true
	case err != nil || n == 0:
		l.lost(c)
		return false
	case c.over:
		return true // what comes after the end is thrown away
	}
	c.input(l.turn, l.buf[:n], l.now)
	l.note(c)
	return true
}

// note puts c on the lists that its state asks for.
func (l *loop) note(c *loopConn) {
	if c.over && !c.gone && !c.queued {
		c.queued = true
		l.ending = append(l.ending, c)
	}
	if c.since != 0 && !c.over && !c.isPartial {
		c.isPartial = true
		l.partial = append(l.partial, c)
	}
}

// writable sends on what was kept.
func (l *loop) writable(c *loopConn) {
	c.mu.Lock()
	done := c.flushTail()
	c.mu.Unlock()
	switch {
	case !done || c.gone:
	case !c.sent.Load():
		c.writable(l.turn)
		l.note(c)
	case c.over:
		l.conclude(c)
	}
}

// heed looks at a connection that some goroutine has closed or found broken.
func (l *loop) heed(c *loopConn) {
	if c.fd < 0 {
		return
	}
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	if broken {
		l.lost(c)
	} else if !c.isLimited {
		l.limit(c)
	}
}

// limit gives c the time of a closing handshake from now.
func (l *loop) limit(c *loopConn) {
	c.deadline = l.srv.now() + l.srv.waits.close.Milliseconds()
	if !c.isLimited {
		c.isLimited = true
		l.limited = append(l.limited, c)
	}
}

// endAll ends all connections whose input is over.
func (l *loop) endAll() {
	for i := 0; i < len(l.ending); i++ { // it may grow while it is gone through
		c := l.ending[i]
		c.queued = false
		if c.fd >= 0 && !c.gone {
			l.end(c)
		}
	}
	clear(l.ending)
	l.ending = l.ending[:0]
}

// end sends our close frame, unless one was sent before.
func (l *loop) end(c *loopConn) {
	c.mu.Lock()
	if !c.sent.Load() && c.usable() {
		c.shut(c.last, c.reason)
	}
	left := len(c.tail) > 0
	c.mu.Unlock()
	if left {
		l.limit(c)
		return
	}
	l.conclude(c)
}

// conclude tells the relay that the connection is over. After a whole closing
// handshake the socket is freed; else the peer may still be sending, and closing a
// socket with unread bytes would reset it and could destroy our close frame.
func (l *loop) conclude(c *loopConn) {
	l.tellClosed(c)
	if c.byPeer {
		l.free(c)
		return
	}
	if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil {
		l.free(c)
		return
	}
	l.limit(c)
}

// lost ends a connection whose socket is of no use any more.
func (l *loop) lost(c *loopConn) {
	l.tellClosed(c)
	l.free(c)
}

func (l *loop) tellClosed(c *loopConn) {
	c.mu.Lock()
	code := c.code
	c.sent.Store(true) // nothing is written from here on
	c.mu.Unlock()
	c.closed(l.turn, c.endCode(code))
}

// free closes the socket. From then on every use of c is without effect.
func (l *loop) free(c *loopConn) {
	c.mu.Lock()
	fd := c.fd
	c.fd = -1
	if c.tail != nil {
		l.srv.bufs.put(c.tail)
	}
	if c.ponged != nil {
		l.srv.bufs.put(c.ponged)
	}
	c.tail, c.ponged = nil, nil
	c.mu.Unlock()
	if fd < 0 {
		return
	}
	l.conns[fd] = nil
	l.count--
	l.load.connections.Add(-1)
	// Closing would do it too, but not while a child process is being started.
	unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	unix.Close(fd)
}

// sweep ends what has waited too long.
func (l *loop) sweep() {
	limited := l.limited
	l.limited = l.limited[:0]
	for _, c := range limited {
		switch {
		case c.fd < 0:
			c.isLimited = false
		case l.now >= c.deadline:
			c.isLimited = false
			l.lost(c)
		default:
			l.limited = append(l.limited, c)
		}
	}
	clear(limited[len(l.limited):])
	patience := l.srv.waits.message.Milliseconds()
	partial := l.partial
	l.partial = l.partial[:0]
	for _, c := range partial {
		switch {
		case c.over || c.since == 0:
			c.isPartial = false
		case l.now-c.since >= patience:
			c.isPartial = false
			c.link.fail(stalledFault())
			l.note(c)
		default:
			l.partial = append(l.partial, c)
		}
	}
	clear(partial[len(l.partial):])
}
