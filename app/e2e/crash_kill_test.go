//go:build linux

package e2e

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

const crashConfig = `
drain: {window: 200ms}
mailbox: {count: 400000, agent_count: 50000, agent_bytes: 64MiB}
log: {level: warn, format: text}
`

// A crashRun is a history over many lives of one node.
type crashRun struct {
	arena *arena
	n     []int // the last number of each sender
}

// receive reads what comes for agent i in this life of the node and acknowledges
// it, until the connection ends.
func (c *crashRun) receive(s *socket, i, life int, every uint64) {
	var ev wire.Event
	unacked := uint64(0)
	for {
		err := s.read(&ev, func(ev *wire.Event) {
			if ev.Kind != wire.KindMessage {
				return
			}
			c.arena.note(i, &ev.Message, life)
			if unacked++; unacked >= every {
				unacked = 0
				_ = s.write(&wire.Command{Kind: wire.KindAck, Seq: ev.Message.Seq, Class: wire.Normal})
			}
		})
		if err != nil {
			s.conn.Close()
			return
		}
	}
}

// park sends to random receivers, 16 at a time, until the connection ends. What
// has no answer then is uncertain.
func (c *crashRun) park(ctx context.Context, s *socket, from, receivers int) {
	const window = 16
	room := make(chan struct{}, window)
	waiting := sync.Map{} // frame id -> *deed
	d := c.arena.record.agents[from]
	done := make(chan struct{})
	go func() {
		defer close(done)
		var ev wire.Event
		for {
			err := s.read(&ev, func(ev *wire.Event) {
				v, ok := waiting.LoadAndDelete(ev.ID)
				if !ok {
					return
				}
				m := v.(*deed)
				d.mu.Lock()
				m.ended = c.arena.now()
				switch {
				case ev.Kind != wire.KindOK:
					m.verdict = refused
				case ev.OK.Outcome == wire.Parked:
					m.verdict, m.id = parked, ev.OK.MessageID
				} // delivered to a live session is no promise over a kill: it stays uncertain
				d.mu.Unlock()
				<-room
			})
			if err != nil {
				s.conn.Close()
				return
			}
		}
	}()
	defer func() { <-done }()
	for id := uint64(2); ; id++ {
		select {
		case room <- struct{}{}:
		case <-done:
			return
		case <-ctx.Done():
			s.conn.Close()
			return
		}
		c.n[from]++
		m := &deed{from: from, to: mathrand.IntN(receivers), class: wire.Class(mathrand.IntN(wire.Classes)), n: c.n[from], keep: true, verdict: uncertain, begun: c.arena.now()}
		d.mu.Lock()
		d.deeds = append(d.deeds, m)
		d.mu.Unlock()
		waiting.Store(id, m)
		cmd := &wire.Command{ID: id, Kind: wire.KindSend, To: []byte(agentName(m.to)), Class: m.class, TTLMS: time.Hour.Milliseconds(), Payload: c.arena.payload(m)}
		if s.write(cmd) != nil {
			<-done
			return
		}
	}
}

// TestKillNine kills the node at random moments while agents park messages and
// others fetch theirs. Whatever was answered `parked` comes after a restart.
func TestKillNine(t *testing.T) {
	rounds := number(t, "E2E_ROUNDS", 10)
	const receivers, senders = 8, 4
	h := newHouse(t, crashConfig)
	a := &arena{t: t, record: &record{}, started: time.Now()}
	for range receivers + senders {
		a.record.agents = append(a.record.agents, &diary{secret: rand.Text()})
	}
	c := &crashRun{arena: a, n: make([]int, receivers+senders)}
	var starts []time.Duration
	for life := range rounds {
		begun := time.Now()
		p := h.start()
		starts = append(starts, time.Since(begun))
		var working sync.WaitGroup
		for i := range receivers {
			if mathrand.IntN(2) == 0 {
				s := p.join(agentName(i), wire.Encoding(i%wire.Encodings))
				every := 1 + uint64(i)*3
				if (i+life)%4 == 0 {
					every = 1 << 40 // never: all must come again in a later life
				}
				working.Go(func() { c.receive(s, i, life, every) })
			}
		}
		for i := range senders {
			s := p.join(agentName(receivers+i), wire.Encoding(i%wire.Encodings))
			working.Go(func() { c.park(context.Background(), s, receivers+i, receivers) })
		}
		time.Sleep(time.Duration(50+mathrand.IntN(350)) * time.Millisecond) // the random moment
		p.kill()
		working.Wait()
	}
	p := h.start()
	a.p = p
	var working sync.WaitGroup
	var open []*socket
	for i := range receivers {
		s := p.join(agentName(i), wire.Encoding(i%wire.Encodings))
		open = append(open, s)
		working.Go(func() { c.receive(s, i, rounds, 1) })
	}
	var faults []fault
	waitFor(30*time.Second, func() bool { faults = a.record.check(); return len(faults) == 0 }, func() {})
	a.report(faults)
	waitFor(10*time.Second, func() bool { return p.stats().Gauges.MailboxCount == 0 },
		func() {
			t.Errorf("%d messages are still parked after all were acknowledged", p.stats().Gauges.MailboxCount)
		})
	for _, s := range open {
		s.leave()
	}
	working.Wait()
	p.stop(20 * time.Second)
	c.after(h, receivers)

	var promised, repeated int
	seen := map[string]int{}
	for i := range receivers {
		for _, s := range a.record.agents[i].sights {
			if seen[s.id]++; seen[s.id] > 1 {
				repeated++
			}
		}
	}
	for i := range senders {
		for _, m := range a.record.agents[receivers+i].deeds {
			if m.verdict == parked {
				promised++
			}
		}
	}
	longest := time.Duration(0)
	for _, d := range starts {
		longest = max(longest, d)
	}
	figure(t, "%d kills: %d messages answered parked, %d messages received, %d of them again in a later life because they were not acknowledged, %d faults; longest start %v",
		rounds, promised, len(seen)+repeated, repeated, len(faults), longest.Round(time.Millisecond))
	if promised < rounds {
		t.Errorf("only %d messages were parked in %d rounds: the run proves nothing", promised, rounds)
	}
}

// after starts the node once more: what was acknowledged does not come again.
func (c *crashRun) after(h *house, receivers int) {
	p := h.start()
	for i := range receivers {
		s := p.join(agentName(i), wire.JSON)
		if err := s.write(&wire.Command{ID: 5, Kind: wire.KindPing, Class: wire.Normal}); err != nil {
			h.t.Error(err)
		}
		var ev wire.Event
		for answered := false; !answered; {
			if err := s.read(&ev, func(ev *wire.Event) {
				answered = answered || ev.Kind == wire.KindPong
				if ev.Kind == wire.KindMessage {
					h.t.Errorf("message %s came again after it was acknowledged and the node was stopped in order", ev.Message.MessageID)
				}
			}); err != nil {
				h.t.Error(err)
				break
			}
		}
		s.leave()
	}
	p.stop(20 * time.Second)
}
