package egress

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A Backoff says how long to wait before another try: a random time up to a
// bound that doubles with each failure (full jitter), so that those who failed
// together do not come back together.
type Backoff struct {
	First time.Duration // bound of the first wait; defaults to 1 s
	Most  time.Duration // largest bound; defaults to 5 min
	Rand  func() float64
}

// Wait is the wait before the next try after so many failures, at least 1. What
// the target asked for (RetryAfter) is never undercut.
func (b Backoff) Wait(failures int, err error) time.Duration {
	first, most := cmp.Or(b.First, time.Second), cmp.Or(b.Most, 5*time.Minute)
	bound := most
	if shift := max(failures, 1) - 1; shift < 30 && first<<shift < most {
		bound = first << shift
	}
	draw := rand.Float64
	if b.Rand != nil {
		draw = b.Rand
	}
	wait := time.Duration(draw() * float64(bound))
	if e, ok := errors.AsType[*Error](err); ok {
		wait = max(wait, e.RetryAfter)
	}
	return wait
}

// ErrOpen is wrapped when a Breaker does not let a call through.
var ErrOpen = errors.New("the target failed too often and is left alone for a while")

// A Breaker keeps calls from a target that fails. After Failures failures in a
// row it is open for Rest, then lets one call try; each failure of such a try
// doubles the rest, up to eight times. The zero value is ready with 5 failures and
// 30 s. It may be used concurrently.
type Breaker struct {
	Failures int
	Rest     time.Duration

	mu     sync.Mutex
	failed int       // in a row
	rests  int       // in a row
	until  time.Time // open until; zero: closed
	trying time.Time // the one try began; zero: none runs
	last   string
}

// tryTime is how long a try may take until another one is let through.
const tryTime = time.Minute

// Allow asks whether a call may be made at now. Done must follow when it may.
func (b *Breaker) Allow(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return nil
	}
	if now.Before(b.until) {
		return fmt.Errorf("%w (until %s): %s", ErrOpen, b.until.UTC().Format("15:04:05"), b.last)
	}
	if !b.trying.IsZero() && now.Sub(b.trying) < tryTime {
		return fmt.Errorf("%w (a try is under way): %s", ErrOpen, b.last)
	}
	b.trying = now
	return nil
}

// Done tells how the call ended.
func (b *Breaker) Done(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = time.Time{}
	if err == nil {
		b.failed, b.rests, b.until, b.last = 0, 0, time.Time{}, ""
		return
	}
	b.failed++
	b.last = Shorten(err.Error(), 200)
	if b.failed < cmp.Or(b.Failures, 5) {
		return
	}
	rest := cmp.Or(b.Rest, 30*time.Second) << min(b.rests, 3)
	b.rests++
	b.until = now.Add(rest)
}

// Open says whether calls are kept back at now, until when, and the last failure.
func (b *Breaker) Open(now time.Time) (open bool, until time.Time, last string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.until), b.until, b.last
}

// A Bucket bounds how often something is done. It is not safe for concurrent use.
type Bucket struct {
	Every time.Duration // one more each; 0: no bound
	Burst int           // that many at once

	spent float64
	at    time.Time
}

// Take takes one, or says how long to wait for it.
func (b *Bucket) Take(now time.Time) (wait time.Duration) {
	if b.Every <= 0 {
		return 0
	}
	if !b.at.IsZero() && now.After(b.at) {
		b.spent = max(0, b.spent-float64(now.Sub(b.at))/float64(b.Every))
	}
	b.at = now
	if over := b.spent + 1 - float64(max(1, b.Burst)); over > 1e-9 {
		return time.Duration(over * float64(b.Every))
	}
	b.spent++
	return 0
}
