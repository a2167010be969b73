package dash

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/notify"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// alertsView is the page of alerts.
type alertsView struct {
	r        *request
	lead     string
	firing   []alertRow
	pending  []alertRow
	silenced []scale.Silence
	rules    []ruleRow
	editor   *ruleEditor
	history  []eventRow
	channels []notify.Status
	sent     []notify.Delivery
	notifies bool
	operates bool
	scaling  bool
}

// alertRow is one alert that fires or is about to.
type alertRow struct {
	key, rule, kind, word, text, since string
	facts                              []Fact
	taken                              bool
	quiet                              string
	chart                              *ui.Chart
	runbook                            string
}

type ruleRow struct {
	rule                 scale.Rule
	threshold, clear, hf string
	kind, word           string
	path                 string
	chosen               bool
	origin               string
}

// Notifications are the ways to tell people. *notify.Notifier is one.
type Notifications interface {
	Channels() []notify.Status
	Deliveries(limit int) []notify.Delivery
	Test(ctx context.Context, name string) (notify.Delivery, error)
}

func (b *Board) alerts(r *request) (*view, error) {
	v := &alertsView{r: r, operates: r.who.Role >= Operator}
	if n := b.cfg.Sources.Notify; n != nil {
		v.notifies, v.channels, v.sent = true, n.Channels(), n.Deliveries(12)
	}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		v.lead = "This node does not watch its limits."
		return &view{title: "Alerts", body: alertsPage(v)}, nil
	}
	v.scaling = true
	rules, _ := sc.Rules()
	origins := sc.Origins()
	states := map[string][3]int{} // firing, pending, silenced, by rule
	for _, a := range sc.Alerts() {
		n := states[a.Rule]
		switch a.State {
		case scale.Firing:
			n[0]++
			if a.Quiet() {
				n[2]++
			}
			v.firing = append(v.firing, b.alertRow(r, rules, &a))
		case scale.Pending:
			n[1]++
			v.pending = append(v.pending, b.alertRow(r, rules, &a))
		}
		states[a.Rule] = n
	}
	v.silenced = sc.Silences()
	for i := range rules {
		v.rules = append(v.rules, ruleRowOf(r, &rules[i], states[rules[i].Name]))
		v.rules[i].origin = originWord(origins[rules[i].Name])
	}
	v.lead = alertsLead(v)
	rng := r.during("30d")
	v.history = b.alertHistory(r, rng)
	if name := r.query.Get("rule"); name != "" {
		if i := slices.IndexFunc(rules, func(x scale.Rule) bool { return x.Name == name }); i >= 0 {
			v.editor = b.ruleEditor(r, rules[i])
			v.editor.origin = origins[name]
		} else if r.query.Get("new") != "" && v.operates {
			v.editor = b.ruleEditor(r, newRule(name))
			if v.editor.fresh = true; !ruleName.MatchString(name) {
				v.editor.fault = "name: use 1 to 100 of a-z A-Z 0-9 . _ -"
			}
		}
	} else if r.query.Get("new") != "" && v.operates {
		v.editor = b.ruleEditor(r, newRule("new_rule"))
		v.editor.fresh = true
	}
	view := &view{title: "Alerts", body: alertsPage(v)}
	if v.editor != nil && v.editor.running {
		view.every, view.refresh = 1, soonRefresh
	}
	if v.editor != nil {
		view.parts = []part{{"tried", triedPart(v.editor, r)}}
	} else {
		view.every, view.parts = 2, []part{{"alerts-now", alertsNow(v)}, {"alerts-lead", alertsLeadPart(v)}, {"alerts-rules", alertRules(v)}, {"alerts-history", alertHistory(v)}}
	}
	return view, nil
}

func alertsLead(v *alertsView) string {
	untaken := 0
	for _, a := range v.firing {
		if !a.taken && a.quiet == "" {
			untaken++
		}
	}
	switch {
	case len(v.firing) == 0 && len(v.pending) == 0:
		return fmt.Sprintf("Nothing fires. %s watch this fleet.", ui.Plural(len(v.rules), "rule", "rules"))
	case len(v.firing) == 0:
		return fmt.Sprintf("Nothing fires; %s.", ui.Plural(len(v.pending), "alert is about to", "alerts are about to"))
	case untaken == 0:
		return ui.Plural(len(v.firing), "alert fires", "alerts fire") + ", and somebody has taken each of them or silenced it."
	}
	return fmt.Sprintf("%s, and nobody has taken %s yet.", ui.Plural(len(v.firing), "alert fires", "alerts fire"), map[bool]string{true: "it", false: "all of them"}[untaken == 1])
}

func (b *Board) alertRow(r *request, rules []scale.Rule, a *scale.Alert) alertRow {
	row := alertRow{key: a.Key(), rule: a.Rule, kind: "warn", word: "Warning", text: alertSentence(b.cfg.Sources.Scaling, a), since: "since " + r.stamp(a.Since) + ", " + ui.Uptime(r.now.Sub(a.Since))}
	i := slices.IndexFunc(rules, func(x scale.Rule) bool { return x.Name == a.Rule })
	if i < 0 {
		return row
	}
	rule := &rules[i]
	if rule.Severity == scale.Critical {
		row.kind, row.word = "crit", "Critical"
	}
	if a.State == scale.Pending {
		row.kind, row.word = "info", "Pending"
		row.since = fmt.Sprintf("%s of %s", ui.Uptime(r.now.Sub(a.Since)), ui.Uptime(rule.For))
	}
	taken := "nobody yet"
	if a.Ack != nil {
		row.taken, taken = true, a.Ack.By+", "+r.stamp(a.Ack.At)
		if a.Ack.Reason != "" {
			taken += ": " + a.Ack.Reason
		}
	}
	row.facts = []Fact{{"Fires over, clears at", thresholdWord(rule, rule.Threshold) + ", " + thresholdWord(rule, rule.Clear), false}, {"Worst since it began", thresholdWord(rule, a.Worst), false},
		{"What to do", orNone(rule.Response), false}, {"Taken by", taken, false}}
	switch {
	case rule.OfSilence():
		row.facts[0].Name, row.facts[1] = "Fires after, clears with", Fact{"Now", rule.Standing(a, r.now), false}
	case rule.Below:
		row.facts[0].Name = "Fires under, clears at"
	}
	switch {
	case a.Silent != "":
		row.quiet = "silenced"
	case a.Under != "":
		row.quiet = "explained by " + a.Under
	}
	if rule.Runbook != "" {
		row.runbook = r.base + "/runbooks/" + rule.Runbook
	}
	if !rule.OfCapacity {
		row.chart = b.alertChart(r, rule, a)
	}
	return row
}

// alertChart draws the signal of an alert with its threshold and the time that it
// fires.
func (b *Board) alertChart(r *request, rule *scale.Rule, a *scale.Alert) *ui.Chart {
	rng := r.during("6h")
	h := b.history1(context.Background(), rng, a.Node, rule.Signal)
	points := line(trendOf(&h, a.Node, rule.Signal), valueFor(rule.Signal), unitFactor(rule.Signal))
	c := &ui.Chart{ID: "alert-" + anchorName(a.Key()), Title: signalName(rule.Signal) + ", last " + rng.word, Desc: describe(signalName(rule.Signal), points, ui.Rate), From: rng.from, To: rng.to, Zone: r.zone}
	kind := "warn"
	if rule.Severity == scale.Critical {
		kind = "crit"
	}
	p := ui.Panel{Height: 96, Lines: []ui.Line{{Points: points, End: true, Gap: max(3*h.Step, 5*time.Second)}}}
	if !rule.OfSilence() {
		p.Limits = []ui.Limit{{V: rule.Threshold * unitFactor(rule.Signal), Label: kindWord(kind), Kind: kind}}
	}
	if a.State == scale.Firing {
		p.Spans = []ui.Span{{From: a.Since, To: rng.to, Class: "hot"}}
	}
	c.Panels = []ui.Panel{p}
	return c
}

func kindWord(kind string) string {
	if kind == "crit" {
		return "critical"
	}
	return "warning"
}

// anchorName makes a name fit for an id.
func anchorName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
}

// history1 reads one signal of one node or the fleet.
func (b *Board) history1(ctx context.Context, rng timeRange, node string, s scale.Signal) watch.History {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h, err := b.cfg.Sources.Scaling.History(ctx, watch.HistoryQuery{From: rng.from, To: rng.to, Signals: []scale.Signal{s}, Nodes: []string{node}, Points: 240})
	if err != nil {
		b.cfg.Logger.Warn("trends could not be read", "error", err)
	}
	return h
}

// valueFor is the number of a step that a rule looks at.
func valueFor(s scale.Signal) func(*watch.TrendPoint) float64 {
	switch s {
	case scale.DeliveryP95, scale.APIP95:
		return quantile95
	case scale.DeliveryP99, scale.APIP99:
		return quantile99
	case scale.DeliveryP50, scale.APIP50:
		return quantile50
	}
	return avg
}

// unitFactor turns a signal's value into the unit that people type: percent,
// milliseconds, or the value itself.
func unitFactor(s scale.Signal) float64 {
	switch s.Unit() {
	case "share":
		return 100
	case "seconds":
		return 1000
	}
	return 1
}

func unitWord(r *scale.Rule) string {
	switch {
	case r.OfCapacity || r.Signal.Unit() == "share":
		return "%"
	case r.Signal.Unit() == "seconds":
		return "ms"
	}
	return r.Signal.Unit()
}

func thresholdWord(r *scale.Rule, v float64) string {
	if r.OfSilence() { // its numbers are never reached
		if v == r.Clear {
			return r.Back()
		}
		return r.Limit()
	}
	if r.OfCapacity {
		return share(v) + " of capacity"
	}
	return write(r.Signal, v)
}

// alertValue is what the rule was judged by.
func alertValue(j *scale.Judgement) string {
	if j.Rule.OfSilence() || j.After.NoData {
		return j.Rule.Standing(&j.After, j.Observation.At)
	}
	return thresholdWord(&j.Rule, j.After.Value)
}

func ruleRowOf(r *request, rule *scale.Rule, n [3]int) ruleRow {
	row := ruleRow{rule: *rule, threshold: thresholdWord(rule, rule.Threshold), clear: thresholdWord(rule, rule.Clear), hf: ui.Uptime(rule.For), kind: "ok", word: "OK",
		path: r.with("rule", rule.Name, "test", "") + "#rule", chosen: r.query.Get("rule") == rule.Name}
	if rule.For == 0 {
		row.hf = "at once"
	}
	switch {
	case rule.Disabled:
		row.kind, row.word = "none", "disabled"
	case n[0] > n[2]:
		row.kind, row.word = kindOf(rule), fmt.Sprintf("%d firing", n[0])
	case n[0] > 0:
		row.kind, row.word = "none", fmt.Sprintf("%d quiet", n[0])
	case n[1] > 0:
		row.kind, row.word = "info", fmt.Sprintf("%d pending", n[1])
	}
	return row
}

func kindOf(rule *scale.Rule) string {
	if rule.Severity == scale.Critical {
		return "crit"
	}
	return "warn"
}

// alertHistory are the newest changes of alerts.
func (b *Board) alertHistory(r *request, rng timeRange) (out []eventRow) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	entries, err := b.cfg.Sources.Scaling.Log(ctx, scale.LogFilter{Kinds: []scale.Kind{scale.KindAlert, scale.KindSilence}, From: rng.from.Add(-30 * 24 * time.Hour), Limit: 15})
	if err != nil {
		b.cfg.Logger.Warn("the scaling log could not be read", "error", err)
		return nil
	}
	for i := range entries {
		e := &entries[i]
		out = append(out, eventRow{when: e.At, at: r.stamp(e.At), text: e.Summary, note: strconv.FormatUint(e.Seq, 10), path: entryPath(r, e)})
	}
	return out
}

// alertTable is the list for machines.
func (b *Board) alertTable(r *request) (*table, error) {
	t := &table{columns: []string{"alert", "rule", "node", "state", "value", "worst", "since", "acknowledged_by", "silenced_by", "inhibited_by"}}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		for _, a := range sc.Alerts() {
			by := ""
			if a.Ack != nil {
				by = a.Ack.By
			}
			t.add(a.Key(), a.Rule, a.Node, a.State.String(), finite(a.Value), finite(a.Worst), a.Since, by, a.Silent, a.Under)
		}
	}
	return t, nil
}

// finite is nil for what JSON cannot say.
func finite(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return v
}

// silenceTimes are how long an alert can be kept quiet from the page.
var silenceTimes = []struct {
	word string
	span time.Duration
}{{"1 h", time.Hour}, {"4 h", 4 * time.Hour}, {"1 day", 24 * time.Hour}, {"7 days", 7 * 24 * time.Hour}}
