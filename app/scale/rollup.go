package scale

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// A Resolution is one step of the stored history and how long it is kept.
type Resolution struct {
	Span time.Duration `json:"span"`
	Keep time.Duration `json:"keep"`
}

// Resolutions are the resolutions beyond the ring, finest first. Each span divides
// the next. The last two hold nothing that the third does not: they make a year of
// one node readable by 1,600 rows, and one of each of many nodes by 400.
func Resolutions() []Resolution {
	const day = 24 * time.Hour
	return []Resolution{{10 * time.Second, day}, {time.Minute, 14 * day}, {15 * time.Minute, 400 * day}, {6 * time.Hour, 400 * day}, {day, 400 * day}}
}

// A Rollup sums up the slots of one span. Rollups of neighbouring spans merge
// into that of the longer one without loss but that of the sketch.
type Rollup struct {
	From      time.Time
	Span      time.Duration
	Instances Sketch
	Signals   [SignalCount]Sketch
	Delivery  Histogram
	API       Histogram
}

// Add counts one slot. Only fresh values count, so a gap shows as a lower count.
func (r *Rollup) Add(s *Slot) {
	r.Instances.Add(float64(s.Instances))
	for i, v := range s.Values {
		if v.State == Fresh {
			r.Signals[i].Add(v.Value)
		}
	}
	r.Delivery.Merge(s.Delivery)
	r.API.Merge(s.API)
}

// Merge adds another rollup; From and Span stay.
func (r *Rollup) Merge(o *Rollup) {
	r.Instances.Merge(&o.Instances)
	for i := range r.Signals {
		r.Signals[i].Merge(&o.Signals[i])
	}
	r.Delivery.Merge(o.Delivery)
	r.API.Merge(o.API)
}

// A Stat is what a chart or a table shows of one signal over one span.
type Stat struct {
	Count         uint64
	Min, Avg, Max float64
	P50, P95, P99 float64
}

// Stat returns the figures of one signal. Those of a latency come from the merged
// histogram of its kind, over all messages and not over the seconds: P95 is that
// of the messages, whichever of the three latency signals is asked for.
func (r *Rollup) Stat(s Signal) Stat {
	if s >= SignalCount {
		return Stat{}
	}
	k := &r.Signals[s]
	st := Stat{Count: k.Count(), Min: k.Min(), Avg: k.Mean(), Max: k.Max(), P50: k.Quantile(0.50), P95: k.Quantile(0.95), P99: k.Quantile(0.99)}
	if _, delivery, ok := s.quantile(); ok {
		h := &r.API
		if delivery {
			h = &r.Delivery
		}
		if h.Count() > 0 {
			st.Avg = h.Mean().Seconds()
			st.P50, st.P95, st.P99 = h.Quantile(0.50).Seconds(), h.Quantile(0.95).Seconds(), h.Quantile(0.99).Seconds()
		}
	}
	return st
}

// A Roller turns slots into rollups of every tier. It is not safe for concurrent use.
type Roller struct {
	tiers []Resolution
	open  []*Rollup // one for each tier, nil until its first slot
}

// NewRoller returns a roller for Resolutions.
func NewRoller() *Roller {
	t := Resolutions()
	return &Roller{tiers: t, open: make([]*Rollup, len(t))}
}

// Add takes the next slot and returns the rollups that it completes, finest
// first. Spans lie on the wall clock: a quarter of an hour begins at :00, :15, …
// A slot that belongs before an open span counts in it, so that a clock that
// steps back loses nothing.
func (r *Roller) Add(s Slot) []Rollup {
	return r.flush(s.At, &s)
}

// Flush returns the rollups that have ended by now, without a new slot.
func (r *Roller) Flush(now time.Time) []Rollup {
	return r.flush(now, nil)
}

func (r *Roller) flush(now time.Time, s *Slot) []Rollup {
	var done []Rollup
	for i, t := range r.tiers {
		from := now.UTC().Truncate(t.Span)
		if o := r.open[i]; o != nil && from.After(o.From) {
			done = append(done, *o)
			if i+1 < len(r.tiers) {
				r.into(i+1, o)
			}
			r.open[i] = nil
		}
		if i > 0 || s == nil {
			continue
		}
		if r.open[0] == nil {
			r.open[0] = &Rollup{From: from, Span: t.Span}
		}
		r.open[0].Add(s)
	}
	return done
}

// Rest takes the open rollup of the finest tier out, for a node that stops.
func (r *Roller) Rest() (Rollup, bool) {
	o := r.open[0]
	if o == nil {
		return Rollup{}, false
	}
	r.open[0] = nil
	return *o, true
}

// into merges a finished rollup into the open one of the next tier.
func (r *Roller) into(i int, o *Rollup) {
	if r.open[i] == nil {
		r.open[i] = &Rollup{From: o.From.Truncate(r.tiers[i].Span), Span: r.tiers[i].Span}
	}
	r.open[i].Merge(o)
}

// AppendBinary writes the stored form of everything but From and Span, which a
// store keeps as keys. Each part is led by its length, so that a reader who wants
// one signal steps over the others.
func (r *Rollup) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, rollupVersion, byte(SignalCount))
	part := make([]byte, 0, 256)
	var err error
	add := func() { b = append(binary.AppendUvarint(b, uint64(len(part))), part...) }
	if part, err = r.Instances.AppendBinary(part); err != nil {
		return nil, err
	}
	add()
	for i := range r.Signals {
		// A latency's quantiles come from the histogram of its kind; see Stat.
		_, delivery, latency := Signal(i).quantile()
		bare := latency && (delivery && r.Delivery.Count() > 0 || !delivery && r.API.Count() > 0)
		if part, err = r.Signals[i].append(part[:0], bare); err != nil {
			return nil, err
		}
		add()
	}
	for _, h := range [...]*Histogram{&r.Delivery, &r.API} {
		part = h.AppendBinary(part[:0])
		add()
	}
	return b, nil
}

// rollupVersion is the first byte of a stored rollup. Version 1 wrote two numbers
// for each bucket, and the buckets of latencies too; it is still read.
const rollupVersion = 2

// UnmarshalBinary reads what AppendBinary wrote. A rollup that was stored with
// fewer signals reads as having no values of the later ones.
func (r *Rollup) UnmarshalBinary(b []byte) error { return r.ReadSignals(b, nil) }

// ReadSignals reads the wanted signals only, with the histograms that latencies
// are drawn from; nil wants all.
func (r *Rollup) ReadSignals(b []byte, wanted []Signal) error {
	out := Rollup{From: r.From, Span: r.Span}
	if err := out.read(b, wanted); err != nil {
		return fmt.Errorf("read rollup: %w", err)
	}
	*r = out
	return nil
}

func (r *Rollup) read(b []byte, wanted []Signal) (err error) {
	if len(b) < 2 || b[0] < 1 || b[0] > rollupVersion || b[1] > byte(SignalCount) {
		return fmt.Errorf("%d bytes of another version", len(b))
	}
	signals := int(b[1])
	rest := reader{b: b[2:]}
	if r.Instances, err = readSketch(rest.part(), b[0]); err != nil {
		return fmt.Errorf("instances: %w", err)
	}
	var delivery, api bool
	for i := range signals {
		part := rest.part()
		if wanted != nil && !slices.Contains(wanted, Signal(i)) {
			continue
		}
		if r.Signals[i], err = readSketch(part, b[0]); err != nil {
			return fmt.Errorf("%v: %w", Signal(i), err)
		}
		if _, ofDelivery, latency := Signal(i).quantile(); latency {
			delivery, api = delivery || ofDelivery, api || !ofDelivery
		}
	}
	for _, h := range [...]struct {
		into   *Histogram
		wanted bool
	}{{&r.Delivery, delivery || wanted == nil}, {&r.API, api || wanted == nil}} {
		part := rest.part()
		if !h.wanted {
			continue
		}
		if err := h.into.UnmarshalBinary(part); err != nil {
			return err
		}
	}
	if rest.err == nil && len(rest.b) > 0 {
		rest.err = fmt.Errorf("%d bytes too many", len(rest.b))
	}
	return rest.err
}
