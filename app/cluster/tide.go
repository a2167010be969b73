package cluster

import (
	"context"
	"sync"
	"time"
)

const (
	// tideRate is how many batches a second a node sends without waiting. A batch
	// costs its sender, Redis and its receiver some system calls and a wake-up each,
	// about 100 µs in all, however little is in it.
	tideRate = 1000
	// tideBurst is how many it may send at once when it was quiet before.
	tideBurst = 32
	// tideMost bounds the wait of a parcel.
	tideMost = 20 * time.Millisecond
)

// A tide makes batches fuller when there are many. As long as a node sends fewer
// than tideRate batches a second each goes at once. Above that, those that are due
// wait for the next tide and go together: more parcels share a batch, and the
// batches of all nodes that are sent to share one write to Redis. The wait is as
// long as the rate asks for, so that it grows with the number of nodes that this
// one talks to: 1 ms for one, 10 ms for ten.
type tide struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time     // when tokens was right
	next   chan struct{} // closed at the next tide; nil when nobody waits
	timer  *time.Timer
}

// wait returns when a batch may go, or when ctx ends.
func (t *tide) wait(ctx context.Context) {
	t.mu.Lock()
	t.fill(time.Now())
	if t.tokens >= 1 && t.next == nil {
		t.mu.Unlock()
		return
	}
	if t.next == nil {
		t.next = make(chan struct{})
		t.arm(min(time.Duration((1-t.tokens)*float64(time.Second/tideRate)), tideMost))
	}
	next := t.next
	t.mu.Unlock()
	select {
	case <-next:
	case <-ctx.Done():
	}
}

// arm sets the time of the next tide. t.mu must be held.
func (t *tide) arm(d time.Duration) {
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.turn)
		return
	}
	t.timer.Reset(d)
}

// turn lets all go that wait.
func (t *tide) turn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.next)
	t.next = nil
}

// spend counts a batch that goes.
func (t *tide) spend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fill(time.Now())
	t.tokens = max(t.tokens-1, -tideBurst)
}

// fill adds what time has brought. t.mu must be held.
func (t *tide) fill(now time.Time) {
	if t.at.IsZero() {
		t.tokens, t.at = tideBurst, now
	}
	t.tokens = min(t.tokens+now.Sub(t.at).Seconds()*tideRate, tideBurst)
	t.at = now
}
