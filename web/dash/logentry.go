package dash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"agentnet/app/scale"
	"agentnet/web/ui"
)

// logOpen is one entry with all that it holds.
type logOpen struct {
	entry    scale.LogEntry
	facts    []Fact
	wants    []scale.Want
	held     []string
	stops    []walkStop
	advice   string
	compare  *comparisonView
	caused   []logRow
	cause    string // path of the entry that led to it
	data     string // canonical JSON, indented
	replay   string
	replayOK bool
	replayTo string // path that replays it; "" when it cannot be
	link     string
	charts   *ui.Chart
}

type walkStop struct {
	text, answer string
	facts        []walkFact
}

type walkFact struct {
	text     string
	supports bool
	known    bool
}

// comparisonView is the half hours before and after an action.
type comparisonView struct {
	kind, word, why string
	rows            [][4]string // what, before, after, change
}

func (b *Board) openEntry(ctx context.Context, r *request, origin string, seq uint64) (*logOpen, error) {
	e, led, err := b.cfg.Sources.Scaling.LogEntry(ctx, origin, seq)
	if err != nil {
		return nil, fmt.Errorf("read entry %d of %s: %w", seq, origin, err)
	}
	o := &logOpen{entry: e, link: entryPath(r, &e)}
	o.facts = []Fact{{"Row", fmt.Sprintf("%d of %s", e.Seq, e.Origin), false}, {"At", e.At.In(r.zone).Format("2 Jan 2006 15:04:05.000 MST"), false},
		{"By", e.Actor, false}, {"Hash", shortHash(e.Hash), true}, {"Follows", shortHash(e.Prev), true}}
	for i := range led {
		row := logRowOf(r, &led[i])
		row.path = entryPath(r, &led[i])
		o.caused = append(o.caused, row)
	}
	if e.Cause > 0 {
		c := e
		c.Seq = e.Cause
		o.cause = entryPath(r, &c)
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, e.Data, "", "  ") == nil {
		o.data = pretty.String()
	}
	if len(o.data) > 20_000 {
		o.data = o.data[:20_000] + "\n… (the whole is in the JSON)"
	}
	b.explain(r, o)
	b.replayed(r, o)
	return o, nil
}

// explain puts the data of an entry into words and charts.
func (b *Board) explain(r *request, o *logOpen) {
	switch o.entry.Kind {
	case scale.KindDecision:
		var d scale.DecisionData
		if json.Unmarshal(o.entry.Data, &d) == nil {
			o.wants = d.Decision.Wants
			for _, s := range d.Decision.Suppressions {
				o.held = append(o.held, s.By+": "+s.Why)
			}
			o.facts = append(o.facts, Fact{"Count", fmt.Sprintf("%d → %d, %d live", d.Decision.Base, d.Decision.Desired, d.Decision.Live), false}, Fact{"Mode", d.Decision.Mode.String(), false})
			o.charts = b.aroundChart(r, o.entry.At)
		}
	case scale.KindWalk:
		var w scale.Walk
		if json.Unmarshal(o.entry.Data, &w) == nil {
			o.advice = w.Advice
			for _, s := range w.Stops {
				stop := walkStop{text: scale.BoxText(s.Box), answer: s.Answer}
				for _, ev := range s.Evidence {
					stop.facts = append(stop.facts, walkFact{sentence(ev.Fact), ev.Supports, ev.Known})
				}
				o.stops = append(o.stops, stop)
			}
		}
	case scale.KindAlert:
		var j scale.Judgement
		if json.Unmarshal(o.entry.Data, &j) == nil {
			o.facts = append(o.facts, Fact{"Rule", j.Rule.Name, false}, Fact{"Value", alertValue(&j), false},
				Fact{"Threshold", thresholdWord(&j.Rule, j.Rule.Threshold), false}, Fact{"State", j.Before.State.String() + " → " + j.After.State.String(), false}, Fact{"What to do", orNone(j.Rule.Response), false})
			o.charts = b.aroundChart(r, o.entry.At)
		}
	case scale.KindOutcome:
		var c scale.Comparison
		if json.Unmarshal(o.entry.Data, &c) == nil {
			o.compare = compareView(&c)
		}
	case scale.KindAction, scale.KindResult, scale.KindStorm:
		o.charts = b.aroundChart(r, o.entry.At)
	}
}

// aroundChart draws the half hour before an entry against the half hour after it.
func (b *Board) aroundChart(r *request, at time.Time) *ui.Chart {
	rng := timeRange{from: at.Add(-scale.CompareSpan), to: earlier(at.Add(scale.CompareSpan), r.now)}
	h := b.history(r, rng, []scale.Signal{scale.DeliveryP95, scale.CPU, scale.MessagesIn}, 120)
	gap := max(3*h.Step, 5*time.Second)
	after := []ui.Span{{From: at, To: at.Add(scale.CompareSpan), Class: "aft"}}
	messages, p95, cpu := line(trendOf(&h, "", scale.MessagesIn), avg, 1), line(trendOf(&h, "", scale.DeliveryP95), quantile95, 1000), line(trendOf(&h, "", scale.CPU), most, 100)
	return &ui.Chart{ID: "around", Title: "The half hours before and after " + r.clock(at), Desc: describe("Messages a second", messages, ui.Rate) + " " + describe("Delivery p95 in milliseconds", p95, ui.Rate) + " " + describe("CPU in percent", cpu, ui.Rate),
		From: rng.from, To: at.Add(scale.CompareSpan), Zone: r.zone, Events: []ui.Mark{{At: at, No: 1}},
		Panels: []ui.Panel{{Head: "Messages per second", Height: 64, Spans: after, Lines: []ui.Line{{Points: messages, Area: true, Gap: gap}}},
			{Head: "Delivery p95, ms", Height: 64, Spans: after, Lines: []ui.Line{{Points: p95, Gap: gap}}},
			{Head: "CPU, %", Height: 64, Spans: after, Lines: []ui.Line{{Points: cpu, Gap: gap}}}}}
}

func compareView(c *scale.Comparison) *comparisonView {
	v := &comparisonView{why: c.Why}
	v.kind, v.word = verdictLook(c.Verdict)
	row := func(name string, s scale.Signal, a, z float64) {
		v.rows = append(v.rows, [4]string{name, write(s, a), write(s, z), changeWord(a, z)})
	}
	v.rows = append(v.rows, [4]string{"Instances", ui.Rate(c.Before.Instances), ui.Rate(c.After.Instances), fmt.Sprintf("%d → %d asked for", c.From, c.To)})
	row(signalName(c.Signal), c.Signal, c.Before.Value, c.After.Value)
	row("Delivery p95", scale.DeliveryP95, c.Before.LatencyP95, c.After.LatencyP95)
	row("Error rate", scale.ErrorRate, c.Before.ErrorRate, c.After.ErrorRate)
	return v
}

func changeWord(a, z float64) string {
	if a == 0 {
		return "–"
	}
	p := 100 * (z - a) / a
	switch {
	case p >= 0.5:
		return fmt.Sprintf("+%.0f%%", p)
	case p <= -0.5:
		return fmt.Sprintf("−%.0f%%", -p)
	}
	return "±0%"
}

// replayed computes the entry anew from its inputs, when that was asked for.
func (b *Board) replayed(r *request, o *logOpen) {
	switch o.entry.Kind {
	case scale.KindDecision, scale.KindAlert, scale.KindWalk:
		o.replayTo = r.with("open", entryID(&o.entry), "replay", "1")
	default:
		return
	}
	if r.query.Get("replay") == "" {
		return
	}
	again, err := scale.Replay(o.entry.Entry)
	switch {
	case err != nil:
		o.replay = "It could not be computed anew: " + err.Error()
	case again.Summary == o.entry.Summary && bytes.Equal(again.Data, o.entry.Data):
		o.replay, o.replayOK = "Computed anew from its inputs just now: the same, byte by byte.", true
	default:
		o.replay = "Computed anew it says something else: " + again.Summary
	}
}

func shortHash(hash string) string {
	if len(hash) < 12 {
		return orNone(hash)
	}
	return hash[:6] + "…" + hash[len(hash)-4:]
}

// logEntryPage is the page of one entry, its permanent link.
func (b *Board) logEntryPage(r *request) (*view, error) {
	sc := b.cfg.Sources.Scaling
	seq, err := strconv.ParseUint(r.query.Get("seq"), 10, 64)
	if sc == nil || err != nil {
		return &view{title: "Scaling log", body: noEntry(r), plain: true}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o, err := b.openEntry(ctx, r, r.query.Get("origin"), seq)
	if err != nil {
		return &view{title: "Scaling log", body: noEntry(r), plain: true}, nil
	}
	if o.replayTo != "" {
		o.replayTo = r.with("replay", "1")
	}
	return &view{title: "Row " + strconv.FormatUint(seq, 10), body: logEntryBody(r, o, r.who.Role >= Operator), plain: true}, nil
}
