package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// retryPause is the shortest wait before a refused connection is tried again.
const retryPause = 100 * time.Millisecond

// fatal are refusals that will not change by trying again.
var fatal = map[string]string{
	"unauthorized": "the server refused the token: give one with --token or AGENTNET_TOKEN",
	"forbidden":    "the token does not cover bench/**: make one with `agentnet token create --agent 'bench/**'`",
}

// errCommandRefused is a refusal of connect or subscribe.
type errCommandRefused struct{ code string }

func (e *errCommandRefused) Error() string { return "refused: " + e.code }

// An opener opens a list of connections, a bounded number at once.
type opener struct {
	loop     *loop
	limit    int
	plans    []plan
	again    []retry
	soonest  int64 // no retry is due before
	inFlight int
	source   int
	attempts int32
	done     Connects
	err      error // that ends everything
}

type retry struct {
	plan plan
	at   int64
}

func newOpener(l *loop, limit int) *opener {
	return &opener{loop: l, limit: limit, done: Connects{Latency: &Histogram{}}}
}

// open opens all plans and returns when every connection is ready, or with an
// error when that takes longer than the timeout.
func (o *opener) open(ctx context.Context, plans []plan, timeout time.Duration) error {
	o.plans = plans
	want := o.done.Ready + uint64(len(plans))
	now := o.loop.now()
	deadline := now + int64(timeout)
	o.done.First = now
	for o.done.Ready < want {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("open connections: %w", err)
		}
		if now = o.loop.now(); now > deadline {
			return fmt.Errorf("open connections: only %d of %d were ready after %v (%v)", o.done.Ready, want, timeout, o.done.Reasons)
		}
		o.launch(now)
		if o.err != nil {
			return fmt.Errorf("open connections: %w", o.err)
		}
		if err := o.loop.step(now + int64(longestWait)); err != nil {
			return fmt.Errorf("open connections: %w", err)
		}
	}
	o.plans = nil
	return o.err
}

// launch starts as many attempts as may be under way.
func (o *opener) launch(now int64) {
	for o.inFlight < o.limit && o.err == nil {
		p, ok := o.pick(now)
		if !ok {
			return
		}
		o.attempts++
		o.inFlight++
		source := o.loop.targets[p.node].source(o.source)
		o.source++
		if _, err := o.loop.dial(p, o, source, o.attempts); err != nil {
			o.inFlight--
			if p.way == nil {
				o.err = err // no socket, no address: it will not get better
				return
			}
			o.later(o.elsewhere(p), now+int64(retryPause))
		}
	}
}

// pick takes the next plan that may be tried now.
func (o *opener) pick(now int64) (plan, bool) {
	if n := len(o.plans); n > 0 {
		p := o.plans[0]
		o.plans = o.plans[1:]
		return p, true
	}
	if now < o.soonest || len(o.again) == 0 {
		return plan{}, false
	}
	o.soonest = never
	for i, r := range o.again {
		if r.at <= now {
			o.again[i] = o.again[len(o.again)-1]
			o.again = o.again[:len(o.again)-1]
			o.soonest = 0
			return r.plan, true
		}
		o.soonest = min(o.soonest, r.at)
	}
	return plan{}, false
}

func (o *opener) ready(c *conn) {
	o.inFlight--
	if c.way != nil {
		o.arrived(c)
		return
	}
	o.done.Ready++
	now := o.loop.now()
	o.done.Latency.Add(time.Duration(now - c.started))
	o.done.Last = now
	c.owner.(part).joined(c)
}

func (o *opener) failed(c *conn, err error) {
	o.inFlight--
	if c.way != nil {
		o.astray(c, err)
		return
	}
	pause := retryPause
	var refused *refusal
	var command *errCommandRefused
	switch {
	case errors.As(err, &command) && fatal[command.code] != "":
		o.err = errors.New(fatal[command.code])
	case errors.As(err, &refused) && (refused.status == 503 || refused.status == 429):
		o.done.Refused++
		pause = max(pause, refused.retryAfter)
	case errors.As(err, &refused):
		o.err = err
	default:
		o.done.Failed++
	}
	o.done.Reasons.add(err.Error())
	p := c.plan
	if o.loop.away(err) {
		p = o.elsewhere(p)
	}
	o.later(p, o.loop.now()+int64(pause))
}
