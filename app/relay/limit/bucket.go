package limit

import (
	"math"
	"sync/atomic"
	"time"
)

// longest bounds every span that a rate can lead to (36 years), so that sums of a
// time and two spans stay far below the end of an int64.
const longest = 1 << 60

// Rate is how fast a Bucket fills and how much it holds. The zero Rate is
// unlimited.
type Rate struct {
	interval float64 // nanoseconds for one token; 0: unlimited
	depth    int64   // nanoseconds that a full bucket is worth
}

// NewRate returns a rate of perSecond tokens a second that lets burst tokens
// through at once. perSecond <= 0 means unlimited; a burst below 1 counts as 1,
// since a smaller bucket would never hold a whole token. A token may stand for a
// message or a byte. Costs are whole nanoseconds, so above some 10 million tokens
// a second, Take should be called with many tokens at a time.
func NewRate(perSecond, burst float64) Rate {
	if !(perSecond > 0) || math.IsInf(perSecond, 1) {
		return Rate{}
	}
	if !(burst >= 1) {
		burst = 1
	}
	interval := min(1e9/perSecond, longest)
	// Rounded up, while costs are rounded down: a burst of single tokens always
	// fits into the bucket whose size it is.
	return Rate{interval: interval, depth: int64(math.Ceil(min(burst*interval, longest)))}
}

// Unlimited says that Take with this rate never refuses.
func (r Rate) Unlimited() bool { return r.interval == 0 }

// cost returns what n tokens are worth in nanoseconds, at least 1.
func (r Rate) cost(n int) int64 {
	return max(1, int64(min(float64(n)*r.interval, longest)))
}

// A level is the state of a bucket: the time at which it will be full again (the
// generic cell rate algorithm), so that no timer has to refill it. Its zero value
// is full.
type level int64

// take returns the level after taking n tokens, or how long it will be until they
// are there.
func (l level) take(now int64, r Rate, n int) (after level, wait time.Duration) {
	if r.interval == 0 || n <= 0 {
		return l, 0
	}
	cost := r.cost(n)
	base := max(int64(l), now)
	if over := base - now - (r.depth - min(cost, r.depth)); over > 0 {
		return l, time.Duration(over)
	}
	return level(base + cost), 0
}

// charge returns the level after taking n tokens whether they are there or not.
func (l level) charge(now int64, r Rate, n int) level {
	if r.interval == 0 || n <= 0 {
		return l
	}
	base := max(int64(l), now)
	return level(max(base, min(base+r.cost(n), now+2*r.depth)))
}

// Bucket is one token bucket. Its zero value is full. It is 8 bytes, knows no rate
// (the caller passes it, so that a changed rate holds at once), and may be used
// concurrently.
type Bucket struct {
	level atomic.Int64
}

// Take takes n tokens and returns 0, or takes nothing and returns how long it will
// be until they are there if nobody else takes any. More tokens than the burst can
// never be there at once: they are given when the bucket is full, and the bucket
// then owes the rest, so that the rate holds in the long run and a large message
// is slow instead of impossible. n <= 0 takes nothing.
func (b *Bucket) Take(now int64, r Rate, n int) (wait time.Duration) {
	for {
		old := b.level.Load()
		after, wait := level(old).take(now, r, n)
		if wait > 0 || b.level.CompareAndSwap(old, int64(after)) {
			return wait
		}
	}
}

// Wait returns what Take would, and takes nothing.
func (b *Bucket) Wait(now int64, r Rate, n int) time.Duration {
	_, wait := level(b.level.Load()).take(now, r, n)
	return wait
}

// Charge takes n tokens whether they are there or not, for what has happened
// already. By charges the bucket comes to owe at most one more burst: whoever goes
// on is shut out longer, but never for more than the time that two bursts take.
func (b *Bucket) Charge(now int64, r Rate, n int) {
	for {
		old := b.level.Load()
		if b.level.CompareAndSwap(old, int64(level(old).charge(now, r, n))) {
			return
		}
	}
}
