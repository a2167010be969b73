package dash

import (
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// watched is an engine with one node, of which only what a verdict asks is there.
type watched struct {
	Scaling
	fleet    scale.Fleet
	rules    []scale.Rule
	capacity scale.Capacity // of the engine
	measured scale.Capacity // of the samples; zero: they do not tell
	alerts   []scale.Alert
	limits   []scale.LimitRow
}

func (w *watched) Fleet() scale.Fleet                    { return w.fleet }
func (w *watched) Rules() ([]scale.Rule, scale.Capacity) { return w.rules, w.capacity }
func (w *watched) Alerts() []scale.Alert                 { return w.alerts }
func (w *watched) Outlook() watch.Outlook                { return watch.Outlook{Limits: w.limits} }
func (w *watched) Planner() scale.Planner {
	if w.capacity.Guessed() && w.measured != (scale.Capacity{}) {
		return scale.Planner{Capacity: w.measured}
	}
	return scale.Planner{Capacity: w.capacity}
}

// TestVerdictOfAGuess holds that a default is no reason to act while the machine is
// calm, and that what was measured is.
func TestVerdictOfAGuess(t *testing.T) {
	at := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	fire := func(rule string) []scale.Alert {
		return []scale.Alert{{Rule: rule, State: scale.Firing, Since: at, Value: 1.2}}
	}
	document := scale.DocumentCapacity()
	bench := scale.Capacity{Connections: 20_000, Messages: 1000, ScaleAt: 14_000, Source: "bench"}
	rising := []scale.LimitRow{{Name: "messages of the largest fleet", Guessed: true, Runway: scale.Runway{State: scale.RunwayRising, Days: 3, Limit: 100}}}
	tests := []struct {
		name                  string
		capacity, measured    scale.Capacity
		cpu, memory           float64
		connections, messages float64
		alerts                []scale.Alert
		limits                []scale.LimitRow
		want                  string
	}{
		{name: "fresh", capacity: document, cpu: 0.01, memory: 0.05, want: "All well"},
		{name: "light load", capacity: document, cpu: 0.03, memory: 0.05, connections: 20, messages: 60, want: "All well"},
		{name: "above the default, calm", capacity: document, cpu: 0.2, memory: 0.2, connections: 20, messages: 130, want: "Fine, not yet measured"},
		{name: "alert by the default, calm", capacity: document, cpu: 0.2, memory: 0.2, connections: 950, messages: 10, alerts: fire("connections_critical"), want: "Fine, not yet measured"},
		{name: "growth towards the default, calm", capacity: document, cpu: 0.2, memory: 0.2, messages: 80, limits: rising, want: "All well"},
		{name: "another alert counts", capacity: document, cpu: 0.2, memory: 0.2, alerts: fire("latency_warning"), want: "Act soon"},
		{name: "above the default, busy", capacity: document, cpu: 0.75, memory: 0.2, messages: 130, want: "Act soon"},
		{name: "alert by the default, full memory", capacity: document, cpu: 0.1, memory: 0.8, connections: 950, alerts: fire("connections_critical"), want: "Act now"},
		{name: "growth towards the default, busy", capacity: document, cpu: 0.75, memory: 0.2, messages: 80, limits: rising, want: "Act soon"},
		{name: "measured by samples, room", capacity: document, measured: bench, cpu: 0.2, memory: 0.2, messages: 130, alerts: fire("messages_capacity"), want: "All well"},
		{name: "measured by samples, full", capacity: document, measured: bench, cpu: 0.2, memory: 0.2, messages: 1100, want: "Act soon"},
		{name: "calibrated, full", capacity: bench, cpu: 0.2, memory: 0.2, messages: 1100, want: "Act soon"},
		{name: "calibrated, alert", capacity: bench, cpu: 0.2, memory: 0.2, messages: 950, alerts: fire("messages_capacity"), want: "Act soon"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := scale.Sample{Node: "n1", At: at, Ready: at.Add(-time.Hour), Started: at.Add(-time.Hour)}
			for signal, v := range map[scale.Signal]float64{scale.CPU: tt.cpu, scale.Memory: tt.memory, scale.Connections: tt.connections, scale.MessagesIn: tt.messages} {
				s.Values.Set(signal, v)
			}
			w := &watched{fleet: scale.FleetOf(at, []scale.Sample{s}, scale.FleetConfig{}), rules: scale.DefaultRules(), capacity: tt.capacity, measured: tt.measured, alerts: tt.alerts, limits: tt.limits}
			b, _ := newBoard(t, &fakeRelay{fakeNode: fakeNode{stats: relay.Stats{Level: "normal", Agents: 3}}}, Admin, func(c *BoardConfig) { c.Sources.Scaling = w })
			n := b.readNotices()
			if n.verdict.Word != tt.want {
				v := b.judge(&n)
				t.Errorf("got %q (%s), want %q", n.verdict.Word, v.headline, tt.want)
			}
		})
	}
}
