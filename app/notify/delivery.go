package notify

import (
	"maps"
	"sync"
	"time"
)

// An Outcome is what came of one try to deliver.
type Outcome string

// The outcomes.
const (
	Sent    Outcome = "sent"
	Retried Outcome = "retried" // it failed and will be tried again
	Failed  Outcome = "failed"  // for good
	Dropped Outcome = "dropped" // never tried: too many waited, or the node stopped
)

// A Delivery is one line of the delivery log.
type Delivery struct {
	ID       uint64        `json:"id"` // counts up
	At       time.Time     `json:"at"`
	Message  string        `json:"message"`
	Channel  string        `json:"channel"`
	Kind     string        `json:"kind"`
	Target   string        `json:"target"` // host only
	Group    string        `json:"group"`
	Title    string        `json:"title"`
	Severity Severity      `json:"severity"`
	Test     bool          `json:"test,omitempty"`
	Outcome  Outcome       `json:"outcome"`
	Tries    int           `json:"tries"`
	Took     time.Duration `json:"took"`             // in nanoseconds
	Answer   string        `json:"answer,omitempty"` // status and text, shortened
	Fault    string        `json:"fault,omitempty"`

	wait time.Duration // until the next try
}

// maxDeliveries bounds the deliveries kept in memory.
const maxDeliveries = 1000

// record is the ring of the last deliveries.
type record struct {
	log func(Delivery)

	mu     sync.Mutex
	ring   []Delivery
	next   uint64
	counts map[string]map[Outcome]uint64
}

func (r *record) add(d Delivery) {
	r.mu.Lock()
	r.next++
	d.ID = r.next
	if len(r.ring) < maxDeliveries {
		r.ring = append(r.ring, d)
	} else {
		r.ring[(d.ID-1)%maxDeliveries] = d
	}
	if r.counts == nil {
		r.counts = make(map[string]map[Outcome]uint64)
	}
	if r.counts[d.Channel] == nil {
		r.counts[d.Channel] = make(map[Outcome]uint64)
	}
	r.counts[d.Channel][d.Outcome]++
	r.mu.Unlock()
	if r.log != nil {
		r.log(d)
	}
}

func (r *record) list(limit int) []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit <= 0 || limit > len(r.ring) {
		limit = len(r.ring)
	}
	out := make([]Delivery, 0, limit)
	for i := range limit {
		out = append(out, r.ring[(r.next-1-uint64(i))%maxDeliveries])
	}
	return out
}

func (r *record) totals() map[string]map[Outcome]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]map[Outcome]uint64, len(r.counts))
	for name, counts := range r.counts {
		out[name] = maps.Clone(counts)
	}
	return out
}
