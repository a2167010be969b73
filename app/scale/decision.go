package scale

import (
	"fmt"
	"strings"
	"time"
)

// A Box is one box of the document's flowchart, by the letter that it has there.
type Box string

// The boxes.
const (
	BoxAlert       Box = "A" // Monitoring Alert
	BoxType        Box = "B" // Alert Type?
	BoxCapacity    Box = "C" // Capacity Alert
	BoxPerformance Box = "D" // Performance Alert
	BoxError       Box = "E" // Error Rate Alert
	BoxSufficient  Box = "F" // Auto-scaling Sufficient?
	BoxMonitor     Box = "G" // Monitor Auto-scaling
	BoxManual      Box = "H" // Manual Capacity Adjustment
	BoxIssue       Box = "I" // Performance Issue Type?
	BoxResources   Box = "J" // Increase Resources
	BoxOptimize    Box = "K" // Implement Optimizations
	BoxSource      Box = "L" // Error Source?
	BoxIncrease    Box = "M" // Increase Capacity
	BoxFix         Box = "N" // Deploy Fix
	BoxDocument    Box = "O" // Document in Scaling Log
)

// An Arrow leads from one box to another, under the answer that it stands for.
type Arrow struct {
	From   Box    `json:"from"`
	Answer string `json:"answer,omitempty"`
	To     Box    `json:"to"`
}

// The answers on the arrows.
const (
	AnswerCapacity     = "Capacity"
	AnswerPerformance  = "Performance"
	AnswerError        = "Error"
	AnswerYes          = "Yes"
	AnswerNo           = "No"
	AnswerConstraint   = "Resource Constraint"
	AnswerOptimization = "Optimization Needed"
	AnswerExhaustion   = "Resource Exhaustion"
	AnswerCode         = "Code Issue"
)

// BoxText is the text of each box in the document.
func BoxText(b Box) string {
	return map[Box]string{
		BoxAlert: "Monitoring Alert", BoxType: "Alert Type", BoxCapacity: "Capacity Alert", BoxPerformance: "Performance Alert",
		BoxError: "Error Rate Alert", BoxSufficient: "Auto-scaling Sufficient?", BoxMonitor: "Monitor Auto-scaling",
		BoxManual: "Manual Capacity Adjustment", BoxIssue: "Performance Issue Type", BoxResources: "Increase Resources",
		BoxOptimize: "Implement Optimizations", BoxSource: "Error Source", BoxIncrease: "Increase Capacity", BoxFix: "Deploy Fix",
		BoxDocument: "Document in Scaling Log",
	}[b]
}

// Flowchart is the document's decision framework: every arrow of it.
func Flowchart() []Arrow {
	return []Arrow{
		{BoxAlert, "", BoxType},
		{BoxType, AnswerCapacity, BoxCapacity}, {BoxType, AnswerPerformance, BoxPerformance}, {BoxType, AnswerError, BoxError},
		{BoxCapacity, "", BoxSufficient}, {BoxSufficient, AnswerYes, BoxMonitor}, {BoxSufficient, AnswerNo, BoxManual},
		{BoxPerformance, "", BoxIssue}, {BoxIssue, AnswerConstraint, BoxResources}, {BoxIssue, AnswerOptimization, BoxOptimize},
		{BoxError, "", BoxSource}, {BoxSource, AnswerExhaustion, BoxIncrease}, {BoxSource, AnswerCode, BoxFix},
		{BoxMonitor, "", BoxDocument}, {BoxManual, "", BoxDocument}, {BoxResources, "", BoxDocument},
		{BoxOptimize, "", BoxDocument}, {BoxIncrease, "", BoxDocument}, {BoxFix, "", BoxDocument},
	}
}

// Evidence is one fact that an answer rests on. Supports says that it speaks for
// the answer given; a fact that is not known supports nothing.
type Evidence struct {
	Fact     string `json:"fact"`
	Known    bool   `json:"known"`
	Supports bool   `json:"supports"`
}

// A Stop is one box that a walk came through.
type Stop struct {
	Box      Box        `json:"box"`
	Answer   string     `json:"answer,omitempty"` // of the arrow that was taken
	Evidence []Evidence `json:"evidence,omitempty"`
}

// A Walk is the way of one alert through the flowchart.
type Walk struct {
	Alert  string `json:"alert"`
	Stops  []Stop `json:"stops"`
	Leaf   Box    `json:"leaf"`
	Advice string `json:"advice"`
}

// A Question is all that a walk looks at.
type Question struct {
	At       time.Time `json:"at"`
	Alert    Alert     `json:"alert"`
	Rule     Rule      `json:"rule"`
	Decision Decision  `json:"decision"`
	Max      int       `json:"max"`
	Pause    Pause     `json:"pause"`
	Pinned   int       `json:"pinned,omitempty"`
	Broken   string    `json:"actuator_fault,omitempty"` // why the actuator cannot act

	// Fleet holds, for each signal that evidence is drawn from, the worst node or
	// the whole, as that signal is judged.
	Fleet    Readings `json:"fleet"`
	Capacity Capacity `json:"capacity"`
	Live     int      `json:"live"`
}

// evidenceSignals are what walks look at, as the highest of all nodes (or the
// sum, for connections and messages).
var evidenceSignals = [...]Signal{Connections, CPU, Memory, KernelMemory, MessagesIn, QueueBytes, Descriptors, ErrorRate, DeliveryP95, APIP95}

// Ask gathers what a walk looks at.
func Ask(a Alert, r Rule, d Decision, p *Policy, f *Fleet, c Capacity, broken string) Question {
	q := Question{At: f.At.UTC().Round(0), Alert: a, Rule: r, Decision: d, Max: p.Max, Pause: p.Pause, Pinned: p.Pinned, Broken: broken,
		Capacity: c.withDefaults(), Live: f.Live()}
	for _, s := range evidenceSignals {
		t := f.Total(s)
		v := t.reading(s)
		if _, _, latency := s.quantile(); v.State == Fresh && !s.Additive() && !latency {
			v.Value = t.Max
		}
		q.Fleet[s] = v
	}
	lowest := f.Total(Broker)
	q.Fleet[Broker] = lowest.reading(Broker)
	if lowest.Known > 0 {
		q.Fleet[Broker].Value = lowest.Min
	}
	return q
}

// Take walks the flowchart. Every walk ends in the scaling log, which is where
// the caller puts it.
func Take(q *Question) Walk {
	w := Walk{Alert: q.Alert.Key()}
	w.stop(BoxAlert, "", Evidence{Fact: q.alertFact(), Known: true, Supports: true})
	switch q.Rule.Class {
	case ClassPerformance:
		w.stop(BoxType, AnswerPerformance, q.classFact())
		w.stop(BoxPerformance, "")
		q.performance(&w)
	case ClassError:
		w.stop(BoxType, AnswerError, q.classFact())
		w.stop(BoxError, "")
		q.errors(&w)
	default:
		w.stop(BoxType, AnswerCapacity, q.classFact())
		w.stop(BoxCapacity, "")
		q.sufficient(&w)
	}
	w.stop(w.Leaf, "")
	w.stop(BoxDocument, "")
	return w
}

func (w *Walk) stop(b Box, answer string, evidence ...Evidence) {
	w.Stops = append(w.Stops, Stop{Box: b, Answer: answer, Evidence: evidence})
}

func (q *Question) alertFact() string {
	return fmt.Sprintf("%s is %s: %s, threshold %s", q.Alert.Key(), q.Alert.State, q.amount(q.Alert.Value), q.amount(q.Rule.Threshold))
}

func (q *Question) amount(v float64) string {
	j := judge{r: &q.Rule}
	return j.amount(v)
}

func (q *Question) classFact() Evidence {
	return Evidence{Fact: fmt.Sprintf("rule %s watches %v, of class %v", q.Rule.Name, q.Rule.Signal, q.Rule.Class), Known: true, Supports: true}
}

// sufficient answers whether auto-scaling is enough: it must be allowed and able
// to act, and what is needed must lie within its bounds.
func (q *Question) sufficient(w *Walk) {
	d := &q.Decision
	view, late := "whole", ""
	if d.SuppressedBy(ByPartial) {
		view = "partial"
	}
	if d.Late {
		late = ", later than they should be"
	}
	facts := []struct {
		ok   bool
		fact string
	}{
		{d.Mode == Act, fmt.Sprintf("the mode is %v", d.Mode)},
		{q.Pause != PauseAll && q.Pause != PauseOut, fmt.Sprintf("paused: %v", q.Pause)},
		{q.Pinned == 0, fmt.Sprintf("pinned count: %d (0: none)", q.Pinned)},
		{q.Broken == "", "the actuator " + orElse(q.Broken, "has no fault")},
		{!d.SuppressedBy(ByPartial), "the view of the fleet is " + view},
		{d.Recommended <= q.Max, fmt.Sprintf("%d instances recommended, at most %d allowed", d.Recommended, q.Max)},
		{!d.Late, fmt.Sprintf("%d of %d wanted instances are live%s", d.Live, d.Desired, late)},
	}
	yes := true
	for _, f := range facts {
		yes = yes && f.ok
	}
	evidence := make([]Evidence, 0, len(facts))
	for _, f := range facts {
		evidence = append(evidence, Evidence{Fact: f.fact, Known: true, Supports: f.ok == yes})
	}
	if yes {
		w.stop(BoxSufficient, AnswerYes, evidence...)
		w.Leaf, w.Advice = BoxMonitor, fmt.Sprintf("Auto-scaling answers: %s. Watch that the alert resolves.", d.Reason)
		return
	}
	w.stop(BoxSufficient, AnswerNo, evidence...)
	w.Leaf = BoxManual
	switch {
	case d.Recommended > q.Max:
		w.Advice = fmt.Sprintf("Raise the maximum of %d: %d instances are needed. %s.", q.Max, d.Recommended, q.Rule.Response)
	case d.Desired > d.Live:
		w.Advice = fmt.Sprintf("Go from %d to %d instances by hand: %s.", d.Live, d.Desired, d.Reason)
	default:
		w.Advice = fmt.Sprintf("%s. Auto-scaling cannot answer by itself: see the facts.", orElse(q.Rule.Response, "Adjust capacity by hand"))
	}
}

// A press is a resource and from where on it is short. Latency suffers early, so
// a constraint begins where the document scales; errors come from what is full,
// so exhaustion begins where the document's alerts are critical.
type press struct {
	signal   Signal
	shortage float64 // constraint: shares, or shares of capacity
	full     float64 // exhaustion
}

var presses = [...]press{
	{CPU, 0.70, 0.90},
	{Memory, 0.80, 0.90},
	{KernelMemory, 0.30, 0.50},
	{Descriptors, 0.80, 0.95},
	{Connections, 0.70, 0.90},
	{MessagesIn, 0.60, 0.90},
}

// queuePress is how many bytes wait for one live node from where on sending, not
// computing, is the bottleneck.
const queuePress = 64 << 20

// pressed weighs each resource. Its second result is false when none is known.
func (q *Question) pressed(full bool) (facts []Evidence, short, known bool) {
	for _, p := range presses {
		limit := p.shortage
		if full {
			limit = p.full
		}
		v := q.Fleet[p.signal]
		fact := fmt.Sprintf("%v is not known", p.signal)
		if v.State == Fresh {
			amount := show(p.signal, v.Value)
			if of, ok := q.Capacity.Of(p.signal, max(1, q.Live)); ok {
				v.Value /= of
				amount = fmt.Sprintf("%v at %.1f%% of capacity", p.signal, v.Value*100)
			}
			fact = fmt.Sprintf("%s, short above %.0f%%", amount, limit*100)
			known = true
		}
		over := v.State == Fresh && v.Value > limit
		short = short || over
		facts = append(facts, Evidence{Fact: fact, Known: v.State == Fresh, Supports: over})
	}
	if v := q.Fleet[QueueBytes]; v.State == Fresh {
		each := v.Value / float64(max(1, q.Live))
		over := each > queuePress
		short, known = short || over, true
		facts = append(facts, Evidence{Fact: fmt.Sprintf("%.1f MB wait in the queues of a node, short above %d MB", each/1e6, queuePress/1_000_000), Known: true, Supports: over})
	}
	return facts, short, known
}

// against turns evidence round: what was for a shortage is against its absence.
func against(facts []Evidence) []Evidence {
	for i := range facts {
		facts[i].Supports = facts[i].Known && !facts[i].Supports
	}
	return facts
}

// performance answers why messages are slow. Without any known resource it is
// answered as a constraint: room can be added at once and taken back.
func (q *Question) performance(w *Walk) {
	facts, short, known := q.pressed(false)
	if short || !known {
		w.stop(BoxIssue, AnswerConstraint, facts...)
		w.Leaf, w.Advice = BoxResources, "Add capacity or a larger instance: "+firstSupport(facts)+"."
		return
	}
	w.stop(BoxIssue, AnswerOptimization, against(facts)...)
	w.Leaf, w.Advice = BoxOptimize, "No resource is short, so more instances will not help: look for slow handlers, large fan-outs and slow receivers."
}

// errors answers where errors come from. A broker that does not answer is named
// first: neither capacity nor code cures it.
func (q *Question) errors(w *Walk) {
	facts, full, known := q.pressed(true)
	broker := q.Fleet[Broker]
	down := broker.State == Fresh && broker.Value < 0.5
	if down {
		facts = append(facts, Evidence{Fact: "the broker does not answer", Known: true, Supports: false})
	}
	if full && !down {
		w.stop(BoxSource, AnswerExhaustion, facts...)
		w.Leaf, w.Advice = BoxIncrease, "Increase capacity: "+firstSupport(facts)+"."
		return
	}
	w.stop(BoxSource, AnswerCode, against(facts)...)
	w.Leaf = BoxFix
	switch {
	case down:
		w.Advice = "The broker does not answer: restore it first, then judge the errors again."
	case !known:
		w.Advice = "No resource is known, so exhaustion is not shown: restore the samples, and look at the errors by code."
	default:
		w.Advice = "No resource is exhausted: look at the errors by code and at what was deployed last, and deploy a fix or go back."
	}
}

func firstSupport(facts []Evidence) string {
	for _, f := range facts {
		if f.Supports {
			return f.Fact
		}
	}
	return "no resource is known, and adding room is the answer that can be taken back"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Text renders the walk for people: one line for each box, the evidence below.
func (w *Walk) Text() string {
	var b strings.Builder
	for _, s := range w.Stops {
		fmt.Fprintf(&b, "%s  %s", s.Box, BoxText(s.Box))
		if s.Answer != "" {
			fmt.Fprintf(&b, " -> %s", s.Answer)
		}
		b.WriteByte('\n')
		for _, e := range s.Evidence {
			mark := '-'
			switch {
			case !e.Known:
				mark = '?'
			case e.Supports:
				mark = '+'
			}
			fmt.Fprintf(&b, "     %c %s\n", mark, e.Fact)
		}
	}
	fmt.Fprintf(&b, "=> %s\n", w.Advice)
	return b.String()
}
