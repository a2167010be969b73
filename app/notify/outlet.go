package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentnet/app/egress"
)

// An outlet is a channel at work: its queue and the one goroutine that empties it.
type outlet struct {
	n       *Notifier
	c       Channel
	sender  sender
	breaker egress.Breaker
	backoff egress.Backoff
	bucket  egress.Bucket // run's own
	wake    chan struct{}

	mu      sync.Mutex
	queue   []Message
	dropped uint64
	sent    time.Time
	fault   string
}

// put queues a message. When the queue is full the oldest warning makes room, and
// else the oldest message.
func (o *outlet) put(m Message) (err error) {
	o.mu.Lock()
	if len(o.queue) >= maxQueue {
		i := 0
		for k := range o.queue {
			if o.queue[k].Severity == Warning {
				i = k
				break
			}
		}
		gone := o.queue[i]
		o.queue = append(o.queue[:i], o.queue[i+1:]...)
		o.dropped++
		d := o.delivery(&gone, Dropped, 0, fmt.Sprintf("more than %d messages wait", maxQueue))
		d.Class = ClassFull
		defer o.n.record.add(d)
		err = fmt.Errorf("channel %s: %w: the oldest was dropped", o.c.Name, ErrFull)
	}
	o.queue = append(o.queue, m)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return err
}

// take returns all that waits as one message.
func (o *outlet) take() (Message, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return Message{}, false
	}
	m := merge(o.queue)
	o.queue = nil
	return m, true
}

// back puts a message that could not be sent before what came meanwhile.
func (o *outlet) back(m Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append([]Message{m}, o.queue...)
}

func (o *outlet) run(ctx context.Context) {
	var remind <-chan time.Time
	if o.c.Remind > 0 {
		ticker := time.NewTicker(o.c.Remind)
		defer ticker.Stop()
		remind = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			o.abandon()
			return
		case <-o.wake:
		case now := <-remind:
			if m, ok := o.n.reminder(now, o.c.Least); ok {
				_ = o.put(m) // recorded there
			}
		}
		o.empty(ctx)
	}
}

// empty sends until nothing waits. Between tries, whatever has come joins what
// waits already, so that a target that was away gets one message and not fifty.
func (o *outlet) empty(ctx context.Context) {
	tries := 0
	for ctx.Err() == nil {
		m, ok := o.take()
		if !ok {
			return
		}
		if wait := o.bucket.Take(time.Now()); wait > 0 {
			o.back(m)
			pause(ctx, wait)
			continue
		}
		if o.n.cfg.Hold != nil && m.Severity < Critical && !m.Resolved {
			if err := o.n.cfg.Hold(ctx, holdMost); err != nil {
				o.back(m)
				return
			}
		}
		tries++
		d := o.try(ctx, &m, tries)
		if d.Outcome != Retried {
			tries = 0
			continue
		}
		o.back(m)
		pause(ctx, d.wait)
	}
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// try makes one call and records what came of it.
func (o *outlet) try(ctx context.Context, m *Message, tries int) Delivery {
	began := time.Now()
	if !m.Test {
		if err := o.breaker.Allow(began); err != nil {
			return o.failed(m, tries, began, "", err)
		}
	}
	one, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	answer, err := o.sender.send(one, m)
	if ctx.Err() == nil { // a stop of the node says nothing about the target
		o.breaker.Done(time.Now(), err)
	}
	if err != nil {
		return o.failed(m, tries, began, answer, err)
	}
	d := o.delivery(m, Sent, tries, "")
	d.Answer, d.Took, d.Status = answer, time.Since(began), statusOf(answer, nil)
	o.mu.Lock()
	o.sent, o.fault = d.At, ""
	o.mu.Unlock()
	o.n.record.add(d)
	return d
}

// retryable reports whether the same message may go through later.
func retryable(err error) bool {
	if _, ok := errors.AsType[final](err); ok {
		return false
	}
	return egress.Retryable(err)
}

// failed says whether a failure is tried again, and records it.
func (o *outlet) failed(m *Message, tries int, began time.Time, answer string, err error) Delivery {
	d := o.delivery(m, Failed, tries, egress.Shorten(err.Error(), maxAnswer))
	d.Answer, d.Took, d.Status, d.Class = answer, time.Since(began), statusOf(answer, err), classOf(err)
	young := time.Since(m.At) < o.c.Patience
	if retryable(err) && young && !m.Test {
		d.Outcome, d.wait = Retried, o.backoff.Wait(tries, err)
		if open, until, _ := o.breaker.Open(time.Now()); open {
			d.wait = max(d.wait, time.Until(until))
		}
	}
	o.mu.Lock()
	o.fault = d.Fault
	o.mu.Unlock()
	if d.Outcome == Failed || tries == 1 {
		o.n.log.Warn("notification not delivered", "channel", o.c.Name, "target", egress.Host(o.c.URL), "outcome", string(d.Outcome), "tries", tries, "error", d.Fault)
	}
	o.n.record.add(d)
	return d
}

func (o *outlet) delivery(m *Message, out Outcome, tries int, fault string) Delivery {
	return Delivery{At: time.Now(), Message: m.ID, Channel: o.c.Name, Kind: o.c.Kind, Target: egress.Host(o.c.URL), Group: m.Group, Title: m.Title(),
		Severity: m.Severity, Test: m.Test, Outcome: out, Tries: tries, Fault: fault, Rules: rulesOf(m)}
}

// abandon records what waits when the node stops.
func (o *outlet) abandon() {
	o.mu.Lock()
	left := o.queue
	o.queue = nil
	o.dropped += uint64(len(left))
	o.mu.Unlock()
	for i := range left {
		d := o.delivery(&left[i], Dropped, 0, "the node stopped before it could be sent")
		d.Class = ClassStopped
		o.n.record.add(d)
	}
}

func (o *outlet) status(now time.Time) Status {
	open, until, _ := o.breaker.Open(now)
	o.mu.Lock()
	defer o.mu.Unlock()
	s := Status{Name: o.c.Name, Kind: o.c.Kind, Target: egress.Host(o.c.URL), Least: o.c.Least, Waiting: len(o.queue), Dropped: o.dropped,
		Resting: open, Fault: o.fault, LastSent: o.sent}
	if open {
		s.Until = until
	}
	return s
}
