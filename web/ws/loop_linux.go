package ws

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer is shared by all connections of a loop, and what one of them may
	// bring into a turn: a sender at full speed must not make the others wait for
	// the fan-out of more than this.
	readBuffer = 16 << 10
	eventBatch = 128 // ready sockets that one turn serves
	// slowBatch bounds what one turn does of the work that comes in crowds and that
	// nobody waits for by the millisecond: newcomers, and connections that died.
	slowBatch = 32
	// nap is how long a loop sleeps among newcomers: what they cost others in
	// latency. longTurn is how long it works between two of them.
	nap, longTurn = 200 * time.Microsecond, 2 * time.Millisecond
)

// An order is what other goroutines ask a whole loop to do.
type order uint8

const (
	orderNone  order = iota
	orderDrain       // close all connections, then end
	orderAbort       // cut all connections, then end
)

// A loop serves many sockets with one goroutine, in turns: it reads once from each
// socket that is ready, hands what came to the relay, and flushes the turn.
//
// Its epoll descriptor is level-triggered, so that one read a turn is enough, and
// is itself watched by the Go netpoller, so that a waiting loop holds no thread.
type loop struct {
	// Fixed at construction.
	srv  *Server
	epfd int
	file *os.File // epfd as the Go netpoller sees it
	raw  syscall.RawConn
	try  func(fd uintptr) bool
	bell int // eventfd, in the epoll set

	load traffic

	// Owned by run.
	turn     *relay.Turn
	buf      []byte
	events   []unix.EpollEvent
	ready    int         // filled events
	waitErr  error       // of the last epoll_wait
	now      int64       // ms, at the beginning of the turn
	conns    []*loopConn // by descriptor
	count    int
	passes   uint
	slot     uint32
	ending   []*loopConn // input is over; to be ended after the flush
	fallen   []*loopConn // both directions are shut or reset, and epoll tells nothing of them any more
	limited  []*loopConn // those with a deadline: they close or linger
	partial  []*loopConn // those that had an unfinished message at the last look
	draining bool
	timer    *time.Timer
	timed    bool
	heard    []entrant   // spare room for what hear takes over
	heeded   []*loopConn // spare room for attend

	due atomic.Bool // the timer has fired

	mu       sync.Mutex
	arrivals []entrant
	attend   []*loopConn // their close frame was sent or they are broken
	order    order
	rung     bool // the bell was rung and not yet heard
	ended    bool // nothing is taken in any more; the descriptors are closed
}

// An entrant is a connection on its way into the loop.
type entrant struct {
	c     *loopConn
	info  relay.ConnInfo
	early []byte
}

func newLoop(s *Server) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("epoll descriptor: %w", err)
	}
	l := &loop{srv: s, epfd: epfd, file: os.NewFile(uintptr(epfd), "epoll"), bell: -1}
	l.buf, l.events = make([]byte, readBuffer), make([]unix.EpollEvent, eventBatch)
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.release()
		return nil, fmt.Errorf("epoll descriptor: %w", err)
	}
	// A descriptor that the netpoller could not watch would make the loop block a thread.
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		l.release()
		return nil, fmt.Errorf("epoll descriptor cannot be polled: %w", err)
	}
	if l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.bell = -1
		l.release()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.bell)}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, l.bell, &ev); err != nil {
		l.release()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	l.try = func(uintptr) bool {
		l.look(0)
		return l.ready > 0 || l.waitErr != nil
	}
	l.timer = time.AfterFunc(time.Hour, func() {
		l.due.Store(true)
		l.tell(orderNone)
	})
	l.timer.Stop()
	l.turn = s.cfg.Hub.NewTurn()
	return l, nil
}

// release closes what belongs to the loop itself.
func (l *loop) release() {
	if l.bell >= 0 {
		unix.Close(l.bell)
	}
	l.file.Close()
}

// look asks for ready sockets and waits for them up to wait milliseconds.
func (l *loop) look(wait int) {
	for {
		n, err := unix.EpollWait(l.epfd, l.events, wait)
		if err == unix.EINTR {
			continue
		}
		l.ready, l.waitErr = max(n, 0), err
		return
	}
}

// run serves the loop until it is told to end and no connection is left.
func (l *loop) run() {
	defer l.finish()
	for {
		l.linger()
		if err := l.wait(); err != nil || l.waitErr != nil {
			// No cause is known; without events nothing can be served.
			l.srv.cfg.Logger.Error("event loop ends", "error", err, "wait_error", l.waitErr)
			return
		}
		for since := time.Now(); l.ready > 0 || len(l.fallen) > 0; since = l.rest(since) {
			if !l.pass() {
				return
			}
		}
	}
}

// wait returns when sockets are ready.
func (l *loop) wait() error {
	if l.ready > 0 || l.waitErr != nil {
		return nil
	}
	err := l.raw.Read(l.try)
	if errors.Is(err, os.ErrDeadlineExceeded) { // somebody has called wake
		err = l.file.SetReadDeadline(time.Time{})
	}
	return err
}

// wake ends a sleep, so that the loop lingers. It does not go by the descriptor,
// which is what the runtime looks at too late in a storm.
func (l *loop) wake() { l.file.SetReadDeadline(time.Unix(1, 0)) }

// linger keeps the loop away from the runtime's own list of sleepers as long as
// there are newcomers. The runtime looks at sleepers' descriptors when nobody else
// can run, and appends those that are ready, like those that yield or return from
// the kernel, to a queue in which in a storm every new connection's request stands
// before it. A timer that is due comes before that queue.
func (l *loop) linger() {
	for l.ready == 0 && l.waitErr == nil && l.srv.crowded() {
		time.Sleep(nap)
		l.look(0)
	}
}

// rest gives others a turn after a long one of the loop's own. The runtime would take
// it by itself, and then let the loop wait behind all of them.
func (l *loop) rest(since time.Time) time.Time {
	now := time.Now()
	if now.Sub(since) < longTurn || !l.srv.crowded() {
		return since
	}
	time.Sleep(nap)
	return time.Now()
}

// pass serves one batch and looks for the next. It returns false when the loop is over.
func (l *loop) pass() bool {
	l.now = l.srv.now()
	for i := range l.events[:l.ready] {
		ev := &l.events[i]
		if ev.Pad == 0 {
			l.hear()
		} else if int(ev.Fd) < len(l.conns) {
			// A socket may have ended in this batch, and its number may be another's by now.
			if c := l.conns[ev.Fd]; c != nil && int32(c.slot) == ev.Pad {
				l.serve(c, ev.Events)
			}
		}
	}
	// When the batch was full, a message may wait behind it: that comes first.
	if l.passes++; l.ready < len(l.events) || l.passes%8 == 0 {
		l.bury()
	}
	if l.due.Swap(false) {
		l.timed = false
		l.sweep()
	}
	l.look(0)
	// What was answered before an end has to leave before the close frame.
	l.turn = l.srv.flushTurn(l.turn, l.ready == 0 || len(l.ending) > 0)
	if len(l.ending) > 0 {
		l.endAll()
		l.turn = l.srv.flushTurn(l.turn, l.ready == 0)
	}
	if !l.timed && len(l.limited)+len(l.partial) > 0 {
		l.timed = true
		l.timer.Reset(l.srv.waits.sweep)
	}
	return l.waitErr == nil && (!l.draining || l.count > 0)
}

// hear does what other goroutines have asked for.
func (l *loop) hear() {
	var count [8]byte
	unix.Read(l.bell, count[:]) // the bell is ours alone and does not block
	l.mu.Lock()
	arrivals, attend, todo := l.arrivals, l.attend, l.order
	l.arrivals, l.attend, l.order = l.heard[:0], l.heeded[:0], orderNone
	l.rung = false
	if len(arrivals) > slowBatch { // the others come in the next turns
		l.arrivals = append(l.arrivals, arrivals[slowBatch:]...)
		clear(arrivals[slowBatch:])
		arrivals = arrivals[:slowBatch]
		l.ring()
	}
	l.mu.Unlock()
	for i, e := range arrivals {
		arrivals[i] = entrant{}
		l.welcome(e)
	}
	for i, c := range attend {
		attend[i] = nil
		l.heed(c)
	}
	l.heard, l.heeded = arrivals, attend
	if todo != orderNone {
		l.draining = true
		for _, c := range l.conns {
			switch {
			case c == nil:
			case todo == orderAbort:
				l.lost(c)
			default:
				c.Close(wire.CloseGoingAway, goingAway)
			}
		}
	}
}

// ring wakes the loop. l.mu must be held.
func (l *loop) ring() {
	if l.rung || l.ended {
		return
	}
	l.rung = true
	one := [8]byte{1} // eventfd reads a number in the order of the machine; any but 0 wakes
	unix.Write(l.bell, one[:])
}

// tell gives the loop an order; orderNone only wakes it.
func (l *loop) tell(o order) {
	l.mu.Lock()
	l.order = max(l.order, o)
	l.ring()
	l.mu.Unlock()
}

// enter hands a connection in. It is false when the loop has ended.
func (l *loop) enter(e entrant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.load.connections.Add(1)
	l.arrivals = append(l.arrivals, e)
	l.ring()
	return true
}

// call asks for a look at c, from any goroutine.
func (l *loop) call(c *loopConn) {
	l.mu.Lock()
	if !l.ended {
		l.attend = append(l.attend, c)
		l.ring()
	}
	l.mu.Unlock()
}

// finish leaves nothing behind, whatever made the loop end.
func (l *loop) finish() {
	for _, c := range l.conns {
		if c != nil {
			l.lost(c)
		}
	}
	l.turn = l.srv.flushTurn(l.turn, true)
	l.timer.Stop()
	l.mu.Lock()
	l.ended = true
	arrivals := l.arrivals
	l.arrivals, l.attend = nil, nil
	l.release()
	l.mu.Unlock()
	for _, e := range arrivals {
		unix.Close(e.c.fd)
		l.load.connections.Add(-1)
		l.srv.cfg.Hub.Unadmit(e.info.Addr)
	}
}
