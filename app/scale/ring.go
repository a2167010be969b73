package scale

import (
	"time"
)

// RingLength is how far back samples of one second are kept in memory.
const RingLength = 15 * time.Minute

// A Slot is one second of one node or of the whole fleet.
type Slot struct {
	At        time.Time
	Instances int // live nodes; 1 for one node
	Values    Readings
	Delivery  Histogram
	API       Histogram
}

// SlotOf makes the slot of a whole fleet: sums of what adds up, means of the
// rest, and quantiles of the merged latencies.
func SlotOf(f *Fleet) Slot {
	s := Slot{At: f.At, Instances: f.Live(), Delivery: f.Delivery.Clone(), API: f.API.Clone()}
	for i := range SignalCount {
		s.Values[i] = f.Total(i).reading(i)
	}
	return s
}

// SlotOfSample makes the slot of one node.
func SlotOfSample(s *Sample) Slot {
	return Slot{At: s.At, Instances: 1, Values: s.Values, Delivery: s.Delivery.Clone(), API: s.API.Clone()}
}

// A Ring keeps the slots of the last RingLength in a fixed amount of memory. It
// is not safe for concurrent use.
type Ring struct {
	slots []Slot
	next  int
}

// NewRing returns an empty ring.
func NewRing() *Ring { return &Ring{} }

// ringSlots is one slot a second.
const ringSlots = int(RingLength / time.Second)

// Add takes the next slot. One that is not later than the last is not taken.
func (r *Ring) Add(s Slot) bool {
	if last, ok := r.Last(); ok && !s.At.After(last.At) {
		return false
	}
	if len(r.slots) < ringSlots {
		r.slots = append(r.slots, s)
		return true
	}
	r.slots[r.next] = s
	r.next = (r.next + 1) % ringSlots
	return true
}

// Last returns the latest slot.
func (r *Ring) Last() (Slot, bool) {
	if len(r.slots) == 0 {
		return Slot{}, false
	}
	return r.slots[(r.next+len(r.slots)-1)%len(r.slots)], true
}

// Since returns the slots later than from, oldest first.
func (r *Ring) Since(from time.Time) []Slot {
	var out []Slot
	for i := range r.slots {
		if s := r.slots[(r.next+i)%len(r.slots)]; s.At.After(from) {
			out = append(out, s)
		}
	}
	return out
}

// Points returns the slots of a whole fleet in the form that Backtest reads.
func (r *Ring) Points(from time.Time) []Point {
	slots := r.Since(from)
	out := make([]Point, 0, len(slots))
	for _, s := range slots {
		out = append(out, Point{At: s.At, Instances: s.Instances, Values: s.Values})
	}
	return out
}
