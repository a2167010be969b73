package relay

import (
	"math"
	"sync/atomic"
	"time"
)

// HistogramBuckets covers 2^-20 s (about 1 µs) to 2^10 s (17 minutes) in steps of
// 2^(1/4), which bounds the error of a percentile to 19%. It is also the bucket
// layout of a Prometheus native histogram of schema 2.
const HistogramBuckets = 30*4 + 1

// Bound returns the upper bound of bucket i: 2^(i/4-20) s.
func Bound(i int) time.Duration {
	return time.Duration(math.Exp2(float64(i)/4-20) * float64(time.Second))
}

// A histogram is the live form of a Histogram: many may observe at once.
type histogram struct {
	counts [HistogramBuckets]atomic.Uint64
	sum    atomic.Int64
}

// bucket is the first one whose bound is not below d.
func bucket(d time.Duration) int {
	first := d.Seconds() * (1 << 20) // in units of the first bound
	if first <= 1 {
		return 0
	}
	return min(int(math.Ceil(4*math.Log2(first))), HistogramBuckets-1)
}

func (h *histogram) observe(d time.Duration, n uint64) {
	h.counts[bucket(d)].Add(n)
	h.sum.Add(int64(d) * int64(n))
}

func (h *histogram) read() (out Histogram) {
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	out.Sum = time.Duration(h.sum.Load())
	return out
}

// Count is the number of observations.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Quantile returns an upper estimate of the q-quantile, 0 when nothing was observed.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.Count()
	if n == 0 {
		return 0
	}
	want, seen := uint64(math.Ceil(q*float64(n))), uint64(0)
	for i, c := range h.Counts {
		if seen += c; seen >= want {
			return Bound(i)
		}
	}
	return Bound(HistogramBuckets - 1)
}
