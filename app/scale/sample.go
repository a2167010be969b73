package scale

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// A Validity says how far a reading can be believed. The zero value is Missing,
// so that a value that nobody set is never taken for a measured zero.
type Validity uint8

// The validities.
const (
	Missing Validity = iota // nobody measured it
	Stale                   // measured, but too long ago
	Idle                    // measured, and there was nothing to measure: no message, no latency
	Fresh
)

var validityNames = [...]string{Missing: "missing", Stale: "stale", Idle: "idle", Fresh: "fresh"}

// String returns the name of the validity.
func (v Validity) String() string {
	if int(v) >= len(validityNames) {
		return fmt.Sprintf("validity(%d)", uint8(v))
	}
	return validityNames[v]
}

// MarshalText implements encoding.TextMarshaler.
func (v Validity) MarshalText() ([]byte, error) {
	return marshalName(validityNames[:], int(v), "validity")
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Validity) UnmarshalText(text []byte) error {
	return unmarshalName(validityNames[:], text, "validity", v)
}

// A Reading is one value and how far it can be believed.
type Reading struct {
	Value float64  `json:"value"`
	State Validity `json:"state"`
}

// Known reports whether the value was measured just now.
func (r Reading) Known() bool { return r.State == Fresh }

// Readings holds one reading for each signal.
type Readings [SignalCount]Reading

// Set stores a fresh value. What is no number, infinite or negative was not
// measured rightly and stays missing.
func (r *Readings) Set(s Signal, v float64) {
	if s >= SignalCount {
		return
	}
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		r[s] = Reading{}
		return
	}
	r[s] = Reading{Value: v, State: Fresh}
}

// SetIdle says that there is nothing to measure, such as the broker of a node
// that has none.
func (r *Readings) SetIdle(s Signal) {
	if s < SignalCount {
		r[s] = Reading{State: Idle}
	}
}

// Get returns the value of a fresh reading.
func (r *Readings) Get(s Signal) (float64, bool) {
	if s >= SignalCount {
		return 0, false
	}
	return r[s].Value, r[s].State == Fresh
}

// MarshalJSON writes the readings by name and leaves out what is missing.
func (r Readings) MarshalJSON() ([]byte, error) {
	out := make(map[Signal]Reading, SignalCount)
	for s, v := range r {
		if v.State != Missing {
			out[Signal(s)] = v
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Readings) UnmarshalJSON(data []byte) error {
	var in map[Signal]Reading
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("readings: %w", err)
	}
	*r = Readings{}
	for s, v := range in {
		r[s] = v
	}
	return nil
}

// A Sample is what one node measured in one second.
type Sample struct {
	Node     string    `json:"node"`
	Region   string    `json:"region,omitempty"`
	At       time.Time `json:"at"`
	Started  time.Time `json:"started"`            // when the process began
	Ready    time.Time `json:"ready,omitzero"`     // when it became ready for traffic; zero: it is not yet
	Draining bool      `json:"draining,omitempty"` // it sends its clients away

	Values Readings `json:"values"`

	// Delivery and API are the latencies of this second. They are merged over
	// nodes and time; the quantile signals of Values are drawn from them.
	Delivery Histogram `json:"delivery"`
	API      Histogram `json:"api"`
}

// Seal draws the latency signals from the histograms. A second without a message
// is Idle, not missing: silence is no fault.
func (s *Sample) Seal() {
	drawQuantiles(&s.Values, &s.Delivery, &s.API)
}

// drawQuantiles sets the latency signals of r. A signal that is already set is
// replaced when its histogram holds something, and kept otherwise.
func drawQuantiles(r *Readings, delivery, api *Histogram) {
	for s := DeliveryP50; s <= APIP99; s++ {
		q, ofDelivery, _ := s.quantile()
		h := api
		if ofDelivery {
			h = delivery
		}
		switch {
		case h.Count() > 0:
			r.Set(s, h.Quantile(q).Seconds())
		case r[s].State == Missing:
			r[s] = Reading{State: Idle}
		}
	}
}
