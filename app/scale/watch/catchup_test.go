package watch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// countedRows counts the rows that are read.
type countedRows struct {
	watch.Store
	rows atomic.Int64
}

func (c *countedRows) Rollups(ctx context.Context, q scale.RollupQuery, each func(node string, r *scale.Rollup) error) error {
	return c.Store.Rollups(ctx, q, func(node string, r *scale.Rollup) error {
		c.rows.Add(1)
		return each(node, r)
	})
}

// TestCatchUp sums up what a killed process left, at every resolution, and reads a
// long trend from it and from what is newer.
func TestCatchUp(t *testing.T) {
	b := newBed(t, "n1")
	now := time.Now().UTC()
	rnd := rand.New(rand.NewPCG(1, 1))
	quarter := 15 * time.Minute
	begin := now.Add(-40 * 24 * time.Hour).Truncate(6 * time.Hour)
	var rows []scale.NodeRollup
	seconds := uint64(0)
	for at := begin; !at.Add(quarter).After(now); at = at.Add(quarter) {
		r := scale.Rollup{From: at, Span: quarter}
		for range 5 {
			slot := secondOf(rnd, 0.5, 1)
			r.Add(&slot)
			seconds++
		}
		for _, node := range []string{"", "n1"} {
			rows = append(rows, scale.NodeRollup{Node: node, Rollup: r})
		}
	}
	if err := b.db.PutRollups(t.Context(), rows, nil, now, 0); err != nil {
		t.Fatal(err)
	}
	read := &countedRows{Store: b.cfg.Store}
	b.cfg.Store = read
	s := b.start()
	defer b.end()
	q := watch.HistoryQuery{From: begin, To: now.Add(time.Hour), Signals: []scale.Signal{scale.Connections, scale.DeliveryP95}, Nodes: []string{"", "n1"}}
	await(t, 20*time.Second, "the sums", func() bool {
		h, err := s.History(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return h.Source == 6*time.Hour
	})
	h, err := s.History(t.Context(), q)
	if err != nil || len(h.Trends) != 4 {
		t.Fatalf("got %d trends, %v", len(h.Trends), err)
	}
	for _, trend := range h.Trends {
		got := uint64(0)
		for i, p := range trend.Points {
			if got += p.Count; i > 0 && !p.At.After(trend.Points[i-1].At) {
				t.Errorf("%q %v: the point at %v comes behind one at %v", trend.Node, trend.Signal, p.At, trend.Points[i-1].At)
			}
		}
		if got != seconds {
			t.Errorf("%q %v: got %d seconds of the 6 hours and of the quarters behind them, want %d", trend.Node, trend.Signal, got, seconds)
		}
	}
	// Of many nodes days are read, then what is newer than the last whole day, and each
	// second counts once all the same.
	read.rows.Store(0)
	many := watch.HistoryQuery{From: begin, To: now.Add(time.Hour), Signals: []scale.Signal{scale.Connections}, Nodes: []string{"", "n1"}}
	for i := range 198 {
		many.Nodes = append(many.Nodes, fmt.Sprintf("away-%d", i))
	}
	h, err = s.History(t.Context(), many)
	if err != nil || len(h.Trends) != 2 || h.Source != 24*time.Hour {
		t.Fatalf("many nodes: got %d trends of rows of %v, %v, want days", len(h.Trends), h.Source, err)
	}
	for _, trend := range h.Trends {
		got := uint64(0)
		for i, p := range trend.Points {
			if got += p.Count; i > 0 && !p.At.After(trend.Points[i-1].At) {
				t.Errorf("%q: the point at %v comes behind one at %v", trend.Node, p.At, trend.Points[i-1].At)
			}
		}
		// The first day is whole: it began before begin, and its other rows count too.
		if got != seconds {
			t.Errorf("%q: got %d seconds of the days and what is behind them, want %d", trend.Node, got, seconds)
		}
	}
	// 40 days, up to three quarters of a day, and up to 24 quarters of an hour each.
	if n := read.rows.Load(); n > 2*(41+3+25) {
		t.Errorf("read %d rows of two nodes, want at most %d", n, 2*(41+3+25))
	}
	// What is summed up is not looked for again, and what has not ended is left.
	cut := now.Add(-time.Minute)
	missing, next, err := b.db.MissingRollups(t.Context(), "n1", 6*time.Hour, begin, cut, 64)
	if err != nil || len(missing) > 0 || !next.IsZero() {
		t.Errorf("got %d spans missing, %v", len(missing), err)
	}
}
