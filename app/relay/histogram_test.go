package relay

import (
	"testing"
	"time"
)

func TestHistogramBounds(t *testing.T) {
	if got := Bound(80); got != time.Second {
		t.Errorf("Bound(80) = %v, want 1s", got)
	}
	for i := range HistogramBuckets {
		// A bound is not a whole number of ns: the ns below it belongs to its bucket,
		// the ns above to the next.
		if got := bucket(Bound(i) - 1); i > 0 && got != i {
			t.Errorf("just below bound %d: bucket %d", i, got)
		}
		if got := bucket(Bound(i) + 2); got != min(i+1, HistogramBuckets-1) {
			t.Errorf("just above bound %d: bucket %d", i, got)
		}
	}
	for _, d := range []time.Duration{-1, 0, 1} {
		if got := bucket(d); got != 0 {
			t.Errorf("bucket(%v) = %d, want 0", d, got)
		}
	}
	if got := bucket(time.Hour); got != HistogramBuckets-1 {
		t.Errorf("an hour is in bucket %d, want the last", got)
	}
}

func TestHistogramQuantile(t *testing.T) {
	var h histogram
	h.observe(time.Millisecond, 90)
	h.observe(time.Second, 10)
	r := h.read()
	if r.Count() != 100 || r.Sum != 90*time.Millisecond+10*time.Second {
		t.Errorf("got %d observations of %v", r.Count(), r.Sum)
	}
	if p := r.Quantile(0.5); p < time.Millisecond || p > 1190*time.Microsecond {
		t.Errorf("p50 = %v, want 1 ms and at most 19%% more", p)
	}
	if p := r.Quantile(0.99); p != time.Second {
		t.Errorf("p99 = %v, want 1 s", p)
	}
	var none Histogram
	if none.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing is not 0")
	}
}
