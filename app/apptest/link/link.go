// Package link puts a way that can be spoilt between a TCP client and its server,
// for tests: slow, far away, half-open, cut, closed. It passes bytes on and knows
// nothing of what they say.
package link

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// patience bounds dialling and each write.
	patience = 10 * time.Second
	// chunks is how much a connection may have under way, in reads of up to 8 KiB.
	chunks = 1024
	// half is for how long a half-open connection is left before it ends by itself.
	half = 5 * time.Minute
)

// A Proxy passes connections on to a server, each as a Thread of its own.
type Proxy struct {
	ln     net.Listener
	target func() string

	latency atomic.Int64 // ns, one way
	closed  atomic.Bool  // new connections are refused
	silent  atomic.Bool  // nothing passes, and nobody is told

	mu      sync.Mutex
	threads map[*Thread]struct{}
	all     sync.WaitGroup
}

// A Thread is one connection.
type Thread struct {
	proxy     *Proxy
	near, far net.Conn
	silent    atomic.Bool
	pause     atomic.Int64 // ns after each read
	ends      chan struct{}
	once      sync.Once
}

// New listens on a free port until the test ends.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	return Balance(t, func() string { return target })
}

// Balance is New with the server asked for at each connection, as a load balancer
// chooses one. No server ("") resets the connection.
func Balance(t testing.TB, target func() string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{ln: ln, target: target, threads: map[*Thread]struct{}{}}
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Latency makes every byte take so long each way; what is under way keeps its own.
func (p *Proxy) Latency(d time.Duration) { p.latency.Store(int64(d)) }

// Cut ends all connections and refuses new ones, or takes them again.
func (p *Proxy) Cut(cut bool) {
	p.closed.Store(cut)
	if cut {
		p.Reset()
	}
}

// Reset ends all connections; new ones are taken.
func (p *Proxy) Reset() {
	for _, th := range p.list() {
		th.Cut()
	}
}

// Silence makes all connections, new ones too, half-open: neither side hears of the
// other any more. What was sent meanwhile is lost; after the end of a silence those
// connections are cut, as by a router that has forgotten them.
func (p *Proxy) Silence(silent bool) {
	p.silent.Store(silent)
	if !silent {
		p.Reset()
	}
}

// Of finds the thread of a client's connection; nil when it does not go through p.
func (p *Proxy) Of(c net.Conn) *Thread {
	if c.RemoteAddr().String() != p.Addr() {
		return nil // a direct connection may have the local port of somebody else's
	}
	for _, th := range p.list() {
		if th.near.RemoteAddr().String() == c.LocalAddr().String() {
			return th
		}
	}
	return nil
}

// Silence makes this connection half-open until it is cut.
func (th *Thread) Silence() { th.silent.Store(true) }

// Slow makes this connection wait after each read.
func (th *Thread) Slow(pause time.Duration) { th.pause.Store(int64(pause)) }

// Cut resets this connection on both sides.
func (th *Thread) Cut() {
	th.once.Do(func() {
		close(th.ends)
		reset(th.near)
		reset(th.far)
	})
}

// reset closes without a farewell.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Proxy) list() []*Thread {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*Thread, 0, len(p.threads))
	for th := range p.threads {
		list = append(list, th)
	}
	return list
}

func (p *Proxy) accept() {
	for {
		near, err := p.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is free: those who wait are taken when one is
			time.Sleep(10 * time.Millisecond)
			continue
		}
		target := p.target()
		if p.closed.Load() || target == "" {
			reset(near)
			continue
		}
		far, err := net.DialTimeout("tcp", target, patience)
		if err != nil {
			reset(near)
			continue
		}
		th := &Thread{proxy: p, near: near, far: far, ends: make(chan struct{})}
		p.mu.Lock()
		p.threads[th] = struct{}{}
		p.mu.Unlock()
		if p.closed.Load() { // cut meanwhile
			th.Cut()
		}
		p.all.Go(func() { th.pass(near, far) })
		p.all.Go(func() { th.pass(far, near) })
	}
}

// A chunk is what one read brought, and when it arrives on the other side.
type chunk struct {
	bytes []byte
	due   time.Time
	end   bool // the sender will say no more
}

// pass carries bytes one way until the thread ends.
func (th *Thread) pass(from, to net.Conn) {
	way := make(chan chunk, chunks)
	var arrive sync.WaitGroup
	arrive.Go(func() { th.deliver(way, to) })
	th.collect(from, way)
	close(way)
	arrive.Wait()
	th.proxy.mu.Lock()
	delete(th.proxy.threads, th)
	th.proxy.mu.Unlock()
}

func (th *Thread) collect(from net.Conn, way chan<- chunk) {
	buf := make([]byte, 8<<10)
	for {
		n, err := from.Read(buf)
		if th.silent.Load() || th.proxy.silent.Load() {
			th.wait(half)
			th.Cut()
			return
		}
		c := chunk{bytes: append([]byte(nil), buf[:n]...), due: time.Now().Add(time.Duration(th.proxy.latency.Load())), end: err == io.EOF}
		if n > 0 || c.end {
			select {
			case way <- c:
			case <-th.ends:
				return
			}
		}
		if err != nil {
			if !c.end {
				th.Cut()
			}
			return
		}
		if d := th.pause.Load(); d > 0 && !th.wait(time.Duration(d)) {
			return
		}
	}
}

func (th *Thread) deliver(way <-chan chunk, to net.Conn) {
	for c := range way {
		if d := time.Until(c.due); d > 0 && !th.wait(d) {
			continue
		}
		if len(c.bytes) > 0 {
			_ = to.SetWriteDeadline(time.Now().Add(patience))
			if _, err := to.Write(c.bytes); err != nil {
				th.Cut()
				continue // the rest is thrown away
			}
		}
		if tcp, ok := to.(*net.TCPConn); ok && c.end {
			_ = tcp.CloseWrite()
		}
	}
}

// wait passes time; false when the thread ended meanwhile.
func (th *Thread) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-th.ends:
		return false
	case <-timer.C:
		return true
	}
}

func (p *Proxy) close() {
	p.closed.Store(true)
	p.ln.Close()
	p.Reset()
	p.all.Wait()
}
