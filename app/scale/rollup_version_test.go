package scale

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// appendVersion1 writes a rollup as programs did that knew version 1 only.
func appendVersion1(r *Rollup) []byte {
	b := []byte{1, byte(SignalCount)}
	part := func(p []byte) { b = append(binary.AppendUvarint(b, uint64(len(p))), p...) }
	sketch := func(s *Sketch) {
		var p []byte
		switch {
		case s.count == 0:
		case s.min == s.max:
			p = appendNumber(binary.AppendUvarint(p, s.count<<1|1), s.min)
		default:
			p = binary.AppendUvarint(p, s.count<<1)
			for _, v := range [...]float64{s.sum, s.min, s.max} {
				p = appendNumber(p, v)
			}
			p = binary.AppendUvarint(p, s.zero)
			last := int32(0)
			for _, k := range s.buckets {
				p = binary.AppendUvarint(binary.AppendVarint(p, int64(k.index-last)), k.n)
				last = k.index
			}
		}
		part(p)
	}
	sketch(&r.Instances)
	for i := range r.Signals {
		sketch(&r.Signals[i])
	}
	part(r.Delivery.AppendBinary(nil))
	part(r.API.AppendBinary(nil))
	return b
}

// TestRollupVersions reads rows of both versions, and rows of both summed up, as the
// same figures; the newer ones take less than two thirds.
func TestRollupVersions(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, seconds := range []int{1, 10, 60, 900} {
		var r Rollup
		for range seconds {
			s := Slot{Instances: 1 + rnd.IntN(3)}
			for sig := range Connections + DeliveryP50 {
				s.Values.Set(sig, rnd.ExpFloat64()*float64(rnd.IntN(3)))
			}
			s.Delivery.Observe(time.Duration(rnd.ExpFloat64()*float64(time.Millisecond)), 3)
			for sig := DeliveryP50; sig <= APIP99; sig++ { // the API answers nothing: what was set counts
				s.Values.Set(sig, rnd.Float64())
			}
			r.Add(&s)
		}
		new2, err := r.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		old1 := appendVersion1(&r)
		if seconds == 900 && len(new2)*3 > len(old1)*2 {
			t.Errorf("got %d bytes of version 2 and %d of version 1, want less than two thirds", len(new2), len(old1))
		}
		var from1, from2 Rollup
		if err := from1.UnmarshalBinary(old1); err != nil {
			t.Fatalf("version 1: %v", err)
		}
		if err := from2.UnmarshalBinary(new2); err != nil {
			t.Fatalf("version 2: %v", err)
		}
		var both Rollup // read anew: merging changes what a copy shares
		if err := both.UnmarshalBinary(old1); err != nil {
			t.Fatal(err)
		}
		both.Merge(&from2)
		for sig := range SignalCount {
			a, b, c := from1.Stat(sig), from2.Stat(sig), both.Stat(sig)
			if a != b {
				t.Errorf("%d seconds, %v: got %+v of version 1 and %+v of version 2", seconds, sig, a, b)
			}
			_, delivery, _ := sig.quantile() // a histogram draws between its bounds, by the count
			if c.Count != 2*a.Count || c.Max != a.Max || c.P95 != a.P95 && !delivery {
				t.Errorf("%d seconds, %v: both together give %+v, want twice %+v", seconds, sig, c, a)
			}
		}
	}
}
