package app

import (
	"context"
	"fmt"
	"time"

	"agentnet/store"
)

// How long work waits for calm at most.
const (
	compactMost  = 30 * time.Minute
	trimMost     = time.Hour
	snapshotMost = 5 * time.Minute
)

const (
	// trimEvery is how often the scaling log is looked at for entries that may leave.
	trimEvery = 6 * time.Hour
	// trimRounds bounds what one look archives; the next one goes on.
	trimRounds = 50
	trimTime   = 10 * time.Minute
)

// holdExport has an export wait for calm.
func (a *App) holdExport(ctx context.Context, most time.Duration) error {
	return a.acting.gate.Wait(ctx, WorkExport, most)
}

// holdSnapshot has a snapshot of the embedded Redis wait for calm. Its timer runs
// before there is a gate.
func (a *App) holdSnapshot(ctx context.Context) {
	if g := a.calm.Load(); g != nil {
		_ = g.Wait(ctx, WorkSnapshot, snapshotMost) // ended: the server stops and saves by itself
	}
}

// trimLog lets entries of the scaling log leave that are too old or too many, when
// the node is calm.
func (a *App) trimLog(ctx context.Context, now time.Time) {
	c := &a.cfg.Scaling
	t := store.LogTrim{Bytes: int64(c.LogBytes), Archive: c.LogArchive, Node: a.cfg.Node}
	if c.LogDays > 0 {
		t.Before = now.AddDate(0, 0, -c.LogDays)
	}
	if t.Before.IsZero() && t.Bytes == 0 {
		return
	}
	for range trimRounds {
		if a.acting.gate.Wait(ctx, WorkArchive, trimMost) != nil {
			return
		}
		done, cancel := context.WithTimeout(ctx, trimTime)
		got, err := a.store.TrimScaleLog(done, t)
		cancel()
		for origin, fault := range got.Faults {
			a.log.Error("the scaling log of an origin keeps its old entries", "origin", origin, "error", fault)
		}
		if err != nil {
			a.log.Warn("the scaling log was not trimmed", "error", err)
			return
		}
		for _, moved := range got.Anchors {
			a.log.Info("old entries of the scaling log left the database", "origin", moved.Origin, "up_to", moved.Gone.Seq, "archive", moved.File)
		}
		if !got.More {
			return
		}
	}
}

// logKept says how long the scaling log is kept, for people.
func (s *Scaling) logKept() string {
	where := "then gone"
	if s.LogArchive {
		where = "then in archives beside it"
	}
	switch {
	case s.LogDays > 0 && s.LogBytes > 0:
		return fmt.Sprintf("%d days or %v, %s, in a chain that shows changes", s.LogDays, s.LogBytes, where)
	case s.LogDays > 0:
		return fmt.Sprintf("%d days, %s, in a chain that shows changes", s.LogDays, where)
	case s.LogBytes > 0:
		return fmt.Sprintf("up to %v, %s, in a chain that shows changes", s.LogBytes, where)
	}
	return "for good, in a chain that shows changes"
}
