package drill

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A Valve is the way to a server: it passes bytes on, and can stop, stall or cut
// all connections that go through it.
type Valve struct {
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	shut   chan struct{} // not nil: bytes from the server wait until it is closed
	both   bool          // those to the server too
	barred bool          // nobody new is let in
	open   map[net.Conn]net.Conn
}

// valveBuffer bounds what the valve holds of one direction, and the kernel for it,
// so that a server notices soon that nobody reads.
const valveBuffer = 16 << 10

// NewValve listens on a free port of this machine and passes on to target.
func NewValve(target string) (*Valve, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("valve: %w", err)
	}
	v := &Valve{ln: ln, target: target, open: make(map[net.Conn]net.Conn)}
	v.wg.Go(v.accept)
	return v, nil
}

// Addr is where the valve listens.
func (v *Valve) Addr() string { return v.ln.Addr().String() }

func (v *Valve) accept() {
	for {
		in, err := v.ln.Accept()
		if err != nil {
			return
		}
		v.wg.Go(func() { v.pass(in) })
	}
}

func (v *Valve) pass(in net.Conn) {
	defer in.Close()
	out, err := net.DialTimeout("tcp", v.target, 5*time.Second)
	if err != nil {
		return
	}
	defer out.Close()
	if tcp, ok := out.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(valveBuffer)
	}
	v.mu.Lock()
	if v.closed || v.barred {
		v.mu.Unlock()
		return
	}
	v.open[in] = out
	v.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { v.copy(in, out, true); _ = in.Close(); _ = out.Close() })
	v.copy(out, in, false)
	_ = in.Close()
	_ = out.Close()
	both.Wait()
	v.mu.Lock()
	delete(v.open, in)
	v.mu.Unlock()
}

// copy passes bytes on, and waits while the valve is shut.
func (v *Valve) copy(to io.Writer, from io.Reader, fromServer bool) {
	buf := make([]byte, valveBuffer)
	for {
		v.wait(fromServer)
		n, err := from.Read(buf)
		v.wait(fromServer)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (v *Valve) wait(fromServer bool) {
	for {
		v.mu.Lock()
		shut := v.shut
		if shut == nil || !fromServer && !v.both || v.closed {
			v.mu.Unlock()
			return
		}
		v.mu.Unlock()
		<-shut
	}
}

// Pause holds back all bytes; connections stay open.
func (v *Valve) Pause() { v.close(true) }

// Stall holds back what comes from the server: clients no longer read.
func (v *Valve) Stall() { v.close(false) }

func (v *Valve) close(both bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut == nil {
		v.shut = make(chan struct{})
	}
	v.both = both
}

// Resume lets bytes through again.
func (v *Valve) Resume() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.resumeLocked()
}

func (v *Valve) resumeLocked() {
	v.barred = false
	if v.shut != nil {
		close(v.shut)
		v.shut = nil
	}
}

// Cut ends all connections at once and returns how many they were. New ones are
// let through.
func (v *Valve) Cut() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	for in, out := range v.open {
		_ = in.Close()
		_ = out.Close()
	}
	return len(v.open)
}

// Bar ends all connections at once, and new ones too until Resume: the server is
// gone, as far as those who come through here can tell.
func (v *Valve) Bar() int {
	v.mu.Lock()
	v.barred = true
	v.mu.Unlock()
	return v.Cut()
}

// Close ends the valve and everything that goes through it.
func (v *Valve) Close() {
	v.mu.Lock()
	v.closed = true
	v.resumeLocked()
	for in, out := range v.open {
		_ = in.Close()
		_ = out.Close()
	}
	v.mu.Unlock()
	_ = v.ln.Close()
	v.wg.Wait()
}
