package app

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"agentnet/app/relay/overload"
)

// The names of work that nobody waits for.
const (
	WorkRollup     = "rollup"     // summing samples up and storing them
	WorkExport     = "export"     // files and tables for people and programs
	WorkNotify     = "notify"     // telling people of warnings; critical alerts never wait
	WorkComparison = "comparison" // judging what came of an action
	WorkSnapshot   = "snapshot"   // of the embedded Redis
)

// gateLook is how often a wait looks at the level again.
const gateLook = 250 * time.Millisecond

// A Gate puts work off while the node sheds load. All methods may be called
// concurrently.
type Gate struct {
	level func() overload.Level

	mu    sync.Mutex
	stats map[string]GateStats
}

// GateStats count the waits of one kind of work.
type GateStats struct {
	Passed   uint64        // at once
	Deferred uint64        // after a wait
	Forced   uint64        // of these, because the deadline came before the calm
	Waiting  int           // now
	Waited   time.Duration // in all
}

// NewGate returns a gate that follows a level.
func NewGate(level func() overload.Level) *Gate {
	return &Gate{level: level, stats: make(map[string]GateStats)}
}

// Wait returns when the node is calm enough for work, and after most at the
// latest: work that is put off is late, never lost. It returns an error only when
// ctx ends first. work is one of the names above.
func (g *Gate) Wait(ctx context.Context, work string, most time.Duration) error {
	if !g.level().DefersBackground() {
		g.count(work, func(s *GateStats) { s.Passed++ })
		return nil
	}
	began := time.Now()
	g.count(work, func(s *GateStats) { s.Waiting++ })
	forced, err := g.wait(ctx, most)
	g.count(work, func(s *GateStats) {
		s.Waiting--
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
