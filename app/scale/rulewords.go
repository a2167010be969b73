package scale

import (
	"fmt"
	"strings"
	"time"
)

// neverReached is the threshold of a rule that fires for want of values only: no
// fleet holds so much of anything that is counted.
const neverReached = 1e9

// OfSilence says that the rule fires because nothing is heard any more, never
// because of a value: its threshold says nothing to people.
func (r *Rule) OfSilence() bool {
	return r.NoData == NoDataFire && !r.Below && !r.OfCapacity && r.Threshold >= neverReached
}

// Limit writes the threshold for people, in the unit of the signal; for a rule of
// silence, how long that may last.
func (r *Rule) Limit() string {
	if r.OfSilence() {
		return "no sample for " + span(r.NoDataAfter)
	}
	return r.Measure(r.Threshold)
}

// Back writes for people what it takes to be over.
func (r *Rule) Back() string {
	if r.OfSilence() {
		return "samples again"
	}
	return r.Measure(r.Clear)
}

// Standing writes the last value of an alert of the rule for people.
func (r *Rule) Standing(a *Alert, now time.Time) string {
	switch {
	case a.NoData && !a.Seen.IsZero() && now.After(a.Seen):
		return "no sample for " + span(now.Sub(a.Seen))
	case a.NoData:
		return "no sample"
	case r.OfSilence():
		return "heard"
	}
	return r.Measure(a.Value)
}

// Extreme writes the worst value of an alert of the rule for people.
func (r *Rule) Extreme(a *Alert) string {
	if r.OfSilence() {
		return "silent"
	}
	return r.Measure(a.Worst)
}

// Measure writes a value of the rule's signal with its unit and without its name.
func (r *Rule) Measure(v float64) string {
	if r.OfCapacity {
		return fmt.Sprintf("%s of capacity", percent(v))
	}
	unit := r.Signal.Unit()
	switch {
	case unit == "share":
		return percent(v)
	case unit == "seconds" && v < 1:
		return exactly(v*1000) + " ms"
	case unit == "seconds":
		return exactly(v) + " s"
	case strings.HasPrefix(unit, "bytes"):
		return bytesText(v) + strings.TrimPrefix(unit, "bytes")
	}
	return exactly(v) + " " + unit
}

// Unit names what value and threshold of the rule's alerts are counted in: share,
// seconds, connections, …
func (r *Rule) Unit() string {
	switch {
	case r.OfSilence():
		return "seconds"
	case r.OfCapacity:
		return "share"
	}
	return r.Signal.Unit()
}

// Figures are the value and the threshold of an alert of the rule, in Unit: for a
// rule of silence, how long it has lasted and may last.
func (r *Rule) Figures(a *Alert, now time.Time) (value, threshold float64) {
	if !r.OfSilence() {
		return a.Value, r.Threshold
	}
	if a.NoData && now.After(a.Seen) {
		value = now.Sub(a.Seen).Truncate(time.Millisecond).Seconds()
	}
	return value, r.NoDataAfter.Seconds()
}

func percent(v float64) string { return trimZero(fmt.Sprintf("%.2f", v*100)) + "%" }

func bytesText(v float64) string {
	switch {
	case v >= 1e9:
		return trimZero(fmt.Sprintf("%.2f", v/1e9)) + " GB"
	case v >= 1e6:
		return trimZero(fmt.Sprintf("%.1f", v/1e6)) + " MB"
	case v >= 1e3:
		return trimZero(fmt.Sprintf("%.1f", v/1e3)) + " kB"
	}
	return exactly(v) + " B"
}

// span writes a time in whole seconds below two minutes, and shorter above.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return strings.TrimSuffix(d.String(), "0s")
}
