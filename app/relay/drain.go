package relay

import (
	"context"
	"math/rand/v2"
	"time"

	"agentnet/app/wire"
)

// drainStep is how often the next wave of a drain is closed.
const drainStep = 50 * time.Millisecond

// EndSessions ends, at once and for good, the sessions whose identity matches, and
// says how many.
func (h *Hub) EndSessions(match func(*Identity) bool, code wire.CloseCode, reason string) (n int) {
	var ended []*Session
	for i := range h.sessions {
		sh := &h.sessions[i]
		sh.mu.Lock()
		for _, s := range sh.m {
			s.mu.Lock()
			if match(s.who) {
				ended = append(ended, s)
			}
			s.mu.Unlock()
		}
		sh.mu.Unlock()
	}
	t := h.borrow()
	defer h.giveBack(t)
	for _, s := range ended {
		s.mu.Lock()
		l := s.link
		s.mu.Unlock()
		if l != nil {
			l.end(code, reason)
		}
		s.end(t)
	}
	return len(ended)
}

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
	n := wire.Notice{Kind: "drain", Message: "this node is shutting down; reconnect and resume", ReconnectInMS: max(delay.Milliseconds(), 100)}
	h.tellAll(t, &n)
	t.Flush(true)
	if err := h.closeInWaves(ctx, all, window); err != nil {
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
	}
	return nil
}

// closeInWaves closes the connections evenly over window.
func (h *Hub) closeInWaves(ctx context.Context, all []*link, window time.Duration) error {
	steps := max(int(window/drainStep), 1)
	per := (len(all) + steps - 1) / steps
	beat := time.NewTicker(drainStep)
	defer beat.Stop()
	for len(all) > 0 {
		n := min(per, len(all))
		for _, l := range all[:n] {
			l.end(wire.CloseDrain, "this node is shutting down; reconnect and resume")
		}
		if all = all[n:]; len(all) == 0 {
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
