package scale

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A State is what a policy remembers from one decision to the next. It is a
// value: Decide returns a new one and never changes the old.
type State struct {
	Begun   bool      `json:"begun"`
	Desired int       `json:"desired"` // the count last decided
	Seen    int       `json:"seen"`    // live nodes last seen
	Since   time.Time `json:"since"`   // the evaluations are unbroken since then
	Last    time.Time `json:"last"`    // the last evaluation

	Highs   []Mark   `json:"highs,omitempty"`   // rolling maximum of what was recommended
	Lows    []Mark   `json:"lows,omitempty"`    // rolling minimum
	Changes []Change `json:"changes,omitempty"` // what was decided, oldest first

	SurgeSince time.Time `json:"surge_since,omitzero"` // clients return since then
	SurgeLast  time.Time `json:"surge_last,omitzero"`
	LostSince  time.Time `json:"lost_since,omitzero"`  // no target has a value since then
	ExtraSince time.Time `json:"extra_since,omitzero"` // more nodes than wanted live since then
	Asked      time.Time `json:"asked,omitzero"`       // when an action was last handed out
}

// A Suppression is a rule that made the count another than the signals asked for.
type Suppression struct {
	By   string `json:"by"`
	From int    `json:"from"`
	To   int    `json:"to"`
	Why  string `json:"why"`
}

// A Decision is the count that a policy wants, with the whole way to it.
type Decision struct {
	At      time.Time `json:"at"`
	Live    int       `json:"live"`    // nodes that are capacity or will be
	Base    int       `json:"base"`    // the count that was wanted before
	Desired int       `json:"desired"` // the count that is wanted now

	Wants        []Want        `json:"wants"`
	Winner       string        `json:"winner"`      // the signal or rule that asked for most
	Recommended  int           `json:"recommended"` // by signals, guards and forecast, before windows and limits
	Suppressions []Suppression `json:"suppressions,omitempty"`
	Flapping     bool          `json:"flapping,omitempty"`
	Surge        bool          `json:"surge,omitempty"`

	Mode    Mode     `json:"mode"`
	Act     bool     `json:"act"`               // an actuator is to set Desired now
	Late    bool     `json:"late,omitempty"`    // what was asked for is not there in time
	Victims []string `json:"victims,omitempty"` // whom to drain, in order
	Reason  string   `json:"reason"`
}

// Changed reports whether the count differs from that before.
func (d *Decision) Changed() bool { return d.Desired != d.Base }

// SuppressedBy reports whether the named rule had a say.
func (d *Decision) SuppressedBy(rule string) bool {
	return slices.ContainsFunc(d.Suppressions, func(s Suppression) bool { return s.By == rule })
}

// The names of the rules that suppress.
const (
	ByPartial   = "partial"     // the view is not whole
	BySilent    = "silent"      // a node is silent
	ByMissing   = "missing"     // a signal has no value anywhere
	BySurge     = "surge"       // clients return after an interruption
	ByGuard     = "guard"       // users suffer
	ByFallback  = "fallback"    // nothing is known for long
	ByAhead     = "forecast"    // the forecast asks for more
	ByWindowUp  = "window_up"   // the need has not held long enough
	ByWindowIn  = "window_down" // the lower need has not held long enough
	ByRateUp    = "rate_up"     // too many at once
	ByRateDown  = "rate_down"   // too many at once
	ByMin       = "min"         // the lower bound
	ByMax       = "max"         // the upper bound
	ByPinned    = "pinned"      // an admin fixed the count
	ByPause     = "pause"       // an admin stopped the direction
	ByFlap      = "flap"        // too many reversals: everything is widened
	ByAdopted   = "adopted"     // somebody else changed the count
	ByRequested = "requested"   // the control plane was told another count
)

// maxGap is the longest time between two evaluations that still counts as
// watching. After a longer one the window of the way down begins anew.
const maxGap = 15 * time.Second

// a step is one decision in the making.
type step struct {
	p     *Policy
	in    *Inputs
	st    State // the state to be
	d     Decision
	up    Direction // with widened tolerances
	down  Direction
	floor bool // the recommendation may not fall below Base
}

// Decide takes one decision. It is a pure function: the same policy, state and
// inputs give the same decision and the same next state.
func Decide(p *Policy, st State, in Inputs) (Decision, State) {
	s := &step{p: p, in: &in, st: st.clone(), up: p.Up, down: p.Down}
	s.d = Decision{At: in.At, Live: in.live(), Mode: p.Mode}
	s.rebase()
	s.flap()
	s.surge()
	s.wants()
	s.doubts()
	s.guards()
	s.ahead()
	s.fallback()
	s.window()
	s.finish()
	return s.d, s.st
}

func (st State) clone() State {
	st.Highs, st.Lows, st.Changes = slices.Clone(st.Highs), slices.Clone(st.Lows), slices.Clone(st.Changes)
	return st
}

// note records that a rule changed or held the count.
func (s *step) note(by string, from, to int, format string, args ...any) {
	s.d.Suppressions = append(s.d.Suppressions, Suppression{By: by, From: from, To: to, Why: fmt.Sprintf(format, args...)})
}

// rebase finds the count that stands now: what was decided, unless somebody else
// changed it, or nothing was decided yet.
func (s *step) rebase() {
	live, now := s.d.Live, s.in.At
	if s.st.Begun && (now.Sub(s.st.Last) > maxGap || now.Before(s.st.Last)) {
		s.st.Since, s.st.Highs, s.st.Lows = now, nil, nil
	}
	settled := len(s.st.Changes) == 0 || now.Sub(s.st.Changes[len(s.st.Changes)-1].At) > s.p.Provision
	switch {
	case !s.st.Begun:
		s.st.Begun, s.st.Since = true, now
		s.st.Desired = live
		if s.in.Requested > 0 {
			s.st.Desired = s.in.Requested
		}
	case s.in.Partial != "":
		// What cannot be seen is no reason to believe in another count.
	case s.in.Requested > 0 && s.in.Requested != s.st.Desired && settled && s.p.Mode == Act:
		s.note(ByRequested, s.st.Desired, s.in.Requested, "the control plane was told %d by somebody else", s.in.Requested)
		s.adopt(s.in.Requested)
	case s.extra(live) && settled:
		s.note(ByAdopted, s.st.Desired, live, "%d live nodes for %v: somebody else added some", live, s.p.Provision)
		s.adopt(live)
	}
	s.d.Base = s.st.Desired
	s.st.Seen, s.st.Last = live, now
}

// adopt takes on a count that somebody else chose. It has the whole window of
// the way down before it, whatever was wanted earlier.
func (s *step) adopt(n int) {
	s.st.Desired, s.st.ExtraSince = n, time.Time{}
	s.st.Highs = pushHigh(s.st.Highs, Mark{At: s.in.At, Count: n}, 2*maxWindow)
}

// extra reports whether more nodes than wanted have come and stayed. A rolling
// update starts new ones before the old drain, which is not somebody's wish.
func (s *step) extra(live int) bool {
	switch {
	case live <= s.st.Desired:
		s.st.ExtraSince = time.Time{}
	case live > s.st.Seen && s.st.ExtraSince.IsZero():
		s.st.ExtraSince = s.in.At
	}
	return !s.st.ExtraSince.IsZero() && s.in.At.Sub(s.st.ExtraSince) > s.p.Provision
}

// flap widens everything that keeps the count steady while it is unsteady.
func (s *step) flap() {
	f := s.p.Flap
	if f.Reversals == 0 {
		return
	}
	if n := reversals(s.st.Changes, s.in.At, f.Window); n >= f.Reversals {
		s.d.Flapping = true
		s.up.Tolerance = min(s.up.Tolerance*f.Widen, 0.9)
		s.down.Tolerance = min(s.down.Tolerance*f.Widen, 0.9)
		s.down.Headroom = min(s.down.Headroom*f.Widen, 0.9)
		s.down.Window = time.Duration(float64(s.down.Window) * f.Widen)
		s.note(ByFlap, s.d.Base, s.d.Base, "%d reversals in %v: tolerance, headroom and the window of the way down are %g times as wide", n, f.Window, f.Widen)
	}
}

// surgeEnd is how long a surge must be over before flow signals are believed again.
const surgeEnd = 10 * time.Second

// surgeHold is how many times Limit a surge keeps the count from falling: clients
// that cannot get in are gone only in appearance, but not for ever.
const surgeHold = 10

// surge notices clients that return after an interruption.
func (s *step) surge() {
	c, now := s.p.Surge, s.in.At
	if c.Limit == 0 {
		return
	}
	share, known := s.in.Fleet.Get(Reconnects)
	rate, accepts := s.in.Fleet.Get(AcceptRate)
	open := s.in.load(Connections).sum
	if known && accepts && share >= c.Share && rate >= max(1, c.Rate*open) {
		if s.st.SurgeSince.IsZero() {
			s.st.SurgeSince = now
		}
		s.st.SurgeLast = now
	} else if now.Sub(s.st.SurgeLast) > surgeEnd {
		s.st.SurgeSince = time.Time{}
	}
	s.d.Surge = !s.st.SurgeSince.IsZero() && now.Sub(s.st.SurgeSince) <= c.Limit
}

// wants asks every target; the largest answer is the recommendation.
func (s *step) wants() {
	s.d.Winner = "none"
	for _, t := range s.p.Targets {
		w := s.in.want(t, s.up, s.down, s.p.Min == 0)
		if w.Count > s.d.Base && w.Bare < w.Count {
			// More live than wanted: what holds the count may not raise it.
			w.Count = max(s.d.Base, w.Bare)
		}
		if w.Count > s.d.Base && w.Value <= w.Target && t.Signal.standing() {
			// Each node uses some of it without any load, so the sum over surplus nodes
			// says nothing about how many are needed.
			w.Count, w.Bare = s.d.Base, min(w.Bare, s.d.Base)
		}
		if s.d.Surge && t.Signal.Flow() && w.Count > s.d.Base {
			s.note(BySurge, w.Count, s.d.Base, "%v is the work of clients that return, not demand", t.Signal)
			w.Count, w.Bare = s.d.Base, min(w.Bare, s.d.Base)
			w.Reason += "; not believed while clients return"
		}
		s.d.Wants = append(s.d.Wants, w)
		if w.Known && (s.d.Winner == "none" || w.Count > s.d.Recommended) {
			s.d.Recommended, s.d.Winner = w.Count, t.Signal.String()
		}
	}
	if s.d.Winner == "none" {
		s.d.Recommended = s.d.Base
	}
}

// keep forbids a recommendation below the count that stands.
func (s *step) keep(by, format string, args ...any) {
	s.floor = true
	if s.d.Recommended < s.d.Base {
		s.note(by, s.d.Recommended, s.d.Base, format, args...)
		s.d.Recommended = s.d.Base
	}
}

// doubts refuses the way down on what is not known.
func (s *step) doubts() {
	if name, n := s.in.silent(); n > 0 {
		s.keep(BySilent, "%d silent nodes, such as %s: their load is unknown", n, name)
	}
	for i := range s.d.Wants {
		if w := &s.d.Wants[i]; !w.Known && s.d.Live > 0 {
			s.keep(ByMissing, "%v has no value on any node", w.Signal)
		}
	}
	if since := s.st.SurgeSince; !since.IsZero() && s.in.At.Sub(since) <= surgeHold*s.p.Surge.Limit {
		s.keep(BySurge, "clients are returning: fewer connections are no lower demand")
	}
}

// guards holds the way down while users suffer, and adds a bounded step where
// that is configured. The step counts from what the load needs by the bare
// formula, so repeating it leads nowhere further.
func (s *step) guards() {
	bare := 0
	for i := range s.d.Wants {
		bare = max(bare, s.d.Wants[i].Bare)
	}
	for _, g := range s.p.Guards {
		r := s.in.Fleet[g.Signal]
		switch {
		case r.State == Stale:
			s.keep(ByGuard, "%v is not known", g.Signal)
			continue
		case r.State != Fresh || r.Value <= g.Block:
			continue
		}
		s.keep(ByGuard, "%s is above %s: no fewer instances", show(g.Signal, r.Value), show(g.Signal, g.Block))
		if g.Raise == 0 || g.Step == 0 || r.Value <= g.Raise || s.d.Surge || bare == 0 {
			continue
		}
		if to := bare + g.Step; to > s.d.Recommended {
			s.note(ByGuard, s.d.Recommended, to, "%s is above %s: %d more than the load alone needs", show(g.Signal, r.Value), show(g.Signal, g.Raise), g.Step)
			s.d.Recommended, s.d.Winner = to, g.Signal.String()
		}
	}
}

func (s *step) ahead() {
	if a := s.in.Ahead; a.Count > s.d.Recommended {
		s.note(ByAhead, s.d.Recommended, a.Count, "%s", a.Why)
		s.d.Recommended, s.d.Winner = a.Count, ByAhead
	}
}

// fallback speaks when no target has had a value for long.
func (s *step) fallback() {
	known := slices.ContainsFunc(s.d.Wants, func(w Want) bool { return w.Known })
	if known || s.in.Partial != "" {
		s.st.LostSince = time.Time{}
		return
	}
	if s.st.LostSince.IsZero() {
		s.st.LostSince = s.in.At
	}
	f := s.p.Fallback
	lost := s.in.At.Sub(s.st.LostSince)
	if f.Behaviour == FallbackCurrent || f.After == 0 || lost < f.After {
		return
	}
	to := s.d.Base
	switch f.Behaviour {
	case FallbackStatic:
		to = f.Count
	case FallbackIfHigher:
		to = max(to, f.Count)
	case FallbackIfLower:
		to = min(to, f.Count)
	}
	if to != s.d.Recommended {
		s.note(ByFallback, s.d.Recommended, to, "no target has had a value for %v", lost)
		s.d.Recommended, s.d.Winner = to, ByFallback
	}
}

// reason says the decision in one sentence.
func (s *step) reason() string {
	d := &s.d
	var b strings.Builder
	switch {
	case d.Desired > d.Base:
		fmt.Fprintf(&b, "scale up from %d to %d", d.Base, d.Desired)
	case d.Desired < d.Base:
		fmt.Fprintf(&b, "scale down from %d to %d", d.Base, d.Desired)
	default:
		fmt.Fprintf(&b, "stay at %d", d.Desired)
	}
	for i := range d.Wants {
		if d.Wants[i].Signal.String() == d.Winner {
			fmt.Fprintf(&b, ": %s", d.Wants[i].Reason)
		}
	}
	if n := len(d.Suppressions); n > 0 {
		last := d.Suppressions[n-1]
		fmt.Fprintf(&b, "; %s: %s", last.By, last.Why)
	}
	return b.String()
}
