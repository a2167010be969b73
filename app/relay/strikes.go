package relay

import (
	"time"

	"agentnet/app/wire"
)

const (
	// strikeWindow is the time over which refusals for going too fast are counted.
	strikeWindow = int64(10 * time.Second)
	// strikesToTell is how many of them in one window bring a notice, once a window.
	strikesToTell = 20
	// strikesToCut is how many close the connection: a client that heeds
	// retry_after_ms has a few in ten seconds, never hundreds.
	strikesToCut = 500
)

// strikes counts the commands of one connection that were refused because they
// came too fast.
type strikes struct {
	n     int
	since int64
}

// strike counts a command over a limit. A client that does not heed the errors is
// told by a notice, and closed when it goes on. l.mu must be held.
func (l *link) strike(t *Turn) {
	now := t.clock()
	if now-l.refused.since > strikeWindow {
		l.refused = strikes{since: now}
	}
	switch l.refused.n++; l.refused.n {
	case strikesToTell:
		n := wire.Notice{Kind: "limit", Message: "commands come faster than the limit; wait for retry_after_ms, or the connection will be closed"}
		t.frame = wire.AppendNotice(t.room(), l.info.Encoding, &n)
		l.answer(t, wire.Seal(l.info.Encoding, t.frame))
	case strikesToCut:
		l.shut(t, wire.ClosePolicy, "commands kept coming faster than the limit")
	}
}

// overRate makes the refusal of a command that came too fast.
func overRate(wait time.Duration) *wire.Error {
	return &wire.Error{Code: wire.RateLimited, Message: "this agent sends more than its limit", RetryAfterMS: retryMS(wait)}
}
