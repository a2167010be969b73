//go:build linux

package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
)

// townConfig keeps sessions for as long as any node needs to come back.
const townConfig = `
session: {resume: 30s, heartbeat: 10s}
drain: {window: 1s, timeout: 15s}
log: {level: warn, format: text}
limits: {auth_failures_per_s: 0}
overload: {lag_elevated: 1h, lag_degraded: 1h, lag_critical: 1h}
channels: [{match: ["**"], recent_count: 4096, recent_bytes: 8MiB}]
`

// stillConfig evens nothing out: who counts what a fault does to the connections of one
// node must not count those that were moved because the others are emptier.
const stillConfig = townConfig + "rebalance_per_s: 0\n"

// gathering is how long all agents of the largest town may take to come in.
const gathering = time.Minute

// populate lets agents live in a town until act has returned, and checks all that was
// recorded.
func populate(t *testing.T, w *town, agents int, perSecond float64, gentle bool, act func(a *arena)) (a *arena, faults []fault) {
	a = newArena(t, w.gate(), agents, max(4, agents/25))
	a.gentle, a.led, a.choose = gentle, w.led, w.choose
	var actors []actor
	for i := range agents {
		if i%3 == 0 || w.led {
			actors = append(actors, newMember(a, i, 7, perSecond))
		} else {
			actors = append(actors, newRawActor(a, i, 7, perSecond))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var living sync.WaitGroup
	for _, each := range actors {
		living.Go(func() { each.live(ctx) })
	}
	defer a.progress()()
	waitFor(gathering, func() bool { return a.fresh.Load() >= int64(agents) }, func() {
		t.Errorf("%v after the start only %d of %d agents have a session", gathering, a.fresh.Load(), agents)
	})
	time.Sleep(time.Second) // of ordinary traffic before and after
	a.stage("everybody is there")
	act(a)
	time.Sleep(time.Second)
	cancel()
	a.stage("no more is sent")
	waitFor(time.Minute, func() bool { return unsettled(actors) == 0 }, func() {
		t.Errorf("a minute after the end %d agents are not connected or wait for answers", unsettled(actors))
	})
	a.closeBooks(actors)
	a.excuseKilled()
	a.stage("the books are closed")
	waitFor(20*time.Second, func() bool { faults = a.record.check(); return len(faults) == 0 }, func() {})
	a.calm.Store(true)
	a.ends("living", living.Wait)
	a.report(faults)
	a.ends("leaving", func() {
		for _, each := range actors {
			each.leave()
		}
	})
	return a, faults
}

// unsettled is how many are not connected or wait for an answer.
func unsettled(actors []actor) (n int) {
	for _, each := range actors {
		if !each.settled() {
			n++
		}
	}
	return n
}

// stage tells how far the run is.
func (a *arena) stage(what string) {
	a.t.Logf("%v after the start: %s; %d sessions begun, %d resumed, %d asked for in vain, %d commands sent, %d messages received",
		time.Since(a.started).Round(100*time.Millisecond), what, a.fresh.Load(), a.resumes.Load(), a.ended.Load(), a.sent.Load(), a.got.Load())
}

// progress tells every ten seconds how far the run is, until the function that it
// returns is called.
func (a *arena) progress() (stop func()) {
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		beat := time.NewTicker(10 * time.Second)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				a.stage("it goes on")
			case <-ended:
				return
			}
		}
	})
	return func() { close(ended); telling.Wait() }
}

// ends waits until f returns, and ends the test when it does not in time.
func (a *arena) ends(what string, f func()) {
	a.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(2 * gathering):
		a.t.Fatalf("%s has not ended after %v; SIGQUIT shows where", what, 2*gathering)
	}
}

// TestClusterRolling restarts three nodes one after the other under clients with
// traffic: nothing that was accepted is lost or doubled.
func TestClusterRolling(t *testing.T) {
	agents := number(t, "E2E_AGENTS", 60)
	rounds := number(t, "E2E_ROUNDS", 1)
	rate := perSecond(t, "E2E_RATE", 4)
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, townConfig, own, own, own)
	begun := time.Now()
	var longest time.Duration
	a, faults := populate(t, w, agents, rate, true, func(*arena) {
		for range rounds {
			longest = max(longest, w.roll(40*time.Second))
		}
	})
	took := a.delays()
	figure(t, "%d rolling restarts of 3 nodes under %d clients: %d commands sent, %d messages received, %d sessions resumed, %d begun anew; %d faults (lost, doubled, out of order, unanswered) in %v; a node was away for %v at most",
		rounds, agents, a.sent.Load(), a.got.Load(), a.resumes.Load(), a.fresh.Load(), len(faults), time.Since(begun).Round(time.Second), longest.Round(10*time.Millisecond))
	figure(t, "from send to receipt over all nodes, restarts and returns included: %v", took)
	if a.got.Load() < int64(agents)*5 {
		t.Errorf("only %d messages: the run proves nothing", a.got.Load())
	}
	w.stop()
}

// TestClusterKill kills nodes with kill -9 while the others go on. What is lost with
// a node is told: by a gap, an error, or the end of the session that held it.
func TestClusterKill(t *testing.T) {
	agents := number(t, "E2E_AGENTS", 45)
	rounds := number(t, "E2E_ROUNDS", 2)
	rate := perSecond(t, "E2E_RATE", 4)
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, townConfig, own, own, own)
	a, faults := populate(t, w, agents, rate, true, func(a *arena) {
		for i := range rounds {
			a.killed(func() { w.empty(i % 3).kill() })
			time.Sleep(3 * time.Second) // the others find out, and go on
			w.start(i % 3)
			w.ready(i%3, 15*time.Second)
			time.Sleep(time.Second)
		}
	})
	figure(t, "%d kills of one of 3 nodes under %d clients: %d commands sent, %d messages received, %d sessions resumed, %d begun anew; %d losses that nobody was told of",
		rounds, agents, a.sent.Load(), a.got.Load(), a.resumes.Load(), a.fresh.Load(), len(faults))
	w.stop()
}

// killed notes when a node is killed by f.
func (a *arena) killed(f func()) {
	f()
	a.kills = append(a.kills, a.now())
}

// excuseKilled takes the ttl from what a session had been given when its node was
// killed: it was delivered, and what its agent had not acknowledged is gone with the
// node. The end of the session tells of it.
func (a *arena) excuseKilled() {
	for _, d := range a.record.agents {
		d.mu.Lock()
		for _, m := range d.deeds {
			for _, at := range a.kills {
				if m.keep && m.verdict == delivered && m.begun < at+int64(time.Second) && m.ended > at-int64(20*time.Second) {
					m.keep = false
				}
			}
		}
		d.mu.Unlock()
	}
}

// delays is how long direct messages took from their sender's command to their
// receiver's hands.
func (a *arena) delays() spread {
	begun := a.record.accepted()
	var took spread
	for i, d := range a.record.agents {
		d.mu.Lock()
		for j := range d.sights {
			if s := &d.sights[j]; !s.channel {
				if m := begun[name{s.from, i, s.n}]; m != nil {
					took = append(took, time.Duration(s.at-m.begun))
				}
			}
		}
		d.mu.Unlock()
	}
	slices.Sort(took)
	return took
}
