package relay

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay/overload"
	"agentnet/app/wire"
)

// monitorEvery is how often the load is looked at.
const monitorEvery = 100 * time.Millisecond

// load collects the signals of overload.
type load struct {
	queueBytes  atomic.Int64
	queueFrames atomic.Int64
	busy        atomic.Int64            // ns spent in turns since the last look
	longest     atomic.Int64            // the longest turn since the last look
	began       [turnSlots]atomic.Int64 // by Turn.slot: when the turn under way began; 0: none
	turns       atomic.Uint32           // Turns made so far
}

// turnSlots is how many running turns are told apart. Two that share a slot hide
// each other for a moment only.
const turnSlots = 64

// turnMost is how long a turn may take to be believed. An older one was never
// flushed by its owner, and must not keep the relay shut for good.
const turnMost = int64(time.Minute)

// running is how long the oldest turn that has not ended yet has been going on.
func (l *load) running(now int64) (age int64) {
	for i := range l.began {
		if at := l.began[i].Load(); at > 0 && now-at < turnMost {
			age = max(age, now-at)
		}
	}
	return age
}

// turn notes one turn of d ns: what became ready meanwhile waited that long.
func (l *load) turn(d int64) {
	l.busy.Add(d)
	for {
		old := l.longest.Load()
		if d <= old || l.longest.CompareAndSwap(old, d) {
			return
		}
	}
}

// runMonitor watches the load and sets the level of shedding.
func (h *Hub) runMonitor(ctx context.Context) {
	beat := time.NewTicker(monitorEvery)
	defer beat.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		now := time.Now()
		s := h.signals(now.Sub(last))
		last = now
		h.observe(now, s)
	}
}

// signals reads and resets what was collected in the last span.
func (h *Hub) signals(span time.Duration) overload.Signals {
	s := overload.Signals{
		Lag:   time.Duration(max(h.load.longest.Swap(0), h.load.running(int64(time.Since(h.started))+1))),
		Busy:  float64(h.load.busy.Swap(0)) / float64(max(span, 1)),
		Queue: float64(h.load.queueBytes.Load()) / float64(h.cfg.QueueBytes),
	}
	s.Busy = min(s.Busy, 1)
	if h.cfg.MemoryLimit != nil {
		if used, limit := h.cfg.MemoryLimit(); limit > 0 {
			s.Memory = float64(used) / float64(limit)
		}
	}
	return s
}

// observe moves the level, logs a change and tells the clients.
func (h *Hub) observe(now time.Time, s overload.Signals) {
	h.ladderMu.Lock()
	lvl, changed, cause := h.ladder.Observe(now, s)
	h.ladderMu.Unlock()
	if !changed {
		return
	}
	h.level.Store(uint32(lvl))
	h.log.Warn("load level changed", "level", lvl.String(), "cause", cause, "off", lvl.Sheds())
	n := wire.Notice{Kind: "degraded", Level: lvl.String(), Message: levelText(lvl)}
	if lvl > overload.Normal {
		n.UntilMS = now.Add(lvl.RetryAfter()).UnixMilli()
	}
	t := h.borrow()
	h.tellAll(t, n)
	h.giveBack(t)
}

func levelText(lvl overload.Level) string {
	if lvl == overload.Normal {
		return "everything is on again"
	}
	return "turned off for now: " + strings.Join(lvl.Sheds(), ", ")
}

// tellAll sends a notice to every connected session, of several each in turn.
func (h *Hub) tellAll(t *Turn, inTurn ...wire.Notice) {
	sealed := make([][wire.Encodings][]byte, len(inTurn))
	for i := range inTurn {
		for enc := range sealed[i] {
			buf := wire.AppendNotice(make([]byte, wire.HeaderRoom, 256), wire.Encoding(enc), &inTurn[i])
			sealed[i][enc] = wire.Seal(wire.Encoding(enc), buf)
		}
	}
	told := 0
	h.links.each(func(l *link) {
		l.mu.Lock()
		s := l.session
		l.mu.Unlock()
		if s == nil {
			return
		}
		s.mu.Lock()
		if s.link == l {
			s.push(t, sealed[told%len(sealed)][s.enc], wire.Critical)
			told++
			t.markUrgent(s)
		}
		s.mu.Unlock()
		t.relieve()
	})
}

// shed refuses what the present level has turned off. Direct messages of the
// class critical are refused last, and never by load alone.
func (h *Hub) shed(t *Turn, kind wire.Kind, class wire.Class) *wire.Error {
	lvl := h.overload()
	if lvl == overload.Normal {
		return nil
	}
	publish := kind == wire.KindPublish
	if (lvl.DropsLow() && class == wire.Low) || (publish && lvl.DropsNormalPublish() && class >= wire.Normal) ||
		(publish && lvl.ThrottlesPublish() && class >= wire.Normal && t.unlucky(lvl.PublishFactor())) {
		t.count.dropped[dropShed]++
		return &wire.Error{Code: wire.Overloaded, Message: "the relay is overloaded (" + lvl.String() + "); " + class.String() + " messages wait", RetryAfterMS: t.spread(lvl.RetryAfter()).Milliseconds()}
	}
	return nil
}

// unlucky draws whether a publication is refused when only the share keep of them
// is let through.
func (t *Turn) unlucky(keep float64) bool { return t.chance() >= keep }

// chance is a random number from 0 to below 1.
func (t *Turn) chance() float64 { return float64(t.rng.Uint64()>>11) / (1 << 53) }

// spread makes a wait up to half as long again, so that those who were refused
// together do not come back together.
func (t *Turn) spread(wait time.Duration) time.Duration {
	return wait + time.Duration(t.chance()*float64(wait)/2)
}

// readiness remembers the last failures of what the hub depends on.
type readiness struct {
	mu         sync.Mutex
	journalErr error
	brokerErr  error
	hurt       atomic.Bool // one of them is set
}

func (r *readiness) journal(err error) { r.set(&r.journalErr, err) }
func (r *readiness) broker(err error)  { r.set(&r.brokerErr, err) }

// set notes how a call ended. It is told of every success too, and costs nothing
// then unless something had failed.
func (r *readiness) set(p *error, err error) {
	if err == nil && !r.hurt.Load() {
		return
	}
	r.mu.Lock()
	*p = err
	r.hurt.Store(r.journalErr != nil || r.brokerErr != nil)
	r.mu.Unlock()
}

// Ready says of each part whether it works. A node serves while all are OK.
func (h *Hub) Ready() []Reason {
	h.ready.mu.Lock()
	journal, broker := h.ready.journalErr, h.ready.brokerErr
	h.ready.mu.Unlock()
	lvl := h.overload()
	out := []Reason{
		{Check: "drain", OK: !h.draining.Load(), Message: "serving"},
		{Check: "overload", OK: !lvl.RefusesConnections(), Message: lvl.String()},
		{Check: "journal", OK: journal == nil, Message: "parked messages are stored"},
		{Check: "broker", OK: true, Message: "history is stored"},
	}
	if !out[0].OK {
		out[0].Message = h.drainCause().state
	}
	if journal != nil {
		out[2].Message = "messages cannot be parked: " + journal.Error()
	}
	if broker != nil { // local delivery does not need it: hurt, but ready
		out[3].Message = "stored history is interrupted: " + broker.Error()
	}
	return out
}
