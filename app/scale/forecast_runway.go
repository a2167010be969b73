package scale

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A Runway says in how many days a quantity reaches a limit.
type Runway struct {
	State  RunwayState `json:"state"`
	Now    float64     `json:"now"`     // daily peak at the end of the history, by the trend
	Limit  float64     `json:"limit"`   // the limit asked about
	PerDay float64     `json:"per_day"` // growth of the daily peak

	// Days until the limit, with the range in which it lies four times out of five.
	// They are set when State is RunwayRising; Late is 0 when the range has no end.
	Days  float64 `json:"days,omitempty"`
	Early float64 `json:"early,omitempty"`
	Late  float64 `json:"late,omitempty"`
}

// A RunwayState is what a runway is.
type RunwayState string

// The states.
const (
	RunwayUnknown RunwayState = "unknown" // less than three days of history
	RunwayFlat    RunwayState = "flat"    // no growth, or none within a year
	RunwayRising  RunwayState = "rising"
	RunwayReached RunwayState = "reached"
)

const (
	runwayDays    = 3   // of history at least
	runwayHorizon = 365 // days beyond which nothing is said
)

// DaysUntil finds when the daily peaks of a series reach a limit. Growth is the
// median of all slopes between two days (Theil and Sen), so that single wild days
// do not move it; from two weeks on only between the same days of the week.
func DaysUntil(s Series, limit float64) Runway {
	r := Runway{State: RunwayUnknown, Limit: limit}
	days, peaks := dailyPeaks(s)
	if len(days) < runwayDays || !finite(limit) {
		return r
	}
	days, peaks = busyDays(days, peaks)
	slope := medianSlope(days, peaks)
	level, spread, err := aroundLine(days, peaks, slope)
	r.PerDay, r.Now = slope, max(0, level)
	switch {
	case r.Now >= limit:
		r.State = RunwayReached
		return r
	case slope <= 0 || (limit-level)/slope > runwayHorizon:
		r.State = RunwayFlat
		if fast := slope + z80*err; fast > 0 {
			if early := (limit - level - z80*spread) / fast; early < runwayHorizon {
				r.Early = max(0, early)
			}
		}
		return r
	}
	r.State = RunwayRising
	r.Days = (limit - level) / slope
	r.Early = min(r.Days, max(0, (limit-level-z80*spread)/(slope+z80*err)))
	if slow := slope - z80*err; slow > 0 {
		if late := (limit - level + z80*spread) / slow; late <= runwayHorizon {
			r.Late = max(r.Days, late)
		}
	}
	return r
}

// busyDays leaves out the quiet days of the week, such as weekends: a limit is
// reached on a busy day, and quiet days grow less. It needs two weeks to tell.
func busyDays(days, peaks []float64) (d, p []float64) {
	if days[len(days)-1]-days[0] < 13 {
		return days, peaks
	}
	slope := medianSlope(days, peaks)
	var byDay [7][]float64
	for i := range days {
		k := weekday(days[i])
		byDay[k] = append(byDay[k], peaks[i]-slope*days[i])
	}
	var levels [7]float64
	highest := math.Inf(-1)
	for k := range byDay {
		slices.Sort(byDay[k])
		levels[k] = median(byDay[k])
		highest = max(highest, levels[k])
	}
	for i := range days {
		if levels[weekday(days[i])] >= busyShare*highest {
			d, p = append(d, days[i]), append(p, peaks[i])
		}
	}
	if len(d) < runwayDays {
		return days, peaks
	}
	return d, p
}

// busyShare is the share of the busiest day's peak from which a day is busy.
const busyShare = 0.8

// weekday numbers days from the end of the history by seven.
func weekday(day float64) int { return ((int(math.Round(day)) % 7) + 7) % 7 }

// dailyPeaks is the 99th percentile of each day, with the day counted from the
// end of the history. A last day of less than six hours is left out: its peak is
// still to come.
func dailyPeaks(s Series) (days, peaks []float64) {
	perDay := int(dayLength / max(s.Step, time.Second))
	if perDay < 1 || s.validate() != nil {
		return nil, nil
	}
	for end := len(s.Values); end > 0; end -= perDay {
		from := max(0, end-perDay)
		var known []float64
		for _, v := range s.Values[from:end] {
			if finite(v) {
				known = append(known, v)
			}
		}
		if end-from < perDay && end-from < perDay/2 || len(known)*4 < perDay {
			continue
		}
		slices.Sort(known)
		days = append(days, -float64(len(s.Values)-end)/float64(perDay))
		peaks = append(peaks, known[(len(known)-1)*99/100])
	}
	slices.Reverse(days)
	slices.Reverse(peaks)
	return days, peaks
}

func medianSlope(days, peaks []float64) float64 {
	collect := func(every int) (out []float64) {
		for i := range days {
			for k := range i {
				if gap := days[i] - days[k]; int(math.Round(gap))%every == 0 {
					out = append(out, (peaks[i]-peaks[k])/gap)
				}
			}
		}
		return out
	}
	slopes := collect(7)
	if len(slopes) < 7 {
		slopes = collect(1)
	}
	slices.Sort(slopes)
	return median(slopes)
}

// median of a sorted slice, 0 for an empty one.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// aroundLine is the level of the line at the end of the history, the spread of
// the days around it and the standard error of its slope, widened where
// neighbouring days deviate alike. With a week's season in it the highest day of
// the week decides the level: a limit is reached on the busiest day first.
func aroundLine(days, peaks []float64, slope float64) (level, spread, err float64) {
	rest := make([]float64, len(days))
	for i := range days {
		rest[i] = peaks[i] - slope*days[i]
	}
	period := 1
	if days[len(days)-1]-days[0] >= 13 {
		period = 7
	}
	// The level of each day of the week is a median; what is left is noise.
	byDay := make(map[int][]float64, period)
	key := func(i int) int { return ((int(math.Round(days[i])) % period) + period) % period }
	for i, v := range rest {
		byDay[key(i)] = append(byDay[key(i)], v)
	}
	levels := make(map[int]float64, period)
	level = math.Inf(-1)
	for k, v := range byDay {
		slices.Sort(v)
		levels[k] = median(v)
		level = max(level, levels[k])
	}
	var squares, both, before, center float64
	for i := range rest {
		e := rest[i] - levels[key(i)]
		squares += e * e
		if i > 0 {
			both += e * before
		}
		before = e
		center += days[i]
	}
	center /= float64(len(days))
	spread = math.Sqrt(squares / float64(max(1, len(days)-len(byDay)-1)))
	var wide float64
	for _, d := range days {
		wide += (d - center) * (d - center)
	}
	if wide > 0 {
		alike := 0.0
		if squares > 0 {
			alike = min(max(both/squares, 0), 0.9)
		}
		err = spread / math.Sqrt(wide) * math.Sqrt((1+alike)/(1-alike))
	}
	return level, spread, err
}

// A LimitRow is a quantity with its limit, for a list of what breaks first.
type LimitRow struct {
	Name   string `json:"name"`
	SetBy  string `json:"set_by,omitempty"` // where the limit comes from
	Runway Runway `json:"runway"`
	// Guessed says that the limit follows from the document's capacity of a node, and
	// not from anything that was measured or configured here.
	Guessed bool `json:"guessed,omitempty"`
}

// FirstToBreak sorts rows by what is reached first; what is not rising or not
// known comes last, in the order it was given.
func FirstToBreak(rows []LimitRow) {
	rank := func(r *Runway) float64 {
		switch r.State {
		case RunwayReached:
			return -1
		case RunwayRising:
			return r.Days
		}
		return math.Inf(1)
	}
	slices.SortStableFunc(rows, func(a, b LimitRow) int { return cmp.Compare(rank(&a.Runway), rank(&b.Runway)) })
}

// FullIn says how long until a load that goes on as in the given (recent) series
// reaches limit: "full in 12 min". It is false when the load does not rise.
func FullIn(s Series, limit float64) (time.Duration, bool) {
	var n, sx, sy, sxx, sxy float64
	for i, v := range s.Values {
		if finite(v) {
			x := float64(i)
			n, sx, sy, sxx, sxy = n+1, sx+x, sy+v, sxx+x*x, sxy+x*v
		}
	}
	wide := n*sxx - sx*sx
	if n < 3 || wide <= 0 || s.validate() != nil {
		return 0, false
	}
	slope := (n*sxy - sx*sy) / wide
	now := (sy-slope*sx)/n + slope*float64(len(s.Values)-1)
	if now >= limit {
		return 0, true
	}
	steps := (limit - now) / slope
	if slope <= 0 || steps*s.Step.Hours() > 24*runwayHorizon {
		return 0, false
	}
	return time.Duration(steps * float64(s.Step)), true
}
