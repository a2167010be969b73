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

// A flood is a channel with many subscribers and publishers that together can ask
// more of the relay than it can do.
type flood struct {
	p        *process
	started  time.Time
	pubs     []*socket
	subs     []*socket
	heard    atomic.Int64   // bytes
	gaps     atomic.Int64   // publications that one subscriber missed
	answered []atomic.Int64 // by publisher
	accepted atomic.Int64
	refused  atomic.Int64
	hinted   atomic.Int64 // of these, with retry_after_ms
	waited   atomic.Int64 // ns that writes waited for publishers' sockets
	notices  *notices
	working  sync.WaitGroup
}

func newFlood(t testing.TB, p *process, subscribers, publishers int, started time.Time, told *notices) *flood {
	f := &flood{p: p, started: started, answered: make([]atomic.Int64, publishers), notices: told}
	for i := range subscribers {
		s := p.joinFrom(fmt.Sprintf("e2e/flooded%d", i), i)
		if err := s.subscribe("e2e/flood"); err != nil {
			t.Fatal(err)
		}
		f.subs = append(f.subs, s)
		if i == 0 {
			f.working.Go(func() { f.heed(s) })
		} else {
			f.working.Go(func() { f.hear(s) })
		}
	}
	for i := range publishers {
		s := p.joinFrom(fmt.Sprintf("e2e/flooding%d", i), i)
		f.pubs = append(f.pubs, s)
		f.working.Go(func() { f.answers(s, &f.answered[i]) })
	}
	return f
}

// hear reads what comes and looks at nothing: the generator shares the machine with
// the relay and must not be what is overloaded.
func (f *flood) hear(s *socket) {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.in.Read(buf)
		f.heard.Add(int64(n))
		if err != nil {
			s.conn.Close()
			return
		}
	}
}

// heed is one subscriber that does look.
func (f *flood) heed(s *socket) {
	var ev wire.Event
	for {
		if err := s.read(&ev, func(ev *wire.Event) {
			switch ev.Kind {
			case wire.KindGap:
				f.gaps.Add(int64(max(1, ev.Gap.Missed)))
			case wire.KindNotice:
				f.notices.add(ev.Notice)
			}
		}); err != nil {
			s.conn.Close()
			return
		}
	}
}

func (f *flood) answers(s *socket, n *atomic.Int64) {
	var ev wire.Event
	for {
		if err := s.read(&ev, func(ev *wire.Event) {
			switch ev.Kind {
			case wire.KindOK:
				n.Add(1)
				f.accepted.Add(1)
			case wire.KindError:
				n.Add(1)
				f.refused.Add(1)
				if ev.Error.Err.Code == wire.Overloaded && ev.Error.Err.RetryAfterMS > 0 {
					f.hinted.Add(1)
				}
			}
		}); err != nil {
			s.conn.Close()
			return
		}
	}
}

// pour publishes for span: at rate over all publishers without looking at answers,
// or with rate 0 so that each has eight under way. It returns how many were written.
func (f *flood) pour(span time.Duration, rate float64) int64 {
	var written atomic.Int64
	var pouring sync.WaitGroup
	begun := time.Now()
	for i, s := range f.pubs {
		pouring.Go(func() {
			before := f.answered[i].Load()
			for n := int64(0); time.Since(begun) < span; {
				due := f.answered[i].Load() - before + 8
				if rate > 0 {
					due = int64(time.Since(begun).Seconds() * rate / float64(len(f.pubs)))
				}
				for ; n < due && time.Since(begun) < span; n++ {
					at := time.Now()
					if s.write(&wire.Command{ID: uint64(n + 2), Kind: wire.KindPublish, Channel: []byte("e2e/flood"), Payload: stamp(f.started, 128), Class: wire.Normal}) != nil {
						return
					}
					f.waited.Add(int64(time.Since(at)))
					written.Add(1)
				}
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	pouring.Wait()
	return written.Load()
}

func (f *flood) leave() {
	for _, s := range append(f.pubs, f.subs...) {
		s.leave()
	}
	f.working.Wait()
}

// TestOverload asks three times of a node what it can do: direct messages of the
// class critical still come in time, what is turned off is announced, and the node
// recovers by itself. In CI the thresholds are low, so that a short flood reaches them.
func TestOverload(t *testing.T) {
	span := time.Duration(number(t, "E2E_SECONDS", 4)) * time.Second
	few, many := 8, 200
	if raced() { // as much work for a relay that is that much slower
		few, many = 4, 60
	}
	subscribers, publishers, pairs := number(t, "E2E_SUBSCRIBERS", many), number(t, "E2E_PUBLISHERS", few), number(t, "E2E_PAIRS", 5)
	thresholds := "overload: {lag_elevated: 10ms, lag_degraded: 20ms, lag_critical: 30s, up_hold: 50ms, down_hold: 500ms}\n"
	if long() {
		thresholds = "" // the defaults
	}
	p := newHouse(t, thresholds+"session: {resume: 2s}\ndrain: {window: 200ms}\nlog: {level: warn, format: text}\n", "GOMAXPROCS=1").start()
	base := p.baseline()
	started := time.Now()
	told := &notices{}
	f := newFlood(t, p, subscribers, publishers, started, told)
	urgent, low := talkApart(t, p, pairs, 50*time.Millisecond, wire.Critical), talkApart(t, p, pairs, 50*time.Millisecond, wire.Low)
	time.Sleep(time.Second)
	quiet := urgent.take().Took

	measure := max(span/10, time.Second)
	// With a few under way a relay that batches is never busy: what it can do shows
	// when publishers write as fast as their sockets let them.
	f.pour(measure, 0)
	gentle := float64(f.accepted.Swap(0)) / measure.Seconds()
	f.pour(measure, 1e7)
	capacity := float64(f.accepted.Load()) / measure.Seconds()
	waitLevel(t, p, "normal", 30*time.Second) // the measurement itself may have been too much
	time.Sleep(time.Second)
	urgent.take()
	f.accepted.Store(0)
	f.refused.Store(0)
	f.hinted.Store(0)
	f.waited.Store(0)
	lowRefused := low.take().Refused

	levels := map[string]time.Duration{}
	before := p.usage()
	watching := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-watching:
				return
			case <-time.After(100 * time.Millisecond):
				levels[p.stats().Level] += 100 * time.Millisecond
			}
		}
	})
	written := f.pour(span, 3*capacity)
	during := urgent.take().Took
	close(watching)
	watch.Wait()
	ended := time.Now()
	after := p.usage()
	waitLevel(t, p, "normal", 15*time.Second)
	recovered := time.Since(ended)
	waitFor(5*time.Second, func() bool { _, ok := told.levels()["normal"]; return ok || len(told.levels()) == 0 },
		func() { t.Error("the end of shedding was not announced") })
	critical, humble := urgent.end(), low.end()
	s := p.stats()

	figure(t, "GOMAXPROCS=1, one channel with %d subscribers, %d publishers: with 8 under way each %.0f publications a second, flat out %.0f; asked for %.0f a second over %v: %d written (%.0f a second; sockets held writers back for %.0f %% of their time), %d accepted, %d refused (%d with retry_after_ms)",
		subscribers, publishers, gentle, capacity, 3*capacity, span, written, float64(written)/span.Seconds(), 100*float64(f.waited.Load())/float64(span)/float64(publishers), f.accepted.Load(), f.refused.Load(), f.hinted.Load())
	figure(t, "critical direct messages, %d pairs, 20 a second each: idle %v; during the overload %v; sent %d, received %d, refused %d", pairs, quiet, during, critical.Sent, critical.Got, critical.Refused)
	figure(t, "levels seen %v; notices to those who talk %v; low messages refused %d of %d sent, %d with retry_after_ms; back to normal %v after the end", levels, critical.Levels, humble.Refused-lowRefused, humble.Sent, humble.Hinted, recovered.Round(100*time.Millisecond))
	figure(t, "relay: dropped %v, gaps told %d; delivery inside the relay p50 %.2f, p99 %.2f ms; CPU %.0f %% of a core; RSS %d MiB before, %d MiB after; subscribers got %d MiB, one of them was told of %d missed", nonZero(s.Counters.Dropped), s.Counters.Gaps, s.Delivery.P50MS, s.Delivery.P99MS,
		100*float64(after.cpu-before.cpu)/float64(span), before.rss>>20, after.rss>>20, f.heard.Load()>>20, f.gaps.Load())

	if critical.Got != critical.Sent || critical.Refused > 0 || critical.Closed > 0 {
		t.Errorf("critical messages: %d sent, %d received, %d refused, %d connections closed", critical.Sent, critical.Got, critical.Refused, critical.Closed)
	}
	if limit := 500 * time.Millisecond; !raced() && during.at(.99) > limit {
		t.Errorf("critical messages: p99 %v during the overload, want at most %v", during.at(.99), limit)
	}
	if message := critical.Levels["degraded"] + critical.Levels["critical"]; message == "" {
		t.Errorf("no client was told that load is shed; levels seen: %v", levels)
	}
	if humble.Refused == lowRefused || humble.Hinted != humble.Refused {
		t.Errorf("%d low messages were refused, %d of them with overloaded and retry_after_ms", humble.Refused, humble.Hinted)
	}
	f.leave()
	base.returned(30 * time.Second)
	p.stop(20 * time.Second)
}

// waitLevel waits for the relay's load level.
func waitLevel(t testing.TB, p *process, level string, within time.Duration) {
	t.Helper()
	last := ""
	waitFor(within, func() bool { last = p.stats().Level; return last == level },
		func() { t.Errorf("the level was %s after %v, want %s", last, within, level) })
}
