package ws

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendBuffer bounds what the kernel takes for one connection (it doubles the
// number for its own needs). Left alone it takes several MiB from a peer that does
// not read, which costs the others time and hides for long that it is slow.
const sendBuffer = 256 << 10

// loops are all epoll loops of a server.
type loops struct {
	srv *Server
	all []*loop
	wg  sync.WaitGroup
}

func startLoops(s *Server, n int) (*loops, error) {
	ls := &loops{srv: s}
	for range n {
		l, err := newLoop(s)
		if err != nil {
			for _, l := range ls.all {
				l.release()
			}
			return nil, err
		}
		ls.all = append(ls.all, l)
	}
	for _, l := range ls.all {
		ls.wg.Go(l.run)
	}
	return ls, nil
}

// take moves the socket of nc to the loop that has the fewest. taken is false when
// nc is not a plain socket; else nc is closed, and ok tells whether it lives on.
func (ls *loops) take(nc net.Conn, t *ticket, early []byte) (taken, ok bool) {
	if ls == nil {
		return false, false
	}
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return false, false
	}
	fd, err := duplicate(nc.(syscall.Conn))
	nc.Close() // leaves the Go netpoller; the duplicate keeps the socket open
	if err != nil {
		ls.srv.cfg.Logger.Warn("socket not taken over", "error", err)
		return true, false
	}
	least := ls.all[0]
	for _, l := range ls.all[1:] {
		if l.load.connections.Load() < least.load.connections.Load() {
			least = l
		}
	}
	c := newLoopConn(least, fd, t)
	if !least.enter(entrant{c, t.info, early}) {
		unix.Close(fd)
		return true, false
	}
	return true, true
}

// duplicate returns a descriptor of the same socket that the Go runtime does not
// know. It is above the standard ones, on which a broken pipe would end the process.
func duplicate(sc syscall.Conn) (int, error) {
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(orig uintptr) {
		fd, dupErr = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return -1, err
	}
	if _, tcp := sc.(*net.TCPConn); tcp {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer))
	}
	if err = errors.Join(err, unix.SetNonblock(fd, true)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (ls *loops) wake() {
	if ls == nil {
		return
	}
	for _, l := range ls.all {
		l.wake()
	}
}

// close ends all connections, the loops and their goroutines.
func (ls *loops) close(ctx context.Context) {
	if ls == nil {
		return
	}
	for _, l := range ls.all {
		l.tell(orderDrain)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, l := range ls.all {
			l.tell(orderAbort)
		}
	})
	ls.wg.Wait()
	stop()
}

func (ls *loops) traffic() (out []*traffic) {
	if ls == nil {
		return nil
	}
	for _, l := range ls.all {
		out = append(out, &l.load)
	}
	return out
}
