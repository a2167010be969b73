//go:build linux

package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/wire"
)

// A listener is a healthy subscriber of one channel: nothing may be missing.
type listener struct {
	took    *latencies
	started time.Time
	got     atomic.Int64
	gaps    atomic.Int64
	holes   atomic.Int64
	closed  atomic.Value // error
	last    uint64       // owned by the reader
}

func (l *listener) listen(s *socket) {
	var ev wire.Event
	for {
		err := s.read(&ev, func(ev *wire.Event) {
			switch ev.Kind {
			case wire.KindMessage:
				if l.last != 0 && ev.Message.Offset != l.last+1 {
					l.holes.Add(1)
				}
				l.last = ev.Message.Offset
				l.got.Add(1)
				if d, ok := age(l.started, ev.Message.Payload); ok {
					l.took.add(d)
				}
			case wire.KindGap:
				l.gaps.Add(1)
			}
		})
		if err != nil {
			l.closed.Store(err)
			s.conn.Close()
			return
		}
	}
}

// subscribe enters a channel and waits for the answer.
func (s *socket) subscribe(channel string) error {
	if err := s.write(&wire.Command{ID: 2, Kind: wire.KindSubscribe, Channel: []byte(channel), Class: wire.Normal}); err != nil {
		return err
	}
	var ev wire.Event
	var refusal error
	for answered := false; !answered; {
		if err := s.read(&ev, func(ev *wire.Event) {
			if ev.ID == 2 {
				answered = true
				if ev.Kind == wire.KindError {
					e := ev.Error.Err
					refusal = &e
				}
			}
		}); err != nil {
			return err
		}
	}
	return refusal
}

// A publisher sends stamped messages to a channel at a steady rate, whatever comes
// back.
type publisher struct {
	sent    atomic.Int64
	refused atomic.Int64
	late    atomic.Int64 // ns that a write waited for the socket, in all
}

func (p *publisher) publish(s *socket, channel string, size int, rate float64, started time.Time, stop <-chan struct{}) {
	begun := time.Now()
	for n := 0; ; {
		due := int(time.Since(begun).Seconds() * rate)
		for ; n < due; n++ {
			before := time.Now()
			if s.write(&wire.Command{Kind: wire.KindPublish, Channel: []byte(channel), Payload: stamp(started, size), Class: wire.Normal}) != nil {
				return
			}
			p.late.Add(int64(time.Since(before)))
			p.sent.Add(1)
		}
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// refusals counts what a publisher is told.
func (p *publisher) refusals(s *socket) {
	var ev wire.Event
	for {
		if err := s.read(&ev, func(ev *wire.Event) {
			if ev.Kind == wire.KindError {
				p.refused.Add(1)
			}
		}); err != nil {
			s.conn.Close()
			return
		}
	}
}

// TestSlowReaders puts subscribers that never read into busy channels.
func TestSlowReaders(t *testing.T) {
	slow, healthy, channels := number(t, "E2E_SLOW", 20), number(t, "E2E_HEALTHY", 8), 2
	rate := float64(number(t, "E2E_RATE", 200)) // messages a second over all channels
	span := time.Duration(number(t, "E2E_SECONDS", 3)) * time.Second
	slowAfter := time.Duration(number(t, "E2E_SLOW_AFTER_MS", 1000)) * time.Millisecond
	const size, queueBytes = 4096, 1 << 20
	p := newHouse(t, fmt.Sprintf("session: {resume: 2s}\ndrain: {window: 200ms}\nqueue: {bytes: %d, slow_after: %v}\nlog: {level: warn, format: text}\n", queueBytes, slowAfter)).start()
	base := p.baseline()
	started := time.Now()
	took := &latencies{}
	var working sync.WaitGroup
	var good []*listener
	var socks []*socket
	for i := range healthy {
		s := p.joinFrom(fmt.Sprintf("e2e/healthy%d", i), i)
		if err := s.subscribe(channelName(i % channels)); err != nil {
			t.Fatal(err)
		}
		l := &listener{took: took, started: started}
		good, socks = append(good, l), append(socks, s)
		working.Go(func() { l.listen(s) })
	}
	stop := make(chan struct{})
	pub := &publisher{}
	for ch := range channels {
		s := p.join(fmt.Sprintf("e2e/publisher%d", ch), wire.JSON)
		socks = append(socks, s)
		working.Go(func() { pub.publish(s, channelName(ch), size, rate/float64(channels), started, stop) })
		working.Go(func() { pub.refusals(s) })
	}
	time.Sleep(time.Second)
	took.take()
	time.Sleep(span)
	undisturbed, before := took.take(), p.usage()

	c := newSleepers(t, p, slow, channels)
	peak, queued := int64(0), int64(0)
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		c.replenish()
		peak = max(peak, rss(p.cmd.Process.Pid))
		queued = max(queued, p.stats().Gauges.QueueBytes)
	}
	disturbed, after := took.take(), p.usage()
	waitFor(slowAfter+5*time.Second, func() bool { s := p.stats().Counters; return s.Closed["4002"] > 0 || s.Gaps > 0 },
		func() { t.Error("no slow reader was closed with 4002 or had a gap") })
	close(stop)
	c.close()
	s := p.stats()

	total := int64(0)
	waitFor(patience, func() bool {
		total = 0
		for _, l := range good {
			total += l.got.Load()
		}
		return total >= pub.sent.Load()*int64(healthy/channels)
	}, func() {
		t.Errorf("healthy ones got %d messages, want %d", total, pub.sent.Load()*int64(healthy/channels))
	})
	for i, l := range good {
		if l.gaps.Load()+l.holes.Load() > 0 || l.closed.Load() != nil {
			t.Errorf("healthy subscriber %d: %d gaps, %d holes, closed: %v", i, l.gaps.Load(), l.holes.Load(), l.closed.Load())
		}
	}
	// What is queued is bounded by the configuration; the collector lets garbage grow
	// to as much again, and each socket may have one write of up to the queue's size
	// that the kernel did not take.
	bound := int64(slow)*queueBytes*5/4*2*2 + 32<<20
	if grown := peak - before.rss; !raced() && grown > bound {
		t.Errorf("memory grew by %d MiB, want at most %d MiB", grown>>20, bound>>20)
	}
	if queued > int64(slow)*queueBytes*5/4 {
		t.Errorf("%d MiB were queued, want at most %d MiB", queued>>20, slow*queueBytes*5/4>>20)
	}
	if long() && disturbed.at(.99) >= 2*undisturbed.at(.99) {
		t.Errorf("healthy p99 %v beside slow readers, %v without", disturbed.at(.99), undisturbed.at(.99))
	}
	figure(t, "%d readers that never read (replaced when closed, %d in all) and %d healthy ones in %d channels, %.0f messages a second of %d bytes", slow, c.made, healthy, channels, rate, size)
	figure(t, "healthy: undisturbed %v; beside slow readers %v; factor of p99 %.2f", undisturbed, disturbed, float64(disturbed.at(.99))/float64(max(undisturbed.at(.99), 1)))
	figure(t, "relay: closed %v, gaps %d, dropped %v; most queued %d MiB; RSS %d MiB before, %d MiB at most; CPU %.1f %% of a core; level %s",
		s.Counters.Closed, s.Counters.Gaps, nonZero(s.Counters.Dropped), queued>>20, before.rss>>20, peak>>20, 100*float64(after.cpu-before.cpu)/float64(span), s.Level)
	for _, s := range socks {
		s.leave()
	}
	working.Wait()
	base.returned(30 * time.Second)
	p.stop(20 * time.Second)
}

// sleepers are subscribers that never read.
type sleepers struct {
	t        testing.TB
	p        *process
	want     int
	channels int
	others   int // connections that are not sleepers
	made     int
	socks    []*socket
}

func newSleepers(t testing.TB, p *process, n, channels int) *sleepers {
	c := &sleepers{t: t, p: p, want: n, channels: channels, others: p.stats().Gauges.Connections}
	c.replenish()
	return c
}

// replenish keeps their number: those that the relay has closed are replaced.
func (c *sleepers) replenish() {
	for missing := c.want - (c.p.stats().Gauges.Connections - c.others); missing > 0; missing-- {
		conn, err := dial(c.p.addr, 0, 4096)
		if err != nil {
			c.t.Fatal(err)
		}
		s, err := upgrade(conn, c.p.addr, wire.Encoding(c.made%wire.Encodings), 512)
		if err == nil {
			_, _, err = s.hello(c.p.token, fmt.Sprintf("e2e/sleeper%d", c.made), nil)
		}
		if err == nil {
			err = s.write(&wire.Command{ID: 2, Kind: wire.KindSubscribe, Channel: []byte(channelName(c.made % c.channels)), Class: wire.Normal})
		}
		if err != nil {
			c.t.Fatalf("sleeper: %v", err)
		}
		c.made++
		c.socks = append(c.socks, s)
	}
}

func (c *sleepers) close() {
	for _, s := range c.socks {
		s.reset()
	}
}
