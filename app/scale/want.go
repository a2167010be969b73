package scale

import (
	"fmt"
	"math"
)

// A Want is what one signal asks for, and why.
type Want struct {
	Signal Signal  `json:"signal"`
	Value  float64 `json:"value"`  // mean of one instance, after the conservative filling
	Target float64 `json:"target"` // what one instance should carry
	Nodes  int     `json:"nodes"`  // instances that the load is shared by
	Lost   int     `json:"lost,omitempty"`
	Count  int     `json:"count"` // instances asked for
	Bare   int     `json:"bare"`  // instances by the known load alone: no filling, tolerance or headroom
	Known  bool    `json:"known"` // some node had a value
	Reason string  `json:"reason"`
}

// load is one signal over the nodes, sorted by how far each value can be used.
type load struct {
	sum    float64 // of the values that count
	known  int     // nodes that they come from
	lost   int     // live nodes without a value
	warm   int     // live nodes whose value does not count yet
	shared int     // live nodes
}

func (in *Inputs) load(s Signal) (l load) {
	for i := range in.Nodes {
		n := &in.Nodes[i]
		r := n.Values[s]
		if n.State != Draining {
			l.shared++
		}
		switch {
		case n.State == Draining && !s.Additive():
			// Its share says nothing about those that stay; its clients do, below.
		case n.State == Warming && !s.Additive():
			l.warm++ // starting is work, but no demand
		case r.State == Fresh:
			l.sum += r.Value
			if n.State != Draining {
				l.known++
			}
		case r.State == Idle:
			l.known++
		case n.State != Draining:
			l.lost++
		}
	}
	if s == Connections {
		l.sum += in.Waiting
	}
	return l
}

// want applies the formula to one target. up and down carry the tolerances,
// widened where scaling flaps.
func (in *Inputs) want(t Target, up, down Direction, zero bool) Want {
	l := in.load(t.Signal)
	w := Want{Signal: t.Signal, Target: t.Value, Nodes: l.shared, Lost: l.lost, Known: l.known > 0 || l.sum > 0}
	if !w.Known {
		w.Count = l.shared
		w.Reason = "no node has a value: no fewer instances, and no more for this signal"
		if l.shared == 0 {
			w.Reason = "no nodes"
		}
		return w
	}
	w.Bare = ceil(l.sum / t.Value)
	if zero && t.Signal.Additive() && l.sum <= t.Activation {
		w.Reason = fmt.Sprintf("%s is not above the activation at %s: none needed", show(t.Signal, l.sum), show(t.Signal, t.Activation))
		return w
	}
	if l.shared == 0 {
		w.Count = max(1, w.Bare)
		w.Value = l.sum
		w.Reason = fmt.Sprintf("no instance yet, %s wait", show(t.Signal, l.sum))
		return w
	}
	mean, n := l.mean(t.Signal), float64(l.shared)
	ratio := mean / t.Value
	switch {
	case ratio > 1:
		// What is not known counts as nothing, so that a gap starts no instance.
		filled := l.sum / n / t.Value
		w.Value = filled * t.Value
		w.Count = l.shared
		if filled > 1+up.Tolerance+epsilon {
			w.Count = w.Bare
		}
		w.Reason = in.reasonUp(&w, mean, l, up)
	default:
		// What is not known counts as full, so that a gap ends no instance.
		filled := (l.sum + float64(l.lost)*t.Value + float64(l.warm)*mean) / n / t.Value
		w.Value = filled * t.Value
		w.Count = l.shared
		if filled < 1-down.Tolerance-epsilon {
			w.Count = min(l.shared, ceil(n*filled/(1-down.Headroom)))
		}
		w.Reason = in.reasonDown(&w, mean, l, down)
	}
	switch {
	case !zero:
	case t.Signal.Additive() || t.Activation > 0 && mean > t.Activation:
		w.Count = max(1, w.Count)
	case w.Count == 1:
		// A running instance always has a little load of its own: a share alone does
		// not keep the last one.
		w.Count, w.Reason = 0, w.Reason+"; the last instance is kept by connections and messages only"
	}
	return w
}

// mean is that of one instance: the true sum over all for what adds up, and over
// those that count for shares.
func (l load) mean(s Signal) float64 {
	if s.Additive() {
		if n := l.shared - l.lost; n > 0 {
			return l.sum / float64(n)
		}
		return l.sum
	}
	if l.known == 0 {
		return 0
	}
	return l.sum / float64(l.known)
}

// epsilon absorbs the rounding of sums: 0.7+0.7+0.7 over 3 is not above 0.7.
const epsilon = 1e-9

// ceil rounds up, but forgives what rounding added, and stays a sane int.
func ceil(v float64) int {
	if !(v > 0) {
		return 0
	}
	return int(min(math.Ceil(v-epsilon), MaxInstances*10))
}

func (in *Inputs) reasonUp(w *Want, mean float64, l load, up Direction) string {
	text := fmt.Sprintf("%s an instance is above %s", show(w.Signal, mean), show(w.Signal, w.Target))
	switch {
	case w.Count > l.shared:
		text += fmt.Sprintf(": %d × %s / %s = %.2f, so %d", l.shared, show(w.Signal, w.Value), show(w.Signal, w.Target), float64(l.shared)*w.Value/w.Target, w.Count)
	case l.lost+l.warm > 0:
		text += ", but not when nodes without a value count as empty"
	default:
		text += fmt.Sprintf(", but within the tolerance of %.0f%%", up.Tolerance*100)
	}
	return text + l.note()
}

func (in *Inputs) reasonDown(w *Want, mean float64, l load, down Direction) string {
	text := fmt.Sprintf("%s an instance is not above %s", show(w.Signal, mean), show(w.Signal, w.Target))
	switch {
	case w.Count < l.shared:
		text += fmt.Sprintf(": %d × %s / %s with %.0f%% to spare, so %d", l.shared, show(w.Signal, w.Value), show(w.Signal, w.Target), down.Headroom*100, w.Count)
	case ceil(float64(l.shared)*w.Value/w.Target) < l.shared:
		text += ", but fewer would leave too little to spare"
	default:
		text += fmt.Sprintf(": %d are right", l.shared)
	}
	return text + l.note()
}

func (l load) note() string {
	switch {
	case l.lost > 0 && l.warm > 0:
		return fmt.Sprintf(" (%d without a value, %d warming up)", l.lost, l.warm)
	case l.lost > 0:
		return fmt.Sprintf(" (%d without a value)", l.lost)
	case l.warm > 0:
		return fmt.Sprintf(" (%d warming up)", l.warm)
	}
	return ""
}

// show writes a value with its unit for people.
func show(s Signal, v float64) string {
	switch s.Unit() {
	case "share":
		return fmt.Sprintf("%s %.1f%%", s, v*100)
	case "seconds":
		return fmt.Sprintf("%s %.0f ms", s, v*1000)
	case "bytes":
		if v >= 1e9 {
			return fmt.Sprintf("%s %.2f GB", s, v/1e9)
		}
		return fmt.Sprintf("%s %.1f MB", s, v/1e6)
	}
	return fmt.Sprintf("%s %s", s, exactly(v))
}

// exactly writes a count with all of its digits before the point, in threes, and
// with up to two behind it where it is small: a value must not look equal to a
// threshold that it lies above.
func exactly(v float64) string {
	if !finite(v) || math.Abs(v) >= 1e15 {
		return fmt.Sprintf("%g", v)
	}
	if v < 1000 {
		return trimZero(fmt.Sprintf("%.2f", v))
	}
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
