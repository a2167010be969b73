package ui

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// labels are those of a panel's axis, from the bottom.
func labels(p Panel) (out []string) {
	c := Chart{From: time.Unix(0, 0), To: time.Unix(60, 0), Panels: []Panel{p}}
	drawn := c.panel(&p, 0)
	for _, g := range drawn.grid {
		out = append(out, g.label)
	}
	return out
}

func TestAxisIsLabelledInTrueUnits(t *testing.T) {
	line := func(v float64) []Line { return []Line{{Points: []Point{{At: time.Unix(1, 0), V: v}}}} }
	for _, c := range []struct {
		name  string
		panel Panel
		want  string
	}{
		{"nothing waits", Panel{Bytes: true}, "0|1 B"},
		{"one byte", Panel{Bytes: true, Lines: line(1)}, "0|1 B"},
		{"bytes", Panel{Bytes: true, Lines: line(700)}, "0|500 B|1000 B"},
		{"a KiB and some", Panel{Bytes: true, Lines: line(1500)}, "0|0.5 KiB|1.0 KiB|1.5 KiB"},
		{"KiB", Panel{Bytes: true, Lines: line(60_000)}, "0|20 KiB|40 KiB|60 KiB"},
		{"MiB", Panel{Bytes: true, Lines: line(5 << 20)}, "0|2 MiB|4 MiB|6 MiB"},
		{"rates", Panel{Lines: line(8400)}, "0|5k|10k"},
		{"small rates", Panel{Lines: line(0.12)}, "0|0.05|0.10|0.15"},
		{"smaller rates", Panel{Lines: line(0.0021)}, "0|0.001|0.002|0.003"},
		{"empty", Panel{}, "0|0.5|1"},
	} {
		if got := strings.Join(labels(c.panel), "|"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestAxisLabelsDiffer: whatever the values, no two lines of an axis say the same, and
// none says less than a number.
func TestAxisLabelsDiffer(t *testing.T) {
	for e := -4.0; e < 13; e += 0.07 {
		for _, bytes := range []bool{false, true} {
			top := math.Pow(10, e)
			if bytes && top < 1 {
				continue
			}
			got := labels(Panel{Bytes: bytes, Lines: []Line{{Points: []Point{{At: time.Unix(1, 0), V: top}}}}})
			sorted := slices.Compact(slices.Sorted(slices.Values(got)))
			if len(sorted) != len(got) || len(got) < 2 || len(got) > 5 || strings.Contains(strings.Join(got, ""), "<") {
				t.Errorf("top %g, bytes %v: got %v, want 2 to 5 different numbers", top, bytes, got)
			}
		}
	}
}
