package ws

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// TestFlushComesBeforeTheEnd has a relay that answers only when a turn is flushed:
// the answers must leave before a close frame, and before a loop waits.
func TestFlushComesBeforeTheEnd(t *testing.T) {
	ends := map[string]struct {
		in   []byte
		code wire.CloseCode
	}{
		"close": {closing(codeBytes(1000)), 1000},
		"fault": {masked(bitFin|opBinary, nil), 1003},
	}
	ways(t, func(t *testing.T, useTLS bool) {
		var mu sync.Mutex
		var waiting []func()
		var idle, busy atomic.Int32
		n := startNode(t, useTLS)
		n.hub.on = func(e *echo, msg []byte) {
			copied := string(msg)
			mu.Lock()
			waiting = append(waiting, func() { e.send([]byte(copied)) })
			mu.Unlock()
		}
		n.hub.onFlush = func(nothingMore bool) {
			mu.Lock()
			now := waiting
			waiting = nil
			mu.Unlock()
			for _, answer := range now {
				answer()
			}
			if nothingMore {
				idle.Add(1)
			} else {
				busy.Add(1)
			}
		}
		for name, tc := range ends {
			t.Run(name, func(t *testing.T) {
				c := n.dial()
				c.t = t
				c.send(text("alone"))
				c.want(bitFin|opText, "alone") // came although nothing followed
				c.send(seq(text("one"), text("two"), tc.in))
				c.want(bitFin|opText, "one")
				c.want(bitFin|opText, "two")
				c.wantClose(tc.code)
			})
		}
		if idle.Load() == 0 {
			t.Errorf("flushes: %d idle, %d busy; want idle ones", idle.Load(), busy.Load())
		}
	})
}

// TestFlushPanic must not end the loop that other connections live in.
func TestFlushPanic(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		var armed atomic.Bool
		n.hub.onFlush = func(bool) {
			if armed.Swap(false) {
				panic("in flush")
			}
		}
		c := n.dial()
		for i := range 5 {
			armed.Store(true)
			msg := fmt.Sprint(i)
			c.send(text(msg))
			c.want(bitFin|opText, msg)
		}
	})
}

// TestAccept lets the relay write, close or panic before it has returned a Receiver.
func TestAccept(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		greet := func(do func(relay.Conn)) {
			n.hub.mu.Lock()
			n.hub.greet = do
			n.hub.mu.Unlock()
		}
		greet(func(c relay.Conn) { c.Write(sealed(opText, []byte("welcome"))) })
		c := n.dial()
		c.want(bitFin|opText, "welcome")
		greet(func(c relay.Conn) { c.Close(wire.CloseOverloaded, "") })
		c = n.dial()
		c.wantClose(wire.CloseOverloaded)
		c.send(closing(codeBytes(4005)))
		c.wantEOF()
		greet(func(relay.Conn) { panic("in accept") })
		c = n.dial()
		c.wantClose(wire.CloseInternal)
		c.wantEOF()
		greet(nil)
		c = n.dial()
		c.send(text("x"))
		c.want(bitFin|opText, "x")
	})
}

// TestUnixSocket: a proxy on the same machine may come by a Unix socket.
func TestUnixSocket(t *testing.T) {
	hub := newEchoHub()
	srv, err := newServer(Config{Hub: hub, Logger: discard()}, defaultTimeouts, hub.flush)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	Configure(app)
	app.Get("/ws", srv.Handler())
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(testWait))
	c := &client{t: t, nc: nc, br: bufio.NewReader(nc)}
	c.upgrade(upgradeRequest())
	c.send(text("over a unix socket"))
	c.want(bitFin|opText, "over a unix socket")
	nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	if err := srv.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := app.ShutdownWithContext(ctx); err != nil {
		t.Error(err)
	}
	<-served
	hub.check(t)
}

// mute is an outlet and a Receiver that does nothing.
type mute struct{ got int }

func (*mute) Write([]byte) bool             { return false }
func (*mute) Ping()                         {}
func (*mute) Close(wire.CloseCode, string)  {}
func (*mute) pong([]byte)                   {}
func (*mute) closeSent() bool               { return false }
func (m *mute) Receive(*relay.Turn, []byte) { m.got++ }
func (*mute) Seen(*relay.Turn)              {}
func (*mute) Writable(*relay.Turn)          {}
func (*mute) Closed(*relay.Turn)            {}

// TestInputAllocatesNothing: neither for whole messages nor for those in pieces.
func TestInputAllocatesNothing(t *testing.T) {
	n := startNode(t, false)
	m := &mute{}
	k := newLink(n.srv, m, new(traffic), relay.ConnInfo{}, false)
	k.recv = m
	stream := seq(text("whole"), ping("p"), frag(opText, "in "), frag(bitFin|opContinuation, "pieces"), text("cut"))
	p := make([]byte, len(stream))
	now := int64(1)
	got := testing.AllocsPerRun(500, func() {
		now += 1000 // so that the pings are within their limit
		copy(p, stream)
		k.input(nil, p[:len(p)-2], now)
		k.input(nil, p[len(p)-2:], now)
	})
	if got != 0 || k.over || m.got != 3*501 {
		t.Errorf("got %v allocations, over %v, %d messages; want 0, false, %d", got, k.over, m.got, 3*501)
	}
}

// BenchmarkInput is the cost of one message without its system calls.
func BenchmarkInput(b *testing.B) {
	n := startNode(b, false)
	m := &mute{}
	k := newLink(n.srv, m, new(traffic), relay.ConnInfo{}, false)
	k.recv = m
	stream := text(string(make([]byte, 128)))
	p := make([]byte, len(stream))
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		copy(p, stream)
		k.input(nil, p, 1)
	}
}

// The relay's hub is what this door is made for.
var _ Hub = (*relay.Hub)(nil)
