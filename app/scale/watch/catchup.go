package watch

import (
	"context"
	"time"

	"agentnet/app/scale"
)

const (
	// catchUpRows is how many spans are summed up in one write, and catchUpPause how
	// long the others' writes come first then.
	catchUpRows  = 64
	catchUpPause = 100 * time.Millisecond
)

// catchUp sums up what was not when the process before this one ended, or when it
// knew fewer resolutions, and then returns. It gives way while the node is busy.
func (s *Service) catchUp(ctx context.Context) error {
	begun, rows := time.Now(), 0
	tiers := scale.Resolutions()
	for i := 1; i < len(tiers); i++ {
		names, err := s.cfg.Store.SampleNodes(ctx)
		if err != nil {
			return s.later(ctx, err)
		}
		for _, node := range append([]string{""}, names...) {
			// The finer rows are kept for so long; what ends now is summed up anyway.
			from, until := begun.Add(-tiers[i-1].Keep), begun.Add(-time.Minute)
			for !from.IsZero() {
				if !s.idle(ctx) {
					return nil
				}
				missing, next, err := s.cfg.Store.MissingRollups(ctx, node, tiers[i].Span, from, until, catchUpRows)
				if err == nil && len(missing) > 0 {
					err = s.cfg.Store.PutRollups(ctx, nil, missing, time.Now(), s.cfg.HistoryBytes)
				}
				if err != nil {
					return s.later(ctx, err)
				}
				rows += len(missing)
				from = next
			}
		}
	}
	s.summed.Store(true)
	if rows > 0 {
		s.log.Info("samples of before were summed up", "spans", rows, "took", time.Since(begun).Round(time.Millisecond))
	}
	return nil
}

// later tells that sums stay missing until the next start.
func (s *Service) later(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		s.log.Warn("samples of before could not be summed up; long trends are read from finer ones", "error", err)
	}
	return nil
}

// idle waits until the node is not busy, a minute at most, and reports whether ctx
// goes on.
func (s *Service) idle(ctx context.Context) bool {
	pause := time.NewTimer(catchUpPause)
	defer pause.Stop()
	for deadline := time.Now().Add(longestWait); ; pause.Reset(time.Second) {
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
		if !s.busy() || time.Now().After(deadline) {
			return true
		}
	}
}
