package dash

import (
	"context"
	"fmt"
	"slices"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// overviewView is what the Overview shows.
type overviewView struct {
	r        *request
	verdict  verdict
	read     string
	alerts   []alertCard
	tiles    []ui.Tile
	rows     []headroomRow
	scaling  bool
	chart    *ui.Chart
	table    [][]string // the chart's numbers, for those who do not see it
	step     string
	events   []eventRow
	hot      []hotRow
	channels int
	regions  []regionRow
	newcomer []string // commands, while no agent was ever seen
	operates bool
	admin    bool
	first    firstSight
}

type hotRow struct {
	name        string
	rate, share float64
	subscribers int
	gauge       ui.Gauge
}

// alertCard is one alert that fires.
type alertCard struct {
	kind, word, since, text, key string
	acked                        string
}

// eventRow is one numbered event below the chart.
type eventRow struct {
	no               int
	at, kind, icon   string
	word, text, note string
	path             string
	when             time.Time
}

type regionRow struct {
	name, state, kind string
	node, self        bool
	agents            int
	share             string
	rate, p95         string
	cpu, memory       string
}

func (b *Board) overview(r *request) (*view, error) {
	n := b.notices()
	now := b.cfg.Page.Now()
	o := &overviewView{r: r, verdict: b.judge(&n), read: r.clock(now.Stats.Now), operates: r.who.Role >= Operator}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		o.scaling = true
		o.rows = headroom(sc, b.outlook().Limits)
		for i := range n.alerts[:min(len(n.alerts), 2)] {
			o.alerts = append(o.alerts, b.alertCard(r, &n.alerts[i]))
		}
	}
	b.load(r, o)
	o.tiles = b.tiles(r, &now)
	hot, total := b.hotChannels(6)
	o.hot, o.channels = hot, total
	o.regions = b.regions(&now)
	if now.Stats.Agents == 0 && now.Stats.Accepted == 0 {
		o.newcomer = b.cfg.Page.commands(b.endpointFor(r))
	}
	o.admin, o.first = r.who.Role >= Admin, b.firstSight(r)
	parts := []part{
		{"verdict", overviewVerdict(o)}, {"tiles", overviewTiles(o)}, {"newcomer", overviewNewcomer(o)}, {"headroom", overviewHeadroom(o)},
		{"load", overviewChart(o)}, {"hot", overviewHot(o)}, {"regions", overviewRegions(o)},
	}
	if o.admin {
		parts = append(parts, part{"first-look", overviewFirstLook(o)})
	}
	if r.c == nil && o.newcomer != nil {
		// The stream is drawn for all who watch and does not know under which name each
		// of them reached this server: the lines stay as the page has them.
		parts = slices.DeleteFunc(parts, func(p part) bool { return p.id == "newcomer" })
	}
	return &view{title: "Overview", body: overviewPage(o), parts: parts, every: 1}, nil
}

// endpointFor is where agents connect, as the browser reached us.
func (b *Board) endpointFor(r *request) string {
	host := ""
	if r.c != nil {
		host = string(r.c.Context().Request.Host())
	}
	return b.cfg.Page.endpoint(host)
}

func (b *Board) alertCard(r *request, a *scale.Alert) alertCard {
	c := alertCard{kind: "warn", word: "Warning", key: a.Key(), text: alertSentence(b.cfg.Sources.Scaling, a), since: "firing for " + ui.Uptime(r.now.Sub(a.Since))}
	rules, _ := b.cfg.Sources.Scaling.Rules()
	for i := range rules {
		if rules[i].Name == a.Rule && rules[i].Severity == scale.Critical {
			c.kind, c.word = "crit", "Critical"
		}
	}
	if a.Ack != nil {
		c.acked = a.Ack.By
	}
	return c
}

// hotChannels are the busiest channels of this node.
func (b *Board) hotChannels(most int) (out []hotRow, total int) {
	all := b.allChannels()
	sum := 0.0
	for i := range all {
		sum += all[i].PerSecond
	}
	for i := range all[:min(most, len(all))] {
		row := hotRow{name: all[i].Channel, rate: all[i].PerSecond, subscribers: all[i].Subscribers}
		if sum > 0 {
			row.share = row.rate / sum
		}
		top := max(all[0].PerSecond, 1e-9)
		row.gauge = ui.Gauge{Now: row.rate, Full: top / 0.92, Label: share(row.share) + " of all messages of channels"}
		out = append(out, row)
	}
	return out, len(all)
}

// regions are the nodes by region: the fleet's, or this one alone.
func (b *Board) regions(now *Now) []regionRow {
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		p95, unit := ui.Latency(now.P95)
		s := &now.Stats
		row := regionRow{name: s.Node, node: true, self: true, state: "Healthy", kind: "ok", agents: s.Connections, rate: ui.Rate(now.AcceptedPerS), p95: p95 + " " + unit, cpu: "–", memory: "–"}
		if !ready(b.cfg.Relay.Ready()) {
			row.state, row.kind = "Not ready", "crit"
		}
		head := row
		head.name, head.node, head.state, head.kind = s.Region, false, "1 node", ""
		return []regionRow{head, row}
	}
	f := sc.Fleet()
	whole := f.Total(scale.Connections).Sum
	var out []regionRow
	for _, name := range f.Regions() {
		part := f.Region(name)
		head := aggregateRow(&part, name, whole)
		out = append(out, head)
		for i := range part.Nodes {
			out = append(out, nodeRow(&part.Nodes[i]))
		}
	}
	return out
}

func ready(reasons []relay.Reason) bool {
	for _, r := range reasons {
		if !r.OK {
			return false
		}
	}
	return true
}

func aggregateRow(f *scale.Fleet, name string, whole float64) regionRow {
	row := regionRow{name: name, state: ui.Plural(len(f.Nodes), "node", "nodes"), agents: int(f.Total(scale.Connections).Sum)}
	if whole > 0 {
		row.share = fmt.Sprintf("%.0f%%", 100*float64(row.agents)/whole)
	}
	row.rate = ui.Rate(f.Total(scale.MessagesIn).Sum)
	row.p95 = known(f.Total(scale.DeliveryP95), scale.DeliveryP95)
	row.cpu = known(f.Total(scale.CPU), scale.CPU)
	row.memory = known(f.Total(scale.Memory), scale.Memory)
	if row.name == "" {
		row.name = "(no region)"
	}
	return row
}

func known(a scale.Aggregate, s scale.Signal) string {
	if a.Known == 0 {
		return "–"
	}
	return write(s, a.Mean)
}

func nodeRow(n *scale.Node) regionRow {
	row := regionRow{name: n.Name, node: true, cpu: "–", memory: "–", p95: "–", rate: "–"}
	row.state, row.kind = nodeState(n.State)
	get := func(s scale.Signal, into *string) {
		if v, ok := n.Values.Get(s); ok {
			*into = write(s, v)
		}
	}
	if v, ok := n.Values.Get(scale.Connections); ok {
		row.agents = int(v)
	}
	if v, ok := n.Values.Get(scale.MessagesIn); ok {
		row.rate = ui.Rate(v)
	}
	get(scale.DeliveryP95, &row.p95)
	get(scale.CPU, &row.cpu)
	get(scale.Memory, &row.memory)
	return row
}

// nodeState is the word and colour of a node's state.
func nodeState(s scale.NodeState) (word, kind string) {
	switch s.String() {
	case "ready":
		return "Healthy", "ok"
	case "warming":
		return "Warming up", "info"
	case "draining":
		return "Draining", "info"
	case "silent":
		return "Silent", "crit"
	}
	return s.String(), "none"
}

// loadSignals are those of the chart.
var loadSignals = []scale.Signal{scale.MessagesIn, scale.DeliveryP50, scale.DeliveryP95, scale.Connections, scale.ErrorRate}

// load fills the chart: from the engine's history where there is one, else from
// what this page measured itself in the last quarter of an hour.
func (b *Board) load(r *request, o *overviewView) {
	rng := r.during("15m")
	h := b.history(r, rng, loadSignals, 300)
	messages, p95, p50 := line(trendOf(&h, "", scale.MessagesIn), avg, 1), line(trendOf(&h, "", scale.DeliveryP95), quantile95, 1000), line(trendOf(&h, "", scale.DeliveryP50), quantile50, 1000)
	gap := max(3*h.Step, 5*time.Second)
	c := &ui.Chart{ID: "load-chart", Title: "Messages per second and delivery latency, last " + rng.word, From: rng.from, To: rng.to, Zone: r.zone,
		Panels: []ui.Panel{
			{Head: "Messages per second", Height: 164, Lines: []ui.Line{{Points: messages, Area: true, End: true, Gap: gap}}},
			{Head: "Delivery latency, ms", Height: 92, Lines: []ui.Line{{Name: "p95", Points: p95, End: true, Gap: gap}, {Name: "p50", Class: "ln ln2", Points: p50, Gap: gap}}},
		}}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		capacity := bestCapacity(sc)
		f := sc.Fleet()
		if most, ok := capacity.Of(scale.MessagesIn, max(1, f.Live())); ok && peak(messages) > most/8 {
			c.Panels[0].Limits = append(c.Panels[0].Limits, ui.Limit{V: most, Label: "capacity " + ui.Rate(most)})
		}
	}
	c.Desc = describe("Messages a second", messages, ui.Rate) + " " + describe("Delivery p95 in milliseconds", p95, ui.Rate)
	o.chart, o.step = c, rng.word+", "+stepWord(h.Step)+" steps"
	o.events = b.events(r, rng, 5)
	for i := range o.events {
		o.events[i].no = len(o.events) - i
	}
	for _, e := range o.events {
		c.Events = append(c.Events, ui.Mark{At: e.when, No: e.no})
	}
	o.table = rowsOf(r, messages, p95, p50)
}

// history asks the engine, or this page's own measurements where there is none.
func (b *Board) history(r *request, rng timeRange, signals []scale.Signal, points int) watch.History {
	if sc := b.cfg.Sources.Scaling; sc != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		h, err := sc.History(ctx, watch.HistoryQuery{From: rng.from, To: rng.to, Signals: signals, Points: points})
		if err == nil {
			return h
		}
		b.cfg.Logger.Warn("trends could not be read", "error", err)
	}
	return b.cfg.Page.sampler.history(rng, signals)
}

func avg(p *watch.TrendPoint) float64        { return p.Avg }
func quantile95(p *watch.TrendPoint) float64 { return p.P95 }
func quantile50(p *watch.TrendPoint) float64 { return p.P50 }

// line takes one number of each point.
func line(t *watch.Trend, of func(*watch.TrendPoint) float64, scale float64) []ui.Point {
	out := make([]ui.Point, len(t.Points))
	for i := range t.Points {
		out[i] = ui.Point{At: t.Points[i].At, V: of(&t.Points[i]) * scale}
	}
	return out
}

func peak(points []ui.Point) (top float64) {
	for _, p := range points {
		top = max(top, p.V)
	}
	return top
}

// describe puts a line into words.
func describe(what string, points []ui.Point, write func(float64) string) string {
	if len(points) == 0 {
		return what + ": nothing was measured in this range."
	}
	low, high := points[0], points[0]
	for _, p := range points {
		if p.V < low.V {
			low = p
		}
		if p.V > high.V {
			high = p
		}
	}
	return fmt.Sprintf("%s: between %s and %s, now %s.", what, write(low.V), write(high.V), write(points[len(points)-1].V))
}

func stepWord(step time.Duration) string {
	switch {
	case step < time.Minute:
		return fmt.Sprintf("%d s", int(step.Seconds()))
	case step < time.Hour:
		return fmt.Sprintf("%d min", int(step.Minutes()))
	case step < 24*time.Hour:
		return fmt.Sprintf("%d h", int(step.Hours()))
	}
	return fmt.Sprintf("%d d", int(step.Hours()/24))
}

// rowsOf are about a dozen rows of the chart's numbers.
func rowsOf(r *request, lines ...[]ui.Point) [][]string {
	if len(lines[0]) == 0 {
		return nil
	}
	every := max(1, len(lines[0])/12)
	var out [][]string
	for i := len(lines[0]) - 1; i >= 0; i -= every {
		at := lines[0][i].At
		row := []string{r.stamp(at)}
		for _, l := range lines {
			row = append(row, nearest(l, at))
		}
		out = append(out, row)
	}
	return out
}

func nearest(points []ui.Point, at time.Time) string {
	for i := range points {
		if points[i].At.Equal(at) {
			return ui.Rate(points[i].V)
		}
	}
	return "–"
}
