package bench

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"time"
)

// subBits sets how finely a Histogram divides each power of two: 32 steps, so
// that a quantile is at most about 3% too high.
const subBits = 5

const (
	subCount = 1 << subBits
	slots    = (64 - subBits) * subCount
)

// A Histogram counts durations. The zero value is ready; it is not safe for
// concurrent use.
type Histogram struct {
	counts [slots]uint64
	total  uint64
	max    time.Duration
}

// Add counts one duration; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	if d < 0 {
		d = 0
	}
	h.counts[slotOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest duration added.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the duration that the share q (0 to 1) of all does not exceed,
// rounded up to the histogram's step; 0 when nothing was added.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total))
	if float64(rank) < q*float64(h.total) {
		rank++
	}
	rank = max(rank, 1)
	var sum uint64
	for i, n := range h.counts {
		if sum += n; sum >= rank {
			return min(time.Duration(slotEnd(i)), h.max)
		}
	}
	return h.max
}

// Merge adds all of other to h.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// slotOf numbers the step that v falls into.
func slotOf(v uint64) int {
	if v < subCount {
		return int(v)
	}
	exp := bits.Len64(v) - subBits - 1
	return min(exp*subCount+int(v>>exp), slots-1)
}

// slotEnd is the largest value of step i.
func slotEnd(i int) uint64 {
	if i < subCount {
		return uint64(i)
	}
	exp := i/subCount - 1
	return (uint64(i%subCount+subCount)+1)<<exp - 1
}

// sparse is how a Histogram travels from a worker process to its parent.
type sparse struct {
	Slots  []int    `json:"slots"`
	Counts []uint64 `json:"counts"`
	Max    int64    `json:"max_ns"`
}

// MarshalJSON writes the steps that hold something.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	var s sparse
	for i, n := range h.counts {
		if n > 0 {
			s.Slots, s.Counts = append(s.Slots, i), append(s.Counts, n)
		}
	}
	s.Max = int64(h.max)
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var s sparse
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read histogram: %w", err)
	}
	if len(s.Slots) != len(s.Counts) {
		return fmt.Errorf("read histogram: %d steps with %d counts", len(s.Slots), len(s.Counts))
	}
	*h = Histogram{max: time.Duration(s.Max)}
	for i, slot := range s.Slots {
		if slot < 0 || slot >= slots {
			return fmt.Errorf("read histogram: step %d of %d", slot, slots)
		}
		h.counts[slot] += s.Counts[i]
		h.total += s.Counts[i]
	}
	return nil
}
