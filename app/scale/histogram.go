package scale

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// Buckets is the number of buckets of a Histogram. Bucket i holds durations up
// to 2^(i/4-20) s, from 1 µs to 17 minutes: the layout of the relay's own
// histograms, so that their counts are taken over one by one and nothing is lost.
const Buckets = 30*4 + 1

var bounds = func() (b [Buckets]time.Duration) {
	for i := range b {
		b[i] = time.Duration(math.Exp2(float64(i)/4-20) * float64(time.Second))
	}
	return b
}()

// A Histogram counts durations. Histograms merge by adding up, over nodes and
// over time, which averages and quantiles cannot. Only the occupied range is
// kept: a second of one node needs few buckets. The zero value is empty.
type Histogram struct {
	low    int      // bucket of counts[0]
	counts []uint64 // of neighbouring buckets
	sum    time.Duration
}

// Bound is the upper bound of bucket i, of 0 to Buckets-1.
func Bound(i int) time.Duration { return bounds[i] }

// Observe counts d n times.
func (h *Histogram) Observe(d time.Duration, n uint64) {
	if n == 0 {
		return
	}
	d = max(d, 0)
	i := sort.Search(Buckets-1, func(i int) bool { return d <= bounds[i] })
	h.AddBucket(i, n)
	h.sum += d * time.Duration(n)
}

// AddBucket adds n to bucket i without touching the sum; buckets out of range
// count in the nearest. With AddSum it takes over a histogram of the same layout.
func (h *Histogram) AddBucket(i int, n uint64) {
	if n == 0 {
		return
	}
	i = min(max(i, 0), Buckets-1)
	h.cover(i, i)
	h.counts[i-h.low] += n
}

// AddSum adds to the sum of all durations.
func (h *Histogram) AddSum(d time.Duration) { h.sum += d }

// Cover makes room for the buckets first to last, both within 0 to Buckets-1, at
// once; AddBucket would widen the range step by step.
func (h *Histogram) Cover(first, last int) { h.cover(max(first, 0), min(last, Buckets-1)) }

// cover widens the kept range to include the buckets first to last.
func (h *Histogram) cover(first, last int) {
	if len(h.counts) == 0 {
		h.low, h.counts = first, make([]uint64, last-first+1)
		return
	}
	end := h.low + len(h.counts) - 1
	if first >= h.low && last <= end {
		return
	}
	low, high := min(first, h.low), max(last, end)
	counts := make([]uint64, high-low+1)
	copy(counts[h.low-low:], h.counts)
	h.low, h.counts = low, counts
}

// Merge adds o to h. It does not keep a reference to o.
func (h *Histogram) Merge(o Histogram) {
	if len(o.counts) > 0 {
		h.cover(o.low, o.low+len(o.counts)-1)
		for i, n := range o.counts {
			h.counts[o.low-h.low+i] += n
		}
	}
	h.sum += o.sum
}

// Clone returns a copy that shares nothing.
func (h Histogram) Clone() Histogram {
	h.counts = slices.Clone(h.counts)
	return h
}

// Count is the number of observations.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.counts {
		n += c
	}
	return n
}

// Mean is the mean duration, 0 when nothing was observed.
func (h *Histogram) Mean() time.Duration {
	if n := h.Count(); n > 0 {
		return time.Duration(float64(h.sum) / float64(n))
	}
	return 0
}

// Quantile estimates the q-quantile, 0 when nothing was observed. Within a
// bucket it interpolates, so the error is at most the width of one bucket, 19%.
func (h *Histogram) Quantile(q float64) time.Duration {
	n := h.Count()
	if n == 0 {
		return 0
	}
	want := math.Max(1, math.Ceil(min(max(q, 0), 1)*float64(n)))
	seen := 0.0
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		if seen+float64(c) < want {
			seen += float64(c)
			continue
		}
		upper := bounds[h.low+i]
		lower := time.Duration(0)
		if h.low+i > 0 {
			lower = bounds[h.low+i-1]
		}
		return lower + time.Duration(float64(upper-lower)*(want-seen)/float64(c))
	}
	return bounds[h.low+len(h.counts)-1]
}

// histogramJSON is the stored form.
type histogramJSON struct {
	Low    int           `json:"low,omitempty"`
	Counts []uint64      `json:"counts,omitempty"`
	Sum    time.Duration `json:"sum,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (h Histogram) MarshalJSON() ([]byte, error) {
	return json.Marshal(histogramJSON{Low: h.low, Counts: h.counts, Sum: h.sum})
}

// UnmarshalJSON implements json.Unmarshaler and refuses what does not fit the layout.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var in histogramJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	if in.Low < 0 || in.Low >= Buckets || in.Low+len(in.Counts) > Buckets {
		return fmt.Errorf("histogram: buckets %d to %d do not lie within 0 to %d", in.Low, in.Low+len(in.Counts)-1, Buckets-1)
	}
	*h = Histogram{low: in.Low, counts: in.Counts, sum: in.Sum}
	return nil
}

// appendBinary writes the stored form: the range, the counts, the sum.
func (h *Histogram) appendBinary(b []byte) []byte {
	b = append(b, byte(h.low), byte(len(h.counts)))
	for _, n := range h.counts {
		b = binary.AppendUvarint(b, n)
	}
	return binary.AppendVarint(b, int64(h.sum))
}

// AppendBinary writes the stored form behind b: nothing for an empty histogram.
func (h *Histogram) AppendBinary(b []byte) []byte {
	if h.Count() == 0 {
		return b
	}
	return h.appendBinary(b)
}

// UnmarshalBinary reads what AppendBinary wrote, all of b.
func (h *Histogram) UnmarshalBinary(b []byte) error {
	if len(b) == 0 {
		*h = Histogram{}
		return nil
	}
	rest, err := h.readBinary(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many in a histogram", len(rest))
	}
	return err
}

// readBinary reads what appendBinary wrote and returns what follows it.
func (h *Histogram) readBinary(b []byte) ([]byte, error) {
	if len(b) < 2 || int(b[0])+int(b[1]) > Buckets {
		return nil, errors.New("these bytes are no histogram")
	}
	out := Histogram{low: int(b[0])}
	if n := int(b[1]); n > 0 {
		out.counts = make([]uint64, n)
	}
	r := reader{b: b[2:]}
	for i := range out.counts {
		out.counts[i] = r.uvarint()
	}
	out.sum = time.Duration(r.varint())
	if r.err != nil {
		return nil, r.err
	}
	*h = out
	return r.b, nil
}
