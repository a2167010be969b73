package embedded

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A pipe is one direction of an in-process connection: bytes in a bounded buffer.
// net.Pipe has no buffer, so that client and server wait for each other in the
// middle of a pipeline; that was seen to hang.
type pipe struct {
	limit int
	// refuse says what a writer meets at limit: true breaks the pipe, false makes
	// it wait. The server's side refuses, because it writes with the store locked.
	refuse bool

	mu       sync.Mutex
	change   sync.Cond
	buf      []byte
	closed   bool // by either side
	readEnd  deadline
	writeEnd deadline
}

// A deadline is guarded by its pipe's mu.
type deadline struct {
	timer  *time.Timer
	passed bool
}

var errOverflow = errors.New("the other side does not read")

func newPipe(limit int, refuse bool) *pipe {
	p := &pipe{limit: limit, refuse: refuse}
	p.change.L = &p.mu
	return p
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf) == 0 || p.readEnd.passed {
		switch {
		case p.readEnd.passed:
			return 0, os.ErrDeadlineExceeded
		case p.closed:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		p.change.Wait()
	}
	n := copy(b, p.buf)
	if p.buf = p.buf[n:]; len(p.buf) == 0 {
		p.buf = nil // a burst's buffer is given back
	}
	p.change.Broadcast()
	return n, nil
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return n, io.ErrClosedPipe
		case p.writeEnd.passed:
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		space := p.limit - len(p.buf)
		if space <= 0 && p.refuse {
			p.closed, p.buf = true, nil
			p.change.Broadcast()
			return n, errOverflow
		}
		if space > 0 {
			take := min(space, len(b))
			p.buf = append(p.buf, b[:take]...)
			b, n = b[take:], n+take
			p.change.Broadcast()
			continue
		}
		p.change.Wait()
	}
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.readEnd.stop()
	p.writeEnd.stop()
	p.change.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// setDeadline sets d, one of p's two, to t; the zero time means none.
func (p *pipe) setDeadline(d *deadline, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.stop()
	d.passed = false
	if p.closed || t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		p.change.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if d.timer == timer { // else it was set anew meanwhile
			d.passed = true
			p.change.Broadcast()
		}
	})
	d.timer = timer
}

// pipeConn is one end of two pipes.
type pipeConn struct {
	in, out *pipe
}

// newPipeConns returns both ends of an in-process connection.
func newPipeConns() (client, server net.Conn) {
	toServer := newPipe(requestBuffer, false)
	toClient := newPipe(replyBuffer, true)
	return &pipeConn{in: toClient, out: toServer}, &pipeConn{in: toServer, out: toClient}
}

func (c *pipeConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *pipeConn) Write(b []byte) (int, error) { return c.out.write(b) }

func (c *pipeConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

func (c *pipeConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *pipeConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readEnd, t)
	return nil
}

func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeEnd, t)
	return nil
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "in-process" }
