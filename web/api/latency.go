package api

import (
	"math"
	"sync/atomic"
	"time"

	"agentnet/app/relay"
)

// responseTimes are the response times of the API in the buckets of relay.Histogram.
// Many may observe at once.
type responseTimes struct {
	counts [relay.HistogramBuckets]atomic.Uint64
	sum    atomic.Int64
}

func (h *responseTimes) observe(d time.Duration) {
	first := d.Seconds() * (1 << 20) // in units of the first bound
	i := 0
	if first > 1 {
		i = min(int(math.Ceil(4*math.Log2(first))), relay.HistogramBuckets-1)
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Latency reads the response times of all routes since the start, but for those
// that wait for an agent.
func (a *API) Latency() (out relay.Histogram) {
	for i := range a.times.counts {
		out.Counts[i] = a.times.counts[i].Load()
	}
	out.Sum = time.Duration(a.times.sum.Load())
	return out
}
