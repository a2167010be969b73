package dash

import (
	"fmt"
	"math"
	"slices"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// advise turns what is full, and what the engine decided, into changes that an
// admin can make. What was looked at and is not needed is told too.
func (b *Board) advise(r *request, sc Scaling, rows []limitRow, st *watch.Status) (cards []adviceCard, looked []string) {
	d := &st.Decision
	guess := guessing(sc) && slices.Contains([]string{scale.Connections.String(), scale.MessagesIn.String()}, d.Winner)
	if st.Mode != scale.Act && d.Desired != d.Live && d.Live > 0 && !d.At.IsZero() {
		cards = append(cards, countAdvice(d, st))
	} else if d.Live > 0 && d.Recommended > st.Max {
		cards = append(cards, boundAdvice(d, st))
	} else {
		looked = append(looked, "another count of nodes: "+orNone(st.Reason))
	}
	if guess && len(cards) > 0 {
		cards[0].kind, cards[0].word = "info", "Can wait"
		cards[0].risk = "Processors and memory are calm, and what a node holds is only the scaling document's default: measure it first (agentnet bench --calibrate). " + cards[0].risk
	}
	for i := range rows {
		row := &rows[i]
		soon := row.runway != nil && row.runway.State == scale.RunwayRising && row.runway.Days <= 2*actSoon
		if row.kind == "" && !soon {
			if row.ofCapacity {
				used := row.value() + " is used"
				if row.guessed {
					used = row.value() + " of what is only assumed of a node" // no reason to act, and no relief either
				}
				looked = append(looked, "more "+row.name+": "+used)
			}
			continue
		}
		if card, ok := limitAdvice(row); ok {
			card.key = row.signal.String() + "@" + row.where
			card.weight = weigh(&card, math.Floor(row.share()*10))
			cards = append(cards, card)
		}
	}
	for i := range cards {
		cards[i].id = fmt.Sprintf("A-%d", i+1)
	}
	return cards, looked
}

func countAdvice(d *scale.Decision, st *watch.Status) adviceCard {
	verb := "Add"
	if d.Desired < d.Live {
		verb = "Remove"
	}
	n := d.Desired - d.Live
	if n < 0 {
		n = -n
	}
	card := adviceCard{kind: "info", word: "Can wait", title: verb + " " + ui.Plural(n, "node", "nodes") + fmt.Sprintf(": %d → %d", d.Live, d.Desired),
		effect: []Fact{{"Nodes", fmt.Sprintf("%d → %d", d.Live, d.Desired), false}, {"Decided by", orNone(d.Winner), false}},
		change: []diffLine{{"", "scaling:"}, {"del", "-  mode: " + st.Mode.String()}, {"add", "+  mode: act"}},
		risk:   "The mode is " + st.Mode.String() + ": the engine says what it would do and leaves it to you. " + sentence(d.Reason) + "."}
	if d.Desired > d.Live {
		card.kind, card.word = "warn", "Act soon"
	}
	card.key, card.weight = "nodes", weigh(&card, float64(d.Desired))
	if st.Actuator != "" {
		card.apply = actCommand()
	}
	for _, w := range d.Wants {
		if w.Known && len(card.evidence) < 3 {
			card.evidence = append(card.evidence, Fact{signalName(w.Signal), fmt.Sprintf("%s of %s a node, asks for %d", write(w.Signal, w.Value), write(w.Signal, w.Target), w.Count), false})
		}
	}
	return card
}

func boundAdvice(d *scale.Decision, st *watch.Status) adviceCard {
	card := adviceCard{kind: "warn", word: "Act soon", title: fmt.Sprintf("Allow more nodes: the load asks for %d, at most %d are allowed", d.Recommended, st.Max),
		effect: []Fact{{"At most", fmt.Sprintf("%d → %d nodes", st.Max, d.Recommended), false}},
		change: []diffLine{{"", "scaling:"}, {"del", fmt.Sprintf("-  max: %d", st.Max)}, {"add", fmt.Sprintf("+  max: %d", d.Recommended)}},
		risk:   "Until the capacity of a node is measured it is the scaling document's. agentnet bench measures this machine: it may hold far more."}
	card.key, card.weight = "max", weigh(&card, float64(d.Recommended))
	for _, w := range d.Wants {
		if w.Known && len(card.evidence) < 3 {
			card.evidence = append(card.evidence, Fact{signalName(w.Signal), fmt.Sprintf("%s of %s a node, asks for %d", write(w.Signal, w.Value), write(w.Signal, w.Target), w.Count), false})
		}
	}
	return card
}

// limitAdvice is what helps against one limit.
func limitAdvice(row *limitRow) (adviceCard, bool) {
	card := adviceCard{kind: "warn", word: "Act soon", evidence: []Fact{{"Now, p95 of 7 days", row.nowText + ", " + orNone(row.usual), false}, {"Critical at", write(row.signal, row.crit), false}, {"Reached in", row.away, false}}}
	if row.kind == "crit" {
		card.kind, card.word = "crit", "Act now"
	}
	switch row.signal {
	case scale.Memory:
		card.title = "Give " + row.where + " more memory"
		more := row.now / 0.47
		card.effect = []Fact{{"Memory on " + row.where, fmt.Sprintf("%s → %s", share(row.now), share(row.now/math.Max(more, 1.01))), false}, {"Restart", "yes, agents resume", false}}
		card.change = []diffLine{{"", "# unit of the service"}, {"", "[Service]"}, {"add", fmt.Sprintf("+MemoryMax=%.1f × what it has now", math.Max(more, 1.1))}}
		card.risk = "Low: undo is the same change back. Slow readers hold memory too; the page of agents shows them."
	case scale.Descriptors:
		card.title = "Allow more open files on " + row.where
		card.effect = []Fact{{"Connections", "not refused for want of a file", false}, {"Restart", "yes, agents resume", false}}
		card.change = []diffLine{{"", "[Service]"}, {"add", "+LimitNOFILE=262144"}}
		card.risk = "None known."
	case scale.CPU:
		card.title = "Give " + row.where + " more processors, or add a node"
		card.effect = []Fact{{"CPU", "halves with twice the processors", false}}
		card.change = []diffLine{{"", "[Service]"}, {"add", "+CPUQuota=… (or a larger machine)"}}
		card.risk = "Low."
	default:
		return card, false
	}
	return card, true
}

// tryWhatIf multiplies the present load and says what the fleet would look like.
func (b *Board) tryWhatIf(r *request, sc Scaling) whatIf {
	factor := func(name string) float64 {
		v, err := number(r.query.Get(name))
		if err != nil || v < 0.1 {
			return 1
		}
		return min(v, 20)
	}
	w := whatIf{agents: factor("agents"), messages: factor("msgs"), size: factor("size")}
	f := sc.Fleet()
	p := sc.Planner()
	w.nodes = max(1, f.Live())
	plan, err := p.Plan(scale.Demand{Connections: max(1, f.Total(scale.Connections).Sum*w.agents), Messages: max(0.1, f.Total(scale.MessagesIn).Sum*w.agents*w.messages)})
	if err != nil {
		w.text = err.Error()
		return w
	}
	w.known, w.wanted = len(f.Nodes) > 0, plan.Instances
	add := func(name string, used, times float64) {
		row := whatIfRow{name: name, now: share(used), same: share(used * times), wanted: share(used * times * float64(w.nodes) / float64(max(1, w.wanted)))}
		kind := func(v float64) string {
			switch {
			case v > 0.9:
				return "crit"
			case v > 0.7:
				return "warn"
			}
			return ""
		}
		row.nowKind, row.k2, row.k3 = kind(used), kind(used*times), kind(used*times*float64(w.nodes)/float64(max(1, w.wanted)))
		w.rows = append(w.rows, row)
	}
	for _, s := range []struct {
		signal scale.Signal
		times  float64
	}{{scale.Connections, w.agents}, {scale.MessagesIn, w.agents * w.messages}} {
		if whole, ok := p.Capacity.Of(s.signal, w.nodes); ok && whole > 0 {
			add(signalName(s.signal), f.Total(s.signal).Sum/whole, s.times)
		}
	}
	if worst, node := worstNode(&f, scale.CPU); node != "" {
		add("CPU, busiest", worst, w.agents*w.messages*(0.5+0.5*w.size))
	}
	if worst, node := worstNode(&f, scale.Memory); node != "" {
		add("Memory, fullest", worst, w.agents)
	}
	w.text = fmt.Sprintf("The planner asks for %s. Processors are taken to grow with messages and half with their size, memory with agents.", ui.Plural(w.wanted, "node", "nodes"))
	return w
}

func costWord(month float64, currency string) string {
	if month <= 0 {
		return ""
	}
	return fmt.Sprintf(", about %s %s a month", ui.Rate(month), currency)
}

// planFacts are the bounds and parts that a plan comes to.
func planFacts(p *scale.Plan) []Fact {
	memory, unit := ui.Bytes(int64(p.Size.Memory))
	out := []Fact{{"Each node", fmt.Sprintf("%s vCPU, %s %s", ui.Rate(p.Size.CPUs), memory, unit), false}, {"Redis", ui.Plural(p.Redis, "node", "nodes"), false},
		{"Bounds for the policy", fmt.Sprintf("min %d, max %d", p.MinInstances, p.MaxInstances), false}, {"Carries", fmt.Sprintf("%s connections, %s messages/s", ui.Count(int(p.Carries.Connections)), ui.Rate(p.Carries.Messages)), false}}
	if p.TrafficIn > 0 {
		out = append(out, Fact{"Traffic in, out", write(scale.BytesIn, p.TrafficIn) + ", " + write(scale.BytesOut, p.TrafficOut), false})
	}
	return out
}
