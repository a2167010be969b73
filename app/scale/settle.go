package scale

import (
	"time"
)

// window makes a need hold before it is followed: up by the rolling minimum, down
// by the rolling maximum. Then come the rates, the bounds and the admins' word.
func (s *step) window() {
	base, now := s.d.Base, s.in.At
	if s.in.Partial != "" {
		// Nothing is learnt from a partial view, and what was learnt gets old.
		s.st.Since, s.st.Highs, s.st.Lows = now, nil, nil
		if s.d.Recommended != base {
			s.note(ByPartial, s.d.Recommended, base, "%s", s.in.Partial)
		}
		s.d.Desired = base
		return
	}
	keep := max(maxWindow, s.down.Window)
	mark := Mark{At: now, Count: s.d.Recommended}
	s.st.Highs = pushHigh(s.st.Highs, mark, keep)
	s.st.Lows = pushLow(s.st.Lows, mark, keep)

	to := base
	if want := s.d.Recommended; want > base {
		to = s.windowUp(base, want)
	} else if want < base {
		to = s.windowDown(base, want)
	}
	s.d.Desired = s.bounds(s.rates(to))
}

// windowUp is the lowest count that was recommended throughout the window.
func (s *step) windowUp(base, want int) int {
	low, _ := extreme(s.st.Lows, s.in.At, s.up.Window)
	watched := s.in.At.Sub(s.st.Since) >= s.up.Window
	if !watched || low.Count < want {
		held := base
		if watched {
			held = max(base, low.Count)
		}
		s.note(ByWindowUp, want, held, "%d must be wanted for %v", want, s.up.Window)
		return held
	}
	return want
}

// windowDown is the highest count that was recommended within the window, and
// the count that stands until the window has been watched without a break.
func (s *step) windowDown(base, want int) int {
	if watched := s.in.At.Sub(s.st.Since); watched < s.down.Window {
		s.note(ByWindowIn, want, base, "watched for %v only, of %v", watched.Round(time.Second), s.down.Window)
		return base
	}
	high, _ := extreme(s.st.Highs, s.in.At, s.down.Window)
	if to := min(base, high.Count); to > want {
		s.note(ByWindowIn, want, to, "%d were wanted at %s, within %v", high.Count, high.At.UTC().Format("15:04:05"), s.down.Window)
		return to
	}
	return want
}

func (s *step) rates(to int) int {
	base := s.d.Base
	switch {
	case to > base:
		if most := s.up.most(base, s.st.Changes, s.in.At); to > most {
			most = max(most, base)
			s.note(ByRateUp, to, most, "at most %d by the rates of the way up", most)
			return most
		}
	case to < base:
		if least := s.down.least(base, s.st.Changes, s.in.At); to < least {
			least = min(least, base)
			s.note(ByRateDown, to, least, "at least %d by the rates of the way down", least)
			return least
		}
	}
	return to
}

// bounds applies min and max, then pause, then the pinned count, which an admin
// gave and which therefore beats all.
func (s *step) bounds(to int) int {
	p, base := s.p, s.d.Base
	if to < p.Min {
		s.note(ByMin, to, p.Min, "at least %d", p.Min)
		to = p.Min
	}
	if to > p.Max {
		s.note(ByMax, to, p.Max, "at most %d: more would be needed", p.Max)
		to = p.Max
	} else if s.d.Recommended > p.Max && to == p.Max {
		s.note(ByMax, s.d.Recommended, p.Max, "at most %d: more would be needed", p.Max)
	}
	if p.Pinned > 0 {
		if to != p.Pinned {
			s.note(ByPinned, to, p.Pinned, "pinned to %d", p.Pinned)
		}
		return p.Pinned
	}
	if p.Pause == PauseAll && to != base || p.Pause == PauseIn && to < base || p.Pause == PauseOut && to > base {
		s.note(ByPause, to, base, "scaling is paused: %v", p.Pause)
		to = base
	}
	return to
}

// finish remembers the change, chooses victims and says whether to act.
func (s *step) finish() {
	d, now := &s.d, s.in.At
	if d.Changed() {
		s.st.Changes = append(s.st.Changes, Change{At: now, From: d.Base, To: d.Desired})
	}
	s.st.Desired = d.Desired
	oldest := s.p.longestRate()
	for len(s.st.Changes) > 0 && (len(s.st.Changes) > maxActions || now.Sub(s.st.Changes[0].At) > oldest) && len(s.st.Changes) > 1 {
		s.st.Changes = s.st.Changes[1:]
	}
	d.Late = s.p.Mode == Act && !d.Changed() && s.in.Partial == "" && d.Live != d.Desired && s.overdue()
	d.Act = s.p.Mode == Act && (d.Changed() || d.Late && now.Sub(s.st.Asked) > s.p.Provision || s.unasked())
	if d.Act {
		s.st.Asked = now
	}
	if d.Desired < d.Live {
		d.Victims = s.in.victims(d.Live - d.Desired)
	}
	d.Reason = s.reason()
}

// unasked reports whether the count that stands was only advised when it changed:
// whoever lets the engine act now need not wait until it is overdue. When somebody did
// more by hand than was advised, nothing is taken back.
func (s *step) unasked() bool {
	if len(s.st.Changes) == 0 || s.in.Partial != "" || s.p.Pause != PauseNone {
		return false
	}
	last := s.st.Changes[len(s.st.Changes)-1]
	missing := last.To > last.From && s.d.Live < s.d.Desired || last.To < last.From && s.d.Live > s.d.Desired
	return missing && s.st.Asked.Before(last.At)
}

// overdue reports whether the last change should have been carried out by now.
func (s *step) overdue() bool {
	if len(s.st.Changes) == 0 {
		return false
	}
	return s.in.At.Sub(s.st.Changes[len(s.st.Changes)-1].At) > s.p.Provision
}
