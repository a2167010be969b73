package watch

import (
	"log/slog"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/wire"
)

// A Broker says whether the node has a broker that others share, and whether it
// answers.
type Broker struct {
	Shared bool // false: an embedded one of its own, which has no way to be away
	Up     bool
}

// Sources are what a sample is taken from. Stats is required.
type Sources struct {
	Stats func() relay.Stats
	// API is the reading of the API's response times. Nil: not measured.
	API func() relay.Histogram
	// Host reads the machine. Nil: not measured.
	Host *scale.Host
	// Broker tells how the broker is. Nil: the node has none that it shares.
	Broker func() Broker
	// Ready says whether the node wants traffic. Nil: always.
	Ready func() bool
}

// A Sampler turns counters that grow into what happened in a second. It is not
// safe for concurrent use.
type Sampler struct {
	src  Sources
	log  *slog.Logger
	last relay.Stats
	api  relay.Histogram
	at   time.Time // of last

	ready  time.Time // first seen
	failed string    // the last fault of the host, told once
}

// NewSampler returns a sampler whose first sample has no rates: they are
// differences of two.
func NewSampler(src Sources, log *slog.Logger) *Sampler { return &Sampler{src: src, log: log} }

// Sample takes one sample.
func (s *Sampler) Sample(now time.Time) scale.Sample {
	st := s.src.Stats()
	out := scale.Sample{Node: st.Node, Region: st.Region, At: now, Started: st.Started, Draining: st.Draining}
	if s.ready.IsZero() && (s.src.Ready == nil || s.src.Ready()) {
		s.ready = now
	}
	out.Ready = s.ready
	v := &out.Values
	v.Set(scale.Connections, float64(st.Connections))
	v.Set(scale.QueueBytes, float64(max(0, st.QueueBytes)))
	s.broker(v)
	s.host(now, v)
	var api relay.Histogram
	if s.src.API != nil {
		api = s.src.API()
	}
	if gone := now.Sub(s.at).Seconds(); !s.at.IsZero() && gone > 0 {
		rates(v, &s.last, &st, gone)
		out.Delivery = since(&s.last.Delivery, &st.Delivery)
		out.API = since(&s.api, &api)
		out.Seal()
	}
	s.last, s.api, s.at = st, api, now
	return out
}

// rates are what grew between two readings.
func rates(v *scale.Readings, a, b *relay.Stats, gone float64) {
	messages := grown(a.MessagesIn, b.MessagesIn)
	accepted := grown(a.Accepted, b.Accepted)
	v.Set(scale.MessagesIn, messages/gone)
	v.Set(scale.MessagesOut, grown(a.DeliveredOut, b.DeliveredOut)/gone)
	v.Set(scale.BytesIn, grown(a.BytesIn, b.BytesIn)/gone)
	v.Set(scale.BytesOut, grown(a.BytesOut, b.BytesOut)/gone)
	v.Set(scale.AcceptRate, accepted/gone)
	v.Set(scale.RefusedRate, grown(total(a.Refused), total(b.Refused))/gone)

	// What a client did wrong is no failure of the network; what it could not do for
	// the client is.
	failed := 0.0
	for _, code := range [...]wire.Code{wire.Internal, wire.Unavailable, wire.Overloaded, wire.Timeout} {
		failed += grown(a.Errors[code], b.Errors[code])
	}
	if all := messages + failed; all > 0 {
		v.Set(scale.ErrorRate, failed/all)
	} else {
		v.SetIdle(scale.ErrorRate)
	}
	resumed, opened := grown(a.Connects["resumed"], b.Connects["resumed"]), grown(a.Connects["opened"], b.Connects["opened"])
	if all := resumed + opened; all > 0 {
		v.Set(scale.Reconnects, resumed/all)
	} else {
		v.SetIdle(scale.Reconnects)
	}
}

// grown is how far a counter grew; one that fell began anew.
func grown(a, b uint64) float64 {
	if b < a {
		return float64(b)
	}
	return float64(b - a)
}

func total[K comparable](counts map[K]uint64) (sum uint64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// since is what two readings of a histogram differ by. Both have the same buckets.
func since(a, b *relay.Histogram) (h scale.Histogram) {
	first, last := -1, -1
	for i := range b.Counts {
		if b.Counts[i] > a.Counts[i] {
			if last = i; first < 0 {
				first = i
			}
		}
	}
	if first < 0 {
		return h
	}
	h.Cover(first, last)
	for i := first; i <= last; i++ {
		if b.Counts[i] > a.Counts[i] {
			h.AddBucket(i, b.Counts[i]-a.Counts[i])
		}
	}
	h.AddSum(max(0, b.Sum-a.Sum))
	return h
}

func (s *Sampler) broker(v *scale.Readings) {
	if s.src.Broker == nil {
		v.SetIdle(scale.Broker)
		return
	}
	b := s.src.Broker()
	switch {
	case !b.Shared:
		v.SetIdle(scale.Broker)
	case b.Up:
		v.Set(scale.Broker, 1)
	default:
		v.Set(scale.Broker, 0)
	}
}

func (s *Sampler) host(now time.Time, v *scale.Readings) {
	if s.src.Host == nil {
		return
	}
	text := ""
	if err := s.src.Host.Read(now, v); err != nil {
		text = err.Error()
	}
	if text != s.failed && text != "" {
		s.log.Warn("part of the machine cannot be measured; what is missing never ends an instance", "error", text)
	}
	s.failed = text
}
