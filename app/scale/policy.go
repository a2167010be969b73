package scale

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// A Mode says what becomes of a decision. All modes run the same code.
type Mode uint8

// The modes. The zero value is Advise: it changes nothing by itself and hides nothing.
const (
	Advise  Mode = iota // say it, in the log, the dashboard and the outputs
	Observe             // log it only
	Act                 // hand it to the actuator
)

var modeNames = [...]string{Advise: "advise", Observe: "observe", Act: "act"}

// String returns the name of the mode.
func (m Mode) String() string {
	if int(m) >= len(modeNames) {
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
	return modeNames[m]
}

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return marshalName(modeNames[:], int(m), "mode") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	return unmarshalName(modeNames[:], text, "mode", m)
}

// A Pause stops a direction. The zero value stops nothing.
type Pause uint8

// The pauses.
const (
	PauseNone Pause = iota
	PauseAll
	PauseIn  // no fewer instances
	PauseOut // no more instances
)

var pauseNames = [...]string{PauseNone: "none", PauseAll: "all", PauseIn: "in", PauseOut: "out"}

// String returns the name of the pause.
func (p Pause) String() string {
	if int(p) >= len(pauseNames) {
		return fmt.Sprintf("pause(%d)", uint8(p))
	}
	return pauseNames[p]
}

// MarshalText implements encoding.TextMarshaler.
func (p Pause) MarshalText() ([]byte, error) { return marshalName(pauseNames[:], int(p), "pause") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pause) UnmarshalText(text []byte) error {
	return unmarshalName(pauseNames[:], text, "pause", p)
}

// A Target is what one instance should carry of one signal. The count follows
// from it: ceil(n × value / target).
type Target struct {
	Signal Signal  `json:"signal"`
	Value  float64 `json:"value"` // a mean above it is a breach

	// Activation matters only where Min is 0: above it (strictly) the fleet leaves
	// zero, at or below it this target asks for none.
	Activation float64 `json:"activation,omitempty"`

	Source string `json:"source,omitempty"` // where the number comes from
}

// A Guard watches a signal that says that users suffer, which more instances may
// or may not cure. It blocks the way down, or adds a bounded step.
type Guard struct {
	Signal Signal  `json:"signal"`
	Block  float64 `json:"block"`           // above: no fewer instances
	Raise  float64 `json:"raise,omitempty"` // above: Step more than the targets ask for; 0: never
	Step   int     `json:"step,omitempty"`
	Source string  `json:"source,omitempty"`
}

// A Rate bounds how much the count changes within a period.
type Rate struct {
	Count   int           `json:"count,omitempty"`   // instances
	Percent float64       `json:"percent,omitempty"` // of the count at the start of the period
	Period  time.Duration `json:"period"`
}

// A Select says which of several rates holds.
type Select uint8

// The selections.
const (
	SelectMax      Select = iota // the one that allows most
	SelectMin                    // the one that allows least
	SelectDisabled               // no change in this direction
)

var selectNames = [...]string{SelectMax: "max", SelectMin: "min", SelectDisabled: "disabled"}

// MarshalText implements encoding.TextMarshaler.
func (s Select) MarshalText() ([]byte, error) { return marshalName(selectNames[:], int(s), "select") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Select) UnmarshalText(text []byte) error {
	return unmarshalName(selectNames[:], text, "select", s)
}

// A Direction is how one way of scaling behaves.
type Direction struct {
	// Tolerance is the share by which the value may miss the target without a
	// change.
	Tolerance float64 `json:"tolerance"`
	// Window is how long a need must hold: up by the rolling minimum, down by the
	// rolling maximum of what was recommended.
	Window time.Duration `json:"window"`
	// Headroom (down only) is the share of the target that must be free after
	// instances have gone, so that they are not wanted back at once.
	Headroom float64 `json:"headroom,omitempty"`
	Rates    []Rate  `json:"rates,omitempty"` // none: no bound
	Select   Select  `json:"select"`
}

// A Fallback is the count when no target has had a value for After.
type Fallback struct {
	Behaviour FallbackBehaviour `json:"behaviour"`
	Count     int               `json:"count,omitempty"`
	After     time.Duration     `json:"after"`
}

// A FallbackBehaviour is one of KEDA's four.
type FallbackBehaviour uint8

// The behaviours. The zero value keeps the count.
const (
	FallbackCurrent  FallbackBehaviour = iota // stay
	FallbackStatic                            // Count
	FallbackIfHigher                          // the current count, or Count where that is higher
	FallbackIfLower                           // the current count, or Count where that is lower
)

var fallbackNames = [...]string{FallbackCurrent: "current", FallbackStatic: "static", FallbackIfHigher: "current_if_higher", FallbackIfLower: "current_if_lower"}

// MarshalText implements encoding.TextMarshaler.
func (b FallbackBehaviour) MarshalText() ([]byte, error) {
	return marshalName(fallbackNames[:], int(b), "fallback")
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *FallbackBehaviour) UnmarshalText(text []byte) error {
	return unmarshalName(fallbackNames[:], text, "fallback", b)
}

// A Surge says when new connections are returning clients and no new demand.
type Surge struct {
	// Share of the new connections that return, from which it is one. 0.5.
	Share float64 `json:"share"`
	// Rate of new connections for each open one and second, from which it is one. 0.02.
	Rate float64 `json:"rate"`
	// Limit is how long at most flow signals are disbelieved. 2 min.
	Limit time.Duration `json:"limit"`
}

// Flap says when scaling itself has become unsteady.
type Flap struct {
	Reversals int           `json:"reversals"` // changes of direction within Window that are too many
	Window    time.Duration `json:"window"`
	// Widen multiplies tolerance, headroom and the window of the way down while it lasts.
	Widen float64 `json:"widen"`
}

// A Policy turns a fleet view into a count.
type Policy struct {
	Mode   Mode  `json:"mode"`
	Min    int   `json:"min"`
	Max    int   `json:"max"`
	Pause  Pause `json:"pause"`
	Pinned int   `json:"pinned,omitempty"` // a fixed count; 0: none

	Targets  []Target  `json:"targets"`
	Guards   []Guard   `json:"guards"`
	Up       Direction `json:"up"`
	Down     Direction `json:"down"`
	Surge    Surge     `json:"surge"`
	Flap     Flap      `json:"flap"`
	Fallback Fallback  `json:"fallback"`

	// Provision is how long a new instance may take until it counts as late.
	Provision time.Duration `json:"provision"`
}

// DefaultPolicy is the document's auto-scaling table for a fleet, with the
// capacity of one instance from c.
func DefaultPolicy(c Capacity) Policy {
	return Policy{
		Mode: Advise, Min: DefaultMinInstances, Max: DefaultMaxInstances,
		Targets: defaultTargets(c),
		Guards:  defaultGuards(),
		// The document's thresholds are strict, so the way up has no tolerance. The
		// window of 10 s keeps one odd second from starting an instance and leaves 20
		// of the 30 s that the document allows.
		Up: Direction{Window: 10 * time.Second, Rates: []Rate{{Count: 10, Percent: 100, Period: 10 * time.Second}}},
		// Half the fleet in five minutes at most: a wrong decision must leave time to notice.
		Down: Direction{Tolerance: 0.1, Window: ScaleDownAfter, Headroom: 0.1,
			Rates: []Rate{{Count: 1, Percent: 50, Period: ScaleDownAfter}}},
		Surge:     Surge{Share: 0.5, Rate: 0.02, Limit: 2 * time.Minute},
		Flap:      Flap{Reversals: 4, Window: time.Hour, Widen: 2},
		Fallback:  Fallback{Behaviour: FallbackCurrent, After: time.Minute},
		Provision: 3 * time.Minute,
	}
}

// LonePolicy is DefaultPolicy for one appliance: always one instance, but every
// signal is still computed, so that the advice says when one is too few.
func LonePolicy(c Capacity) Policy {
	p := DefaultPolicy(c)
	p.Min, p.Max = 1, 1
	return p
}

// Limits of what a policy may hold.
const (
	MaxInstances = 10_000
	maxTargets   = int(SignalCount)
	maxRates     = 8
	// maxWindow is the longest window: the rolling extremes stay small.
	maxWindow = time.Hour
)

// Validate joins every fault of the policy.
func (p *Policy) Validate() error {
	var errs []error
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(int(p.Mode) < len(modeNames), "mode: %v is unknown", p.Mode)
	fault(int(p.Pause) < len(pauseNames), "pause: %v is unknown", p.Pause)
	fault(p.Min >= 0, "min: %d is negative", p.Min)
	fault(p.Max >= max(1, p.Min), "max: %d is below min (%d), or below 1", p.Max, p.Min)
	fault(p.Max <= MaxInstances, "max: %d is above %d", p.Max, MaxInstances)
	fault(p.Pinned >= 0 && p.Pinned <= MaxInstances, "pinned: %d is not between 0 and %d", p.Pinned, MaxInstances)
	fault(len(p.Targets) > 0 && len(p.Targets) <= maxTargets, "targets: %d given, want 1 to %d", len(p.Targets), maxTargets)
	seen := make(map[Signal]bool)
	for _, t := range p.Targets {
		fault(t.Signal < SignalCount && positive(t.Value), "targets: %v: %v is no positive number", t.Signal, t.Value)
		fault(t.Activation >= 0 && finite(t.Activation), "targets: %v: activation %v is no number from 0", t.Signal, t.Activation)
		fault(!seen[t.Signal], "targets: %v is given twice", t.Signal)
		_, _, latency := t.Signal.quantile()
		fault(!latency && t.Signal != ErrorRate, "targets: %v: latency and errors are guards, never targets: they do not fall in proportion to the count", t.Signal)
		seen[t.Signal] = true
	}
	for _, g := range p.Guards {
		fault(g.Signal < SignalCount && positive(g.Block), "guards: %v: block %v is no positive number", g.Signal, g.Block)
		fault(g.Raise == 0 || g.Raise >= g.Block && finite(g.Raise), "guards: %v: raise %v is below block (%v)", g.Signal, g.Raise, g.Block)
		fault(g.Step >= 0 && g.Step <= MaxInstances, "guards: %v: step %d is not between 0 and %d", g.Signal, g.Step, MaxInstances)
	}
	errs = append(errs, p.Up.validate("up", ScaleUpWithin), p.Down.validate("down", maxWindow))
	fault(p.Up.Headroom == 0, "up: headroom is for the way down only")
	fault(p.Surge.Limit >= 0 && p.Surge.Limit <= maxWindow, "surge: limit %v is not between 0 and %v", p.Surge.Limit, maxWindow)
	fault(p.Flap.Reversals >= 0 && p.Flap.Reversals <= maxActions/2, "flap: reversals %d is not between 0 and %d", p.Flap.Reversals, maxActions/2)
	fault(p.Flap.Reversals == 0 || p.Flap.Widen >= 1 && p.Flap.Widen <= 10, "flap: widen %v is not between 1 and 10", p.Flap.Widen)
	fault(p.Fallback.Count >= 0 && int(p.Fallback.Behaviour) < len(fallbackNames), "fallback: count %d or behaviour is wrong", p.Fallback.Count)
	fault(p.Provision >= 0, "provision: %v is negative", p.Provision)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}

func (d *Direction) validate(name string, longest time.Duration) error {
	var errs []error
	if d.Window < 0 || d.Window > longest {
		errs = append(errs, fmt.Errorf("%s: window %v is not between 0 and %v", name, d.Window, longest))
	}
	if !(d.Tolerance >= 0 && d.Tolerance < 1) || !(d.Headroom >= 0 && d.Headroom < 1) {
		errs = append(errs, fmt.Errorf("%s: tolerance %v and headroom %v must lie from 0 to below 1", name, d.Tolerance, d.Headroom))
	}
	if len(d.Rates) > maxRates || int(d.Select) >= len(selectNames) {
		errs = append(errs, fmt.Errorf("%s: %d rates given, want at most %d, select max, min or disabled", name, len(d.Rates), maxRates))
	}
	for _, r := range d.Rates {
		if r.Count < 0 || !(r.Percent >= 0) || r.Count == 0 && r.Percent == 0 || r.Period <= 0 || r.Period > maxWindow {
			errs = append(errs, fmt.Errorf("%s: rate of %d or %v%% in %v: want a count or percent above 0 and a period up to %v", name, r.Count, r.Percent, r.Period, maxWindow))
		}
	}
	return errors.Join(errs...)
}

func finite(v float64) bool   { return !math.IsNaN(v) && !math.IsInf(v, 0) }
func positive(v float64) bool { return finite(v) && v > 0 }

// target returns the target of a signal.
func (p *Policy) target(s Signal) (Target, bool) {
	for _, t := range p.Targets {
		if t.Signal == s {
			return t, true
		}
	}
	return Target{}, false
}

// longestRate is the longest period for which past changes matter.
func (p *Policy) longestRate() time.Duration {
	longest := p.Flap.Window
	for _, r := range append(append([]Rate(nil), p.Up.Rates...), p.Down.Rates...) {
		longest = max(longest, r.Period)
	}
	return cmp.Or(longest, time.Minute)
}
