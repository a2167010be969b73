package dash

import (
	"fmt"
	"maps"
	"slices"

	"agentnet/app/scale"
	"agentnet/web/ui"
)

// tiles are the numbers of the whole fleet; without an engine those of this node.
func (b *Board) tiles(r *request, now *Now) []ui.Tile {
	s := &now.Stats
	p95, unit := ui.Latency(now.P95)
	latency := "nothing delivered in the last minute"
	if now.P95 > 0 {
		p50, p50unit := ui.Latency(now.P50)
		latency = "p50 " + p50 + " " + p50unit + " · last minute"
	}
	recent := b.cfg.Page.sampler.recent()
	agents := ui.Tile{Name: "Agents connected", Value: ui.Count(s.Agents), Note: ui.Plural(s.Connections, "connection", "connections") + ", " + ui.Count(s.Resumable) + " away", Line: spark15(recent, "agents", second.agents)}
	messages := ui.Tile{Name: "Messages", Value: ui.Rate(now.AcceptedPerS), Unit: "per second", Note: ui.Rate(now.DeliveredPerS) + " delivered per second", Line: spark15(recent, "messages a second", second.accepted)}
	errors := ui.Tile{Name: "Error rate", Value: "0", Unit: "%", Note: "last minute", Line: spark15(recent, "percent", second.errors)}
	if n := len(recent); n > 0 {
		failed, all := 0.0, 0.0
		for _, sec := range recent[max(0, n-60):] {
			failed, all = failed+sec.failed, all+sec.failed+sec.perS
		}
		if all > 0 {
			errors.Value = percentValue(failed / all)
		}
	}
	lost := uint64(0)
	for _, reason := range slices.Sorted(maps.Keys(s.Dropped)) {
		if reason != "presence_shed" && reason != "no_asker" && reason != "no_sender" {
			lost += s.Dropped[reason]
		}
	}
	nodes := ui.Tile{Name: "Nodes", Value: "1", Note: "this one alone"}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		f, p := sc.Fleet(), sc.Status()
		if f.Live() > 0 {
			nodes.Value = ui.Count(f.Live())
		}
		nodes.Unit = fmt.Sprintf("of %d–%d", p.Min, p.Max)
		nodes.Note = "mode " + p.Mode.String()
		if len(f.Nodes) > 1 {
			agents.Name, agents.Value, agents.Note = "Connections", ui.Count(int(f.Total(scale.Connections).Sum)), ui.Count(s.Agents)+" agents on this node"
			messages.Value, messages.Note = ui.Rate(f.Total(scale.MessagesIn).Sum), ui.Rate(f.Total(scale.MessagesOut).Sum)+" delivered per second"
		}
	}
	return []ui.Tile{agents, messages,
		{Name: "Delivery p95", Value: p95, Unit: unit, Note: latency, Line: spark15(recent, "milliseconds", second.p95ms)},
		errors,
		{Name: "Messages dropped", Value: ui.Count(int(lost)), Note: ui.Count(int(s.Dropped["shed"])) + " shed, since the start", Line: spark15(recent, "messages dropped a second", second.dropped)},
		nodes,
	}
}

// percentValue writes a share as the number of a percentage.
func percentValue(v float64) string {
	text := share(v)
	return text[:len(text)-1]
}

// spark15 draws the last quarter of an hour in 60 steps.
func spark15(recent []second, what string, of func(second) float64) ui.Spark {
	every := max(1, len(recent)/60)
	var points []float64
	for i := 0; i < len(recent); i += every {
		top := 0.0
		for _, sec := range recent[i:min(i+every, len(recent))] {
			top = max(top, of(sec))
		}
		points = append(points, top)
	}
	s := spark(points, what, ui.Rate)
	if s.Label != "" {
		s.Label = "15 minutes" + s.Label[len("Last minute"):]
	}
	return s
}
