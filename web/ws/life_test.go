package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/wire"
)

// TestStaleConnReachesNobody writes to connections whose client has left while new
// clients take over descriptors and memory. No byte may reach a new one.
func TestStaleConnReachesNobody(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		var stop atomic.Bool
		var wg sync.WaitGroup
		var mu sync.Mutex
		var left []*echo
		for range 2 { // two writers that never stop writing to those who left
			wg.Go(func() {
				for i := 0; !stop.Load(); i++ {
					mu.Lock()
					old := left
					mu.Unlock()
					for _, e := range old {
						if e.conn.Write(sealed(opText, []byte("FOREIGN"))) {
							t.Error("a closed connection says that it is full")
						}
						e.conn.Ping()
						if i%8 == 0 {
							e.conn.Close(4002, "foreign")
						}
					}
					runtime.Gosched()
				}
			})
		}
		defer func() { stop.Store(true); wg.Wait() }()
		for round := range 250 {
			a := n.dial()
			ea := n.hub.wait(t)
			switch round % 3 {
			case 0:
				a.nc.Close()
			case 1:
				a.send(closing(codeBytes(1000)))
				a.wantClose(1000)
			case 2:
				ea.conn.Close(wire.CloseNormal, "")
				a.wantClose(1000)
				a.nc.Close()
			}
			<-ea.closed
			mu.Lock()
			left = append(left[max(0, len(left)-20):len(left):len(left)], ea)
			mu.Unlock()
			b := n.dial()
			eb := n.hub.wait(t)
			mine := fmt.Sprintf("round %d", round)
			b.send(seq(text(mine), ping(mine), closing(codeBytes(1000))))
			b.want(bitFin|opText, mine)
			b.want(bitFin|opPong, mine)
			b.want(bitFin|opClose, codeBytes(1000))
			b.wantEOF()
			<-eb.closed
		}
	})
}

// TestSlowReader fills a socket: the relay is told, stops, and is told again.
func TestSlowReader(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		c := n.connect()
		if tcp, ok := c.nc.(*net.TCPConn); ok {
			tcp.SetReadBuffer(64 << 10)
		}
		c.upgrade(upgradeRequest())
		e := n.hub.wait(t)
		chunk := strings.Repeat("0123456789abcdef", 4096)
		want := 0
		for range 3 {
			sent := 0
			for !e.conn.Write(sealed(opText, []byte(chunk))) {
				if sent++; sent > 1000 {
					t.Fatal("64 MB were taken without a word about a full socket")
				}
			}
			// The ping of a full connection is answered later, and only the last one.
			c.send(seq(ping("one"), ping("two")))
			until(t, "pings are seen", func() bool { return e.seen.Load() >= 2 })
			want++
			pong := false
			for got := 0; got <= sent || !pong; {
				first, p, err := c.frame()
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case first == bitFin|opPong:
					pong = string(p) == "two"
				case string(p) != chunk:
					t.Fatalf("got %s", short(p))
				default:
					got++
				}
			}
			until(t, "Writable", func() bool { return e.writes.Load() == int32(want) })
			e.seen.Store(0)
		}
		if got := n.srv.Stats().Rests; got == 0 {
			t.Error("no rest was counted")
		}
	})
}

// TestBacklogBound: a relay that does not stop at a full socket cannot fill the memory.
func TestBacklogBound(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		n.dial()
		e := n.hub.wait(t)
		chunk := sealed(opText, make([]byte, 1<<20))
		for range 40 {
			e.conn.Write(chunk)
		}
		<-e.closed
		if got := n.srv.Stats().Faults["backlog"]; got != 1 {
			t.Errorf("backlog faults: got %d, want 1", got)
		}
	})
}

// TestNothingIsLeft opens and leaves 1,000 connections and counts descriptors and
// goroutines.
func TestNothingIsLeft(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		round := func(clients int) {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for i := range clients / 20 {
						c := n.dial()
						c.send(text("x"))
						c.want(bitFin|opText, "x")
						switch i % 3 {
						case 0:
							c.send(closing(""))
							c.wantClose(0)
						case 1:
							c.send([]byte{0xff, 0xff})
							c.wantClose(1002)
						}
						c.nc.Close()
					}
				})
			}
			wg.Wait()
			until(t, "all are gone", func() bool { return n.srv.Stats().Connections == 0 })
		}
		round(40)
		fds, routines := descriptors(t), runtime.NumGoroutine()
		round(1000)
		// fasthttp keeps some idle workers and the last sockets of its own for a moment.
		until(t, fmt.Sprintf("descriptors back to %d", fds), func() bool { return descriptors(t) <= fds })
		until(t, fmt.Sprintf("goroutines back to %d", routines), func() bool { return runtime.NumGoroutine() <= routines+20 })
		st := n.srv.Stats()
		if st.Accepted != 1040 || st.Pending != 0 || st.MessagesIn != 1040 {
			t.Errorf("got %+v, want 1040 accepted and as many messages, none pending", st)
		}
		if st.Faults["rsv"] == 0 || st.Closed[1005] == 0 || st.Closed[1002] == 0 || st.Closed[1006] == 0 {
			t.Errorf("got faults %v and ends %v, want rsv, 1005, 1002 and 1006 among them", st.Faults, st.Closed)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestReceiverPanic ends one connection with 1011; its text goes nowhere.
func TestReceiverPanic(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		n.hub.on = func(e *echo, msg []byte) {
			if string(msg) == "bomb" {
				panic("payload-in-panic")
			}
			e.send(msg)
		}
		var calm []*client
		for range 4 {
			calm = append(calm, n.dial())
		}
		c := n.dial()
		c.send(seq(text("before"), text("bomb"), text("after")))
		c.want(bitFin|opText, "before")
		if got := c.wantClose(1011); got != "internal error" {
			t.Errorf("close reason: got %q, want internal error", got)
		}
		c.wantEOF()
		for _, o := range calm {
			o.send(text("still here"))
			o.want(bitFin|opText, "still here")
		}
		if logs := n.logs.String(); strings.Contains(logs, "payload-in-panic") || !strings.Contains(logs, "panic") {
			t.Errorf("log: %s; want the panic without its value", logs)
		}
	})
}

// TestClosedByRelay: the client answers, or does not.
func TestClosedByRelay(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		first := n.dial()
		ep := n.hub.wait(t)
		second := n.dial()
		er := n.hub.wait(t)
		if ep.conn.Write(sealed(opText, []byte("last"))) {
			t.Error("a fresh socket is full")
		}
		ep.conn.Close(4003, "replaced by a newer connection")
		ep.conn.Close(4000, "second call")
		if _, err := first.br.Peek(1); err != nil {
			t.Fatal(err)
		}
		first.want(bitFin|opText, "last")
		first.send(text("ignored"))
		if got := first.wantClose(4003); got != "replaced by a newer connection" {
			t.Errorf("reason: got %q", got)
		}
		first.send(closing(codeBytes(4003)))
		first.wantEOF()
		<-ep.closed
		begin := time.Now()
		er.conn.Close(wire.CloseDrain, strings.Repeat("ü", 100))
		if got := second.wantClose(4004); len(got) > 123 || !strings.HasPrefix(got, "üüü") {
			t.Errorf("reason of %d bytes: %q, want it cut to 123", len(got), got)
		}
		<-er.closed
		second.wantEOF()
		if took := time.Since(begin); took < 300*time.Millisecond || took > 5*time.Second {
			t.Errorf("the silent client was given %v, want about 500 ms", took)
		}
		st := n.srv.Stats()
		if st.Closed[4003] != 1 || st.Closed[4004] != 1 || st.MessagesIn != 0 {
			t.Errorf("got ends %v and %d messages, want 4003, 4004 and none", st.Closed, st.MessagesIn)
		}
	})
}

// TestStalledMessage: whoever begins a message must go on with it.
func TestStalledMessage(t *testing.T) {
	parts := map[string][]byte{
		"half a header":       {bitFin | opText},
		"half a payload":      text("hello")[:8],
		"a fragment":          masked(opText, []byte("a")),
		"half a ping":         ping("hello")[:7],
		"a fragment and ping": seq(masked(opText, []byte("a")), ping("")),
	}
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS, func(_ *Config, w *timeouts) { w.message = 150 * time.Millisecond })
		idle := n.dial()
		for name, p := range parts {
			t.Run(name, func(t *testing.T) {
				c := n.dial()
				c.t = t
				c.send(text("whole"))
				c.want(bitFin|opText, "whole")
				c.send(p)
				c.wantClose(wire.ClosePolicy)
			})
		}
		idle.send(text("idle is no fault"))
		idle.want(bitFin|opText, "idle is no fault")
	})
}

// TestServerClose ends all with 1001, those who do not answer after a while, and
// refuses new ones.
func TestServerClose(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		var all []*client
		for range 20 {
			all = append(all, n.dial())
			n.hub.wait(t)
		}
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), testWait)
			defer cancel()
			done <- n.srv.Close(ctx)
		}()
		for i, c := range all {
			c.wantClose(wire.CloseGoingAway)
			if i%2 == 0 {
				c.send(closing(codeBytes(1001)))
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("close: %v", err)
		}
		wantProblem(t, n.connect().upgrade(upgradeRequest()), 503, wire.Unavailable)
	})
}

// TestServerCloseCuts: clients that neither read nor answer do not hold it up.
func TestServerCloseCuts(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS, func(_ *Config, w *timeouts) { w.close = time.Hour })
		n.dial()
		e := n.hub.wait(t)
		for range 100 {
			if e.conn.Write(sealed(opText, make([]byte, 1<<20))) {
				break
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := n.srv.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the deadline", err)
		}
		<-e.closed
	})
}

// TestVanishedDuringUpgrade: who leaves before the answer leaves no admission behind.
func TestVanishedDuringUpgrade(t *testing.T) {
	n := startNode(t, false, func(_ *Config, w *timeouts) { w.ticket = 200 * time.Millisecond })
	for range 100 {
		nc, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.(*net.TCPConn).SetLinger(0)
		io.WriteString(nc, upgradeRequest())
		nc.Close() // resets
	}
	until(t, "no admission is left", func() bool {
		st := n.srv.Stats()
		return n.hub.pending() == 0 && st.Pending == 0 && st.Connections == 0
	})
}

// TestUnclaimedTicket: an upgrade that fasthttp drops without a word gives its
// admission back.
func TestUnclaimedTicket(t *testing.T) {
	n := startNode(t, false, func(_ *Config, w *timeouts) { w.ticket = 20 * time.Millisecond })
	if e := n.hub.Admit(socketless()); e != nil {
		t.Fatal(e)
	}
	ticket := n.srv.issue(infoless())
	until(t, "the ticket is given back", func() bool { return n.hub.pending() == 0 })
	if ticket.use() {
		t.Error("a ticket was used after it had been given back")
	}
}

// TestCloseRaces lets everything happen at once.
func TestCloseRaces(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		n.hub.on = func(e *echo, msg []byte) {
			e.send(msg)
			if string(msg) == "end me" {
				e.conn.Close(wire.CloseNormal, "asked for")
			}
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := range 25 {
					c := n.dial()
					e := n.hub.wait(t) // of any worker's connection
					var inner sync.WaitGroup
					inner.Go(func() {
						for range 20 {
							e.conn.Write(sealed(opText, []byte("from outside")))
							e.conn.Ping()
						}
						if i%2 == 0 {
							e.conn.Close(4002, "slow")
						}
					})
					inner.Go(func() { c.nc.Write(seq(text("a"), ping(""), text("end me"), text("b"), closing(codeBytes(1000)))) })
					if (i+worker)%3 != 0 {
						inner.Go(func() { io.Copy(io.Discard, c.br) })
					}
					inner.Wait()
					c.nc.Close()
				}
			})
		}
		wg.Wait()
		until(t, "all are gone", func() bool { return n.srv.Stats().Connections == 0 })
	})
}
