package scale

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var whole Histogram
	parts := make([]Histogram, 7)
	var all []float64
	for i := range 20_000 {
		d := time.Duration(math.Exp(r.NormFloat64()*1.5+3) * float64(time.Millisecond))
		all = append(all, d.Seconds())
		whole.Observe(d, 1)
		parts[i%7].Observe(d, 1)
	}
	slices.Sort(all)
	var merged Histogram
	for _, p := range parts {
		merged.Merge(p)
	}
	for _, q := range []float64{0.5, 0.95, 0.99} {
		exact := all[int(math.Ceil(q*float64(len(all))))-1]
		if got := whole.Quantile(q).Seconds(); math.Abs(got/exact-1) > 0.19 {
			t.Errorf("q %v: got %v, want %v within 19%%", q, got, exact)
		}
		if whole.Quantile(q) != merged.Quantile(q) {
			t.Errorf("q %v: got %v merged, want %v as of all", q, merged.Quantile(q), whole.Quantile(q))
		}
	}
	if whole.Count() != 20_000 || merged.Mean() != whole.Mean() {
		t.Errorf("got %d values of mean %v, want 20000 of %v", whole.Count(), merged.Mean(), whole.Mean())
	}
}

func TestHistogramEdges(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 || h.Mean() != 0 || h.Count() != 0 {
		t.Error("empty: got values, want zero")
	}
	h.Observe(-time.Second, 1)
	h.Observe(0, 1)
	h.Observe(1000*time.Hour, 1)
	h.AddBucket(9999, 1)
	h.AddBucket(-1, 1)
	if h.Count() != 5 || h.Quantile(1) != bounds[Buckets-1] {
		t.Errorf("got %d values up to %v, want 5 up to %v", h.Count(), h.Quantile(1), bounds[Buckets-1])
	}
	before := h.Clone()
	var other Histogram
	other.Merge(h)
	other.Observe(time.Second, 1)
	if h.Count() != before.Count() {
		t.Error("a merge changed what was merged")
	}
	for _, bad := range []string{`{"low":-1,"counts":[1]}`, `{"low":121,"counts":[1]}`, `{"low":9223372036854775807,"counts":[1]}`, `{"low":120,"counts":[1,1]}`} {
		if err := json.Unmarshal([]byte(bad), &h); err == nil {
			t.Errorf("%s: got no error", bad)
		}
	}
	raw, _ := json.Marshal(before)
	var back Histogram
	if err := json.Unmarshal(raw, &back); err != nil || back.Count() != before.Count() {
		t.Errorf("got %d values, %v, want %d", back.Count(), err, before.Count())
	}
}

func TestSketch(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for name, draw := range map[string]func() float64{
		"shares":      r.Float64,
		"connections": func() float64 { return 1000 + 10*r.NormFloat64() },
		"bytes":       func() float64 { return math.Exp(r.Float64() * 10) },
		"mostly zero": func() float64 { return math.Max(0, r.Float64()-0.8) },
		"the same":    func() float64 { return 42 },
	} {
		var whole, a, b Sketch
		var all []float64
		for i := range 9000 {
			v := draw()
			all = append(all, v)
			whole.Add(v)
			if i%3 == 0 {
				a.Add(v)
			} else {
				b.Add(v)
			}
		}
		a.Merge(&b)
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.95, 0.99, 1} {
			exact := all[max(0, int(math.Ceil(q*9000))-1)]
			got := whole.Quantile(q)
			if math.Abs(got-exact) > 0.026*exact+1e-9 {
				t.Errorf("%s, q %v: got %v, want %v within 2.6%%", name, q, got, exact)
			}
			if merged := a.Quantile(q); merged != got {
				t.Errorf("%s, q %v: got %v merged, want %v", name, q, merged, got)
			}
		}
		if whole.Min() != all[0] || whole.Max() != all[8999] || len(whole.buckets) > maxSketchBuckets {
			t.Errorf("%s: got %v to %v in %d buckets, want %v to %v", name, whole.Min(), whole.Max(), len(whole.buckets), all[0], all[8999])
		}
	}
	var s Sketch
	for i := range 5000 {
		s.Add(math.Exp(float64(i)/10 - 20))
	}
	if len(s.buckets) > maxSketchBuckets || s.Count() != 5000 {
		t.Errorf("got %d buckets of %d values, want at most %d", len(s.buckets), s.Count(), maxSketchBuckets)
	}
}

func TestRing(t *testing.T) {
	r := NewRing()
	for i := range 2000 {
		if !r.Add(Slot{At: start.Add(time.Duration(i) * time.Second), Instances: i}) {
			t.Fatalf("slot %d was not taken", i)
		}
	}
	if r.Add(Slot{At: start}) {
		t.Error("an old slot was taken")
	}
	all := r.Since(time.Time{})
	if len(all) != 900 || all[0].Instances != 1100 || all[899].Instances != 1999 {
		t.Errorf("got %d slots, want the last 900 in order", len(all))
	}
	if got := r.Points(start.Add(1989 * time.Second)); len(got) != 10 || got[0].Instances != 1990 {
		t.Errorf("got %d points, want 10", len(got))
	}
}

func TestRoller(t *testing.T) {
	r := NewRoller()
	got := map[time.Duration][]Rollup{}
	for i := range 3600 {
		s := Slot{At: start.Add(time.Duration(i) * time.Second), Instances: 2}
		s.Values.Set(Connections, float64(i))
		if i%2 == 0 {
			s.Values.Set(CPU, 0.5) // every other second is missing
		}
		s.Delivery.Observe(time.Duration(i)*time.Millisecond, 10)
		for _, u := range r.Add(s) {
			got[u.Span] = append(got[u.Span], u)
		}
	}
	for _, u := range r.Flush(start.Add(time.Hour)) {
		got[u.Span] = append(got[u.Span], u)
	}
	for span, want := range map[time.Duration]int{10 * time.Second: 360, time.Minute: 60, 15 * time.Minute: 4} {
		if len(got[span]) != want {
			t.Errorf("%v: got %d rollups, want %d", span, len(got[span]), want)
		}
		for i, u := range got[span] {
			from, n := start.Add(time.Duration(i)*span), float64(span/time.Second)
			st := u.Stat(Connections)
			first := float64(i) * n
			if !u.From.Equal(from) || st.Min != first || st.Max != first+n-1 || math.Abs(st.Avg-(first+(n-1)/2)) > 1e-6 || st.Count != uint64(n) {
				t.Fatalf("%v, number %d: got %v with %+v, want %v from %v to %v", span, i, u.From, st, from, first, first+n-1)
			}
			if cpu := u.Stat(CPU); cpu.Count != uint64(n)/2 || cpu.P95 < 0.487 || cpu.P95 > 0.513 {
				t.Fatalf("%v: got %+v, want half the seconds at 0.5", span, cpu)
			}
			if p := u.Stat(DeliveryP95); p.P95 <= p.P50 && i > 0 && n > 100 || u.Delivery.Count() != uint64(n)*10 {
				t.Fatalf("%v: got %+v of %d messages, want those of all messages", span, p, u.Delivery.Count())
			}
		}
	}
	raw, err := got[15*time.Minute][1].AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back Rollup
	if err := back.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if again, _ := back.AppendBinary(nil); !bytes.Equal(raw, again) || back.Stat(Connections) != got[15*time.Minute][1].Stat(Connections) {
		t.Error("a stored rollup reads differently")
	}
}

func FuzzRollup(f *testing.F) {
	var r Rollup
	for i := range 100 {
		s := Slot{Instances: 3}
		s.Values.Set(CPU, float64(i)/100)
		s.Delivery.Observe(time.Duration(i)*time.Millisecond, 1)
		r.Add(&s)
	}
	raw, _ := r.AppendBinary(nil)
	f.Add(raw)
	f.Add(raw[:40])
	f.Add([]byte{rollupVersion, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Rollup
		if r.UnmarshalBinary(b) != nil {
			return
		}
		for s := range SignalCount {
			st := r.Stat(s)
			if st.P50 > st.P99+1e-9 && st.P99 != 0 {
				t.Errorf("%v: got %+v, want rising quantiles", s, st)
			}
		}
		again, err := r.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := new(Rollup).UnmarshalBinary(again); err != nil {
			t.Errorf("what was read does not read again: %v", err)
		}
	})
}

func TestFleetOf(t *testing.T) {
	sample := func(node, region string, age, sinceReady time.Duration, connections float64) Sample {
		s := Sample{Node: node, Region: region, At: start.Add(-age), Ready: start.Add(-sinceReady)}
		s.Values.Set(Connections, connections)
		s.Values.Set(CPU, 0.5)
		s.Delivery.Observe(time.Duration(connections)*time.Millisecond, 10)
		s.Seal()
		return s
	}
	samples := []Sample{
		sample("c", "eu", 0, time.Hour, 300),
		sample("a", "eu", time.Second, time.Hour, 100),
		sample("a", "eu", 3*time.Second, time.Hour, 999),
		sample("b", "us", 10*time.Second, time.Hour, 50),
		sample("gone", "us", 2*time.Minute, time.Hour, 50),
		sample("new", "us", 0, 5*time.Second, 7),
	}
	draining := sample("d", "us", 0, time.Hour, 20)
	draining.Draining = true
	f := FleetOf(start, append(samples, draining), FleetConfig{})
	var got []string
	for _, n := range f.Nodes {
		got = append(got, n.Name+" "+n.State.String())
	}
	if want := []string{"a ready", "b silent", "c ready", "d draining", "new warming"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c := f.Total(Connections)
	if c.Sum != 427 || c.Known != 4 || c.Lost != 1 || c.Max != 300 || c.Min != 7 {
		t.Errorf("got %+v, want 427 connections on 4 nodes and one lost", c)
	}
	if f.Live() != 4 || f.Count(Draining) != 1 {
		t.Errorf("got %d live, want 4", f.Live())
	}
	// The slowest of four equal shares of messages, not a mean of means.
	if p := f.Total(DeliveryP95); p.Mean < 0.25 || p.Mean > 0.36 {
		t.Errorf("got p95 %v, want that of the node with 300 ms", p.Mean)
	}
	us := f.Region("us")
	if us.Total(Connections).Sum != 27 || len(us.Nodes) != 3 || !slices.Equal(f.Regions(), []string{"eu", "us"}) {
		t.Errorf("got %v connections on %d nodes in us, regions %v, want 27 on 3", us.Total(Connections).Sum, len(us.Nodes), f.Regions())
	}
	v := NewView(FleetConfig{})
	for _, s := range samples {
		v.Observe(s)
	}
	if got := v.Fleet(start); got.Total(Connections).Sum != 407 || v.Observe(samples[2]) {
		t.Errorf("got %v, want 407, and no older sample taken", got.Total(Connections).Sum)
	}
	if late := v.Fleet(start.Add(time.Hour)); len(late.Nodes) != 0 || len(v.last) != 0 {
		t.Errorf("got %d nodes an hour later, want none", len(late.Nodes))
	}
}

func TestReadingsAreNeverFalseZeros(t *testing.T) {
	var r Readings
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		r.Set(CPU, bad)
		if _, ok := r.Get(CPU); ok {
			t.Errorf("%v: got a known value", bad)
		}
	}
	r.Set(Memory, 0)
	r.SetIdle(DeliveryP95)
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Readings
	if err := json.Unmarshal(raw, &back); err != nil || back != r {
		t.Errorf("got %s, %v, want the same readings", raw, err)
	}
	if err := json.Unmarshal([]byte(`{"nonsense":{"value":1,"state":"fresh"}}`), &back); err == nil {
		t.Error("an unknown signal: got no error")
	}
}
