//go:build linux

package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// chaosConfig keeps sessions briefly, so that some end and some are resumed, and
// remembers enough of a channel for any resume.
const chaosConfig = `
session: {resume: 4s, heartbeat: 10s}
drain: {window: 200ms}
log: {level: warn, format: text}
channels: [{match: ["**"], recent_count: 4096, recent_bytes: 8MiB}]
`

// TestChaos lets agents join, leave, lose connections in every way, resume, send,
// ask and publish at random, and checks the whole recorded history.
func TestChaos(t *testing.T) {
	agents := number(t, "E2E_AGENTS", 60)
	span := time.Duration(number(t, "E2E_SECONDS", 8)) * time.Second
	rate := perSecond(t, "E2E_RATE", 6)
	p := newHouse(t, chaosConfig).start()
	base := p.baseline()
	a := newArena(t, p, agents, max(4, agents/25))

	var actors []actor
	for i := range agents {
		if i%3 == 0 {
			actors = append(actors, newMember(a, i, uint64(span), rate))
		} else {
			actors = append(actors, newRawActor(a, i, uint64(span), rate))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	var living sync.WaitGroup
	for _, each := range actors {
		living.Go(func() { each.live(ctx) })
	}
	<-ctx.Done()
	peak := p.usage()

	waitFor(time.Minute, func() bool {
		for _, each := range actors {
			if !each.settled() {
				return false
			}
		}
		return true
	}, func() { t.Error("a minute after the end not every command was answered") })
	t.Logf("everything answered %v after the start", time.Since(a.started).Round(time.Millisecond))
	a.closeBooks(actors)
	// What was accepted last may still be on its way: look until nothing is missing.
	var faults []fault
	waitFor(15*time.Second, func() bool { faults = a.record.check(); return len(faults) == 0 }, func() {})
	t.Logf("nothing missing any more %v after the start", time.Since(a.started).Round(time.Millisecond))
	a.calm.Store(true)
	living.Wait()
	a.report(faults)
	for _, each := range actors {
		each.leave()
	}
	t.Logf("all gone %v after the start", time.Since(a.started).Round(time.Millisecond))
	s := p.stats()
	figure(t, "%d agents, %v: %d commands sent, %d messages received, %d resumed, %d sessions begun, connections lost by FIN %d, RST %d, half-open %d, slow line %d",
		agents, span, a.sent.Load(), a.got.Load(), a.resumes.Load(), a.fresh.Load(), a.tcpCuts[cutFIN].Load(), a.tcpCuts[cutRST].Load(), a.tcpCuts[cutStall].Load(), a.tcpCuts[cutSlow].Load())
	figure(t, "relay: outcomes %v, dropped %v, gaps %d, closed %v, errors %v", s.Counters.Outcomes, nonZero(s.Counters.Dropped), s.Counters.Gaps, s.Counters.Closed, s.Counters.Errors)
	figure(t, "delivery inside the relay p50 %.2f ms, p99 %.2f ms; RSS at the end of the load %d MiB, CPU %v", s.Delivery.P50MS, s.Delivery.P99MS, peak.rss>>20, peak.cpu)
	figure(t, "checker: %d faults", len(faults))
	if a.resumes.Load() < int64(agents)/4 || a.got.Load() < int64(agents) {
		t.Errorf("only %d resumes and %d messages: the run proves nothing", a.resumes.Load(), a.got.Load())
	}
	base.returned(30 * time.Second)
	p.stop(20 * time.Second)
}

// closeBooks writes down up to where each channel must have been heard.
func (a *arena) closeBooks(actors []actor) {
	s := a.p.join("e2e/clerk", wire.JSON)
	defer s.leave()
	last := map[int]uint64{}
	for ch := range a.record.channels {
		offset, err := lastOffset(s, channelName(ch))
		if err != nil {
			a.t.Errorf("history of channel %d: %v", ch, err)
			return
		}
		last[ch] = offset
	}
	for i, each := range actors {
		hears := each.listens()
		d := a.record.agents[i]
		d.mu.Lock()
		for j := range d.listenings {
			l := &d.listenings[j]
			if now, ok := hears[l.channel]; ok && now == l.lineage {
				l.last = last[l.channel]
			}
		}
		d.mu.Unlock()
		if r, ok := each.(*rawActor); ok && r.holes != "" {
			a.t.Error(r.holes)
		}
	}
}

// lastOffset asks for the offset of the latest publication in a channel. It asks again
// when it is told to, as who asks for many channels is.
func lastOffset(s *socket, channel string) (offset uint64, err error) {
	var ev wire.Event
	for end := time.Now().Add(patience); ; {
		_ = s.conn.SetReadDeadline(end)
		if err := s.write(&wire.Command{ID: 9, Kind: wire.KindHistory, Channel: []byte(channel), Limit: 1, Class: wire.Normal}); err != nil {
			return 0, err
		}
		answered, refusal := false, (*wire.Error)(nil)
		for !answered {
			if err := s.read(&ev, func(ev *wire.Event) {
				if ev.ID != 9 {
					return
				}
				answered, offset = true, ev.OK.Offset
				if ev.Kind == wire.KindError {
					e := ev.Error.Err
					refusal = &e
				}
			}); err != nil {
				return 0, err
			}
		}
		if refusal == nil {
			return offset, nil
		}
		wait := time.Duration(refusal.RetryAfterMS) * time.Millisecond
		if wait <= 0 || time.Now().Add(wait).After(end) {
			return 0, refusal
		}
		time.Sleep(wait)
	}
}

// report fails the test for each fault, a few of each kind in full.
func (a *arena) report(faults []fault) {
	shown := map[string]int{}
	for _, f := range faults {
		if shown[f.kind]++; shown[f.kind] <= 3 {
			a.t.Errorf("%s: %s", f.kind, f.text)
		}
	}
	for kind, n := range shown {
		if n > 3 {
			a.t.Errorf("%s: %d faults in all", kind, n)
		}
	}
}

func nonZero(m map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, v := range m {
		if v > 0 {
			out[k] = v
		}
	}
	return out
}
