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

// populate lets agents live in a town until act has returned, and checks all that was
// recorded.
func populate(t *testing.T, w *town, agents int, perSecond float64, gentle bool, act func(a *arena)) (a *arena, faults []fault) {
	a = newArena(t, w.gate(), agents, max(4, agents/25))
	a.gentle, a.led = gentle, w.led
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
	time.Sleep(time.Second) // of ordinary traffic before and after
	act(a)
	time.Sleep(time.Second)
	cancel()
	waitFor(time.Minute, func() bool {
		for _, each := range actors {
			if !each.settled() {
				return false
			}
		}
		return true
	}, func() { t.Error("a minute after the end not every command was answered") })
	a.closeBooks(actors)
	a.excuseKilled()
	waitFor(20*time.Second, func() bool { faults = a.record.check(); return len(faults) == 0 }, func() {})
	a.calm.Store(true)
	living.Wait()
	a.report(faults)
	for _, each := range actors {
		each.leave()
	}
	return a, faults
}

// TestClusterRolling restarts three nodes one after the other under clients with
// traffic: nothing that was accepted is lost or doubled.
func TestClusterRolling(t *testing.T) {
	agents := number(t, "E2E_AGENTS", 60)
	rounds := number(t, "E2E_ROUNDS", 1)
	perSecond := float64(number(t, "E2E_RATE", 4))
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, townConfig, own, own, own)
	begun := time.Now()
	var longest time.Duration
	a, faults := populate(t, w, agents, perSecond, true, func(*arena) {
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
	perSecond := float64(number(t, "E2E_RATE", 4))
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, townConfig, own, own, own)
	a, faults := populate(t, w, agents, perSecond, true, func(a *arena) {
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
