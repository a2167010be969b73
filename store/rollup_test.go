package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"agentnet/app/scale"
)

// rollupOf is one span of a node with n seconds of a load that wanders.
func rollupOf(rnd *rand.Rand, from time.Time, span time.Duration, n int) scale.Rollup {
	r := scale.Rollup{From: from, Span: span}
	level := 100 + rnd.Float64()*400
	for i := range n {
		s := scale.Slot{At: from.Add(time.Duration(i) * time.Second), Instances: 1}
		for sig := range scale.SignalCount {
			switch sig {
			case scale.MemoryLimit:
				s.Values.Set(sig, 2<<30)
			case scale.Broker:
				s.Values.Set(sig, 1)
			case scale.Connections, scale.MemoryBytes:
				s.Values.Set(sig, float64(int(level*(1+rnd.Float64()/50))))
			case scale.RefusedRate:
				s.Values.Set(sig, 0)
			default:
				s.Values.Set(sig, rnd.Float64()*0.3+0.1)
			}
		}
		for range 20 {
			s.Delivery.Observe(time.Duration(rnd.ExpFloat64()*float64(2*time.Millisecond)), 5)
		}
		s.API.Observe(time.Duration(rnd.ExpFloat64()*float64(10*time.Millisecond)), 1)
		r.Add(&s)
	}
	return r
}

func TestRollupsAreMergedPromotedAndPruned(t *testing.T) {
	s := open(t, Config{})
	rnd := rand.New(rand.NewPCG(1, 1))
	begin := day0.Truncate(15 * time.Minute)
	now := begin.Add(20 * time.Minute)
	var promote []scale.Promotion
	for _, node := range []string{"", "n1", "n2"} {
		for k := range 15 {
			promote = append(promote, scale.Promotion{Node: node, From: begin.Add(time.Duration(k) * time.Minute), Span: time.Minute})
		}
		promote = append(promote, scale.Promotion{Node: node, From: begin, Span: 15 * time.Minute})
	}
	for i := range 90 {
		at := begin.Add(time.Duration(i) * 10 * time.Second)
		for _, node := range []string{"", "n1", "n2"} {
			// Two halves, as from a process that was restarted within the span.
			rows := []scale.NodeRollup{{Node: node, Rollup: rollupOf(rnd, at, 10*time.Second, 4)}, {Node: node, Rollup: rollupOf(rnd, at, 10*time.Second, 6)}}
			if err := s.PutRollups(t.Context(), rows, nil, now, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // a promotion can be repeated
		if err := s.PutRollups(t.Context(), nil, promote, now, 0); err != nil {
			t.Fatal(err)
		}
	}
	for span, want := range map[time.Duration]int{10 * time.Second: 90, time.Minute: 15, 15 * time.Minute: 1} {
		rows, seconds := 0, uint64(0)
		err := s.Rollups(t.Context(), scale.RollupQuery{Span: span, Nodes: []string{"n1"}, From: begin, To: now, Signals: []scale.Signal{scale.Connections, scale.DeliveryP95}}, func(node string, r *scale.Rollup) error {
			rows++
			seconds += r.Stat(scale.Connections).Count
			if node != "n1" || r.Stat(scale.CPU).Count != 0 || r.Stat(scale.DeliveryP95).P95 <= 0 {
				return fmt.Errorf("got %q with cpu %+v", node, r.Stat(scale.CPU))
			}
			return nil
		})
		if err != nil || rows != want || seconds != 900 {
			t.Errorf("%v: got %d rows of %d seconds, %v, want %d of 900", span, rows, seconds, err, want)
		}
	}
	if names, err := s.SampleNodes(t.Context()); err != nil || fmt.Sprint(names) != "[n1 n2]" {
		t.Errorf("got %v, %v", names, err)
	}
	// Two days later the rows of 10 s go, some at a time; the others stay.
	later := now.Add(48 * time.Hour)
	for range 4 {
		if err := s.PutRollups(t.Context(), nil, nil, later, 0); err != nil {
			t.Fatal(err)
		}
	}
	count := func(span time.Duration, nodes []string) (n int) {
		err := s.Rollups(t.Context(), scale.RollupQuery{Span: span, Nodes: nodes, From: begin, To: now}, func(string, *scale.Rollup) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b := count(10*time.Second, nil), count(time.Minute, nil); a != 0 || b != 45 {
		t.Errorf("after two days: got %d rows of 10 s and %d of a minute, want 0 and 45", a, b)
	}
	// A database that is too large gives up the rows of single nodes, not the fleet's.
	for range 3 {
		if err := s.PutRollups(t.Context(), nil, nil, later, 1); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := count(time.Minute, []string{"n1", "n2"}), count(time.Minute, []string{""}); a != 0 || b != 15 {
		t.Errorf("too large: got %d rows of nodes and %d of the fleet, want 0 and 15", a, b)
	}
	if err := s.PutRollups(t.Context(), nil, []scale.Promotion{{Span: time.Hour}}, later, 0); err == nil {
		t.Error("a promotion to an hour: got no error")
	}
	boom := errors.New("boom")
	err := s.Rollups(t.Context(), scale.RollupQuery{Span: time.Minute, From: begin, To: now}, func(string, *scale.Rollup) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("got %v, want the caller's error", err)
	}
}

// BenchmarkRollups fills a database with what 400 days of 21 series (20 nodes and
// the fleet) come to at all resolutions, a tenth of it, and measures writes
// and queries; sizes are reported for the whole.
func BenchmarkRollups(b *testing.B) {
	const share = 10
	s := open(b, Config{})
	rnd := rand.New(rand.NewPCG(1, 2))
	end := day0.Truncate(15 * time.Minute)
	total := 0
	for _, tier := range scale.Resolutions() {
		rows := make([]scale.NodeRollup, 0, maxRollups)
		var pattern []scale.Rollup // rows that differ, used again and again: filling is not what is measured
		seconds := int(min(tier.Span, time.Minute) / time.Second)
		for range 50 {
			pattern = append(pattern, rollupOf(rnd, end, tier.Span, seconds*int(tier.Span/min(tier.Span, time.Minute))))
		}
		n := int(tier.Keep/tier.Span) / share
		for node := range 21 {
			name := fmt.Sprintf("node-%02d", node)
			if node == 0 {
				name = ""
			}
			for i := range n {
				r := pattern[rnd.IntN(len(pattern))]
				r.From = end.Add(-time.Duration(n-i) * tier.Span)
				if rows = append(rows, scale.NodeRollup{Node: name, Rollup: r}); len(rows) == cap(rows) {
					if err := s.PutRollups(b.Context(), rows, nil, end, 0); err != nil {
						b.Fatal(err)
					}
					total, rows = total+len(rows), rows[:0]
				}
			}
		}
		if err := s.PutRollups(b.Context(), rows, nil, end, 0); err != nil {
			b.Fatal(err)
		}
		total += len(rows)
	}
	size, wal := s.Size()
	b.Logf("%d rows, %d MB, %d bytes a row; the whole would be %.2f GB", total, (size+wal)>>20, int(size)/total, float64(size)*share/1e9)
	query := func(span time.Duration, length time.Duration, signals ...scale.Signal) func(*testing.B) {
		return func(b *testing.B) {
			rows := 0
			for b.Loop() {
				err := s.Rollups(b.Context(), scale.RollupQuery{Span: span, Nodes: []string{""}, From: end.Add(-length), To: end, Signals: signals}, func(_ string, r *scale.Rollup) error { rows++; return nil })
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)/float64(b.N), "rows/op")
		}
	}
	b.Run("query/1h of 10s", query(10*time.Second, time.Hour, scale.Connections, scale.DeliveryP95))
	b.Run("query/24h of 1min", query(time.Minute, 24*time.Hour, scale.Connections, scale.DeliveryP95))
	b.Run("query/40d of 15min", query(15*time.Minute, 40*24*time.Hour, scale.Connections, scale.DeliveryP95))
	b.Run("write/21 rows", func(b *testing.B) {
		r := rollupOf(rnd, end, 10*time.Second, 10)
		at := end
		for b.Loop() {
			at = at.Add(10 * time.Second)
			rows := make([]scale.NodeRollup, 21)
			for i := range rows {
				r.From = at
				rows[i] = scale.NodeRollup{Node: fmt.Sprintf("node-%02d", i), Rollup: r}
			}
			if err := s.PutRollups(b.Context(), rows, nil, end, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
