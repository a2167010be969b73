package account

import (
	"container/list"
	"sync"
	"time"
)

// A rate allows burst attempts at once and then one each every.
type rate struct {
	burst float64
	every time.Duration
}

// A throttle counts attempts by a key, in a table of bounded size. When it is full
// the key that was not seen for the longest time is forgotten: to forget is to
// forgive, which gains nothing to those who can fill the table, because they have
// that many keys anyway.
type throttle struct {
	rate rate
	max  int
	now  func() time.Time

	mu    sync.Mutex
	byKey map[string]*list.Element // of *bucket, the one seen last in front
	order *list.List
}

type bucket struct {
	key   string
	level float64 // attempts that are left
	at    time.Time
}

func newThrottle(r rate, max int, now func() time.Time) *throttle {
	return &throttle{rate: r, max: max, now: now, byKey: map[string]*list.Element{}, order: list.New()}
}

// take counts one attempt, or says how long to wait and counts nothing: waiting
// does not grow with those who keep trying.
func (t *throttle) take(key string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucketLocked(key)
	if b.level < 1 {
		return time.Duration((1 - b.level) * float64(t.rate.every))
	}
	b.level--
	return 0
}

// giveBack takes an attempt back that was no guess.
func (t *throttle) giveBack(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucketLocked(key)
	b.level = min(b.level+1, t.rate.burst)
}

// bucketLocked returns the bucket of key as it is now. t.mu must be held.
func (t *throttle) bucketLocked(key string) *bucket {
	now := t.now()
	if e, ok := t.byKey[key]; ok {
		t.order.MoveToFront(e)
		b := e.Value.(*bucket)
		if gone := now.Sub(b.at); gone > 0 {
			b.level = min(t.rate.burst, b.level+float64(gone)/float64(t.rate.every))
		}
		b.at = now
		return b
	}
	if t.order.Len() >= t.max {
		oldest := t.order.Back()
		delete(t.byKey, oldest.Value.(*bucket).key)
		t.order.Remove(oldest)
	}
	b := &bucket{key: key, level: t.rate.burst, at: now}
	t.byKey[key] = t.order.PushFront(b)
	return b
}
