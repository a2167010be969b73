package ui

import (
	"math"
	"strconv"
)

// Gauge is a share between 0 and its full scale, with the marks where somebody
// should look. All values have one unit.
type Gauge struct {
	Now   float64
	Usual float64 // p95 of the last days; 0: not known
	Warn  float64 // 0: there is no mark
	Crit  float64
	Full  float64 // right end; 0: so that critical sits at 90%, or 1
	Kind  string  // state of the fill: "", warn, crit
	Label string  // says it in words
}

// scaled is where v lies, between 0 and 1.
func (g *Gauge) scaled(v float64) float64 {
	full := g.Full
	if full <= 0 {
		full = 1
		if g.Crit > 0 {
			full = g.Crit / 0.9
		}
	}
	return min(max(v/full, 0), 1)
}

// percent writes a share as SVG wants it.
func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1000)/10, 'f', -1, 64) + "%"
}
