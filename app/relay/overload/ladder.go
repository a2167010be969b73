package overload

import (
	"fmt"
	"math"
	"time"
)

// A Ladder keeps the level of one node. One owner calls Observe, about ten times a
// second or more.
//
// It goes up to the highest level whose threshold some signal reached in every
// reading of UpHold, and down by one level when all signals stayed below 0.7 of the
// thresholds of the present level for DownHold. So between a step up and the next
// step down lies at least DownHold, between a step down and the next step up at
// least UpHold, and a signal that moves between 0.7 of a threshold and the
// threshold itself changes nothing. Only the critical threshold of memory works at
// once.
type Ladder struct {
	up, down   time.Duration
	thresholds [signals]threshold
	floor      [Levels][signals]float64 // lowest threshold of this level or a higher one

	level  Level
	since  time.Time         // of the last change
	breach [Levels]time.Time // since when a level or a higher one was reached; zero: it is not
	quiet  time.Time         // since when all is calm for the present level; zero: it is not
}

// NewLadder returns a Ladder at Normal. What c leaves 0 takes its default; c should
// have passed Validate.
func NewLadder(c Config) *Ladder {
	c = c.withDefaults()
	l := &Ladder{up: c.UpHold, down: c.DownHold, thresholds: c.thresholds()}
	for s := range l.thresholds {
		floor := math.Inf(1)
		for lvl := Critical; lvl > Normal; lvl-- {
			if at := l.thresholds[s].at[lvl]; at > 0 {
				floor = min(floor, at)
			}
			l.floor[lvl][s] = floor
		}
	}
	return l
}

// Level returns the present level and since when it holds; the time is zero before
// the first change.
func (l *Ladder) Level() (Level, time.Time) { return l.level, l.since }

// Observe takes one reading and returns the level. changed says that this reading
// changed it, and cause why: "lag 180 ms over 150 ms". A now before that of the
// last call starts the waits anew. It allocates only when the level changes.
func (l *Ladder) Observe(now time.Time, s Signals) (lvl Level, changed bool, cause string) {
	values := [signals]float64{lag: s.Lag.Seconds(), busy: s.Busy, queue: s.Queue, memory: s.Memory}
	to := l.rise(now, &values)
	if to > l.level {
		return l.set(now, to, l.why(to, &values))
	}
	if l.calmed(now, &values) {
		cause = fmt.Sprintf("all signals below %.0f%% of the %s thresholds for %v", calm*100, l.level, l.down)
		return l.set(now, l.level-1, cause)
	}
	return l.level, false, ""
}

func (l *Ladder) set(now time.Time, to Level, cause string) (Level, bool, string) {
	l.level, l.since, l.quiet = to, now, time.Time{}
	return to, true, cause
}

// rise returns the highest level that was reached for long enough.
func (l *Ladder) rise(now time.Time, values *[signals]float64) (to Level) {
	for lvl := Elevated; lvl < Levels; lvl++ {
		if _, reached := l.reached(lvl, values); !reached {
			l.breach[lvl] = time.Time{}
			continue
		}
		if begin(&l.breach[lvl], now) >= l.up {
			to = lvl
		}
	}
	if at := l.thresholds[memory].at[Critical]; at > 0 && values[memory] >= at {
		to = Critical
	}
	return to
}

// reached says whether some signal is at the threshold of lvl or of a higher
// level, and which of them is furthest above it.
func (l *Ladder) reached(lvl Level, values *[signals]float64) (signal int, ok bool) {
	most := 0.0
	for s, v := range values {
		if share := v / l.floor[lvl][s]; v >= l.floor[lvl][s] && share > most {
			signal, most, ok = s, share, true
		}
	}
	return signal, ok
}

// calmed says whether all signals were low enough for long enough to go down.
func (l *Ladder) calmed(now time.Time, values *[signals]float64) bool {
	if l.level == Normal {
		return false
	}
	for s, v := range values {
		if !(v < calm*l.floor[l.level][s]) {
			l.quiet = time.Time{}
			return false
		}
	}
	return begin(&l.quiet, now) >= l.down
}

// begin returns how long a condition has held, from its first reading on.
func begin(since *time.Time, now time.Time) time.Duration {
	if since.IsZero() || now.Before(*since) {
		*since = now
	}
	return now.Sub(*since)
}

func (l *Ladder) why(to Level, values *[signals]float64) string {
	s, _ := l.reached(to, values)
	t := &l.thresholds[s]
	return fmt.Sprintf("%s %s over %s", t.name, t.show(values[s]), t.show(l.floor[to][s]))
}
