package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxTargets bounds the nodes that are known, those that servers have named too.
const maxTargets = 256

// A passage is what a connection takes along to another node.
type passage struct {
	session string
	seq     uint64
	cmd     []byte // commands that were not sent yet
	asked   int32
	left    int64 // when the old connection ended
	fresh   bool  // the session did not go on
}

// errClosed is the server's close frame.
type errClosed struct{ code int }

func (e *errClosed) Error() string { return fmt.Sprintf("closed with code %d", e.code) }

// advised notes where the server wants the connection to go.
func (c *conn) advised(w *Where) {
	c.next, c.pause = 0, int32(w.Pause.Milliseconds())
	for _, endpoint := range w.Endpoints {
		if c.next = c.loop.find(endpoint); c.next > 0 {
			return
		}
	}
}

// sentAway moves the connection when err is a close that asks for it.
func (c *conn) sentAway(err error) bool {
	if !c.loop.away(err) {
		return false
	}
	p := c.plan
	p.way = &passage{session: c.session, seq: c.direct, cmd: c.cmd, asked: c.asked, left: c.loop.now()}
	p.node = (p.node + 1) % len(c.loop.targets)
	if c.next > 0 {
		p.node = int(c.next) - 1
	}
	c.drop()
	c.owner.left(c)
	book := c.owner.(part).book()
	book.counts.Moved++
	book.counts.Stranded++ // until it is there
	book.counts.Unanswered += uint64(c.unanswered)
	c.keeper.moved(p, time.Duration(c.pause)*time.Millisecond)
	return true
}

// away tells whether err is a close that sends the client to another node.
func (l *loop) away(err error) bool {
	var closed *errClosed
	m, ok := l.dialect.(Mover)
	return ok && errors.As(err, &closed) && m.Elsewhere(closed.code)
}

// find is the target at an endpoint that the server named, and 1: one of those given,
// or a new one; 0 where it cannot be spoken to. A host name is resolved here, once.
func (l *loop) find(endpoint string) int32 {
	if at, known := l.named[endpoint]; known {
		return at
	}
	if len(l.named) >= maxTargets {
		return 0
	}
	if l.named == nil {
		l.named = map[string]int32{}
	}
	l.named[endpoint] = 0
	t, err := l.reach(endpoint)
	if err != nil {
		return 0
	}
	for i, old := range l.targets {
		if old.at == t.at {
			l.named[endpoint] = int32(i) + 1
			return int32(i) + 1
		}
	}
	l.targets = append(l.targets, t)
	l.named[endpoint] = int32(len(l.targets))
	return int32(len(l.targets))
}

// moved opens a connection elsewhere, after the pause and some chance, so that all
// that were sent away do not come at once.
func (o *opener) moved(p plan, pause time.Duration) {
	o.later(p, p.way.left+int64(pause)+rand.Int64N(int64(max(pause, retryPause))))
}

// later tries a plan at a time.
func (o *opener) later(p plan, at int64) {
	o.again = append(o.again, retry{plan: p, at: at})
	o.soonest = min(o.soonest, at)
}

// elsewhere is the plan at the next node.
func (o *opener) elsewhere(p plan) plan {
	p.node = (p.node + 1) % len(o.loop.targets)
	return p
}

// busy tells whether connections are on their way to another node.
func (o *opener) busy() bool { return o.inFlight+len(o.again) > 0 }

// arrived counts a connection that is ready elsewhere.
func (o *opener) arrived(c *conn) {
	p := c.owner.(part)
	book := p.book()
	book.counts.Stranded--
	if c.way.fresh {
		book.counts.Fresh++
	}
	if book.away == nil {
		book.away = &Histogram{}
	}
	book.away.Add(time.Duration(o.loop.now() - c.way.left))
	p.returned(c)
}

// astray tries the next node, after the time that this one asked for, if it did.
func (o *opener) astray(c *conn, err error) {
	pause := retryPause
	var refused *refusal
	if errors.As(err, &refused) {
		pause = max(pause, min(refused.retryAfter, longestPause))
	}
	if c.session != "" { // a new one that was sent on before it had subscribed
		c.way.session, c.way.seq = c.session, c.direct
	}
	book := c.owner.(part).book()
	book.counts.Codes.add("moved: " + err.Error())
	o.later(o.elsewhere(c.plan), o.loop.now()+int64(pause))
}
