package watch_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

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
	// What is summed up is not looked for again, and what has not ended is left.
	cut := now.Add(-time.Minute)
	missing, next, err := b.db.MissingRollups(t.Context(), "n1", 6*time.Hour, begin, cut, 64)
	if err != nil || len(missing) > 0 || !next.IsZero() {
		t.Errorf("got %d spans missing, %v", len(missing), err)
	}
}
