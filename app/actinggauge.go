package app

import (
	"maps"
	"slices"

	"agentnet/web/api"
)

// actingReadings are the metrics of what this node does to the outside, and puts
// off meanwhile.
func (a *App) actingReadings() []api.Reading {
	outcomes := make(map[string]float64)
	for _, counts := range a.acting.notifier.Counts() {
		for outcome, n := range counts {
			outcomes[string(outcome)] += float64(n)
		}
	}
	waiting := 0
	for _, s := range a.acting.notifier.Channels() {
		waiting += s.Waiting
	}
	out := []api.Reading{
		{Name: "agentnet_notifications_total", Help: "Tries to deliver notifications, by outcome.", Counter: true, Label: "outcome", Values: outcomes},
		counter("agentnet_notifications_unlogged_total", "Deliveries that are missing in their log: it could not be written, or not as fast.", a.acting.sent.lost.Load()),
		gauge("agentnet_notifications_waiting", "Notifications that wait.", float64(waiting)),
		gauge("agentnet_adaptive_share", "Share of the configured queues and windows that is in force.", float64(a.acting.share.Load())/1e6),
	}
	deferred, forced := make(map[string]float64), make(map[string]float64)
	stats := a.acting.gate.Stats()
	for _, work := range slices.Sorted(maps.Keys(stats)) {
		deferred[work], forced[work] = float64(stats[work].Deferred), float64(stats[work].Forced)
	}
	if len(deferred) > 0 {
		out = append(out,
			api.Reading{Name: "agentnet_deferred_total", Help: "Work that waited for calm, by kind.", Counter: true, Label: "work", Values: deferred},
			api.Reading{Name: "agentnet_deferred_forced_total", Help: "Of this, what went on at its deadline.", Counter: true, Label: "work", Values: forced})
	}
	return out
}
