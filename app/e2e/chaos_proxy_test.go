//go:build linux

package e2e

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A wire between client and relay that can be spoilt.
type thread struct {
	near, far net.Conn
	stalled   atomic.Bool  // nothing passes any more, and nobody is told
	pause     atomic.Int64 // ns after each read: a slow line
	ends      chan struct{}
	once      sync.Once
}

// A proxy passes TCP connections on to the relay, each by a thread of its own.
type proxy struct {
	ln     net.Listener
	target string

	mu      sync.Mutex
	threads map[string]*thread // by the client's address
	all     sync.WaitGroup
}

// newProxy listens until the test ends.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target, threads: map[string]*thread{}}
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) accept() {
	for {
		near, err := p.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.DialTimeout("tcp", p.target, patience)
		if err != nil {
			cut(near)
			continue
		}
		th := &thread{near: near, far: far, ends: make(chan struct{})}
		p.mu.Lock()
		p.threads[near.RemoteAddr().String()] = th
		p.mu.Unlock()
		p.all.Go(func() { p.pass(th, near, far) })
		p.all.Go(func() { p.pass(th, far, near) })
	}
}

func (p *proxy) pass(th *thread, from, to net.Conn) {
	buf := make([]byte, 8<<10)
	for {
		n, err := from.Read(buf)
		if th.stalled.Load() {
			// Half-open: neither side hears of the other until the thread is cut.
			select {
			case <-th.ends:
			case <-time.After(time.Minute):
			}
			break
		}
		if n > 0 {
			_ = to.SetWriteDeadline(time.Now().Add(patience))
			if _, werr := to.Write(buf[:n]); werr != nil {
				break
			}
		}
		if err == io.EOF {
			_ = to.(*net.TCPConn).CloseWrite()
		}
		if err != nil {
			break
		}
		if d := th.pause.Load(); d > 0 {
			select {
			case <-th.ends:
			case <-time.After(time.Duration(d)):
			}
		}
	}
	th.cut()
	p.mu.Lock()
	delete(p.threads, th.near.RemoteAddr().String())
	p.mu.Unlock()
}

func (th *thread) cut() {
	th.once.Do(func() {
		close(th.ends)
		cut(th.near)
		cut(th.far)
	})
}

// of finds the thread of a client's connection; nil when it does not go through p.
func (p *proxy) of(c net.Conn) *thread {
	if c.RemoteAddr().String() != p.ln.Addr().String() {
		return nil // a direct connection may have the local port of somebody else's
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.threads[c.LocalAddr().String()]
}

func (p *proxy) close() {
	p.ln.Close()
	p.mu.Lock()
	all := make([]*thread, 0, len(p.threads))
	for _, th := range p.threads {
		all = append(all, th)
	}
	p.mu.Unlock()
	for _, th := range all {
		th.cut()
	}
	p.all.Wait()
}
