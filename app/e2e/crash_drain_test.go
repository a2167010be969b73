//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agentnet/app/wire"
)

// A drained client counts what it is told of the end.
type drained struct {
	notice atomic.Bool
	code   atomic.Int64
	at     atomic.Int64 // ns of the close
}

// watch reads until the end and acknowledges what comes.
func (d *drained) watch(s *socket, started time.Time, first chan<- struct{}) {
	var ev wire.Event
	for {
		err := s.read(&ev, func(ev *wire.Event) {
			switch {
			case ev.Kind == wire.KindNotice && ev.Notice.Kind == "drain":
				if ev.Notice.ReconnectInMS > 0 {
					d.notice.Store(true)
				}
				select {
				case first <- struct{}{}:
				default:
				}
			case ev.Kind == wire.KindMessage:
				_ = s.write(&wire.Command{Kind: wire.KindAck, Seq: ev.Message.Seq, Class: wire.Normal})
			}
		})
		if err != nil {
			d.at.Store(int64(time.Since(started)))
			if c := (*closing)(nil); errors.As(err, &c) {
				d.code.Store(int64(c.code))
			} else {
				d.code.Store(1006)
			}
			s.conn.Close()
			return
		}
	}
}

// TestDrain stops a node with many clients and traffic.
func TestDrain(t *testing.T) {
	clients := number(t, "E2E_CLIENTS", 200)
	window := time.Duration(number(t, "E2E_WINDOW_MS", 1000)) * time.Millisecond
	h := newHouse(t, fmt.Sprintf("drain: {window: %v, timeout: 20s}\nlog: {level: warn, format: text}\n", window))
	p := h.start()
	started := time.Now()
	first := make(chan struct{}, 1)
	all := make([]drained, clients)
	var working sync.WaitGroup
	for i := range clients {
		s := p.joinFrom(fmt.Sprintf("e2e/d%d", i), i)
		working.Go(func() { all[i].watch(s, started, first) })
		if i%10 == 0 { // every tenth also talks to its neighbour, until it is closed
			working.Go(func() {
				for id := uint64(2); all[i].code.Load() == 0; id++ {
					to := fmt.Sprintf("e2e/d%d", (i+1)%clients)
					if s.write(&wire.Command{ID: id, Kind: wire.KindSend, To: []byte(to), Payload: wire.Payload{Data: []byte(`"on"`)}, Class: wire.Normal}) != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
	}
	a := &arena{t: t, record: &record{agents: []*diary{{secret: rand.Text()}, {secret: rand.Text()}}}, started: started}
	c := &crashRun{arena: a, n: make([]int, 2)}
	parker := p.join(agentName(1), wire.Protobuf)
	working.Go(func() { c.park(context.Background(), parker, 1, 1) })
	waitFor(10*time.Second, func() bool { return p.stats().Gauges.MailboxCount > 50 }, func() { t.Error("nothing was parked") })

	asked := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first:
	case <-time.After(patience):
		t.Fatal("no drain notice came")
	}
	told := time.Since(asked)
	if conn, err := dial(p.addr, 0, 0); err == nil {
		ref := (*turnedAway)(nil)
		if _, err := upgrade(conn, p.addr, wire.JSON, 512); !errors.As(err, &ref) || ref.status != 503 || ref.retry < 0 {
			t.Errorf("a new client during the drain: got %v, want 503 with Retry-After", err)
		}
	}
	p.endsWell(window + 15*time.Second)
	took := time.Since(asked)
	working.Wait()
	codes := map[int64]int{}
	noticed, last := 0, int64(0)
	var spread [4]int
	for i := range all {
		codes[all[i].code.Load()]++
		if all[i].notice.Load() {
			noticed++
		}
		at := all[i].at.Load() - int64(asked.Sub(started))
		last = max(last, at)
		spread[min(3, max(0, int(4*at/int64(window))))]++
	}
	if noticed != clients || codes[int64(wire.CloseDrain)] != clients {
		t.Errorf("%d clients: %d got the notice, closed with %v, want all with 4004", clients, noticed, codes)
	}
	if spread[0] > clients*6/10 {
		t.Errorf("quarters of the window saw %v clients close: they were not spread", spread)
	}
	var promised int
	for _, m := range a.record.agents[1].deeds {
		if m.verdict == parked {
			promised++
		}
	}
	next := h.start()
	s := next.join(agentName(0), wire.JSON)
	working.Go(func() { c.receive(s, 0, 1, 1) })
	var faults []fault
	waitFor(patience, func() bool { faults = a.record.check(); return len(faults) == 0 }, func() {})
	a.report(faults)
	s.leave()
	working.Wait()
	next.stop(20 * time.Second)
	figure(t, "SIGTERM with %d clients and traffic: first notice after %v, last close after %v, closes in quarters of the %v window %v, exit 0 after %v, %d parked messages all there after the restart (%d faults)",
		clients, told.Round(time.Millisecond), time.Duration(last).Round(time.Millisecond), window, spread, took.Round(time.Millisecond), promised, len(faults))
}

// joinFrom is join with a source address by number. A node that sheds load, as on a
// machine that does much else, is asked again when it says.
func (p *process) joinFrom(agent string, number int) *socket {
	p.t.Helper()
	var s *socket
	for deadline := time.Now().Add(3 * patience); s == nil; {
		conn, err := dial(p.addr, 1+number/200, 0)
		if err != nil {
			p.t.Fatalf("connect %s: %v", agent, err)
		}
		s, err = upgrade(conn, p.addr, wire.Encoding(number%wire.Encodings), 1024)
		var away *turnedAway
		switch {
		case err == nil:
		case errors.As(err, &away) && away.retry > 0 && time.Now().Add(away.retry).Before(deadline):
			conn.Close()
			s = nil
			time.Sleep(away.retry)
		default:
			p.t.Fatalf("connect %s: %v", agent, err)
		}
	}
	if _, _, err := s.hello(p.token, agent, nil); err != nil {
		p.t.Fatalf("connect %s: %v", agent, err)
	}
	return s
}

// TestSecondSignal ends a drain that nobody wants to wait for.
func TestSecondSignal(t *testing.T) {
	p := newHouse(t, "drain: {window: 60s, timeout: 90s}\nlog: {level: warn, format: text}\n").start()
	first := make(chan struct{}, 1)
	var d [4]drained
	var working sync.WaitGroup
	for i := range d {
		s := p.join(fmt.Sprintf("e2e/d%d", i), wire.JSON)
		working.Go(func() { d[i].watch(s, time.Now(), first) })
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first:
	case <-time.After(patience):
		t.Fatal("no drain notice came")
	}
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
		t.Errorf("the node still runs 3 s after the second signal")
		p.kill()
	}
	working.Wait()
	if p.err == nil {
		t.Error("the node ended with exit code 0 although its drain was broken off")
	}
	figure(t, "second signal during a drain of 60 s: ended after %v (%v)", time.Since(begun).Round(time.Millisecond), p.err)
}
