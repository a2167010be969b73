package ui

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"
)

func TestChartLabelsDaysAcrossASummerTimeChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := Chart{From: time.Date(2026, 3, 26, 12, 0, 0, 0, berlin), To: time.Date(2026, 4, 1, 12, 0, 0, 0, berlin), Zone: berlin}
	var got []string
	for _, tick := range c.timeTicks() {
		got = append(got, tick.label)
	}
	if want := "27 Mar 28 Mar 29 Mar 30 Mar 31 Mar 1 Apr"; !strings.Contains(strings.Join(got, " "), "29 Mar") || strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestChartTicksStayFew(t *testing.T) {
	to := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	for _, span := range []time.Duration{time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 90 * 24 * time.Hour, 400 * 24 * time.Hour} {
		c := Chart{From: to.Add(-span), To: to, Zone: time.UTC}
		if n := len(c.timeTicks()); n < 2 || n > 16 {
			t.Errorf("%v: got %d labels, want 2 to 16", span, n)
		}
	}
}

func TestChartLeavesGaps(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	points := []Point{{at, 1}, {at.Add(time.Second), 2}, {at.Add(2 * time.Second), math.NaN()}, {at.Add(3 * time.Second), 1}, {at.Add(30 * time.Second), 4}}
	c := Chart{From: at, To: at.Add(time.Minute)}
	path := c.path(points, 5*time.Second, false, func(v float64) float64 { return 10 - v })
	if got := strings.Count(path, "M"); got != 3 {
		t.Errorf("got %d runs in %q, want 3", got, path)
	}
	if strings.Contains(path, "NaN") {
		t.Errorf("got %q", path)
	}
}

func TestFigureSaysItInWords(t *testing.T) {
	at := time.Now()
	for _, points := range [][]Point{nil, {{at, 0}}, {{at, math.Inf(1)}}, {{at, 5}, {at.Add(time.Second), 1e12}}} {
		c := &Chart{ID: "x", Title: "<b>", Desc: "falls & rises", From: at.Add(-time.Hour), To: at, Panels: []Panel{{Head: "n", Lines: []Line{{Points: points, Area: true, End: true}}, Limits: []Limit{{V: 3, Label: "limit"}}, Bands: []Band{{}}}}, Events: []Mark{{At: at, No: 1}}}
		var b strings.Builder
		if err := Figure(c).Render(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "falls &amp; rises") || !strings.Contains(b.String(), "&lt;b&gt;") || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
			t.Errorf("%v: got %s", points, b.String())
		}
	}
}
