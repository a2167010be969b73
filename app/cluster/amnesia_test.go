package cluster

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaderOfAnAmnesiac: Redis forgets all it knew right after a new leader has come,
// before the third node has read or heard of it. The third one must not think that
// the lead is free, and does take it when the second one is gone.
func TestLeaderOfAnAmnesiac(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { amnesia(t, seed) }) })
	}
}

func amnesia(t *testing.T, seed uint64) {
	f := newSimFleet(t, seed, 3)
	time.Sleep(10 * time.Second)
	defer func() {
		for _, n := range f.live() {
			n.stop()
		}
	}()
	first := f.leading()
	if first == nil {
		t.Fatal("nobody leads after 10 s")
	}
	lease := first.node.cfg.LeaderLease
	f.kill(first)
	watch := func(during time.Duration, until func() bool) bool {
		for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if f.watchLeader(); until() {
				return true
			}
		}
		return false
	}
	if !watch(4*lease, func() bool { return f.leading() != nil }) {
		t.Fatal("nobody follows the first leader")
	}
	second := f.leading()
	second.medium.set(func(m *simMedium) { m.broken = true })
	f.redis.setDown(false, true)
	if !watch(4*lease, func() bool { l := f.leading(); return l != nil && l != second }) {
		t.Error("nobody follows the second leader")
	}
}

// leading returns the node that leads, if one does.
func (f *simFleet) leading() *simNode {
	for _, n := range f.live() {
		if n.node.Leader().Mine {
			return n
		}
	}
	return nil
}
