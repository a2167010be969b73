package dash

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// backtestSpan is how far back a rule is tried out.
const backtestSpan = 30 * 24 * time.Hour

// ruleEditor is the form of one rule, with what it would have done.
type ruleEditor struct {
	rule      scale.Rule
	unit      string
	threshold string
	clear     string
	hold      string // seconds
	keep      string // seconds
	verdict   string
	tried     bool // the address holds another form of the rule
	fault     string
	chart     *ui.Chart
	episodes  []scale.Episode
}

// ruleEditor fills the form from the rule, or from the address when somebody tries
// another form of it.
func (b *Board) ruleEditor(r *request, rule scale.Rule) *ruleEditor {
	ed := &ruleEditor{}
	if r.query.Get("test") != "" {
		ed.tried = true
		if err := changeRule(&rule, r.query.Get); err != nil {
			ed.fault = err.Error()
		}
	}
	ed.rule, ed.unit = rule, unitWord(&rule)
	factor := ruleFactor(&rule)
	ed.threshold, ed.clear = plain(rule.Threshold*factor), plain(rule.Clear*factor)
	ed.hold, ed.keep = plain(rule.For.Seconds()), plain(rule.KeepFiring.Seconds())
	if ed.fault == "" {
		b.backtest(r, ed)
	}
	return ed
}

// ruleFactor turns the rule's threshold into what people type.
func ruleFactor(r *scale.Rule) float64 {
	if r.OfCapacity {
		return 100
	}
	return unitFactor(r.Signal)
}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// changeRule takes the fields of the form over.
func changeRule(rule *scale.Rule, field func(string) string) error {
	read := func(name string, into *float64, factor float64) error {
		text := field(name)
		if text == "" {
			return nil
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v != v || v > 1e15 || v < -1e15 {
			return fmt.Errorf("%s: %.30q is no number", name, text)
		}
		*into = v / factor
		return nil
	}
	hold, keep := rule.For.Seconds(), rule.KeepFiring.Seconds()
	factor := ruleFactor(rule)
	if err := errors.Join(read("threshold", &rule.Threshold, factor), read("clear", &rule.Clear, factor), read("hold", &hold, 1), read("keep", &keep, 1)); err != nil {
		return err
	}
	if hold < 0 || hold > 86400*30 || keep < 0 || keep > 86400*30 {
		return errors.New("for and keep firing: expected 0 to 30 days, in seconds")
	}
	rule.For, rule.KeepFiring = time.Duration(hold*float64(time.Second)), time.Duration(keep*float64(time.Second))
	return rule.Validate()
}

// backtest tries the rule on stored samples.
func (b *Board) backtest(r *request, ed *ruleEditor) {
	from := r.now.Add(-backtestSpan)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	t, err := b.cfg.Sources.Scaling.Backtest(ctx, ed.rule, from, r.now)
	if err != nil {
		ed.fault = err.Error()
		return
	}
	ed.episodes = t.Episodes[:min(len(t.Episodes), 20)]
	switch {
	case t.Moments == 0:
		ed.verdict = "Nothing was measured yet to try it on."
	case len(t.Episodes) == 0:
		ed.verdict = "It would not have fired."
	default:
		ed.verdict = fmt.Sprintf("It would have fired %s, %s in all.", ui.Plural(len(t.Episodes)+t.Dropped, "time", "times"), ui.Uptime(t.Firing))
	}
	if t.Pending > 0 {
		ed.verdict += fmt.Sprintf(" %s it was about to and did not.", ui.Plural(t.Pending, "time", "times"))
	}
	if t.Flapped {
		ed.verdict += " It would have flapped: a larger distance between fire and clear helps."
	}
	if ed.rule.OfCapacity {
		return
	}
	ed.chart = b.backtestChart(r, ed, from)
}

func (b *Board) backtestChart(r *request, ed *ruleEditor, from time.Time) *ui.Chart {
	rng := timeRange{from: from, to: r.now, word: "30 d"}
	h := b.history1(r, rng, "", ed.rule.Signal)
	factor := unitFactor(ed.rule.Signal)
	points := line(trendOf(&h, "", ed.rule.Signal), valueFor(ed.rule.Signal), factor)
	p := ui.Panel{Height: 112, Lines: []ui.Line{{Points: points, Gap: max(3*h.Step, time.Hour)}}, Limits: []ui.Limit{{V: ed.rule.Threshold * factor, Label: "fires", Kind: kindOf(&ed.rule)}}}
	for _, e := range ed.episodes {
		until := e.Until
		if until.IsZero() {
			until = r.now
		}
		p.Spans = append(p.Spans, ui.Span{From: e.From, To: until, Class: "hot"})
	}
	return &ui.Chart{ID: "backtest", Title: signalName(ed.rule.Signal) + ", last 30 days", Desc: ed.verdict, From: from, To: r.now, Zone: r.zone, Panels: []ui.Panel{p}}
}

// saveRule puts a changed rule into force.
func (b *Board) saveRule(r *request) error {
	sc, name := b.cfg.Sources.Scaling, r.c.FormValue("rule")
	back := "/alerts?rule=" + url.QueryEscape(name)
	if sc == nil {
		return r.report("/alerts", "", errors.New("this node has no scaling engine"))
	}
	rules, _ := sc.Rules()
	all := append([]scale.Rule(nil), rules...)
	for i := range all {
		if all[i].Name != name {
			continue
		}
		if err := changeRule(&all[i], func(f string) string { return r.c.FormValue(f) }); err != nil {
			return r.report(back, "", err)
		}
		return b.order(r, back, "The rule is in force.", watch.Command{Op: watch.OpRules, Rules: all})
	}
	return r.report("/alerts", "", fmt.Errorf("there is no rule %.60q", name))
}

// reduceWord says what of the nodes' values a rule looks at.
func reduceWord(r *scale.Rule) string {
	switch r.Reduce {
	case scale.EachNode:
		return "each node by itself"
	case scale.Highest:
		return "the highest of all nodes"
	case scale.Lowest:
		return "the lowest of all nodes"
	case scale.Sum:
		return "the sum of all nodes"
	}
	return "the mean of all nodes"
}
