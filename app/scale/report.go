package scale

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

//go:embed report.html.tmpl
var reportPage string

//go:embed report.css
var reportCSS string

// reportView is what the page shows.
type reportView struct {
	Title   string
	CSS     template.CSS
	Verdict string
	State   reportState
	Tiles   []reportTile
	Chart   template.HTML
	Rows    []reportRow
	Log     []reportEntry
	LogNote string
	Facts   []reportFact
}

type reportState struct{ Class, Icon, Word, Why string }
type reportTile struct{ Name, Value, Unit, Note string }
type reportFact struct{ Name, Value string }
type reportRow struct {
	At    string
	Cells []string
}
type reportEntry struct {
	Number            int
	At, Kind, Summary string
}

// Bounds of the page.
const (
	reportRows   = 96
	reportLog    = 500
	reportEvents = 16
)

// HTML renders the result as one page that needs nothing from elsewhere: no
// script, no font, no image. It can be mailed and printed.
func (r *Simulated) HTML() ([]byte, error) {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	events, log := r.events()
	c := r.chart(events)
	v := reportView{
		Title: fmt.Sprintf("Simulation: %s, %s", r.Simulation.Scenario, length(r.Simulation.Length)),
		CSS:   template.CSS(reportCSS), Verdict: r.verdict(), State: r.state(), Tiles: r.tiles(),
		Chart: template.HTML(c.svg("sim")), // drawn by us, with every text escaped
		Rows:  r.rows(), Log: log, Facts: r.facts(),
	}
	v.LogNote = fmt.Sprintf("%d entries, times in UTC", len(r.Entries)+r.Dropped)
	if shown := len(log); shown < len(r.Entries)+r.Dropped {
		v.LogNote = fmt.Sprintf("the first %d of %d entries, times in UTC", shown, len(r.Entries)+r.Dropped)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

// SVG draws the charts alone.
func (r *Simulated) SVG() string {
	events, _ := r.events()
	c := r.chart(events)
	return c.svg("sim")
}

func (r *Simulated) verdict() string {
	s := &r.Summary
	return fmt.Sprintf("The fleet went from %d to %d instances for up to %s connections and %s messages a second: %d times up and %d times down. Messages took %.0f ms at worst (p95).",
		s.MinLive, s.MaxLive, amount(s.PeakConnections), amount(s.PeakMessages), s.Ups, s.Downs, s.WorstP95*1000)
}

// The icons of the dashboard: a tick in a circle, a triangle, an octagon.
const (
	iconOK   = "M8 2.25a5.75 5.75 0 1 1 0 11.5a5.75 5.75 0 0 1 0-11.5zM5.5 8.2l1.8 1.8 3.2-3.7"
	iconWarn = "M8 2.5 14 13H2zM8 6.5V9.5M8 11.3v.1"
	iconCrit = "M5.5 2.2h5l3.3 3.3v5l-3.3 3.3h-5L2.2 10.5v-5zM8 5v3.5M8 10.8v.1"
)

// state judges by the document's own numbers.
func (r *Simulated) state() reportState {
	s := &r.Summary
	switch {
	case s.Critical > criticalFor || s.Errors > criticalFor: // what a critical alert would tell
		return reportState{"crit", iconCrit, "Not held", fmt.Sprintf("p95 above 1,000 ms for %s, errors above 2%% for %s", length(s.Critical), length(s.Errors))}
	case s.SlowestUp > ScaleUpWithin:
		return reportState{"crit", iconCrit, "Not held", fmt.Sprintf("a need waited %s for its decision, the document allows %s", length(s.SlowestUp), length(ScaleUpWithin))}
	case s.Slow > 0 || s.Errors > 0 || s.Unserved > 0.01:
		return reportState{"warn", iconWarn, "Held with pain", fmt.Sprintf("p95 above 200 ms for %s; errors above 2%% for %s; %.2f%% of the wanted time not connected",
			length(s.Slow), length(s.Errors), s.Unserved*100)}
	}
	return reportState{"ok", iconOK, "Held", "p95 stayed below 200 ms, errors below 2%, and each need was answered within 30 s"}
}

func (r *Simulated) tiles() []reportTile {
	s := &r.Summary
	saved := ""
	if s.StaticHours > 0 {
		saved = fmt.Sprintf("%.0f%% less than always %d", (1-s.InstanceHours/s.StaticHours)*100, s.MaxLive)
	}
	tiles := []reportTile{
		{"Connections", amount(s.PeakConnections), "at once", fmt.Sprintf("%.2f%% of the wanted time missing", s.Unserved*100)},
		{"Messages", amount(s.PeakMessages), "/s", "at the peak"},
		{"Instances", fmt.Sprintf("%d–%d", s.MinLive, s.MaxLive), "", fmt.Sprintf("bounds %d–%d", r.Simulation.Policy.Min, r.Simulation.Policy.Max)},
		{"Latency p95", fmt.Sprintf("%.0f", s.WorstP95*1000), "ms", "at worst; target 200 ms"},
		{"Use", amount(math.Round(s.InstanceHours*10) / 10), "instance-hours", saved},
	}
	if s.TotalCost > 0 {
		tiles = append(tiles, reportTile{"Cost", fmt.Sprintf("%.2f", s.TotalCost), s.Cost.Currency,
			fmt.Sprintf("%.2f if always %d; instances only", s.StaticCost, s.MaxLive)})
	} else {
		tiles = append(tiles, reportTile{"Slowest up", fmt.Sprintf("%.0f", s.SlowestUp.Seconds()), "s", "from need to decision; limit 30 s"})
	}
	return tiles
}

// events chooses which entries are numbered on the chart: all that happened to
// the fleet first, then decisions, as long as they do not crowd.
func (r *Simulated) events() ([]mark, []reportEntry) {
	numbered := make(map[int]bool)
	var taken []time.Time
	gap := r.Simulation.Length / 40
	free := func(at time.Time) bool {
		for _, t := range taken {
			if at.Sub(t).Abs() < gap {
				return false
			}
		}
		return len(taken) < reportEvents
	}
	for _, decisions := range []bool{false, true} {
		for i, e := range r.Entries[:min(len(r.Entries), reportLog)] {
			if (e.Kind == KindDecision) == decisions && turns(&e) && free(e.At) {
				numbered[i] = true
				taken = append(taken, e.At)
			}
		}
	}
	var marks []mark
	var log []reportEntry
	for i, e := range r.Entries[:min(len(r.Entries), reportLog)] {
		row := reportEntry{At: r.clock(e.At), Kind: e.Kind.String(), Summary: e.Summary}
		if numbered[i] {
			row.Number = len(marks) + 1
			marks = append(marks, mark{at: e.At, number: row.Number})
		}
		log = append(log, row)
	}
	return marks, log
}

// turns reports whether an entry marks a turn of events: a storm, an alert that
// begins to fire, a count that changed.
func turns(e *Entry) bool {
	switch e.Kind {
	case KindDecision:
		return strings.Contains(e.Summary, "scale up") || strings.Contains(e.Summary, "scale down")
	case KindAlert:
		return strings.Contains(e.Summary, ": "+Firing.String())
	}
	return e.Kind == KindStorm
}

// length writes a duration for people: 2 h, 14 days, 90 s.
func length(d time.Duration) string {
	switch {
	case d >= 2*dayLength && d%dayLength == 0:
		return fmt.Sprintf("%d days", d/dayLength)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d%time.Second == 0 && d < 10*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return d.String()
}

// clock writes a time, with its day where the simulation is longer than one.
func (r *Simulated) clock(at time.Time) string {
	if r.Simulation.Length > dayLength {
		return at.UTC().Format("Mon 2 Jan 15:04:05")
	}
	return at.UTC().Format("15:04:05")
}

func (r *Simulated) rows() []reportRow {
	every := max(1, (len(r.Frames)+reportRows-1)/reportRows)
	var out []reportRow
	for i := 0; i < len(r.Frames); i += every {
		f := &r.Frames[i]
		out = append(out, reportRow{At: r.clock(f.At), Cells: []string{
			amount(math.Round(f.Demand.Avg)), amount(math.Round(f.Connections.Avg)), amount(math.Round(f.Messages.Avg)), amount(f.Live.Max), amount(f.Ready.Min),
			fmt.Sprintf("%.0f%%", f.CPU.Avg*100), fmt.Sprintf("%.1f", f.P50.Avg*1000), fmt.Sprintf("%.1f", f.P95.Max*1000), fmt.Sprintf("%.2f%%", f.Errors.Max*100)}})
	}
	return out
}

func (r *Simulated) facts() []reportFact {
	s := &r.Simulation
	facts := []reportFact{
		{"Code", "The engine that runs live: the same policy, alert rules and decision framework, on an invented load and fleet"},
		{"Capacity of an instance", fmt.Sprintf("%s connections, %s messages a second (%s); the fleet grows above %s connections each", amount(s.Capacity.Connections),
			amount(s.Capacity.Messages), s.Capacity.Source, amount(s.Capacity.ScaleAt))},
		{"Bounds", fmt.Sprintf("%d to %d instances, in %d regions", s.Policy.Min, s.Policy.Max, len(s.Regions))},
		{"Latency", fmt.Sprintf("A model: each instance is one queue with a mean delivery of %v when idle; capacity in messages is 90%% of its processors. What cannot be done waits up to %s and then fails.", s.Model.Service, length(s.Model.MaxBacklog))},
		{"Instances", fmt.Sprintf("Ready %s (±20%%) after the order; drained over %s; what dies is replaced by %s", length(s.Model.Boot), length(s.Model.Drain),
			map[bool]string{true: "the policy alone", false: "the platform"}[s.Model.NoHealing])},
		{"Clients", fmt.Sprintf("Connected for %s on average; back %s after a cut on average; %s accepted a second by each instance", length(s.Model.Life), length(s.Model.Return), amount(s.Model.AcceptRate))},
		{"Run", fmt.Sprintf("%d steps of %s, seed %d: the same seed gives the same result", r.Summary.Steps, length(s.Step), s.Seed)},
	}
	if r.Forecast != nil {
		facts = append(facts, reportFact{"Forecast", r.Forecast.Why})
	}
	return facts
}

// chart draws load, instances, latency and use on one time axis.
func (r *Simulated) chart(events []mark) chart {
	n := len(r.Frames)
	at := make([]time.Time, n)
	pick := func(f func(*Frame) float64) []float64 {
		out := make([]float64, n)
		for i := range r.Frames {
			at[i], out[i] = r.Frames[i].At, f(&r.Frames[i])
		}
		return out
	}
	s := &r.Simulation
	target, _ := s.Policy.target(Connections)
	load := panel{title: "Connections", format: amount, lines: []line{
		{name: "connected", class: "ln", key: "k1", area: true, at: at, y: pick(func(f *Frame) float64 { return f.Connections.Avg })},
		{name: "wanted", class: "ln ln2", key: "k2", at: at, y: pick(func(f *Frame) float64 { return f.Demand.Avg })},
		{name: "room before growing", class: "th", key: "k2", steps: true, at: at, y: pick(func(f *Frame) float64 { return f.Ready.Min * target.Value })},
	}}
	if r.Forecast != nil {
		expected := line{name: "expected an hour before", class: "th", key: "k2"}
		for _, p := range r.Expected {
			expected.at, expected.y = append(expected.at, p.At), append(expected.y, p.Value)
		}
		load.lines = append(load.lines, expected)
	}
	used, always := 0.0, 0.0
	cost := panel{title: "Instance-hours so far", format: amount, lines: []line{
		{name: "used", class: "ln", key: "k1", area: true, at: at, y: pick(func(f *Frame) float64 { used += f.Live.Avg * r.hours(f); return used })},
		{name: "always at the largest", class: "th", key: "k2", at: at, y: pick(func(f *Frame) float64 { always += float64(r.Summary.MaxLive) * r.hours(f); return always })},
	}}
	if price := s.Prices.Instance[SizeFor(r.Summary.MaxLive).Name]; price > 0 {
		cost.title = "Cost so far, " + s.Prices.Currency
		for i := range cost.lines {
			for k := range cost.lines[i].y {
				cost.lines[i].y[k] *= price
			}
		}
	}
	return chart{
		title: "Load, instances, latency and use over the simulated time", desc: r.verdict(),
		from: s.Start, to: s.Start.Add(s.Length), events: events,
		panels: []panel{load,
			{title: "Instances", format: amount, lines: []line{
				{name: "running", class: "ln", key: "k1", steps: true, area: true, at: at, y: pick(func(f *Frame) float64 { return f.Live.Max })},
				{name: "serving", class: "ln ln2", key: "k2", steps: true, at: at, y: pick(func(f *Frame) float64 { return f.Ready.Min })},
			}},
			{title: "Delivery latency, ms", format: amount, least: 20, limits: []limit{{200, "target", "warn"}, {1000, "critical", "crit"}}, lines: []line{
				{name: "p95", class: "ln", key: "k1", at: at, y: pick(func(f *Frame) float64 { return f.P95.Max * 1000 })},
				{name: "p50", class: "ln ln2", key: "k2", at: at, y: pick(func(f *Frame) float64 { return f.P50.Avg * 1000 })},
			}}, cost},
	}
}

// hours is the length of one frame.
func (r *Simulated) hours(f *Frame) float64 {
	return float64(f.Live.n) * r.Simulation.Step.Hours()
}
