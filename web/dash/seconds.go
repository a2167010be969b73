package dash

import (
	"maps"
	"math"
	"slices"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// keptSeconds is how long each second is remembered: a quarter of an hour.
const keptSeconds = 900

// A second is what this node did in one second.
type second struct {
	at                   time.Time
	connected, open      float64 // agents, connections
	perS, deliveredPerS  float64
	failed, lost         float64 // refused commands and dropped messages, a second
	p50, p95, p99        float64 // of its deliveries, in seconds; NaN: there was none
	queued               float64 // bytes
	lastErrors, lastLost uint64
}

func (s second) agents() float64   { return s.connected }
func (s second) accepted() float64 { return s.perS }
func (s second) dropped() float64  { return s.lost }
func (s second) p95ms() float64 {
	if math.IsNaN(s.p95) {
		return 0
	}
	return s.p95 * 1000
}
func (s second) errors() float64 {
	if all := s.failed + s.perS; all > 0 {
		return 100 * s.failed / all
	}
	return 0
}

// note works out the newest second from the two newest readings. s.mu must be held.
func (s *sampler) note(stats *relay.Stats) {
	sec := second{at: stats.Now, connected: float64(stats.Agents), open: float64(stats.Connections), queued: float64(stats.QueueBytes), p50: math.NaN(), p95: math.NaN(), p99: math.NaN()}
	for _, code := range slices.Collect(maps.Values(stats.Errors)) {
		sec.lastErrors += code
	}
	for _, n := range stats.Dropped {
		sec.lastLost += n
	}
	if n := len(s.samples); n > 1 {
		a, b := &s.samples[n-2], &s.samples[n-1]
		took := b.at.Sub(a.at)
		sec.perS, sec.deliveredPerS = rate(a.accepted, b.accepted, took), rate(a.delivered, b.delivered, took)
		if k := len(s.seconds); k > 0 {
			sec.failed, sec.lost = rate(s.seconds[k-1].lastErrors, sec.lastErrors, took), rate(s.seconds[k-1].lastLost, sec.lastLost, took)
		}
		gained := between(&a.delivery, &b.delivery)
		if gained.Count() > 0 {
			sec.p50, sec.p95, sec.p99 = gained.Quantile(0.5).Seconds(), gained.Quantile(0.95).Seconds(), gained.Quantile(0.99).Seconds()
		}
	}
	if len(s.seconds) >= 2*keptSeconds {
		s.seconds = append(s.seconds[:0], s.seconds[keptSeconds:]...)
	}
	s.seconds = append(s.seconds, sec)
}

// recent are the seconds of the last quarter of an hour, the oldest first.
func (s *sampler) recent() []second {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seconds[max(0, len(s.seconds)-keptSeconds):])
}

// history answers as the engine would, for the little that this page remembers.
func (s *sampler) history(rng timeRange, signals []scale.Signal) watch.History {
	recent := s.recent()
	step := time.Second
	if rng.to.Sub(rng.from) > 5*time.Minute {
		step = 3 * time.Second
	}
	h := watch.History{Step: step}
	for _, sig := range signals {
		t := watch.Trend{Signal: sig}
		every := int(step / time.Second)
		for i := 0; i+every <= len(recent); i += every {
			if p, ok := pointOf(recent[i:i+every], sig); ok && !p.At.Before(rng.from) && !p.At.After(rng.to) {
				t.Points = append(t.Points, p)
			}
		}
		h.Trends = append(h.Trends, t)
	}
	return h
}

// pointOf sums some seconds up.
func pointOf(some []second, sig scale.Signal) (watch.TrendPoint, bool) {
	p := watch.TrendPoint{At: some[0].at, Min: math.Inf(1), Max: math.Inf(-1)}
	sum, n := 0.0, 0.0
	for i := range some {
		v := some[i].value(sig)
		if math.IsNaN(v) {
			continue
		}
		p.Min, p.Max, sum, n = min(p.Min, v), max(p.Max, v), sum+v, n+1
	}
	if n == 0 {
		return p, false
	}
	p.Avg = sum / n
	p.P50, p.P95, p.P99 = p.Avg, p.Max, p.Max
	return p, true
}

func (s *second) value(sig scale.Signal) float64 {
	switch sig {
	case scale.MessagesIn:
		return s.perS
	case scale.MessagesOut:
		return s.deliveredPerS
	case scale.Connections:
		return s.open
	case scale.DeliveryP50:
		return s.p50
	case scale.DeliveryP95:
		return s.p95
	case scale.DeliveryP99:
		return s.p99
	case scale.QueueBytes:
		return s.queued
	case scale.ErrorRate:
		return s.errors() / 100
	}
	return math.NaN()
}
