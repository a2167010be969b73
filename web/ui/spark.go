package ui

import (
	"slices"
	"strconv"
	"strings"
)

// The drawing area of a sparkline, in its own units; the browser stretches it.
const (
	sparkWidth  = 96
	sparkTop    = 4
	sparkBottom = 26
)

// Spark is a small chart of numbers that are equally far apart in time. It starts
// at zero, so that a flat line is flat.
type Spark struct {
	Points []float64
	Label  string // says the finding in words, for those who do not see it
}

// at is the place of point i.
func (s Spark) at(i int) (x, y float64) {
	x = sparkWidth * float64(i) / float64(len(s.Points)-1)
	y = sparkBottom
	if top := slices.Max(s.Points); top > 0 {
		y -= (sparkBottom - sparkTop) * s.Points[i] / top
	}
	return x, y
}

func (s Spark) line() string {
	var b strings.Builder
	for i := range s.Points {
		x, y := s.at(i)
		b.WriteByte("ML"[min(i, 1)])
		b.WriteString(number(x))
		b.WriteByte(' ')
		b.WriteString(number(y))
	}
	return b.String()
}

func (s Spark) last() string {
	x, y := s.at(len(s.Points) - 1)
	return "M" + number(x) + " " + number(y) + "h0"
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
