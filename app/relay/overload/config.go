package overload

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Never is a threshold that no signal reaches: this signal alone does not lead to
// that level.
const Never = -1

// Signals is one reading of a node. A signal that is not measured stays 0; one that
// is not a number neither raises nor lowers the level.
type Signals struct {
	Lag    time.Duration // how long ready work waited, the worst since the last reading
	Busy   float64       // share of the time that the loops were busy, 0 to 1
	Queue  float64       // bytes waiting in all queues, as a share of their bound
	Memory float64       // memory in use, as a share of its limit
}

// Lags are the thresholds of the signal Lag. 0 takes the default, Never turns one
// off.
type Lags struct{ Elevated, Degraded, Critical time.Duration }

// Shares are the thresholds of a signal from 0 to 1. 0 takes the default, Never
// turns one off.
type Shares struct{ Elevated, Degraded, Critical float64 }

// Config says at which signals the levels begin, and how patient the Ladder is.
type Config struct {
	// Lag is what clients feel, and so what counts most. Defaults to 50 ms, 150 ms
	// and 500 ms: the whole way of a message should take less than 200 ms.
	Lag Lags

	// Busy defaults to 0.97, Never and Never. A loop that is always busy but lets
	// nothing wait is at its best, since it works in larger batches; only what is
	// optional should make room for it.
	Busy Shares

	// Queue defaults to 0.5, 0.75 and 0.9.
	Queue Shares

	// Memory defaults to 0.75, 0.85 and 0.93. Its critical threshold works at once,
	// without UpHold: nothing is left to shed for a process that was killed.
	Memory Shares

	// UpHold is how long a threshold must be reached, in every reading, before the
	// level goes up. Defaults to 300 ms: longer than one pause of the collector or
	// the scheduler, shorter than what a client notices.
	UpHold time.Duration

	// DownHold is how long all signals must stay below 0.7 of the thresholds of the
	// present level before it goes down by one. Defaults to 5 s.
	DownHold time.Duration
}

// calm is the share of a threshold that a signal must stay below to count as gone.
const calm = 0.7

// withDefaults fills in what was left 0.
func (c Config) withDefaults() Config {
	c.Lag.Elevated = cmp.Or(c.Lag.Elevated, 50*time.Millisecond)
	c.Lag.Degraded = cmp.Or(c.Lag.Degraded, 150*time.Millisecond)
	c.Lag.Critical = cmp.Or(c.Lag.Critical, 500*time.Millisecond)
	c.Busy = c.Busy.or(Shares{0.97, Never, Never})
	c.Queue = c.Queue.or(Shares{0.5, 0.75, 0.9})
	c.Memory = c.Memory.or(Shares{0.75, 0.85, 0.93})
	c.UpHold = cmp.Or(c.UpHold, 300*time.Millisecond)
	c.DownHold = cmp.Or(c.DownHold, 5*time.Second)
	return c
}

func (s Shares) or(d Shares) Shares {
	return Shares{
		Elevated: cmp.Or(s.Elevated, d.Elevated),
		Degraded: cmp.Or(s.Degraded, d.Degraded),
		Critical: cmp.Or(s.Critical, d.Critical),
	}
}

// Validate joins every fault, after the defaults were filled in.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.UpHold < 0 {
		errs = append(errs, fmt.Errorf("up_hold: %v is negative", c.UpHold))
	}
	if c.DownHold < 0 {
		errs = append(errs, fmt.Errorf("down_hold: %v is negative", c.DownHold))
	}
	for _, t := range c.thresholds() {
		errs = append(errs, t.validate()...)
	}
	return errors.Join(errs...)
}

// A threshold is one signal's list, in seconds or shares; below 0 is Never.
type threshold struct {
	name string
	at   [Levels]float64 // at[Normal] is not used
}

const (
	lag = iota
	busy
	queue
	memory
	signals
)

func (c Config) thresholds() [signals]threshold {
	share := func(name string, s Shares) threshold {
		return threshold{name, [Levels]float64{Never, s.Elevated, s.Degraded, s.Critical}}
	}
	return [signals]threshold{
		lag: {"lag", [Levels]float64{Never,
			seconds(c.Lag.Elevated), seconds(c.Lag.Degraded), seconds(c.Lag.Critical)}},
		busy:   share("busy", c.Busy),
		queue:  share("queue", c.Queue),
		memory: share("memory", c.Memory),
	}
}

// seconds keeps Never, which is one nanosecond below zero as a Duration.
func seconds(d time.Duration) float64 {
	if d == Never {
		return Never
	}
	return d.Seconds()
}

func (t *threshold) validate() (errs []error) {
	before := Normal
	for l := Elevated; l < Levels; l++ {
		v := t.at[l]
		switch {
		case v == Never:
			continue
		case !(v > 0):
			errs = append(errs, fmt.Errorf("%s.%s: %s is not a threshold; give one above 0, or -1 for never", t.name, l, t.show(v)))
			continue
		case t.name != "lag" && v > 1:
			errs = append(errs, fmt.Errorf("%s.%s: %s is above 1; the signal is a share from 0 to 1", t.name, l, t.show(v)))
		case before != Normal && v < t.at[before]:
			errs = append(errs, fmt.Errorf("%s.%s: %s is below %s.%s (%s)", t.name, l, t.show(v), t.name, before, t.show(t.at[before])))
		}
		before = l
	}
	return errs
}

// show prints a value of the signal as people read it.
func (t *threshold) show(v float64) string {
	if t.name == "lag" {
		return fmt.Sprintf("%.4g ms", v*1000)
	}
	return fmt.Sprintf("%.4g%%", v*100)
}
