package app

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"agentnet/app/relay/overload"
	"agentnet/app/scale/watch"
)

// The names of work that nobody waits for.
const (
	WorkRollup     = "rollup"     // summing samples up and storing them
	WorkExport     = "export"     // files and tables for people and programs
	WorkNotify     = "notify"     // telling people of warnings; critical alerts never wait
	WorkComparison = "comparison" // judging what came of an action
	WorkSnapshot   = "snapshot"   // of the embedded Redis
	WorkCompact    = "compact"    // giving free space of the database back
	WorkArchive    = "archive"    // letting the oldest entries of the scaling log leave
)

// gateLook is how often a wait looks at the level again.
const gateLook = 250 * time.Millisecond

// A Gate puts work off while the node sheds load. All methods may be called
// concurrently.
type Gate struct {
	level func() overload.Level
	log   *slog.Logger

	mu    sync.Mutex
	stats map[string]GateStats
}

// GateStats count the waits of one kind of work.
type GateStats struct {
	Passed   uint64        // at once
	Deferred uint64        // after a wait
	Forced   uint64        // of these, because the deadline came before the calm
	Waiting  int           // now
	Since    time.Time     // since when the first of those waits; zero: none does
	Why      string        // what it waited for, now or the last time
	Waited   time.Duration // in all
}

// NewGate returns a gate that follows a level. A nil log tells nothing.
func NewGate(level func() overload.Level, log *slog.Logger) *Gate {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Gate{level: level, log: log, stats: make(map[string]GateStats)}
}

// Wait returns when the node is calm enough for work, and after most at the
// latest: work that is put off is late, never lost. It returns an error only when
// ctx ends first. work is one of the names above.
func (g *Gate) Wait(ctx context.Context, work string, most time.Duration) error {
	level := g.level()
	if !level.DefersBackground() {
		g.count(work, func(s *GateStats) { s.Passed++ })
		return nil
	}
	began := time.Now()
	g.begin(work, level, began)
	forced, err := g.wait(ctx, most)
	g.count(work, func(s *GateStats) {
		if s.Waiting--; s.Waiting == 0 {
			g.log.Info("work goes on that was put off", "work", work, "waited", time.Since(s.Since), "at_its_deadline", forced)
			s.Since = time.Time{}
		}
		s.Deferred++
		s.Waited += time.Since(began)
		if forced {
			s.Forced++
		}
	})
	if err != nil {
		return fmt.Errorf("%s: waiting for calm: %w", work, err)
	}
	return nil
}

// begin counts a wait, and tells of it where it is the only one of its kind.
func (g *Gate) begin(work string, level overload.Level, now time.Time) {
	g.count(work, func(s *GateStats) {
		s.Why = level.String() + " load"
		if s.Waiting++; s.Waiting == 1 {
			s.Since = now
			g.log.Info("work is put off until the node is calm", "work", work, "reason", s.Why)
		}
	})
}

// Busy says that work which looks again by itself is to wait, and counts that as a
// wait until it is not any more.
func (g *Gate) Busy(work string) bool {
	level := g.level()
	g.mu.Lock()
	waits := g.stats[work].Waiting > 0
	g.mu.Unlock()
	switch busy := level.DefersBackground(); {
	case busy && !waits:
		g.begin(work, level, time.Now())
	case !busy && waits:
		g.count(work, func(s *GateStats) {
			g.log.Info("work goes on that was put off", "work", work, "waited", time.Since(s.Since))
			s.Waited += time.Since(s.Since)
			s.Waiting, s.Since = 0, time.Time{}
			s.Deferred++
		})
	}
	return level.DefersBackground()
}

// Deferrals lists the work that waits now, by name.
func (g *Gate) Deferrals() []watch.Deferral {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := []watch.Deferral{}
	for _, work := range slices.Sorted(maps.Keys(g.stats)) {
		if s := g.stats[work]; s.Waiting > 0 {
			out = append(out, watch.Deferral{Work: work, Since: s.Since, Why: s.Why, Waiting: s.Waiting})
		}
	}
	return out
}

func (g *Gate) wait(ctx context.Context, most time.Duration) (forced bool, err error) {
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	look := time.NewTicker(gateLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-deadline.C:
			return true, nil
		case <-look.C:
			if !g.level().DefersBackground() {
				return false, nil
			}
		}
	}
}

func (g *Gate) count(work string, change func(*GateStats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats[work]
	change(&s)
	g.stats[work] = s
}

// Stats returns the waits so far by kind of work.
func (g *Gate) Stats() map[string]GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.stats)
}
