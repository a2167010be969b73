package ws

// Control frames and empty fragments carry nothing, so that the limits on bytes
// and messages do not see them. An honest client sends a ping each few seconds;
// the burst lets test suites and reconnecting clients through.
const (
	floodBurst  = 256
	floodPerSec = 64
)

// A bucket limits a rate without a timer. Its zero value is full.
type bucket struct {
	used int32 // thousandths of a token that are gone
	at   int64 // ms, when used was right
}

// take takes one token. now is in milliseconds and never goes back.
func (b *bucket) take(now int64) bool {
	if passed := now - b.at; passed > 0 {
		b.at = now
		if passed > 1000*floodBurst/floodPerSec {
			b.used = 0
		} else {
			b.used = max(0, b.used-int32(passed)*floodPerSec)
		}
	}
	if b.used > (floodBurst-1)*1000 {
		return false
	}
	b.used += 1000
	return true
}
