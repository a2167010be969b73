package ui

import (
	"math"
	"strconv"
)

// axis is the distance of the labels of a panel whose values go up to top, and what
// writes them. Every label says the value of its line: none is rounded to another, and
// all have one unit.
func (p *Panel) axis(top float64) (step float64, label func(float64) string) {
	if p.Bytes {
		return bytesAxis(p.Low, top)
	}
	step = niceStep((top - p.Low) / 3)
	seen := map[string]bool{}
	for v := p.Low; v < top+step*1.001; v += step {
		text := p.Format(v)
		if seen[text] || text != "" && text[0] == '<' {
			return step, decimals(step)
		}
		seen[text] = true
	}
	return step, p.Format
}

// decimals writes multiples of a step with as many digits as it has.
func decimals(step float64) func(float64) string {
	digits := max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	return func(v float64) string {
		if math.Abs(v) < step/1000 {
			return "0"
		}
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
}

// bytesAxis has round numbers of the largest unit that the values reach; below one
// KiB whole bytes.
func bytesAxis(low, top float64) (float64, func(float64) string) {
	units, unit, size := []string{"B", "KiB", "MiB", "GiB", "TiB"}, 0, 1.0
	for top-low >= 1024*size && unit < len(units)-1 {
		unit, size = unit+1, size*1024
	}
	step := niceStep((top-low)/3/size) * size
	if unit == 0 {
		step = max(step, 1)
	}
	write := decimals(step / size)
	return step, func(v float64) string {
		if math.Abs(v) < step/1000 {
			return "0"
		}
		return write(v/size) + " " + units[unit]
	}
}
