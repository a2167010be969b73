package dash

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// backtestSpan is how far back a rule is tried out.
const backtestSpan = 30 * 24 * time.Hour

const (
	// trialTime bounds one trial, and triedFor is how long its outcome is good.
	trialTime = 15 * time.Second
	triedFor  = time.Minute
)

// ruleEditor is the form of one rule, with what it would have done.
type ruleEditor struct {
	rule      scale.Rule
	unit      string
	fresh     bool // there is no such rule yet
	origin    watch.Origin
	threshold string
	clear     string
	hold      string // seconds
	keep      string // seconds
	verdict   string
	running   bool // it is being tried
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
	ed.threshold, ed.clear = tidy(rule.Threshold*factor), tidy(rule.Clear*factor)
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

// tidy writes a number without what the change of its unit added to it.
func tidy(v float64) string {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64)
	if err != nil { // it was written a moment ago
		return plain(v)
	}
	return plain(short)
}

// ruleFields are the fields of the form; what a form lacks stays as it was.
var ruleFields = []string{"severity", "class", "signal", "reduce", "of", "side", "threshold", "clear", "silence", "hold", "keep", "response"}

// changeRule takes the fields of the form over. Words are read as the configuration
// reads them.
func changeRule(rule *scale.Rule, field func(string) string) error {
	var errs []error
	word := func(name string, into encoding.TextUnmarshaler) {
		if text := field(name); text != "" {
			if err := into.UnmarshalText([]byte(text)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	word("severity", &rule.Severity)
	word("class", &rule.Class)
	word("signal", &rule.Signal)
	word("reduce", &rule.Reduce)
	if text := field("of"); text != "" {
		rule.OfCapacity = text == "capacity"
	}
	if text := field("side"); text != "" {
		rule.Below = text == "under"
	}
	if text := field("response"); text != "" {
		if len(text) > 300 || !utf8.ValidString(text) {
			errs = append(errs, errors.New("response: longer than 300 bytes, or not UTF-8"))
		} else {
			rule.Response = strings.Clone(text)
		}
	}
	read := func(name string, into *float64, factor float64) {
		text := field(name)
		if text == "" {
			return
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || v != v || v > 1e15 || v < -1e15 {
			errs = append(errs, fmt.Errorf("%s: %.30q is no number", name, text))
			return
		}
		*into = v / factor
	}
	hold, keep, silence := rule.For.Seconds(), rule.KeepFiring.Seconds(), rule.NoDataAfter.Seconds()
	factor := ruleFactor(rule)
	read("threshold", &rule.Threshold, factor)
	read("clear", &rule.Clear, factor)
	read("hold", &hold, 1)
	read("keep", &keep, 1)
	read("silence", &silence, 1)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if hold < 0 || hold > 86400*30 || keep < 0 || keep > 86400*30 {
		return errors.New("for and keep firing: expected 0 to 30 days, in seconds")
	}
	if silence < 0 || silence > 86400 {
		return errors.New("without a sample for: expected 0 to a day, in seconds")
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	rule.For, rule.KeepFiring, rule.NoDataAfter = seconds(hold), seconds(keep), seconds(silence)
	return rule.Validate()
}

// A trial is what a rule would have done on stored samples.
type trial struct {
	from, to time.Time
	tested   scale.Backtested
	signal   watch.History // what the rule looks at; empty for one of capacity
	err      error
}

// try runs a rule over the stored samples.
func (b *Board) try(ctx context.Context, rule *scale.Rule) (t trial) {
	t.to = time.Now()
	t.from = t.to.Add(-backtestSpan)
	if t.tested, t.err = b.cfg.Sources.Scaling.Backtest(ctx, *rule, t.from, t.to); t.err == nil && !rule.OfCapacity {
		t.signal = b.history1(ctx, timeRange{from: t.from, to: t.to}, "", rule.Signal)
	}
	return t
}

// backtest tries the rule on stored samples.
func (b *Board) backtest(r *request, ed *ruleEditor) {
	key, err := json.Marshal(ed.rule)
	if err != nil {
		ed.fault = err.Error()
		return
	}
	var do func(context.Context) trial
	if r.c != nil {
		rule := ed.rule
		do = func(ctx context.Context) trial { return b.try(ctx, &rule) }
	}
	p, err := b.trials.get(string(key), outcomeWait, do)
	if err == nil && p != nil {
		err = p.outcome.err
	}
	switch {
	case err != nil:
		ed.fault = err.Error()
	case p == nil:
		ed.running = true
	default:
		ed.tell(r, &p.outcome)
	}
}

// tell puts what came of a trial into words and a chart.
func (ed *ruleEditor) tell(r *request, tried *trial) {
	t := &tried.tested
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
	ed.chart = ed.trialChart(r, tried)
}

func (ed *ruleEditor) trialChart(r *request, tried *trial) *ui.Chart {
	h := &tried.signal
	factor := unitFactor(ed.rule.Signal)
	points := line(trendOf(h, "", ed.rule.Signal), valueFor(ed.rule.Signal), factor)
	p := ui.Panel{Height: 112, Lines: []ui.Line{{Points: points, Gap: max(3*h.Step, time.Hour)}}}
	if !ed.rule.OfSilence() {
		p.Limits = []ui.Limit{{V: ed.rule.Threshold * factor, Label: "fires", Kind: kindOf(&ed.rule)}}
	}
	for _, e := range ed.episodes {
		until := e.Until
		if until.IsZero() {
			until = tried.to
		}
		p.Spans = append(p.Spans, ui.Span{From: e.From, To: until, Class: "hot"})
	}
	return &ui.Chart{ID: "backtest", Title: signalName(ed.rule.Signal) + ", last 30 days", Desc: ed.verdict, From: tried.from, To: tried.to, Zone: r.zone, Panels: []ui.Panel{p}}
}

// newRule is what the form of a new rule begins with.
func newRule(name string) scale.Rule {
	return scale.Rule{Name: name, Class: scale.ClassOperation, Signal: scale.Connections, Reduce: scale.Sum, Threshold: 1000, Clear: 900,
		For: time.Minute, KeepFiring: 2 * time.Minute, NoDataAfter: 30 * time.Second, Source: "made on the page of alerts"}
}

// ruleNamed is the rule in force that the form names.
func (b *Board) ruleNamed(r *request) (rule scale.Rule, back string, err error) {
	name := strings.Clone(r.c.FormValue("rule"))
	back = "/alerts?rule=" + url.QueryEscape(name)
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return rule, "/alerts", errors.New("this node has no scaling engine")
	}
	rules, _ := sc.Rules()
	for i := range rules {
		if rules[i].Name == name {
			return rules[i], back, nil
		}
	}
	return newRule(name), "/alerts", fmt.Errorf("there is no rule %.60q", name)
}

// saveRule puts a changed rule, or a new one, into force.
func (b *Board) saveRule(r *request) error {
	rule, back, err := b.ruleNamed(r)
	if err != nil {
		if b.cfg.Sources.Scaling == nil || r.c.FormValue("new") == "" {
			return r.report(back, "", err)
		}
		if !ruleName.MatchString(rule.Name) {
			return r.report(back, "", errors.New("name: use 1 to 100 of a-z A-Z 0-9 . _ -"))
		}
		back = "/alerts?rule=" + url.QueryEscape(rule.Name)
	}
	if err := changeRule(&rule, func(f string) string { return r.c.FormValue(f) }); err != nil {
		return r.report(back, "", err)
	}
	return b.order(r, back, "The rule is in force.", watch.Command{Op: watch.OpRule, Rule: &rule})
}

// ruleName keeps new names fit for addresses and alert keys.
var ruleName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// ableRule stops a rule from being run, or has it run again.
func (b *Board) ableRule(r *request) error {
	rule, back, err := b.ruleNamed(r)
	if err != nil {
		return r.report(back, "", err)
	}
	rule.Disabled = r.c.FormValue("able") == "no"
	done := "The rule runs again."
	if rule.Disabled {
		done = "The rule is kept and not run."
	}
	return b.order(r, back, done, watch.Command{Op: watch.OpRule, Rule: &rule})
}

// dropRule takes a rule away, or back to what the configuration says.
func (b *Board) dropRule(r *request) error {
	rule, back, err := b.ruleNamed(r)
	if err != nil {
		return r.report(back, "", err)
	}
	return b.order(r, "/alerts", "Done.", watch.Command{Op: watch.OpUnrule, ID: rule.Name})
}

// originWord says where a rule comes from.
func originWord(o watch.Origin) string {
	switch o {
	case watch.Stored:
		return "made here"
	case watch.Changed:
		return "changed here"
	}
	return "configuration"
}

func (b *Board) ruleTable(*request) (*table, error) {
	t := &table{columns: []string{"rule", "origin", "disabled", "severity", "class", "signal", "of_capacity", "below", "threshold", "clear", "for_s", "keep_firing_s", "response", "source"}}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		rules, _ := sc.Rules()
		origins := sc.Origins()
		for i := range rules {
			r := &rules[i]
			t.add(r.Name, string(origins[r.Name]), r.Disabled, r.Severity.String(), r.Class.String(), r.Signal.String(), r.OfCapacity, r.Below, r.Threshold, r.Clear, r.For.Seconds(), r.KeepFiring.Seconds(), r.Response, r.Source)
		}
	}
	return t, nil
}
