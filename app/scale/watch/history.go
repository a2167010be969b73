package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"agentnet/app/scale"
)

// MaxPoints bounds the points of one trend.
const MaxPoints = 600

// A HistoryQuery chooses trends. The step follows from the range.
type HistoryQuery struct {
	From, To time.Time
	Signals  []scale.Signal // at least one
	Nodes    []string       // "" is the whole fleet; nil: the fleet only
	Points   int            // at most, up to MaxPoints; 0: MaxPoints
}

// A History is what was measured over a time.
type History struct {
	From   time.Time     `json:"from"`
	To     time.Time     `json:"to"`
	Step   time.Duration `json:"step" doc:"Nanoseconds between two points."`
	Source time.Duration `json:"source" doc:"Span of the rows that it was read from, in nanoseconds."`
	Trends []Trend       `json:"trends"`
}

// A Trend is one signal of one node, or of the fleet.
type Trend struct {
	Node   string       `json:"node" doc:"Empty: the whole fleet."`
	Signal scale.Signal `json:"signal"`
	Unit   string       `json:"unit"`
	Points []TrendPoint `json:"points" doc:"Steps without a value are left out."`
}

// A TrendPoint sums one step up.
type TrendPoint struct {
	At    time.Time `json:"at" doc:"Where the step begins."`
	Count uint64    `json:"count" doc:"Seconds with a value."`
	Min   float64   `json:"min"`
	Avg   float64   `json:"avg"`
	Max   float64   `json:"max"`
	P50   float64   `json:"p50"`
	P95   float64   `json:"p95"`
	P99   float64   `json:"p99"`
}

const (
	// sourceRows is how many rows of a trend are read at most before a coarser span is
	// read instead, and sourceRowsInAll those of all nodes.
	sourceRows      = 1500
	sourceRowsInAll = 20_000
	// longRows is the same for quarters of an hour and more: a month is still drawn in
	// quarters of an hour, and a year of one node in quarters of a day.
	longRows = 3000
	// maxTrends bounds the trends of one answer, and maxPointsInAll their points.
	maxTrends      = 256
	maxPointsInAll = 60_000
	historyWait    = 20 * time.Second
)

// History reads trends: the last quarter of an hour by the second, and what is
// older from the store.
func (s *Service) History(ctx context.Context, q HistoryQuery) (History, error) {
	if len(q.Nodes) == 0 {
		q.Nodes = []string{""}
	}
	if q.Points <= 0 || q.Points > MaxPoints {
		q.Points = MaxPoints
	}
	n := len(q.Nodes) * len(q.Signals)
	oldest := scale.Resolutions()[len(scale.Resolutions())-1].Keep
	switch {
	case len(q.Signals) == 0 || n > maxTrends:
		return History{}, fault(FaultInvalid, "%d signals of %d nodes were asked for, want 1 to %d trends", len(q.Signals), len(q.Nodes), maxTrends)
	case !q.From.Before(q.To) || q.To.Sub(q.From) > oldest+24*time.Hour:
		return History{}, fault(FaultInvalid, "the range must have a beginning before its end and last %v at most", oldest)
	}
	q.Points = max(1, min(q.Points, maxPointsInAll/n))
	now := time.Now()
	if q.From.After(now.Add(-scale.RingLength+time.Second)) && q.To.Sub(q.From) <= scale.RingLength {
		return s.seconds(q), nil
	}
	span := s.sourceOf(now, q.From, q.To, len(q.Nodes))
	merge := int(q.To.Sub(q.From)/span)/q.Points + 1
	b := newBuilder(&q, span, span*time.Duration(merge))
	ctx, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	for _, node := range q.Nodes {
		err := s.parts(now, q.From.Truncate(span), q.To, span, func(from, to time.Time, span time.Duration) error {
			return s.cfg.Store.Rollups(ctx, scale.RollupQuery{Span: span, Nodes: []string{node}, From: from, To: to, Signals: q.Signals},
				func(node string, r *scale.Rollup) error {
					b.add(node, r)
					return nil
				})
		})
		if err != nil {
			return History{}, fmt.Errorf("history: %w", err)
		}
	}
	return b.history(), nil
}

// longSpans is the first of scale.Resolutions that is read up to its last whole span
// only, and not at all before what was missed is summed up.
const longSpans = 3

// parts cuts a range where rows of a long span are not summed up yet: what comes
// after that is read by the finer span.
func (s *Service) parts(now, from, to time.Time, span time.Duration, read func(from, to time.Time, span time.Duration) error) error {
	tiers := scale.Resolutions()
	i := slices.IndexFunc(tiers, func(t scale.Resolution) bool { return t.Span == span })
	if i < longSpans {
		return read(from, to, span)
	}
	cut := now.Add(-time.Minute).Truncate(span) // a minute, for the sum to be stored
	if from.Before(cut) {
		if err := read(from, earlier(to, cut), span); err != nil {
			return err
		}
	}
	if !cut.Before(to) {
		return nil
	}
	return s.parts(now, later(from, cut), to, tiers[i-1].Span, read)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// sourceOf is the finest span that is kept since from and gives few enough rows of
// so many nodes.
func (s *Service) sourceOf(now, from, to time.Time, nodes int) time.Duration {
	tiers := scale.Resolutions()
	if !s.summed.Load() {
		tiers = tiers[:longSpans] // the others have holes as yet
	}
	for i, t := range tiers {
		most := sourceRows
		if i >= 2 {
			most = longRows
		}
		if now.Sub(from) <= t.Keep && int(to.Sub(from)/t.Span) <= min(most, max(sourceRowsInAll/max(nodes, 1), 100)) {
			return t.Span
		}
	}
	return tiers[len(tiers)-1].Span
}

// seconds answers from the rings.
func (s *Service) seconds(q HistoryQuery) History {
	step := max(time.Second, (q.To.Sub(q.From)/time.Duration(q.Points) + time.Second - 1).Truncate(time.Second))
	b := newBuilder(&q, time.Second, step)
	s.mu.Lock()
	slots := make([][]scale.Slot, len(q.Nodes))
	for i, node := range q.Nodes {
		if ring := s.rings[node]; ring != nil {
			slots[i] = ring.Since(q.From.Add(-time.Nanosecond))
		}
	}
	s.mu.Unlock()
	for i, node := range q.Nodes {
		for k := range slots[i] {
			if slot := &slots[i][k]; slot.At.Before(q.To) {
				r := scale.Rollup{From: slot.At.Truncate(time.Second), Span: time.Second}
				r.Add(slot)
				b.add(node, &r)
			}
		}
	}
	return b.history()
}

// A builder merges rows, which come by node and then by time, into steps.
type builder struct {
	q     *HistoryQuery
	out   History
	first int // trend of the present node
	node  string
	begun bool
	open  scale.Rollup
}

func newBuilder(q *HistoryQuery, source, step time.Duration) *builder {
	return &builder{q: q, out: History{From: q.From, To: q.To, Step: step, Source: source, Trends: []Trend{}}}
}

func (b *builder) add(node string, r *scale.Rollup) {
	from := r.From.Truncate(b.out.Step)
	if !b.begun || node != b.node || !from.Equal(b.open.From) {
		b.flush()
		if !b.begun || node != b.node {
			b.first, b.node = len(b.out.Trends), node
			for _, sig := range b.q.Signals {
				b.out.Trends = append(b.out.Trends, Trend{Node: node, Signal: sig, Unit: sig.Unit(), Points: []TrendPoint{}})
			}
		}
		b.begun, b.open = true, scale.Rollup{From: from, Span: b.out.Step}
	}
	b.open.Merge(r)
}

func (b *builder) flush() {
	if !b.begun {
		return
	}
	for i, sig := range b.q.Signals {
		st := b.open.Stat(sig)
		if st.Count == 0 {
			continue
		}
		t := &b.out.Trends[b.first+i]
		t.Points = append(t.Points, TrendPoint{At: b.open.From, Count: st.Count, Min: st.Min, Avg: st.Avg, Max: st.Max, P50: st.P50, P95: st.P95, P99: st.P99})
	}
}

func (b *builder) history() History {
	b.flush()
	return b.out
}

// Nodes lists the nodes that have a history, by name.
func (s *Service) Nodes(ctx context.Context) ([]string, error) {
	names, err := s.cfg.Store.SampleNodes(ctx)
	if err != nil {
		return nil, err
	}
	names = onlyNodes(names)
	f := s.Fleet()
	for i := range f.Nodes {
		names = append(names, f.Nodes[i].Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// points reads stored samples in the form that backtests, measurements and the
// simulator take: the mean of each span. withNodes adds the single nodes, in the
// order of time.
func (s *Service) points(ctx context.Context, from, to time.Time, span time.Duration, nodes []string, signals []scale.Signal) ([]scale.Point, error) {
	var out []scale.Point
	err := s.cfg.Store.Rollups(ctx, scale.RollupQuery{Span: span, Nodes: nodes, From: from, To: to, Signals: signals}, func(node string, r *scale.Rollup) error {
		if nodes == nil && strings.HasPrefix(node, regionMark) {
			return nil // a region is no node
		}
		if len(out) >= maxPointsInAll*4 {
			return fault(FaultInvalid, "the range holds too many samples: choose a shorter one")
		}
		p := scale.Point{At: r.From, Node: node, Instances: max(1, int(r.Instances.Mean()+0.5))}
		for sig := range scale.SignalCount {
			if signals != nil && !slices.Contains(signals, sig) {
				continue
			}
			if st := r.Stat(sig); st.Count > 0 {
				p.Values.Set(sig, valueOf(sig, &st))
			}
		}
		out = append(out, p)
		return nil
	})
	slices.SortStableFunc(out, func(a, b scale.Point) int { return a.At.Compare(b.At) })
	return out, err
}

// valueOf is the one value of a span: of a latency its own quantile over all
// messages, of everything else the mean.
func valueOf(sig scale.Signal, st *scale.Stat) float64 {
	switch sig {
	case scale.DeliveryP50, scale.APIP50:
		return st.P50
	case scale.DeliveryP95, scale.APIP95:
		return st.P95
	case scale.DeliveryP99, scale.APIP99:
		return st.P99
	}
	return st.Avg
}

// Backtest runs a rule over stored samples: of the fleet, or of each node for a
// rule that has an alert for each.
func (s *Service) Backtest(ctx context.Context, r scale.Rule, from, to time.Time) (scale.Backtested, error) {
	if !from.Before(to) {
		return scale.Backtested{}, fault(FaultInvalid, "the range must have a beginning before its end")
	}
	if err := r.Validate(); err != nil {
		return scale.Backtested{}, explained(err)
	}
	ctx, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	var nodes []string // all, and the fleet
	if r.Reduce != scale.EachNode && r.Reduce != scale.Highest && r.Reduce != scale.Lowest {
		nodes = []string{""}
	}
	span := min(s.sourceOf(time.Now(), from, to, 1), scale.Resolutions()[2].Span)
	if finest := scale.Resolutions()[0]; time.Since(from) <= finest.Keep {
		span = finest.Span // a rule's times are seconds and minutes
	}
	points, err := s.points(ctx, from.Truncate(span), to, span, nodes, []scale.Signal{r.Signal, scale.MessagesIn, scale.AcceptRate})
	if err != nil {
		return scale.Backtested{}, err
	}
	if nodes == nil {
		// The highest and the lowest are of nodes: the fleet's own row knows no spread.
		points = slices.DeleteFunc(points, func(p scale.Point) bool { return p.Node == "" })
	}
	_, capacity := s.engine.Rules()
	out, err := scale.Backtest(r, capacity, points)
	if err != nil {
		return out, explained(err)
	}
	return out, nil
}
