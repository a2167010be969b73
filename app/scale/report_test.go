package scale

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

// wellFormed reads a document as XML, which is stricter than any browser.
func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = false
	d.AutoClose = []string{"meta", "link", "br"}
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("not well formed: %v", err)
		}
	}
}

func TestReportIsSelfContained(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioNodeLoss, Peak: Demand{Connections: 3000}, Policy: wide(Capacity{}, 40), Seed: 1,
		Prices: Prices{Currency: "€", Instance: map[string]float64{"large": 0.05}}})
	raw, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	wellFormed(t, strings.Replace(page, "<!doctype html>", "", 1))
	for _, banned := range []string{"<script", "http://", "https://", "src=", "@import", "url(", "onclick", "NaN", "Inf"} {
		if strings.Contains(strings.ReplaceAll(page, `xmlns="http://www.w3.org/2000/svg"`, ""), banned) {
			t.Errorf("the page contains %q", banned)
		}
	}
	for _, wanted := range []string{"node-loss", "Delivery latency, ms", "Instances", "Cost so far, €", "View as table", "Scaling log", "storm", "<title id=", "<desc id="} {
		if !strings.Contains(page, wanted) {
			t.Errorf("the page does not contain %q", wanted)
		}
	}
	if len(raw) > 400_000 {
		t.Errorf("the page has %d bytes, want at most 400,000", len(raw))
	}
	if svg := r.SVG(); !strings.Contains(page, svg) {
		t.Error("the page does not hold the chart that SVG draws")
	} else {
		wellFormed(t, svg)
	}
}

func TestReportEscapes(t *testing.T) {
	r := mustSimulate(t, Simulation{Scenario: ScenarioSteady, Peak: Demand{Connections: 500}, Seed: 1,
		Capacity: Capacity{Connections: 900, Messages: 90, Source: `<script>alert("1")</script>`}, Prices: Prices{Currency: "</svg><b>", Instance: map[string]float64{"small": 1}}})
	raw, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if page := string(raw); strings.Contains(page, "<script") || strings.Contains(page, "</svg><b>") {
		t.Error("text from outside reached the page unescaped")
	}
}

func TestReportLongAndEmpty(t *testing.T) {
	long := mustSimulate(t, Simulation{Scenario: ScenarioDaily, Peak: Demand{Connections: 4000}, Policy: wide(Capacity{}, 40), Length: 14 * dayLength, Step: 10 * time.Second, Seed: 1})
	if len(long.Frames) > maxSimFrames {
		t.Errorf("got %d frames, want at most %d", len(long.Frames), maxSimFrames)
	}
	marks, log := long.events()
	if len(marks) > reportEvents || len(log) > reportLog {
		t.Errorf("got %d marks and %d entries", len(marks), len(log))
	}
	for _, r := range []Simulated{long, {}} {
		raw, err := r.HTML()
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, strings.Replace(string(raw), "<!doctype html>", "", 1))
	}
}

func TestNiceTicks(t *testing.T) {
	for _, highest := range []float64{0, 0.003, 0.7, 1, 4.99, 5, 15, 16, 99, 101, 1234, 200_000, 1e9, math.NaN(), math.Inf(1), -5} {
		ticks := niceTicks(highest)
		if len(ticks) < 3 || len(ticks) > 6 || ticks[0] != 0 || finite(highest) && ticks[len(ticks)-1] < highest {
			t.Errorf("%v: got %v", highest, ticks)
		}
	}
}

func TestTimeTicks(t *testing.T) {
	for _, length := range []time.Duration{time.Minute, 20 * time.Minute, 2 * time.Hour, dayLength, 14 * dayLength, 400 * dayLength} {
		if n := int(length / timeTick(length)); n > 8 {
			t.Errorf("%v: %d labels, want at most eight", length, n)
		}
	}
}

// TestChartBreaksLines: a missing value leaves a gap, and nothing is drawn of
// a line that has no value at all.
func TestChartBreaksLines(t *testing.T) {
	at := make([]time.Time, 5)
	for i := range at {
		at[i] = forecastStart.Add(time.Duration(i) * time.Minute)
	}
	c := chart{title: "a", desc: "b", from: at[0], to: at[4], panels: []panel{{title: "p", format: amount, lines: []line{
		{name: "gap", class: "ln", key: "k1", at: at, y: []float64{1, 2, math.NaN(), 3, 4}},
		{name: "nothing", class: "ln none", key: "k2", at: at, y: []float64{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()}},
	}}}}
	svg := c.svg("x")
	wellFormed(t, svg)
	_, path, _ := strings.Cut(svg, `<path class="ln" d="`)
	path, _, _ = strings.Cut(path, `"`)
	if strings.Count(path, "M") != 2 {
		t.Errorf("got path %q, want two pieces", path)
	}
	if strings.Contains(svg, `class="ln none"`) {
		t.Error("an empty line was drawn")
	}
}
