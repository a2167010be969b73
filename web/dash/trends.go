package dash

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// trendsView is the page of trends.
type trendsView struct {
	r      *request
	lead   string
	nodes  []ui.Choice
	chart  *ui.Chart
	rows   [][]string
	heads  []string
	events []eventRow
	from   string
	to     string
	data   string // address of the same numbers
	past   string // one range back
	ahead  string // one range on; "" at the present
	wider  string
	step   string
}

// A trendPanel is one chart of the page.
type trendPanel struct {
	head    string
	format  func(float64) string
	factor  float64
	signals []trendLine
}

type trendLine struct {
	signal scale.Signal
	name   string
	of     func(*watch.TrendPoint) float64
	column string // in tables
}

func most(p *watch.TrendPoint) float64 { return p.Max }

func quantile99(p *watch.TrendPoint) float64 { return p.P99 }

// trendPanels are the charts, from what people ask first.
func trendPanels() []trendPanel {
	ms := func(v float64) string { return ui.Rate(v) }
	return []trendPanel{
		{"Connections", ui.Rate, 1, []trendLine{{scale.Connections, "", avg, "connections"}}},
		{"Messages per second", ui.Rate, 1, []trendLine{{scale.MessagesIn, "in", avg, "messages_in"}, {scale.MessagesOut, "out", avg, "messages_out"}}},
		{"Delivery latency, ms", ms, 1000, []trendLine{{scale.DeliveryP95, "p95", quantile95, "delivery_p95_ms"}, {scale.DeliveryP50, "p50", quantile50, "delivery_p50_ms"}}},
		{"CPU, % of the busiest second of each step", ui.Rate, 100, []trendLine{{scale.CPU, "most", most, "cpu_max_percent"}, {scale.CPU, "mean", avg, "cpu_percent"}}},
		{"Memory, % of the limit", ui.Rate, 100, []trendLine{{scale.Memory, "", most, "memory_percent"}}},
		{"Error rate, %", ui.Rate, 100, []trendLine{{scale.ErrorRate, "", avg, "error_percent"}}},
		{"Waiting in queues", bytesWord, 1, []trendLine{{scale.QueueBytes, "", most, "queue_bytes"}}},
		{"New connections per second", ui.Rate, 1, []trendLine{{scale.AcceptRate, "accepted", most, "accepted_per_s"}, {scale.RefusedRate, "refused", most, "refused_per_s"}}},
		{"API p95, ms", ms, 1000, []trendLine{{scale.APIP95, "", quantile95, "api_p95_ms"}}},
	}
}

func bytesWord(v float64) string {
	value, unit := ui.Bytes(int64(v))
	if v <= 0 {
		return "0"
	}
	return value + " " + unit
}

// trendSignals are all that the charts need, each once.
func trendSignals() (out []scale.Signal) {
	for _, p := range trendPanels() {
		for _, l := range p.signals {
			if !slices.Contains(out, l.signal) {
				out = append(out, l.signal)
			}
		}
	}
	return out
}

// trendPoints is how many steps a range is cut into at most.
const trendPoints = 300

func (b *Board) trends(r *request) (*view, error) {
	rng := r.during("1h")
	v := &trendsView{r: r, step: rng.word}
	h, node := b.trendHistory(r, rng)
	v.nodes = b.nodeChoices(r, node)
	v.chart = trendChart(r, rng, &h, node)
	v.events = b.events(r, rng, 12)
	for i := range v.events {
		v.events[i].no = len(v.events) - i
		v.chart.Events = append(v.chart.Events, ui.Mark{At: v.events[i].when, No: v.events[i].no})
	}
	v.heads, v.rows = trendRows(r, &h, node, 24)
	v.lead = trendLead(&h, node, rng)
	v.step = rng.word + ", " + stepWord(h.Step) + " steps"
	const field = "2006-01-02T15:04"
	v.from, v.to = rng.from.In(r.zone).Format(field), rng.to.In(r.zone).Format(field)
	span := rng.to.Sub(rng.from)
	at := func(from, to time.Time) string {
		return r.with("from", from.UTC().Format(time.RFC3339), "to", to.UTC().Format(time.RFC3339), "range", "")
	}
	v.past = at(rng.from.Add(-span), rng.from)
	if rng.to.Before(r.now.Add(-time.Minute)) {
		v.ahead = at(rng.from.Add(span), earlier(rng.to.Add(span), r.now))
	}
	if span < 200*24*time.Hour {
		v.wider = at(rng.from.Add(-span/2), earlier(rng.to.Add(span/2), r.now))
	}
	v.data = r.as("json")
	every := 0
	if rng.name == "15m" || rng.name == "1h" {
		every = 5
	}
	return &view{title: "Trends", body: trendsPage(v), parts: []part{{"trends-chart", trendsChart(v)}}, every: every}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// trendHistory reads the trends of the fleet or of the chosen node.
func (b *Board) trendHistory(r *request, rng timeRange) (watch.History, string) {
	node := r.query.Get("node")
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return b.cfg.Page.sampler.history(rng, trendSignals()), ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h, err := sc.History(ctx, watch.HistoryQuery{From: rng.from, To: rng.to, Signals: trendSignals(), Nodes: []string{node}, Points: trendPoints})
	if err != nil {
		b.cfg.Logger.Warn("trends could not be read", "error", err)
	}
	return h, node
}

// nodeChoices are links to the trends of each node.
func (b *Board) nodeChoices(r *request, chosen string) []ui.Choice {
	out := []ui.Choice{{Name: "Whole fleet", Path: r.with("node", ""), Current: chosen == ""}}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return out
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	names, err := sc.Nodes(ctx)
	if err != nil {
		b.cfg.Logger.Warn("nodes with a history could not be listed", "error", err)
	}
	for _, n := range names {
		if n != "" && len(out) < 40 {
			out = append(out, ui.Choice{Name: n, Path: r.with("node", n), Current: n == chosen})
		}
	}
	return out
}

func trendChart(r *request, rng timeRange, h *watch.History, node string) *ui.Chart {
	c := &ui.Chart{ID: "trends", Title: "Trends, last " + rng.word, From: rng.from, To: rng.to, Zone: r.zone}
	gap := max(3*h.Step, 5*time.Second)
	var said []string
	for _, p := range trendPanels() {
		panel := ui.Panel{Head: p.head, Height: 92, Format: p.format, Bytes: p.head == "Waiting in queues"}
		for i, l := range p.signals {
			points := line(trendOf(h, node, l.signal), l.of, p.factor)
			class := "ln"
			if i > 0 {
				class = "ln ln2"
			}
			panel.Lines = append(panel.Lines, ui.Line{Name: l.name, Class: class, Area: len(p.signals) == 1, End: i == 0, Points: points, Gap: gap})
			if i == 0 {
				said = append(said, describe(p.head, points, p.format))
			}
		}
		c.Panels = append(c.Panels, panel)
	}
	c.Desc = strings.Join(said, " ")
	return c
}

func trendLead(h *watch.History, node string, rng timeRange) string {
	in := trendOf(h, node, scale.MessagesIn)
	if len(in.Points) == 0 {
		return "Nothing was measured in this range yet."
	}
	top := &in.Points[0]
	for i := range in.Points {
		if in.Points[i].Max > top.Max {
			top = &in.Points[i]
		}
	}
	worst := 0.0
	for _, p := range trendOf(h, node, scale.DeliveryP95).Points {
		worst = max(worst, p.P95)
	}
	return fmt.Sprintf("In %s: at most %s messages a second, delivery p95 at most %s.", rng.word, ui.Rate(top.Max), write(scale.DeliveryP95, worst))
}

// trendSteps are the times that any trend has a point at, in order.
func trendSteps(h *watch.History) []time.Time {
	seen := map[int64]bool{}
	var out []time.Time
	for i := range h.Trends {
		for k := range h.Trends[i].Points {
			if at := h.Trends[i].Points[k].At; !seen[at.UnixNano()] {
				seen[at.UnixNano()] = true
				out = append(out, at)
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// trendTable is the numbers for machines.
func (b *Board) trendTable(r *request) (*table, error) {
	rng := r.during("1h")
	h, node := b.trendHistory(r, rng)
	t := &table{columns: []string{"at"}}
	type source struct {
		line   trendLine
		factor float64
		points map[int64]*watch.TrendPoint
	}
	var all []source
	for _, p := range trendPanels() {
		for _, l := range p.signals {
			s := source{l, p.factor, map[int64]*watch.TrendPoint{}}
			trend := trendOf(&h, node, l.signal)
			for i := range trend.Points {
				s.points[trend.Points[i].At.UnixNano()] = &trend.Points[i]
			}
			all = append(all, s)
			t.columns = append(t.columns, l.column)
		}
	}
	for _, at := range trendSteps(&h) {
		row := []any{at}
		for _, s := range all {
			if p := s.points[at.UnixNano()]; p != nil {
				row = append(row, s.line.of(p)*s.factor)
			} else {
				row = append(row, nil)
			}
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

// trendRows are some rows for people who do not see the chart.
func trendRows(r *request, h *watch.History, node string, most int) (heads []string, out [][]string) {
	steps := trendSteps(h)
	every := max(1, len(steps)/most)
	heads = []string{"Time"}
	for _, p := range trendPanels() {
		heads = append(heads, p.head)
	}
	for i := len(steps) - 1; i >= 0; i -= every {
		row := []string{r.stamp(steps[i])}
		for _, p := range trendPanels() {
			text := "–"
			for _, pt := range trendOf(h, node, p.signals[0].signal).Points {
				if pt.At.Equal(steps[i]) {
					text = p.format(p.signals[0].of(&pt) * p.factor)
				}
			}
			row = append(row, text)
		}
		out = append(out, row)
	}
	return heads, out
}
