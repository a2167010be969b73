package embedded

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"net"
	"sync"
	"time"
)

// Bounds of one connection. The store's own parser believes what a client
// announces: an empty command or a huge length would end the process.
const (
	maxArgs      = 8192
	maxBulk      = 16 << 20 // one argument
	maxRequest   = 32 << 20 // all arguments of one command
	maxHeader    = 16       // digits and CRLF of a length
	requestBytes = 512      // one argument, before the password was seen
	requestArgs  = 16       // arguments, before the password was seen
	requestsAuth = 64       // commands, before the password was seen

	requestBuffer = 1 << 20  // in-process requests not yet read by the store
	replyBuffer   = 64 << 20 // replies and publications that a client has not read

	authWithin  = 5 * time.Second  // from the connect to the password
	writeWithin = 10 * time.Second // for one piece of a reply to leave
)

var errRequest = errors.New("malformed or oversized request")

// A guard checks the form of a client's requests before the store sees them. It
// takes arrays of bulk strings only, which is what clients send.
type guard struct {
	password []byte // nil once it was seen
	requests int

	state  int
	line   []byte // header being read
	args   int    // still to come of this command
	bulk   int    // bytes still to come of this argument, without CRLF
	total  int    // bytes of this command's arguments
	tail   int    // bytes of CRLF still to come
	isAuth bool   // this command is AUTH or HELLO
	first  bool   // the next argument is the command's name
	arg    []byte // the argument, as long as the password is awaited
	passed bool   // this command carries the password
}

// States of a guard: what comes next.
const (
	wantArray = iota
	wantBulk
	wantData
	wantTail
)

// feed checks b, the next bytes of the stream.
func (g *guard) feed(b []byte) error {
	for len(b) > 0 {
		var err error
		switch g.state {
		case wantArray, wantBulk:
			b, err = g.header(b)
		case wantData:
			n := min(g.bulk, len(b))
			if g.password != nil {
				g.arg = append(g.arg, b[:n]...)
			}
			if g.bulk -= n; g.bulk == 0 {
				g.state, g.tail = wantTail, 2
			}
			b = b[n:]
		case wantTail:
			if b[0] != "\n\r"[g.tail-1] {
				return errRequest
			}
			b = b[1:]
			if g.tail--; g.tail == 0 {
				g.argument()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// header reads up to the end of a length line.
func (g *guard) header(b []byte) (rest []byte, err error) {
	sign := byte('*')
	if g.state == wantBulk {
		sign = '$'
	}
	if len(g.line) == 0 && b[0] != sign {
		return nil, errRequest
	}
	i := bytes.IndexByte(b, '\n')
	n := i + 1
	if i < 0 {
		n = len(b)
	}
	if len(g.line)+n > maxHeader {
		return nil, errRequest
	}
	g.line = append(g.line, b[:n]...)
	if i < 0 {
		return nil, nil
	}
	v, ok := length(g.line, sign)
	g.line = g.line[:0]
	if !ok {
		return nil, errRequest
	}
	if g.state == wantArray {
		err = g.beginCommand(v)
	} else {
		err = g.beginArgument(v)
	}
	return b[n:], err
}

func (g *guard) beginCommand(args int) error {
	limit := maxArgs
	if g.password != nil {
		limit = requestArgs
		if g.requests++; g.requests > requestsAuth {
			return errRequest
		}
	}
	if args < 1 || args > limit {
		return errRequest
	}
	g.args, g.total, g.first, g.isAuth, g.passed = args, 0, true, false, false
	g.state = wantBulk
	return nil
}

func (g *guard) beginArgument(size int) error {
	limit := maxBulk
	if g.password != nil {
		limit = requestBytes
	}
	if g.total += size; size > limit || g.total > maxRequest || g.first && size == 0 {
		return errRequest
	}
	g.bulk, g.arg = size, g.arg[:0]
	g.state = wantData
	if size == 0 {
		g.state, g.tail = wantTail, 2
	}
	return nil
}

// argument ends an argument, and with the last one the command.
func (g *guard) argument() {
	if g.password != nil {
		if g.first {
			g.isAuth = bytes.EqualFold(g.arg, []byte("AUTH")) || bytes.EqualFold(g.arg, []byte("HELLO"))
		} else if g.isAuth && subtle.ConstantTimeCompare(g.arg, g.password) == 1 {
			g.passed = true
		}
	}
	g.first = false
	g.state = wantBulk
	if g.args--; g.args == 0 {
		g.state = wantArray
		if g.passed {
			g.password, g.arg = nil, nil // the store checks it again, with the user's name
		}
	}
}

// length reads "*12\r\n" or "$12\r\n".
func length(line []byte, sign byte) (int, bool) {
	if len(line) < 4 || line[0] != sign || line[len(line)-2] != '\r' {
		return 0, false
	}
	n := 0
	for _, c := range line[1 : len(line)-2] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0') // at most 13 digits
	}
	return n, true
}

// A guardedConn is a client's socket as the store sees it. Reads are checked.
// Writes never wait: the store publishes with everything locked, so that one
// subscriber that does not read would otherwise stop all nodes. What the socket
// does not take is kept, and a client that leaves too much unread is cut off, as
// a real Redis does.
type guardedConn struct {
	net.Conn
	guard guard // owned by the reader
	limit int   // bytes that may be kept
	gone  func()

	mu     sync.Mutex
	wake   sync.Cond
	out    []byte
	closed bool
}

func newGuardedConn(c net.Conn, password string, gone func()) *guardedConn {
	g := &guardedConn{Conn: c, limit: replyBuffer, gone: gone, guard: guard{password: []byte(password)}}
	g.wake.L = &g.mu
	c.SetReadDeadline(time.Now().Add(authWithin))
	go g.drain()
	return g
}

// Read implements net.Conn.
func (g *guardedConn) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	waiting := g.guard.password != nil
	if ferr := g.guard.feed(b[:n]); ferr != nil {
		g.Close()
		return 0, ferr
	}
	if waiting && g.guard.password == nil {
		g.Conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Write implements net.Conn and never waits.
func (g *guardedConn) Write(b []byte) (int, error) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return 0, net.ErrClosed
	}
	if len(g.out)+len(b) > g.limit {
		g.mu.Unlock()
		g.Close()
		return 0, errOverflow
	}
	g.out = append(g.out, b...)
	g.mu.Unlock()
	g.wake.Signal()
	return len(b), nil
}

// Close implements net.Conn.
func (g *guardedConn) Close() error {
	g.mu.Lock()
	was := g.closed
	g.closed = true
	g.out = nil
	g.mu.Unlock()
	if was {
		return nil
	}
	g.wake.Signal()
	err := g.Conn.Close()
	g.gone()
	return err
}

// drain writes what Write kept, until the connection is closed.
func (g *guardedConn) drain() {
	for {
		g.mu.Lock()
		for len(g.out) == 0 && !g.closed {
			g.wake.Wait()
		}
		b := g.out
		g.out = nil
		closed := g.closed
		g.mu.Unlock()
		if closed {
			return
		}
		for len(b) > 0 {
			piece := b[:min(len(b), 256<<10)] // a deadline for each piece: a slow reader is not a dead one
			g.Conn.SetWriteDeadline(time.Now().Add(writeWithin))
			n, err := g.Conn.Write(piece)
			if err != nil {
				g.Close()
				return
			}
			b = b[n:]
		}
	}
}
