package app

import (
	"context"
	"time"
)

const (
	// endedTokensKept is how long a token that was revoked or has expired is still
	// listed, so that one can see what became of it.
	endedTokensKept = 30 * 24 * time.Hour
	compactEvery    = time.Hour
	forgetEvery     = 24 * time.Hour
	// maintainTime bounds one round.
	maintainTime = time.Minute
)

// maintain keeps the database small until ctx ends: it gives free space back each
// hour, and forgets ended tokens each day and soon after a start.
func (a *App) maintain(ctx context.Context) error {
	compact, forget, trim := time.NewTicker(compactEvery), time.NewTicker(forgetEvery), time.NewTicker(trimEvery)
	defer compact.Stop()
	defer trim.Stop()
	defer forget.Stop()
	first := time.NewTimer(time.Minute) // not in the rush of a start
	defer first.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-first.C:
			a.forgetTokens(ctx, time.Now())
			a.trimLog(ctx, time.Now())
		case now := <-forget.C:
			a.forgetTokens(ctx, now)
		case now := <-trim.C:
			a.trimLog(ctx, now)
		case <-compact.C:
			if a.acting.gate.Wait(ctx, WorkCompact, compactMost) != nil {
				return nil // it stops
			}
			a.compact(ctx)
		}
	}
}

func (a *App) forgetTokens(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, maintainTime)
	defer cancel()
	n, err := a.store.DeleteEndedTokens(ctx, now.Add(-endedTokensKept))
	if err != nil {
		a.log.Warn("ended tokens were not removed", "error", err)
	} else if n > 0 {
		a.log.Info("tokens that ended long ago were removed", "tokens", n)
	}
}

func (a *App) compact(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maintainTime)
	defer cancel()
	freed, err := a.store.Compact(ctx)
	if err != nil {
		a.log.Warn("the database was not made smaller", "error", err)
	} else if freed > 0 {
		a.log.Info("the database was made smaller", "bytes", freed)
	}
}
