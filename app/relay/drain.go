package relay

import (
	"context"
	"math/rand/v2"
	"time"

	"agentnet/app/wire"
)

// drainStep is how often the next wave of a drain is closed.
const drainStep = 50 * time.Millisecond

const drainReason = "this node is shutting down; reconnect and resume"

// Drain lets no connection in, tells every client, closes them spread over window
// so that they do not come back all at once, and returns when all are gone or ctx
// ends. Their sessions stay resumable as long as the process lives.
func (h *Hub) Drain(ctx context.Context, window time.Duration) error {
	h.draining.Store(true)
	var all []*link
	h.links.each(func(l *link) { all = append(all, l) })
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	t := h.NewTurn()
	delay := window / 2
	n := wire.Notice{Kind: "drain", Message: drainReason, ReconnectInMS: max(delay.Milliseconds(), 100)}
	h.tellAll(t, &n)
	t.Flush(true)
	if err := h.closeInWaves(ctx, t, all, window); err != nil {
		return err
	}
	beat := time.NewTicker(drainStep)
	defer beat.Stop()
	for h.links.n.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		}
		// Some were admitted just before the drain began.
		h.links.each(func(l *link) { l.end(t, wire.CloseDrain, drainReason) })
		t.Flush(true)
	}
	return nil
}

// closeInWaves closes the connections evenly over window, be they few or many.
func (h *Hub) closeInWaves(ctx context.Context, t *Turn, all []*link, window time.Duration) error {
	beat := time.NewTicker(drainStep)
	defer beat.Stop()
	began, closed := time.Now(), 0
	for closed < len(all) {
		due := len(all)
		if spent := time.Since(began); spent < window {
			due = 1 + int(float64(len(all)-1)*float64(spent)/float64(window))
		}
		for ; closed < due; closed++ {
			all[closed].end(t, wire.CloseDrain, drainReason)
		}
		t.Flush(true)
		if closed == len(all) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		}
	}
	return nil
}
