package watch

import (
	"context"
	"time"

	"agentnet/app/scale"
)

// rolling sums up the seconds of one node.
type rolling struct {
	*scale.Roller
	last time.Time // sample that was counted last
	seen time.Time
}

const (
	// maxRows bounds the rows that wait for a database that does not answer.
	maxRows = 4096
	// longestWait is how long storing may be put off for what is more urgent.
	longestWait = time.Minute
)

// record takes a second into the rings and the open spans. s.mu is held.
func (s *Service) record(now time.Time, f *scale.Fleet) {
	slot := scale.SlotOf(f)
	slot.At = now
	s.count(now, "", slot)
	s.countRegions(now, f)
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if n.State == scale.Silent {
			continue
		}
		at := now.Add(-n.Age)
		if r := s.rollers[n.Name]; r != nil && !at.After(r.last) {
			continue // seen already: no new sample came in this second
		}
		s.count(now, n.Name, scale.Slot{At: now, Instances: 1, Values: n.Values, Delivery: n.Delivery.Clone(), API: n.API.Clone()})
		if r := s.rollers[n.Name]; r != nil {
			r.last = at
		}
	}
	for name, r := range s.rollers {
		if !r.seen.Equal(now) {
			s.take(name, r.Flush(now))
		}
		if now.Sub(r.seen) > scale.RingLength {
			delete(s.rollers, name)
			delete(s.rings, name)
		}
	}
}

func (s *Service) count(now time.Time, name string, slot scale.Slot) {
	r := s.rollers[name]
	if r == nil {
		if len(s.rollers) > scale.MaxNodes {
			return
		}
		r = &rolling{Roller: scale.NewRoller()}
		s.rollers[name] = r
	}
	r.seen = now
	s.take(name, r.Add(slot))
	ring := s.rings[name]
	if ring == nil && len(s.rings) <= maxRings {
		ring = scale.NewRing()
		s.rings[name] = ring
	}
	if ring != nil {
		ring.Add(slot)
	}
}

// take keeps the finished rows of the finest span until they are stored, and notes
// which longer spans they belong to. The longer ones are summed up from stored rows,
// so that a restart in the middle of one loses nothing of it.
func (s *Service) take(name string, done []scale.Rollup) {
	finest := scale.Resolutions()[0].Span
	for i := range done {
		if done[i].Span != finest {
			continue
		}
		s.rows = append(s.rows, scale.NodeRollup{Node: name, Rollup: done[i]})
		s.soil(name, done[i].From)
	}
	if over := len(s.rows) - maxRows; over > 0 {
		s.lost += uint64(over)
		s.rows = append(s.rows[:0], s.rows[over:]...)
	}
}

// soil notes that the longer spans around at are to be summed up anew.
func (s *Service) soil(name string, at time.Time) {
	for _, t := range scale.Resolutions()[1:] {
		if len(s.dirty) < 4*maxRows {
			s.dirty[scale.Promotion{Node: name, From: at.UTC().Truncate(t.Span), Span: t.Span}] = true
		}
	}
}

// keep stores every ten seconds until ctx ends.
func (s *Service) keep(ctx context.Context) error {
	every := time.NewTicker(storeEvery)
	defer every.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-every.C:
			if s.busy() && now.Sub(last) < longestWait {
				continue
			}
			last = now
			// A write that a stop cut short would be lost: it is bounded by itself.
			s.store(context.WithoutCancel(ctx), now, false)
		}
	}
}

// store writes what waits: rows, the spans that have ended (all of them at the
// end), and the engine's knowledge.
func (s *Service) store(ctx context.Context, now time.Time, all bool) {
	s.mu.Lock()
	rows := s.rows
	s.rows = nil
	var ended []scale.Promotion
	finest := scale.Resolutions()[0].Span
	for _, t := range scale.Resolutions()[1:] { // the finer spans first: the longer are summed up from them
		for p := range s.dirty {
			// A span has ended when the last of its rows has been handed in.
			if p.Span == t.Span && (all || !now.Before(p.From.Add(p.Span+finest))) && len(ended) < maxRows {
				ended = append(ended, p)
			}
		}
	}
	for _, p := range ended {
		delete(s.dirty, p)
	}
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	if len(rows)+len(ended) > 0 {
		if err := s.cfg.Store.PutRollups(ctx, rows, ended, now, s.cfg.HistoryBytes); err != nil {
			s.log.Error("samples could not be stored; these seconds will be missing in trends", "rows", len(rows), "error", err)
			s.mu.Lock()
			s.lost += uint64(len(rows))
			for _, p := range ended {
				s.dirty[p] = true
			}
			s.mu.Unlock()
		}
	}
	if err := s.remember(ctx, now); err != nil {
		s.log.Error("what the scaling engine knows could not be stored", "error", err)
	}
}
