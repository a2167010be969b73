//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
)

// A tide is how many connections each node has, over time.
type tide struct {
	at    []time.Time
	count [][]int
}

// look reads how many connections each node has.
func (d *tide) look(w *town) []int {
	var now []int
	for i := range w.houses {
		now = append(now, w.node(i).stats().Gauges.Connections)
	}
	d.at, d.count = append(d.at, time.Now()), append(d.count, now)
	return now
}

// ratio is how much more than the average the fullest has.
func ratio(counts []int) float64 {
	sum, most := 0, 0
	for _, n := range counts {
		sum, most = sum+n, max(most, n)
	}
	return float64(most*len(counts)) / float64(max(sum, 1))
}

// flood is the most that a node got in any stretch of that length.
func (d *tide) flood(node int, length time.Duration) (most int) {
	for i := range d.at {
		for j := i; j < len(d.at) && d.at[j].Sub(d.at[i]) <= length; j++ {
			most = max(most, d.count[j][node]-d.count[i][node])
		}
	}
	return most
}

// TestClusterRebalance has a third node join two that hold everybody: clients are
// asked to move until the load is even, no faster than they may be, and lose
// nothing.
func TestClusterRebalance(t *testing.T) {
	agents, perS := number(t, "E2E_AGENTS", 240), number(t, "E2E_REBALANCE_PER_S", 2)
	rate := perSecond(t, "E2E_RATE", 1)
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, strings.Replace(townConfig, "channels:", fmt.Sprintf("rebalance_per_s: %d\nchannels:", perS), 1), own, own, own)
	w.empty(2).stop(20 * time.Second)
	w.led = true
	const stretch = 10 * time.Second // that a step takes; a few too many are looked at three times
	var d tide
	var before, after []int
	var took time.Duration
	moved := 0
	a, faults := populate(t, w, agents, rate, true, func(a *arena) {
		w.start(2)
		w.ready(2, 15*time.Second)
		before = d.look(w)
		begun := time.Now()
		longest := 5*stretch + time.Duration(agents/(3*2*perS))*time.Second
		waitFor(longest, func() bool { after = d.look(w); return ratio(after) <= 1.1 }, func() {
			t.Errorf("after %v the nodes have %v connections: %.2f times the average, want 1.1 at most\n%s", longest, after, ratio(after), w.node(0).log)
		})
		took, moved = time.Since(begun), int(a.resumes.Load())
	})
	if most, limit := d.flood(2, stretch), 2*10*perS; most > limit*3/2 {
		t.Errorf("the new node got %d connections in %v, want no more than about %d", most, stretch, limit)
	}
	excess := max(before[0]-agents/3, 0) + max(before[1]-agents/3, 0)
	if moved > 3*excess/2+10 {
		t.Errorf("%d sessions moved where %d would do", moved, excess)
	}
	if fresh := int(a.fresh.Load()); fresh != agents {
		t.Errorf("%d clients began %d sessions: those that moved must keep theirs", agents, fresh)
	}
	figure(t, "a third node joins two with %v connections: %v after %v (%.2f times the average), at most %d in any %v; %d moves of the %d that were too many, all with their session; %d commands, %d messages, %d lost or doubled",
		before[:2], after, took.Round(100*time.Millisecond), ratio(after), d.flood(2, stretch), stretch, moved, excess, a.sent.Load(), a.got.Load(), len(faults))
	w.abandon()
}
