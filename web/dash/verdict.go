package dash

import (
	"fmt"
	"math"
	"strings"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/web/ui"
)

// actSoon is how many days before a limit the verdict asks for something.
const actSoon = 21

// A verdict answers in one sentence how the fleet is.
type verdict struct {
	kind, word, headline, lead string
	reasons                    []relay.Reason // checks that are not well
	first                      *scale.LimitRow
	used                       float64 // share of safe capacity in use
	known                      bool
	fullest                    string // what is used most
	guessed                    string // what only a guessed capacity complains of; "" for nothing
}

// judge looks at readiness, alerts, load and what is reached next, in this order.
func (b *Board) judge(n *notices) verdict {
	now := b.cfg.Page.Now()
	s := &now.Stats
	v := verdict{kind: "ok", word: "All well"}
	for _, r := range b.cfg.Relay.Ready() {
		if !r.OK {
			v.reasons = append(v.reasons, r)
		}
	}
	b.measure(&v)
	alerts, critical := b.weighty(&v, n)
	v.headline = b.use(&v, s)
	switch {
	case s.Draining:
		v.kind, v.word, v.headline = "info", "Draining", "This node is stopping and sends its agents away."
		return v
	case len(v.reasons) > 0:
		v.kind, v.word, v.headline = "crit", "Act now", "This node should get no new agents now: "+reasonWords(v.reasons)+"."
		return v
	case critical > 0:
		v.kind, v.word = "crit", "Act now"
		v.headline = alertSentence(b.cfg.Sources.Scaling, &alerts[0]) + "."
	case s.Level == "degraded" || s.Level == "critical":
		v.kind, v.word = "warn", "Under load"
		v.headline = "The relay is busy: its level is " + s.Level + ". It holds back what matters least first."
	case len(alerts) > 0:
		v.kind, v.word = "warn", "Act soon"
		v.headline = alertSentence(b.cfg.Sources.Scaling, &alerts[0]) + "."
	case v.used > 1:
		v.kind, v.word = "warn", "Act soon"
	case v.first != nil && v.first.Runway.Days <= actSoon:
		v.kind, v.word = "warn", "Act soon"
	case v.guessed != "":
		v.word = "Fine, not yet measured"
		v.headline = "Processors and memory are calm. " + v.guessed + " above the scaling document's default for a node, which says nothing of this machine."
		v.lead = "What it really holds is learnt from its own samples, or measured at once by agentnet bench --calibrate."
	}
	if v.lead == "" {
		v.lead = b.leadSentence(&v, &now)
	}
	return v
}

// measure finds the first limit and how much of the safe capacity is in use.
func (b *Board) measure(v *verdict) {
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return
	}
	guess := guessing(sc)
	for _, row := range b.outlook().Limits {
		if guess && row.Guessed {
			continue
		}
		if row.Runway.State == scale.RunwayRising {
			v.first = &row
			break
		}
	}
	for _, row := range headroom(sc, b.outlook().Limits) {
		if row.guessed {
			if v.guessed == "" && row.crit > 0 && row.now > row.crit {
				v.guessed = row.name + " are"
			}
			continue
		}
		if row.crit > 0 && row.ofCapacity {
			if used := row.now / row.crit; !v.known || used > v.used {
				v.used, v.known, v.fullest = used, true, row.name
			}
		}
	}
}

// weighty leaves out alerts that only a guessed capacity raises on a calm machine,
// and counts the critical ones of the rest.
func (b *Board) weighty(v *verdict, n *notices) (alerts []scale.Alert, critical int) {
	sc := b.cfg.Sources.Scaling
	if sc == nil || len(n.alerts) == 0 {
		return n.alerts, n.critical
	}
	list, capacity := sc.Rules()
	f := sc.Fleet()
	guess, unmeasured := capacity.Guessed() && f.Calm(), guessing(sc)
	rules := make(map[string]*scale.Rule, len(list))
	for i := range list {
		rules[list[i].Name] = &list[i]
	}
	for _, a := range n.alerts {
		r := rules[a.Rule]
		if guess && r != nil && r.OfCapacity {
			if v.guessed == "" && unmeasured {
				v.guessed = signalName(r.Signal) + " are"
			}
			continue
		}
		if alerts = append(alerts, a); r != nil && r.Severity == scale.Critical {
			critical++
		}
	}
	return alerts, critical
}

// use is the sentence of a calm day.
func (b *Board) use(v *verdict, s *relay.Stats) string {
	var parts []string
	if v.used > 1 {
		parts = append(parts, fmt.Sprintf("%s: %.0f%% of the safe capacity is in use.", v.fullest, math.Round(v.used*100)))
	} else if v.known {
		parts = append(parts, fmt.Sprintf("%.0f%% of safe capacity is in use.", math.Round(v.used*100)))
	} else if s.Agents == 0 {
		parts = append(parts, "The relay is running and quiet. No agent is connected yet.")
	} else {
		parts = append(parts, "The relay is running. "+ui.Plural(s.Agents, "agent is", "agents are")+" connected to this node.")
	}
	if v.first != nil {
		parts = append(parts, v.first.Name+" is the first limit, about "+days(v.first.Runway.Days)+" away at this growth.")
	} else if v.known && v.used <= 1 {
		parts = append(parts, "No limit is in sight.")
	}
	return strings.Join(parts, " ")
}

func (b *Board) leadSentence(v *verdict, now *Now) string {
	flow := "Nothing was delivered in the last minute."
	if now.P95 > 0 {
		p95, unit := ui.Latency(now.P95)
		flow = "Messages flow: " + ui.Rate(now.AcceptedPerS) + " a second, 95% delivered within " + p95 + " " + unit + "."
	}
	if v.first != nil && v.first.Runway.Early > 0 {
		late := "and later"
		if v.first.Runway.Late > 0 {
			late = "and " + days(v.first.Runway.Late)
		}
		return fmt.Sprintf("Likely between %.0f %s. %s", v.first.Runway.Early, late, flow)
	}
	return flow
}

// days writes a number of days as people say it.
func days(d float64) string {
	switch {
	case d < 1:
		return "less than a day"
	case d < 1.5:
		return "1 day"
	case d > 400:
		return "more than a year"
	default:
		return fmt.Sprintf("%.0f days", d)
	}
}

func reasonWords(reasons []relay.Reason) string {
	var out []string
	for _, r := range reasons {
		text := r.Check
		if r.Message != "" {
			text += " (" + r.Message + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
