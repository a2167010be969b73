package scale

import (
	"fmt"
	"time"
)

// CompareSpan is how long before and after an action is looked at.
const CompareSpan = 30 * time.Minute

// A Verdict says what came of an action.
type Verdict string

// The verdicts.
const (
	Helped   Verdict = "helped"
	NoEffect Verdict = "no_effect"
	Worse    Verdict = "worse"
	Unclear  Verdict = "unclear" // one side has too few values
)

// A Side is one half of a comparison.
type Side struct {
	Seconds    uint64  `json:"seconds"` // with a value
	Instances  float64 `json:"instances"`
	Value      float64 `json:"value"` // of the deciding signal, for one instance where it adds up
	LatencyP95 float64 `json:"latency_p95"`
	ErrorRate  float64 `json:"error_rate"`
}

// A Comparison is the data of an outcome entry.
type Comparison struct {
	Signal  Signal  `json:"signal"`
	From    int     `json:"from"`
	To      int     `json:"to"`
	Before  Side    `json:"before"`
	After   Side    `json:"after"`
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
}

// A difference below a tenth is noise; latency below the document's target of
// 200 ms and errors below half a percent hurt nobody.
const (
	compareNoise   = 0.1
	harmlessP95    = 0.2
	harmlessErrors = 0.005
	// compareLeast is how many seconds of values each side needs.
	compareLeast = 5 * 60
)

// sideOf reads one half from the merged rollup of its span.
func sideOf(r *Rollup, s Signal) Side {
	v := r.Stat(s)
	side := Side{Seconds: v.Count, Instances: r.Instances.Mean(), Value: v.Avg, LatencyP95: r.Stat(DeliveryP95).P95, ErrorRate: r.Stat(ErrorRate).Avg}
	if _, _, latency := s.quantile(); latency {
		side.Value = v.P95
	}
	if s.Additive() && side.Instances > 0 {
		side.Value /= side.Instances
	}
	return side
}

// Compare holds the time after an action against that before it, by the signal
// that decided and by what users feel.
func Compare(s Signal, from, to int, before, after *Rollup) Comparison {
	c := Comparison{Signal: s, From: from, To: to, Before: sideOf(before, s), After: sideOf(after, s)}
	b, a := c.Before, c.After
	slower := a.LatencyP95 > harmlessP95 && a.LatencyP95 > b.LatencyP95*(1+compareNoise)
	failing := a.ErrorRate > harmlessErrors && a.ErrorRate > b.ErrorRate*(1+compareNoise)
	switch {
	case min(b.Seconds, a.Seconds) < compareLeast:
		c.Verdict, c.Why = Unclear, fmt.Sprintf("%d s before and %d s after have values, want %d each", b.Seconds, a.Seconds, compareLeast)
	case slower:
		c.Verdict, c.Why = Worse, fmt.Sprintf("p95 of delivery went from %.0f to %.0f ms", b.LatencyP95*1000, a.LatencyP95*1000)
	case failing:
		c.Verdict, c.Why = Worse, fmt.Sprintf("errors went from %.2f%% to %.2f%%", b.ErrorRate*100, a.ErrorRate*100)
	case to < from && a.Instances < b.Instances*(1-compareNoise/2):
		c.Verdict, c.Why = Helped, fmt.Sprintf("%.1f instances instead of %.1f, and users felt nothing", a.Instances, b.Instances)
	case to > from && a.Value < b.Value*(1-compareNoise):
		c.Verdict, c.Why = Helped, fmt.Sprintf("an instance went from %s to %s", show(s, b.Value), show(s, a.Value))
	default:
		c.Verdict, c.Why = NoEffect, fmt.Sprintf("an instance went from %s to %s", show(s, b.Value), show(s, a.Value))
	}
	return c
}
