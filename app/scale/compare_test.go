package scale

import (
	"testing"
	"time"
)

func TestCompare(t *testing.T) {
	side := func(seconds, instances int, connections, errors float64, latency time.Duration) *Rollup {
		var r Rollup
		for range seconds {
			s := Slot{Instances: instances}
			s.Values.Set(Connections, connections)
			s.Values.Set(ErrorRate, errors)
			s.Delivery.Observe(latency, 1)
			r.Add(&s)
		}
		return &r
	}
	const ms = time.Millisecond
	tests := []struct {
		name          string
		from, to      int
		before, after *Rollup
		want          Verdict
	}{
		{"up, each has less", 2, 3, side(1800, 2, 600, 0, 9*ms), side(1800, 3, 600, 0, 9*ms), Helped},
		{"up, the load grew as much", 2, 3, side(1800, 2, 600, 0, 9*ms), side(1800, 3, 890, 0, 9*ms), NoEffect},
		{"up, it never came", 2, 3, side(1800, 2, 600, 0, 9*ms), side(1800, 2, 600, 0, 9*ms), NoEffect},
		{"up, slower", 2, 3, side(1800, 2, 600, 0, 300*ms), side(1800, 3, 600, 0, 600*ms), Worse},
		{"up, slower but harmless", 2, 3, side(1800, 2, 600, 0, 10*ms), side(1800, 3, 600, 0, 50*ms), Helped},
		{"up, failing", 2, 3, side(1800, 2, 600, 0.001, 9*ms), side(1800, 3, 600, 0.03, 9*ms), Worse},
		{"down, nobody noticed", 4, 3, side(1800, 4, 300, 0, 9*ms), side(1800, 3, 300, 0, 9*ms), Helped},
		{"down, slower", 4, 3, side(1800, 4, 300, 0, 9*ms), side(1800, 3, 300, 0, 400*ms), Worse},
		{"down, not carried out", 4, 3, side(1800, 4, 300, 0, 9*ms), side(1800, 4, 300, 0, 9*ms), NoEffect},
		{"too little data", 2, 3, side(1800, 2, 600, 0, 9*ms), side(200, 3, 600, 0, 9*ms), Unclear},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if c := Compare(Connections, tt.from, tt.to, tt.before, tt.after); c.Verdict != tt.want || c.Why == "" {
				t.Errorf("got %s (%s), want %s", c.Verdict, c.Why, tt.want)
			}
		})
	}
}
