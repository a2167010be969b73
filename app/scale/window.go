package scale

import (
	"math"
	"time"
)

// A Mark is a count that was recommended at some time.
type Mark struct {
	At    time.Time `json:"at"`
	Count int       `json:"count"`
}

// A window is a rolling extreme: marks whose counts only fall (for the maximum)
// or only rise (for the minimum), so it holds at most one for each count.
// Functions return a new slice where they change one: a State is never shared.

// pushHigh adds a mark to a rolling maximum that looks back as far as keep.
func pushHigh(w []Mark, m Mark, keep time.Duration) []Mark {
	return push(w, m, keep, func(old int) bool { return old <= m.Count })
}

// pushLow adds a mark to a rolling minimum.
func pushLow(w []Mark, m Mark, keep time.Duration) []Mark {
	return push(w, m, keep, func(old int) bool { return old >= m.Count })
}

func push(w []Mark, m Mark, keep time.Duration, beaten func(int) bool) []Mark {
	out := make([]Mark, 0, len(w)+1)
	for _, old := range w {
		if m.At.Sub(old.At) <= keep && !beaten(old.Count) {
			out = append(out, old)
		}
	}
	return append(out, m)
}

// extreme is the rolling extreme over the last d. The first mark that is young
// enough is it, because later ones are beaten by it.
func extreme(w []Mark, now time.Time, d time.Duration) (Mark, bool) {
	for _, m := range w {
		if now.Sub(m.At) <= d {
			return m, true
		}
	}
	return Mark{}, false
}

// A Change is one change of the decided count.
type Change struct {
	At   time.Time `json:"at"`
	From int       `json:"from"`
	To   int       `json:"to"`
}

// maxActions bounds the remembered changes; rates and flap detection look back
// no further.
const maxActions = 64

// within sums the instances added and removed in the last period.
func within(changes []Change, now time.Time, period time.Duration) (added, removed int) {
	for _, c := range changes {
		if now.Sub(c.At) >= period {
			continue
		}
		if c.To > c.From {
			added += c.To - c.From
		} else {
			removed += c.From - c.To
		}
	}
	return added, removed
}

// most is the highest count that the rates allow now.
func (d *Direction) most(base int, changes []Change, now time.Time) int {
	return d.bound(base, changes, now, func(start int, r Rate) int {
		byCount := start + r.Count
		byShare := start
		if r.Percent > 0 {
			byShare = ceil(float64(start) * (1 + r.Percent/100))
		}
		return max(byCount, byShare)
	}, func(a, b int) bool { return a > b })
}

// least is the lowest count that the rates allow now. A share is rounded in
// favour of the change, as the HPA does, so that one of two can go at 50%.
func (d *Direction) least(base int, changes []Change, now time.Time) int {
	return d.bound(base, changes, now, func(start int, r Rate) int {
		byCount := start - r.Count
		byShare := start
		if r.Percent > 0 {
			byShare = int(float64(start) * max(0, 1-r.Percent/100))
		}
		return max(0, min(byCount, byShare))
	}, func(a, b int) bool { return a < b })
}

// bound applies each rate to the count at the start of its period and selects
// among the results; further(a, b) reports that a allows a larger change than b.
func (d *Direction) bound(base int, changes []Change, now time.Time, limit func(start int, r Rate) int, further func(a, b int) bool) int {
	if d.Select == SelectDisabled {
		return base
	}
	best, found := 0, false
	for _, r := range d.Rates {
		added, removed := within(changes, now, r.Period)
		l := limit(base-added+removed, r)
		if !found || further(l, best) == (d.Select == SelectMax) {
			best, found = l, true
		}
	}
	if !found {
		if further(1, 0) {
			return math.MaxInt32
		}
		return 0
	}
	return best
}

// reversals counts the changes of direction within the last d.
func reversals(changes []Change, now time.Time, d time.Duration) (n int) {
	up, begun := false, false
	for _, c := range changes {
		if now.Sub(c.At) > d || c.To == c.From {
			continue
		}
		if rising := c.To > c.From; !begun {
			up, begun = rising, true
		} else if rising != up {
			up = rising
			n++
		}
	}
	return n
}
