package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A connState is how far a connection has come.
type connState uint8

const (
	stateDialing connState = iota
	stateUpgrading
	stateGreeting    // upgraded; the dialect's connect is under way
	stateSubscribing // authenticated; subscriptions are under way
	stateReady
	stateDead
)

const (
	// maxUpgradeAnswer bounds the head of the server's answer to the upgrade.
	maxUpgradeAnswer = 16 << 10
	// keepCapacity is the largest buffer that a connection keeps while it holds nothing.
	keepCapacity = 4 << 10
	// ackEvery is how many sequenced frames are acknowledged at once.
	ackEvery = 32
)

var errEnd = errors.New("the server closed the connection")

// A plan is a connection to be opened.
type plan struct {
	owner    owner
	index    int // the connection's number within its owner
	agent    string
	channels []string
	node     int      // which of the targets
	deaf     bool     // never reads again once it is ready
	way      *passage // nil: it opens for the first time
}

// An owner is the part of the load that a connection works for.
type owner interface {
	// frame takes a frame that came on a ready connection.
	frame(c *conn, f *Frame)
	// broken tells that a ready connection ended.
	broken(c *conn, err error)
	// left tells that the server sent a ready connection to another node; returned
	// follows when it is there.
	left(c *conn)
}

// A keeper opens connections and is told how each attempt ends.
type keeper interface {
	ready(c *conn)
	failed(c *conn, err error)
	// moved is told of a connection that has to be opened elsewhere.
	moved(p plan, pause time.Duration)
}

// A conn is one connection to the server.
type conn struct {
	plan
	loop       *loop
	keeper     keeper
	fd         int
	slot       int32
	generation int32
	state      connState
	armed      bool // EPOLLOUT is asked for
	spoke      bool // something was sent since the last heartbeat round
	awaited    int  // answers that are missing until it is ready
	started    int64
	direct     uint64 // sequenced frames that came
	acked      uint64
	session    string // "" where the server has none to go on with
	next       int32  // the target that the server wants it to go to, and 1; 0: none was named
	pause      int32  // milliseconds that the server wants it to wait before
	asked      int32  // commands in cmd that want an answer
	unanswered int32  // commands that were sent and not yet answered

	in      []byte // the start of a frame whose rest has not come
	message []byte // the fragments of a message so far
	partial []byte // the start of a dialect frame that goes on in the next message
	cmd     []byte // commands for the next message
	out     []byte // what the socket has not taken
}

// dial opens the socket and sends the upgrade request.
func (l *loop) dial(p plan, k keeper, source unix.Sockaddr, generation int32) (*conn, error) {
	fd, err := unix.Socket(l.targets[p.node].family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	c := &conn{plan: p, loop: l, keeper: k, fd: fd, generation: generation, started: l.now()}
	if err := c.connect(source); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	l.adopt(c)
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: c.slot, Pad: c.generation}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		c.drop()
		return nil, fmt.Errorf("watch socket: %w", err)
	}
	c.armed = true
	c.out = append(c.out, l.targets[p.node].request...)
	return c, nil
}

// connect sets the socket up and starts the TCP handshake.
func (c *conn) connect(source unix.Sockaddr) error {
	_ = unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if c.deaf {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	if source != nil {
		_ = unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(c.fd, source); err != nil {
			return fmt.Errorf("bind source address: %w", err)
		}
	}
	if err := unix.Connect(c.fd, c.loop.targets[c.node].addr); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// writable is called when the socket takes bytes again.
func (c *conn) writable() {
	if c.state == stateDialing {
		code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			c.fail(fmt.Errorf("connect: %w", err))
			return
		}
		c.state = stateUpgrading
	}
	if len(c.out) > 0 {
		n, err := writeNow(c.fd, c.out)
		if err != nil && !passing(err) {
			c.fail(fmt.Errorf("write: %w", err))
			return
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	if len(c.out) == 0 {
		c.out = nil
		c.watch(false)
	}
}

// watch tells the poll whether to report that the socket takes bytes.
func (c *conn) watch(out bool) {
	if c.armed == out {
		return
	}
	c.armed = out
	var events uint32
	if !c.deaf || c.state != stateReady {
		events = unix.EPOLLIN
	}
	if out {
		events |= unix.EPOLLOUT
	}
	event := unix.EpollEvent{Events: events, Fd: c.slot, Pad: c.generation}
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &event); err != nil {
		c.fail(fmt.Errorf("watch socket: %w", err))
	}
}

// flush sends the commands in c.cmd as one message, together with an
// acknowledgement when one is due.
func (c *conn) flush() {
	if c.state == stateDead {
		return
	}
	if c.direct-c.acked >= ackEvery {
		c.cmd = c.loop.dialect.AppendAck(c.cmd, c.direct)
		c.acked = c.direct
	}
	if len(c.cmd) == 0 {
		return
	}
	c.unanswered, c.asked = c.unanswered+c.asked, 0
	c.transmit(c.loop.opcode, c.cmd)
	if c.cmd = c.cmd[:0]; cap(c.cmd) > keepCapacity {
		c.cmd = nil
	}
}

// transmit sends one WebSocket frame; what the socket does not take waits in c.out.
func (c *conn) transmit(op byte, payload []byte) {
	c.spoke = true
	if len(c.out) > 0 {
		c.out = appendFrame(c.out, op, c.loop.key, payload)
		return
	}
	c.loop.scratch = appendFrame(c.loop.scratch[:0], op, c.loop.key, payload)
	n, err := writeNow(c.fd, c.loop.scratch)
	if err != nil && !passing(err) {
		c.fail(fmt.Errorf("write: %w", err))
		return
	}
	if n < len(c.loop.scratch) {
		c.out = append(c.out, c.loop.scratch[n:]...)
		c.watch(true)
	}
}

// passing tells that a failed write needs no action: the socket is full, or its
// other end is gone, which reading tells better, with the close code.
func passing(err error) bool {
	return err == unix.EAGAIN || err == unix.EPIPE || err == unix.ECONNRESET
}

// consume handles the frames in data and returns how many bytes they took.
func (c *conn) consume(data []byte) (used int, err error) {
	if c.state <= stateUpgrading {
		if used, err = c.upgraded(data); used == 0 || err != nil {
			return used, err
		}
	}
	for c.state != stateDead {
		f, n, _, err := nextFrame(data[used:])
		if err != nil || n == 0 {
			return used, err
		}
		used += n
		if err := c.received(f); err != nil {
			return used, err
		}
	}
	return used, nil
}

// keep remembers the start of a frame until its rest comes.
func (c *conn) keep(rest []byte) {
	if len(rest) == 0 {
		if c.in = c.in[:0]; cap(c.in) > keepCapacity {
			c.in = nil
		}
		return
	}
	c.in = append(c.in[:0], rest...)
}

// received handles one WebSocket frame.
func (c *conn) received(f wsFrame) error {
	switch f.op {
	case opText, opBinary:
		if f.final {
			return c.messageIn(f.payload)
		}
		c.message = append(c.message[:0], f.payload...)
	case opContinuation:
		if len(c.message)+len(f.payload) > maxServerFrame {
			return fmt.Errorf("websocket: a message over %d bytes", maxServerFrame)
		}
		c.message = append(c.message, f.payload...)
		if f.final {
			whole := c.message
			c.message = nil
			return c.messageIn(whole)
		}
	case opPing:
		c.transmit(opPong, f.payload)
	case opPong:
	case opClose:
		code := 1005
		if len(f.payload) >= 2 {
			code = int(binary.BigEndian.Uint16(f.payload))
		}
		return &errClosed{code: code}
	default:
		return fmt.Errorf("websocket: opcode %#x", f.op)
	}
	return nil
}

// messageIn handles the frames of the dialect in one WebSocket message.
func (c *conn) messageIn(msg []byte) error {
	if len(c.partial) > 0 {
		c.partial = append(c.partial, msg...)
		msg = c.partial
	}
	for len(msg) > 0 && c.state != stateDead {
		f, n, err := c.loop.dialect.Next(msg)
		if err != nil {
			return err
		}
		if n == 0 {
			if len(msg) > maxServerFrame {
				return fmt.Errorf("a frame over %d bytes", maxServerFrame)
			}
			c.partial = append(c.partial[:0], msg...)
			return nil
		}
		msg = msg[n:]
		if f.Sequenced {
			c.direct++
		}
		if err := c.handle(&f); err != nil {
			return err
		}
	}
	c.partial = nil
	return nil
}

// handle takes one frame of the dialect.
func (c *conn) handle(f *Frame) error {
	switch {
	case f.Kind == FramePing:
		c.cmd = c.loop.dialect.AppendPong(c.cmd)
	case f.Kind == FrameMove:
		c.advised(f.Where)
	case c.state == stateReady:
		if f.Kind == FrameAnswer || f.Kind == FrameError || f.Kind == FrameReply {
			c.unanswered = max(c.unanswered-1, 0)
		}
		c.owner.frame(c, f)
	case f.Kind == FrameError:
		return &errCommandRefused{code: f.Code}
	case c.state == stateGreeting && (f.Kind == FrameConnected || f.Kind == FrameAnswer):
		c.welcome(f.Where)
	case c.state == stateSubscribing && f.Kind == FrameAnswer:
		if c.awaited--; c.awaited == 0 {
			c.becomeReady()
		}
	}
	return nil
}

// fail ends the connection because of err and tells whom it concerns.
func (c *conn) fail(err error) {
	was := c.state
	if was == stateDead {
		return
	}
	if was == stateReady && c.sentAway(err) {
		return
	}
	c.drop()
	if was == stateReady {
		c.owner.broken(c, err)
		return
	}
	c.keeper.failed(c, err)
}

// drop frees the socket. It resets the connection, so that thousands of closed
// ones do not keep their ports.
func (c *conn) drop() {
	if c.state == stateDead {
		return
	}
	c.state = stateDead
	_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(c.fd)
	if int(c.slot) < len(c.loop.conns) && c.loop.conns[c.slot] == c {
		c.loop.conns[c.slot] = nil
		c.loop.free = append(c.loop.free, c.slot)
	}
	c.in, c.message, c.partial, c.cmd, c.out = nil, nil, nil, nil, nil
}
