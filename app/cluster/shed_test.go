package cluster

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// TestWishOfAnOldLeader: what a leader still wants after another one has begun to
// lead is not done.
func TestWishOfAnOldLeader(t *testing.T) {
	n, err := New(t.Context(), Config{Name: "n2", Region: "east", media: func(Region) medium { return &simMedium{redis: newSimRedis()} }})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	shed := make(chan int, 4)
	n.OnShed(Balance{}, func(_ context.Context, count int, endpoints []string) {
		if len(endpoints) != 1 || endpoints[0] != "http://n3" {
			t.Errorf("got endpoints %v, want that of n3", endpoints)
		}
		shed <- count
	})
	n.meet("n3").member.Store(&Member{Name: "n3", Region: "east", State: Ready, Routed: true, Addr: "http://n3"})
	wish := func(fence uint64, count int, to ...string) {
		n.told(shedRecord(fence, Move{Count: count, To: to}))
		for end := time.Now().Add(5 * time.Second); n.shedding.Load() && time.Now().Before(end); {
			runtime.Gosched()
		}
	}
	n.leader.saw(7)
	wish(6, 1, "n3") // the old leader, back from a pause
	wish(8, 2, "nobody")
	wish(7, 3, "n3")
	n.meet("n3").member.Store(&Member{Name: "n3", Region: "east", State: Draining, Routed: true, Addr: "http://n3"})
	wish(7, 4, "n3")
	close(shed)
	var got []int
	for count := range shed {
		got = append(got, count)
	}
	if len(got) != 1 || got[0] != 3 {
		t.Errorf("connections were given away %v times, want 3 by the wish of the present leader only", got)
	}
	if stale := n.Stats().Dropped[ReasonStale]; stale != 1 {
		t.Errorf("%d wishes were counted as stale, want 1", stale)
	}
}
