package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// flow sends batches for d, as soon as the tide lets it, in n senders that always
// have one, and returns how many went and the longest wait.
func flow(t *testing.T, tide *tide, n int, every, d time.Duration) (batches int, longest time.Duration) {
	t.Helper()
	type result struct {
		batches int
		longest time.Duration
	}
	results := make(chan result)
	end := time.Now().Add(d)
	for range n {
		go func() {
			var r result
			for time.Now().Before(end) {
				start := time.Now()
				tide.wait(t.Context())
				r.longest = max(r.longest, time.Since(start))
				tide.spend()
				r.batches++
				time.Sleep(every)
			}
			results <- r
		}()
	}
	for range n {
		r := <-results
		batches, longest = batches+r.batches, max(longest, r.longest)
	}
	return batches, longest
}

func TestTide(t *testing.T) {
	tests := []struct {
		name        string
		senders     int
		every       time.Duration // between two batches of one sender
		most        int           // batches in a second
		least       int
		longestWait time.Duration
	}{
		{"a few go at once", 2, 10 * time.Millisecond, 201, 199, 0},
		{"one node, as fast as it goes", 1, 10 * time.Microsecond, 1100, 900, 2 * time.Millisecond},
		{"ten nodes, as fast as they go", 10, 10 * time.Microsecond, 1150, 850, 12 * time.Millisecond},
		{"a hundred nodes wait no longer than the bound", 100, 10 * time.Microsecond, 5400, 4500, 20 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, longest := flow(t, &tide{}, tt.senders, tt.every, time.Second)
				if got < tt.least || got > tt.most {
					t.Errorf("got %d batches in a second, want %d to %d", got, tt.least, tt.most)
				}
				if longest > tt.longestWait {
					t.Errorf("got a wait of %v, want at most %v", longest, tt.longestWait)
				}
			})
		})
	}
}

// TestTideAfterQuiet: whoever was quiet for a while finds no delay.
func TestTideAfterQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tide := &tide{}
		flow(t, tide, 10, 10*time.Microsecond, time.Second)
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		for range tideBurst {
			tide.wait(t.Context())
			tide.spend()
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("got a wait of %v, want none", d)
		}
	})
}
