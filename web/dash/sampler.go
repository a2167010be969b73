package dash

import (
	"context"
	"sync"
	"time"

	"agentnet/app/relay"
)

const (
	// sampleEvery is the distance of two readings, unless the page is told another.
	sampleEvery = time.Second
	// keptSamples spans a minute: 60 distances have 61 ends.
	keptSamples = 61
	// rateSamples spans the time that "now" means for a rate. A shorter one jumps
	// about, a longer one is late.
	rateSamples = 5
)

// A sample is what is kept of one reading.
type sample struct {
	at        time.Time
	accepted  uint64
	delivered uint64
	agents    int
	queued    int64
	delivery  relay.Histogram
}

// Now is how busy the node is.
type Now struct {
	Stats         relay.Stats
	AcceptedPerS  float64       // over the last 5 s
	DeliveredPerS float64       // over the last 5 s
	P50, P95      time.Duration // of deliveries in the last minute; 0: there was none
	Minute        Minute
}

// Minute holds one number for each second of the last minute, the oldest first.
type Minute struct {
	Accepted []float64 // messages a second
	P95      []float64 // milliseconds, of that second
	Agents   []float64
	Queued   []float64 // bytes
}

// A sampler reads the relay each second and keeps the last minute.
type sampler struct {
	read  func() relay.Stats
	every time.Duration

	mu      sync.Mutex
	samples []sample // at most keptSamples, oldest first. Guarded by mu.
	now     Now      // Guarded by mu; its slices are never written again.
	seconds []second // at most 2*keptSeconds, oldest first. Guarded by mu.
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		s.take()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// take reads the relay once and works out what is shown.
func (s *sampler) take() {
	stats := s.read()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.samples) == keptSamples {
		copy(s.samples, s.samples[1:])
		s.samples = s.samples[:keptSamples-1]
	}
	s.samples = append(s.samples, sample{
		at: stats.Now, accepted: stats.MessagesIn, delivered: stats.DeliveredOut,
		agents: stats.Agents, queued: stats.QueueBytes, delivery: stats.Delivery,
	})
	s.note(&stats)
	s.now = summarise(stats, s.samples)
}

// summarise turns readings into rates.
func summarise(stats relay.Stats, samples []sample) Now {
	now := Now{Stats: stats}
	first, last := &samples[0], &samples[len(samples)-1]
	recent := &samples[max(0, len(samples)-1-rateSamples)]
	now.AcceptedPerS = rate(recent.accepted, last.accepted, last.at.Sub(recent.at))
	now.DeliveredPerS = rate(recent.delivered, last.delivered, last.at.Sub(recent.at))
	minute := between(&first.delivery, &last.delivery)
	now.P50, now.P95 = minute.Quantile(0.5), minute.Quantile(0.95)
	for i := 1; i < len(samples); i++ {
		a, b := &samples[i-1], &samples[i]
		second := between(&a.delivery, &b.delivery)
		now.Minute.Accepted = append(now.Minute.Accepted, rate(a.accepted, b.accepted, b.at.Sub(a.at)))
		now.Minute.P95 = append(now.Minute.P95, second.Quantile(0.95).Seconds()*1000)
		now.Minute.Agents = append(now.Minute.Agents, float64(b.agents))
		now.Minute.Queued = append(now.Minute.Queued, float64(b.queued))
	}
	return now
}

// rate is a counter's growth a second. A clock that stood still or went back
// gives 0.
func rate(from, to uint64, took time.Duration) float64 {
	if took <= 0 || to < from {
		return 0
	}
	return float64(to-from) / took.Seconds()
}

// between is what a histogram gained.
func between(from, to *relay.Histogram) (gained relay.Histogram) {
	for i := range to.Counts {
		if to.Counts[i] > from.Counts[i] {
			gained.Counts[i] = to.Counts[i] - from.Counts[i]
		}
	}
	return gained
}

// latest is the newest reading. Before the first it reads the relay itself.
func (s *sampler) latest() Now {
	s.mu.Lock()
	empty := len(s.samples) == 0
	now := s.now
	s.mu.Unlock()
	if empty {
		s.take()
		return s.latest()
	}
	return now
}
