package client

import (
	"math/rand/v2"
	"time"
)

// Backoff bounds the wait before a reconnect. The wait is drawn evenly between 0
// and Min doubled for each failed attempt up to Max ("full jitter"), so that many
// clients that were cut at once come back spread out.
type Backoff struct {
	Min time.Duration // 500 ms by default
	Max time.Duration // 30 s by default
}

// maxRetryAfter bounds what a relay or a proxy may ask for.
const maxRetryAfter = 10 * time.Minute

// delay is the wait before attempt number n (0 for the first after a loss).
// A wait that the relay asked for comes first, the drawn one is added to it.
func (b Backoff) delay(n int, asked time.Duration) time.Duration {
	ceiling := b.Max
	if n < 32 {
		ceiling = min(b.Max, b.Min<<n)
	}
	if ceiling <= 0 { // shifted out of range
		ceiling = b.Max
	}
	return min(max(asked, 0), maxRetryAfter) + rand.N(ceiling)
}
