package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"agentnet/app/scale"
)

const (
	// compareEvery is how often is looked for actions whose half hour is over.
	compareEvery = time.Minute
	// compareSoon is how long after the start is looked for the first time.
	compareSoon = 5 * time.Second
	// compareSlack is how long after that the samples have been stored.
	compareSlack = 30 * time.Second
	// compareBack is how old an action may be that is still compared, after a node was
	// down: samples of 10 s are kept for a day.
	compareBack = 20 * time.Hour
	// learnEvery is how often the forecast learns and capacity is measured.
	learnEvery = 15 * time.Minute
	// learnFrom is the history that a forecast looks at.
	learnFrom = 35 * 24 * time.Hour
	// horizon is how far ahead a forecast is checked, and lead how far ahead the fleet
	// is scaled by it: a step of the forecast and a start.
	horizon  = 3 * time.Hour
	lead     = 20 * time.Minute
	lookWait = 20 * time.Second
	// Longest waits for a busy node.
	compareMost = 10 * time.Minute
	learnMost   = time.Hour
	measureBy   = 7 * 24 * time.Hour
)

// Measured is what the samples say of one instance.
type Measured struct {
	At          time.Time         `json:"at,omitzero"`
	Measurement scale.Measurement `json:"measurement"`
	Capacity    *scale.Capacity   `json:"capacity,omitempty" doc:"Absent: the samples do not tell."`
	Why         string            `json:"why,omitempty" doc:"Why they do not."`
}

// outlook is what the forecast says.
type outlook struct {
	at       time.Time
	forecast *scale.Forecast // of connections; nil: not enough history
	why      string          // why there is none
	recent   []Predicted
	own      *scale.Forecast // of this region, which is the fleet where there is one; nil: see ownWhy
	ownWhy   string
	regional bool // there are several regions
	regions  []regional
	rows     []scale.LimitRow

	ahead   scale.Ahead
	aheadAt time.Time
}

// Predicted is a forecast beside what came.
type Predicted struct {
	At     time.Time `json:"at"`
	Value  float64   `json:"value"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Actual *float64  `json:"actual,omitempty" doc:"Absent: not yet, or not measured."`
}

// look does what needs the stored history, until ctx ends.
func (s *Service) look(ctx context.Context) error {
	compare := time.NewTimer(compareSoon) // what came due while nobody ran
	defer compare.Stop()
	learn := time.NewTimer(2 * time.Second)
	defer learn.Stop()
	var due map[string]bool
	compared, learnt := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-compare.C:
			compare.Reset(compareEvery)
			if s.busy() && now.Sub(compared) < compareMost {
				continue
			}
			compared = now
			s.compare(ctx, now)
			due = s.trigger(due, now)
		case <-learn.C:
			learn.Reset(learnEvery)
			if s.busy() && time.Since(learnt) < learnMost {
				learn.Reset(time.Minute)
				continue
			}
			learnt = time.Now()
			s.learn(ctx, time.Now())
		}
	}
}

// outcome is the data of an outcome entry: of which decision, and what came of it.
type outcome struct {
	Origin string `json:"origin"`
	Seq    uint64 `json:"seq"`
	scale.Comparison
}

// compare fills in the half hours before and after each change of the count that
// have passed, on the leader. It works from the log alone, so that a restart and a
// change of the leader lose none.
func (s *Service) compare(ctx context.Context, now time.Time) {
	if _, _, mine := s.lead(); !mine {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	done := make(map[[2]string]bool)
	err := s.each(ctx, scale.LogFilter{Kinds: []scale.Kind{scale.KindOutcome}, From: now.Add(-compareBack - time.Hour)}, func(e *scale.LogEntry) error {
		var o outcome
		if json.Unmarshal(e.Data, &o) == nil {
			done[[2]string{o.Origin, fmt.Sprint(o.Seq)}] = true
		}
		return nil
	})
	if err == nil {
		err = s.each(ctx, scale.LogFilter{Kinds: []scale.Kind{scale.KindDecision}, From: now.Add(-compareBack), To: now.Add(-scale.CompareSpan - compareSlack)}, func(e *scale.LogEntry) error {
			var d scale.DecisionData
			if done[[2]string{e.Origin, fmt.Sprint(e.Seq)}] || json.Unmarshal(e.Data, &d) != nil || !d.Decision.Changed() {
				return nil
			}
			return s.compareOne(ctx, now, e, &d.Decision)
		})
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("what came of past decisions could not be compared", "error", err)
	}
}

// maxPages bounds the pages that one look at the log reads.
const maxPages = 50

// each hands over all entries of a filter, oldest first.
func (s *Service) each(ctx context.Context, f scale.LogFilter, do func(*scale.LogEntry) error) error {
	f.Oldest, f.Limit = true, 500
	for range maxPages {
		page, err := s.cfg.Store.ScaleLogPage(ctx, f)
		if err != nil {
			return err
		}
		for i := range page {
			if err := do(&page[i]); err != nil {
				return err
			}
			f.Before = page[i].Place
		}
		if len(page) < f.Limit {
			return nil
		}
	}
	return nil
}

func (s *Service) compareOne(ctx context.Context, now time.Time, e *scale.LogEntry, d *scale.Decision) error {
	signal := scale.Connections
	if signal.UnmarshalText([]byte(d.Winner)) != nil {
		signal = scale.Connections // a forecast or a fallback decided
	}
	span := scale.Resolutions()[0].Span
	sum := func(from, to time.Time) (scale.Rollup, error) {
		out := scale.Rollup{From: from, Span: to.Sub(from)}
		err := s.cfg.Store.Rollups(ctx, scale.RollupQuery{Span: span, Nodes: []string{""}, From: from, To: to}, func(_ string, r *scale.Rollup) error {
			out.Merge(r)
			return nil
		})
		return out, err
	}
	before, err := sum(e.At.Add(-scale.CompareSpan), e.At)
	if err != nil {
		return err
	}
	after, err := sum(e.At, e.At.Add(scale.CompareSpan))
	if err != nil {
		return err
	}
	c := scale.Compare(signal, d.Base, d.Desired, &before, &after)
	text := fmt.Sprintf("%d to %d instances at %s: %s, %s", d.Base, d.Desired, e.At.UTC().Format("15:04:05"), c.Verdict, c.Why)
	out, err := scale.NewEntry(scale.KindOutcome, now, "engine", e.Region, text, outcome{Origin: e.Origin, Seq: e.Seq, Comparison: c})
	if err != nil {
		return err
	}
	if e.Origin == s.origin() {
		out.Cause = e.Seq // numbers of another log mean nothing in this one
	}
	_, err = s.append(ctx, out)
	return err
}

// trigger writes an entry for each planning trigger that is newly reached. told
// are those that were reached at the last look.
func (s *Service) trigger(told map[string]bool, now time.Time) map[string]bool {
	f := s.Fleet()
	if _, _, mine := s.lead(); !mine || f.Partial != "" || f.Live() == 0 {
		return told
	}
	planner := s.Planner()
	use := scale.Use{Connections: f.Total(scale.Connections).Sum, Messages: f.Total(scale.MessagesIn).Sum, Instances: f.Live()}
	next := make(map[string]bool)
	for _, r := range planner.Reached(use) {
		next[r.Trigger.Name] = true
		if told[r.Trigger.Name] {
			continue
		}
		if e, err := r.Entry(now, s.cfg.Region); err == nil {
			s.scribe.write(e)
		}
	}
	return next
}

// learn reads the history, makes the forecast anew and measures capacity.
func (s *Service) learn(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	next := outlook{at: now}
	span := scale.Resolutions()[2].Span
	from := now.Add(-learnFrom).Truncate(span)
	points, err := s.points(ctx, from, now.Truncate(span), span, []string{""}, []scale.Signal{scale.Connections, scale.MessagesIn, scale.Memory, scale.CPU, scale.Descriptors})
	if err != nil {
		s.log.Warn("the history for forecasts could not be read", "error", err)
		return
	}
	if series, err := scale.SeriesOf(points, scale.Connections, span); err != nil {
		next.why = err.Error()
	} else if f, err := scale.ForecastOf(scale.Connections, series, horizon); err != nil {
		next.why = err.Error()
	} else {
		next.forecast, next.recent = &f, hindcast(series)
	}
	if err := s.learnRegions(ctx, &next, from, now.Truncate(span), span); err != nil {
		s.log.Warn("the history of a region could not be read; this one is not scaled ahead", "error", err)
		next.own, next.ownWhy = nil, err.Error()
	}
	next.rows = s.limitRows(points, span)
	measured := s.measure(ctx, now)
	s.mu.Lock()
	s.outlook, s.measured = next, measured
	s.mu.Unlock()
}

// hindcast forecasts the last day from what was known before it.
func hindcast(s scale.Series) []Predicted {
	day := int(24 * time.Hour / s.Step)
	known := len(s.Values) - day
	if known < day {
		return nil
	}
	f, err := scale.ForecastOf(scale.Connections, scale.Series{Start: s.Start, Step: s.Step, Values: s.Values[:known]}, horizon)
	if err != nil {
		return nil
	}
	out := make([]Predicted, 0, day)
	for i, p := range f.Ahead(day) {
		q := Predicted{At: p.At, Value: p.Value, Low: p.Low, High: p.High}
		if v := s.Values[known+i]; !math.IsNaN(v) {
			q.Actual = &v
		}
		out = append(out, q)
	}
	return out
}

// limitRows says for each limit when it is reached.
func (s *Service) limitRows(points []scale.Point, span time.Duration) []scale.LimitRow {
	p := s.engine.Policy()
	c := s.Planner().Capacity
	at := func(v float64) float64 { return v }
	var rows []scale.LimitRow
	for _, l := range []struct {
		name, by string
		signal   scale.Signal
		limit    float64
	}{
		{"connections of the largest fleet", fmt.Sprintf("%d instances of the policy, %s each (%s)", p.Max, people(c.Connections), c.Source), scale.Connections, at(c.Connections * float64(p.Max))},
		{"messages of the largest fleet", fmt.Sprintf("%d instances of the policy, %s a second each (%s)", p.Max, people(c.Messages), c.Source), scale.MessagesIn, at(c.Messages * float64(p.Max))},
		{"memory", "the memory limit of the nodes", scale.Memory, 1},
		{"processors", "the processors of the nodes", scale.CPU, 1},
		{"file descriptors", "the limit of open files", scale.Descriptors, 1},
	} {
		row := scale.LimitRow{Name: l.name, SetBy: l.by, Runway: scale.Runway{State: scale.RunwayUnknown}, Guessed: l.signal.Additive() && c.Guessed()}
		if series, err := scale.SeriesOf(points, l.signal, span); err == nil {
			row.Runway = scale.DaysUntil(series, l.limit)
		}
		rows = append(rows, row)
	}
	scale.FirstToBreak(rows)
	return rows
}

// people writes a count without needless digits.
func people(v float64) string { return fmt.Sprintf("%.0f", v) }

// measure derives the cost of a connection and of a message from the last week.
func (s *Service) measure(ctx context.Context, now time.Time) Measured {
	out := Measured{At: now}
	span := scale.Resolutions()[1].Span
	nodes, err := s.cfg.Store.SampleNodes(ctx)
	nodes = onlyNodes(nodes)
	if err != nil || len(nodes) == 0 {
		out.Why = "no node has stored samples yet"
		return out
	}
	if len(nodes) > 20 {
		nodes = nodes[:20]
	}
	back := min(measureBy, measureBy/time.Duration(len(nodes))*2)
	points, err := s.points(ctx, now.Add(-back).Truncate(span), now, span, nodes, []scale.Signal{scale.Connections, scale.MemoryBytes, scale.MessagesIn, scale.CPU, scale.MemoryLimit})
	if err == nil {
		out.Measurement, err = scale.Measure(points)
	}
	if err != nil {
		out.Why = err.Error()
		if !errors.Is(err, scale.ErrNotMeasured) {
			s.log.Warn("capacity could not be measured", "error", err)
		}
		return out
	}
	c := out.Measurement.Capacity()
	out.Capacity = &c
	return out
}

// ahead is what the forecast asks for now. s.mu is held.
func (s *Service) ahead(now time.Time) scale.Ahead {
	o := &s.outlook
	if o.own == nil || s.regional && !o.regional {
		return scale.Ahead{} // what was learnt is of the fleet, and this is a region of it
	}
	if now.Sub(o.aheadAt) >= time.Minute || now.Before(o.aheadAt) {
		p := s.engine.Policy()
		o.ahead, o.aheadAt = o.own.Before(now, lead, &p), now
	}
	return o.ahead
}
