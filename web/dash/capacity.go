package dash

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// capacityView is the page of capacity.
type capacityView struct {
	r         *request
	lead      string
	scaling   bool
	operates  bool
	mode      string
	accuracy  string
	limits    []limitRow
	advice    []adviceCard
	held      []heldCard     // that an admin has put away
	looked    []string       // what was looked at and not advised
	forecasts []forecastCard // of all first
	whatIf    whatIf
	plan      planForm
}

// limitRow is one limit with where it comes from.
type limitRow struct {
	headroomRow
	nowText, usual, limit, room string
	source                      string
	band                        *runwayBand
	away                        string
	first                       bool
}

// runwayBand is when a limit is reached, on a line of 90 days, in percent.
type runwayBand struct{ from, width, dot string }

// adviceCard is one thing to do, with its evidence and the exact change.
type adviceCard struct {
	kind, word, title string
	evidence, effect  []Fact
	change            []diffLine
	risk              string
	id                string
	key, weight       string         // what it is about, and what its evidence amounts to
	apply             *watch.Command // the change, where it can be made at run time
}

type diffLine struct{ class, text string }

// whatIf multiplies the present load.
type whatIf struct {
	agents, messages, size float64
	rows                   []whatIfRow
	text                   string
	known                  bool
	nodes, wanted          int
}

type whatIfRow struct {
	name              string
	now, same, wanted string
	nowKind, k2, k3   string
}

// planForm is the planner with its answer.
type planForm struct {
	users, connections, messages, bytes, fan string
	regions                                  int
	survive                                  bool
	fault                                    string
	plan                                     *scale.Plan
	source                                   string
}

func (b *Board) capacity(r *request) (*view, error) {
	v := &capacityView{r: r}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		v.lead = "This node does not watch its limits."
		return &view{title: "Capacity", body: capacityPage(v), plain: true}, nil
	}
	v.scaling = true
	st, out := sc.Status(), b.outlook()
	v.mode = fmt.Sprintf("Nodes: %d–%d · mode %s", st.Min, st.Max, st.Mode)
	if st.Pinned > 0 {
		v.mode += fmt.Sprintf(" · pinned to %d", st.Pinned)
	}
	if st.Held != "" {
		v.mode += " · held: " + st.Held
	}
	v.accuracy = accuracyWords(out.Good, out.Why)
	v.limits = b.limitRows(r, sc, &out)
	v.advice, v.looked = b.advise(r, sc, v.limits, &st)
	v.advice, v.held = sift(v.advice, sc.Answers(), r.now)
	v.operates = r.who.Role >= Operator
	v.lead = capacityLead(v)
	v.forecasts = b.forecastCards(r, &out)
	v.whatIf = b.tryWhatIf(r, sc)
	v.plan = b.tryPlan(r, sc)
	return &view{title: "Capacity", body: capacityPage(v)}, nil
}

func accuracyWords(good bool, why string) string {
	if good {
		return "The forecast of connections is good enough to act on."
	}
	return "Forecast: " + orNone(why)
}

func capacityLead(v *capacityView) string {
	if len(v.limits) == 0 {
		return "The first numbers appear a few seconds after the start."
	}
	first := &v.limits[0]
	text := fmt.Sprintf("%s is what is used most: %s.", first.name, first.value())
	if first.runway != nil && first.runway.State == scale.RunwayRising {
		text = fmt.Sprintf("%s breaks first, in about %s.", first.name, days(first.runway.Days))
	}
	if len(v.advice) == 0 {
		return text + " Nothing needs to be done."
	}
	return text + " " + ui.Plural(len(v.advice), "change is advised", "changes are advised") + "; nothing is applied without you."
}

// sources say where a limit comes from.
var sources = map[scale.Signal]string{scale.Memory: "memory of the control group or the machine", scale.CPU: "processors that the process may use", scale.Descriptors: "limit of open files (RLIMIT_NOFILE)",
	scale.ErrorRate: "alert rules", scale.DeliveryP95: "alert rules", scale.APIP95: "alert rules"}

func (b *Board) limitRows(r *request, sc Scaling, out *watch.Outlook) (rows []limitRow) {
	capacity := bestCapacity(sc)
	f := sc.Fleet()
	week := b.usual(r, sc)
	for _, h := range headroom(sc, out.Limits) {
		row := limitRow{headroomRow: h, nowText: write(h.signal, h.now), source: sources[h.signal], away: h.away()}
		limit := cmp.Or(h.crit, h.warn)
		if h.signal == scale.Connections || h.signal == scale.MessagesIn {
			if whole, ok := capacity.Of(h.signal, max(1, f.Live())); ok {
				limit = whole
				row.source = fmt.Sprintf("%s, %s × %s", capacitySource(capacity), ui.Plural(max(1, f.Live()), "node", "nodes"), ui.Rate(whole/float64(max(1, f.Live()))))
			}
		} else if h.signal.Unit() == "share" && h.ofCapacity {
			limit = 1
		}
		if h.setBy != "" {
			row.source = h.setBy
		}
		row.limit = write(h.signal, limit)
		if !h.missing {
			row.room = write(h.signal, max(limit-h.now, 0))
		}
		if p, ok := week[h.signal]; ok {
			row.usual = write(h.signal, p)
		}
		if h.runway != nil && h.runway.State == scale.RunwayRising {
			row.band = bandOf(h.runway)
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, c limitRow) int { return cmp.Compare(reach(&a), reach(&c)) })
	if len(rows) > 0 && rows[0].runway != nil && rows[0].runway.State == scale.RunwayRising {
		rows[0].first = true
	}
	return rows
}

// reach orders limits: what breaks first is first, then what is fullest.
func reach(row *limitRow) float64 {
	if row.runway != nil && row.runway.State == scale.RunwayReached {
		return 0
	}
	if row.runway != nil && row.runway.State == scale.RunwayRising {
		return row.runway.Days
	}
	return 1e6 - row.share()
}

func capacitySource(c scale.Capacity) string {
	if c.Source == "" || c.Source == "document" {
		return "scaling document"
	}
	return c.Source
}

func bandOf(run *scale.Runway) *runwayBand {
	at := func(d float64) float64 { return min(max(d/90*100, 0), 100) }
	late := cmp.Or(run.Late, 90)
	early := cmp.Or(run.Early, run.Days)
	return &runwayBand{from: fmt.Sprintf("%.1f%%", at(early)), width: fmt.Sprintf("%.1f%%", max(at(late)-at(early), 1)), dot: fmt.Sprintf("%.1f%%", at(run.Days))}
}

// usual is the p95 of the last seven days of each signal.
func (b *Board) usual(r *request, sc Scaling) map[scale.Signal]float64 {
	signals := []scale.Signal{scale.Memory, scale.Connections, scale.CPU, scale.MessagesIn, scale.Descriptors, scale.ErrorRate, scale.DeliveryP95, scale.APIP95}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h, err := sc.History(ctx, watch.HistoryQuery{From: r.now.Add(-7 * 24 * time.Hour), To: r.now, Signals: signals, Points: 300})
	out := map[scale.Signal]float64{}
	if err != nil {
		b.cfg.Logger.Warn("trends could not be read", "error", err)
		return out
	}
	for _, s := range signals {
		var values []float64
		t := trendOf(&h, "", s)
		of := valueFor(s)
		for i := range t.Points {
			values = append(values, of(&t.Points[i]))
		}
		if len(values) > 0 {
			slices.Sort(values)
			out[s] = values[int(math.Ceil(0.95*float64(len(values))))-1]
		}
	}
	return out
}

// A forecastCard is one forecast: of the fleet, or of one region.
type forecastCard struct {
	id, title string
	chart     *ui.Chart // nil: see words
	words     string
}

// forecastCards are the forecast of the fleet and, where there are several, one of
// each region.
func (b *Board) forecastCards(r *request, o *watch.Outlook) []forecastCard {
	title := "Forecast of connections"
	if len(o.Regions) > 1 {
		title += ", all regions"
	}
	cards := []forecastCard{b.forecastCard(r, "", "", title, o.Recent, o.Next, o.Good, o.Why)}
	if len(o.Regions) < 2 {
		return cards
	}
	for i := range o.Regions {
		p := &o.Regions[i]
		c := b.forecastCard(r, watch.RegionRows(p.Region), "-"+strconv.Itoa(i+1), "Forecast of connections, "+p.Region, p.Recent, p.Next, p.Good, p.Why)
		if p.Own {
			c.words += " This node's region is scaled by it."
		}
		cards = append(cards, c)
	}
	return cards
}

// forecastCard is the last day as it was forecast beside what came, and the next.
// rows names whose history that is; "" is the fleet.
// anchor tells the cards of one page apart.
func (b *Board) forecastCard(r *request, rows, anchor, title string, recent, ahead []watch.Predicted, good bool, why string) forecastCard {
	card := forecastCard{id: "fc" + anchor, title: title, words: accuracyWords(good, why)}
	if len(ahead) == 0 {
		card.words = "No forecast yet: " + orNone(why) + "."
		return card
	}
	rng := timeRange{from: r.now.Add(-24 * time.Hour), to: r.now}
	h := b.history1(context.Background(), rng, rows, scale.Connections)
	real := line(trendOf(&h, rows, scale.Connections), avg, 1)
	var said, next, low, high []ui.Point
	for _, p := range recent {
		said = append(said, ui.Point{At: p.At, V: p.Value})
	}
	for _, p := range ahead {
		next, low, high = append(next, ui.Point{At: p.At, V: p.Value}), append(low, ui.Point{At: p.At, V: p.Low}), append(high, ui.Point{At: p.At, V: p.High})
	}
	card.chart = &ui.Chart{ID: "forecast" + anchor, Title: "Connections, yesterday and tomorrow", Desc: describe("Connections", real, ui.Rate) + " " + describe("Expected", next, ui.Rate),
		From: rng.from, To: ahead[len(ahead)-1].At, Zone: r.zone,
		Panels: []ui.Panel{{Head: "Connections", Height: 132, Bands: []ui.Band{{Low: low, High: high}},
			Lines: []ui.Line{{Name: "measured", Points: real, End: true, Gap: max(3*h.Step, time.Minute)}, {Name: "had been expected", Class: "th", Points: said}, {Class: "th", Points: next}}}}}
	return card
}

// number reads a positive number of a form; "" is 0.
func number(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < 0 || v > 1e12 || math.IsNaN(v) {
		return 0, fmt.Errorf("%.30q is no number from 0 on", text)
	}
	return v, nil
}

// tryPlan answers the planner's form, which is part of the address.
func (b *Board) tryPlan(r *request, sc Scaling) planForm {
	q := r.query.Get
	f := planForm{users: q("users"), connections: q("connections"), messages: q("messages"), bytes: q("bytes"), fan: q("fan"), regions: max(1, atoi(q("regions"), 1, 50)), survive: q("survive") != ""}
	p := sc.Planner()
	f.source = "counts by: " + capacitySource(p.Capacity)
	if f.users == "" && f.connections == "" && f.messages == "" {
		return f
	}
	d := scale.Demand{Regions: f.regions, SurviveRegion: f.survive}
	for _, field := range []struct {
		text string
		into *float64
	}{{f.users, &d.Users}, {f.connections, &d.Connections}, {f.messages, &d.Messages}, {f.bytes, &d.MessageBytes}, {f.fan, &d.FanOut}} {
		v, err := number(field.text)
		if err != nil {
			f.fault = err.Error()
			return f
		}
		*field.into = v
	}
	plan, err := p.Plan(d)
	if err != nil {
		f.fault = err.Error()
		return f
	}
	f.plan = &plan
	return f
}

// simulateLink leads from a plan to its simulation.
func (f *planForm) simulateLink(base string) string {
	q := url.Values{"connections": {plain(f.plan.Demand.Connections)}, "messages": {plain(math.Round(f.plan.Demand.Messages))}, "scenario": {"daily"}}
	return base + "/simulator?" + q.Encode()
}

func (b *Board) limitTable(r *request) (*table, error) {
	t := &table{columns: []string{"limit", "where", "now", "unit", "warning", "critical", "days", "days_early", "days_late", "state", "set_by"}}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return t, nil
	}
	out := b.outlook()
	for _, row := range b.limitRows(r, sc, &out) {
		var d, early, late any
		state := "unknown"
		if run := row.runway; run != nil {
			state = string(run.State)
			if run.State == scale.RunwayRising {
				d, early, late = run.Days, run.Early, run.Late
			}
		}
		t.add(row.name, row.where, finite(row.now), row.signal.Unit(), row.warn, row.crit, d, early, late, state, row.source)
	}
	return t, nil
}
