package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer is taken in one read; large, because on a fast run a socket holds
	// hundreds of small frames.
	readBuffer = 256 << 10
	// eventBatch is how many ready sockets one poll returns.
	eventBatch = 512
	// longestWait bounds one wait, so that a cancelled context is noticed.
	longestWait = 20 * time.Millisecond
	// beatEvery is how often a silent connection sends the dialect's ping.
	beatEvery = 20 * time.Second
)

// A loop owns connections and the one goroutine's poll that serves them.
type loop struct {
	dialect Dialect
	targets []*target
	reach   func(base string) (*target, error) // makes a target of an endpoint that a server names
	named   map[string]int32                   // targets by the endpoint that a server named; 0 and less: none
	epoll   int
	key     uint32 // masks what is sent
	opcode  byte

	conns []*conn // by slot; nil where the slot is free
	free  []int32

	buf     []byte // what was read
	scratch []byte // frames on their way out
	events  [eventBatch]unix.EpollEvent

	readAt   int64 // when the bytes that are being handled were read
	base     time.Time
	baseMono int64

	beatAt   int // slot that the heartbeat round has reached
	beatTime int64
}

func newLoop(d Dialect, targets []*target) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	l := &loop{dialect: d, targets: targets, epoll: epoll, key: rand.Uint32(), buf: make([]byte, readBuffer), opcode: opText}
	if d.Binary() {
		l.opcode = opBinary
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("read the monotonic clock: %w", err)
	}
	l.base, l.baseMono = time.Now(), ts.Nano()
	l.beatTime = l.now()
	return l, nil
}

// now is the machine's monotonic clock in nanoseconds, the same in all processes.
func (l *loop) now() int64 { return l.baseMono + int64(time.Since(l.base)) }

// step serves what is ready. When nothing is, it waits until the time until at
// the latest.
func (l *loop) step(until int64) error {
	n, err := l.poll(0)
	if err != nil {
		return err
	}
	if n == 0 {
		wait := min(time.Duration(until-l.now()), longestWait)
		if wait <= 0 {
			l.beat()
			return nil
		}
		if n, err = l.poll(wait); err != nil {
			return err
		}
	}
	for i := range l.events[:n] {
		ev := &l.events[i]
		if c := l.conns[ev.Fd]; c != nil && c.generation == ev.Pad {
			l.serve(c, ev.Events)
		}
	}
	l.beat()
	return nil
}

// poll asks for ready sockets. A wait of 0 does not leave the processor.
func (l *loop) poll(wait time.Duration) (int, error) {
	if wait == 0 {
		return epollNow(l.epoll, l.events[:])
	}
	n, err := epollWait(l.epoll, l.events[:], wait)
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return n, err
}

// serve handles one socket that is ready.
func (l *loop) serve(c *conn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if c.state != stateDead && events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0 {
		l.read(c)
	}
}

// read takes what one socket holds and passes on the frames in it.
func (l *loop) read(c *conn) {
	n, err := readNow(c.fd, l.buf)
	switch {
	case err == unix.EAGAIN:
		return
	case err != nil:
		c.fail(fmt.Errorf("read: %w", err))
		return
	case n == 0:
		c.fail(errEnd)
		return
	}
	l.readAt = l.now()
	data := l.buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}
	used, err := c.consume(data)
	if err != nil {
		c.fail(err)
		return
	}
	if c.state == stateDead {
		return
	}
	c.keep(data[used:])
	c.flush()
}

// beat goes round all connections once per beatEvery, in small portions, and
// pings those that have sent nothing since the last round.
func (l *loop) beat() {
	if len(l.conns) == 0 {
		return
	}
	now := l.now()
	share := (now - l.beatTime) * int64(len(l.conns)) / int64(beatEvery)
	if share < 1 {
		return
	}
	l.beatTime = now
	for range min(share, int64(len(l.conns))) {
		l.beatAt = (l.beatAt + 1) % len(l.conns)
		c := l.conns[l.beatAt]
		if c == nil || c.state != stateReady {
			continue
		}
		if !c.spoke {
			c.cmd = l.dialect.AppendPing(c.cmd)
			c.flush()
		}
		c.spoke = false
	}
}

// adopt gives c a slot.
func (l *loop) adopt(c *conn) {
	if n := len(l.free); n > 0 {
		c.slot, l.free = l.free[n-1], l.free[:n-1]
		l.conns[c.slot] = c
		return
	}
	c.slot = int32(len(l.conns))
	l.conns = append(l.conns, c)
}

// close ends all connections at once and frees the poll.
func (l *loop) close() {
	for _, c := range l.conns {
		if c != nil {
			c.drop()
		}
	}
	_ = unix.Close(l.epoll)
}
