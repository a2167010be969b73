package relay

import (
	"context"
	"errors"
	"time"

	"agentnet/app/wire"
)

// callerWait bounds how long an operation waits for its own answer, such as the
// disk's when a message is parked.
const callerWait = 10 * time.Second

// A settled is the answer to an operation.
type settled struct {
	ok wire.OK
	e  *wire.Error
}

// await returns a caller that hands its answer to a channel, and that channel.
func awaited() (*caller, chan settled) {
	ch := make(chan settled, 1)
	return &caller{id: 1, reply: func(ok *wire.OK, e *wire.Error) {
		var v settled
		if ok != nil {
			v.ok = *ok
			v.ok.MessageID = cloneString(ok.MessageID)
		}
		if e != nil {
			mine := *e
			v.e = &mine
		}
		select {
		case ch <- v:
		default: // only the first answer counts
		}
	}}, ch
}

func wait(ctx context.Context, ch chan settled) (wire.OK, error) {
	limit := time.NewTimer(callerWait)
	defer limit.Stop()
	select {
	case v := <-ch:
		if v.e != nil {
			return wire.OK{}, v.e
		}
		return v.ok, nil
	case <-ctx.Done():
	case <-limit.C:
	}
	return wire.OK{}, &wire.Error{Code: wire.Timeout, Message: "no answer in time; whether it was carried out is not known"}
}

// admitOperation applies limits and load to a caller without a session.
func (h *Hub) admitOperation(t *Turn, from string, c *wire.Command) *wire.Error {
	if h.tracing.on.Load() != nil {
		h.traceCommand(t, from, nil, c)
	}
	if a := h.agent([]byte(from)); a != nil {
		if wait := a.spend(t.clock(), len(c.Payload.Data)); wait > 0 {
			return overRate(wait)
		}
	} else if wait := h.guests.spend(t.clock(), h, from, len(c.Payload.Data)); wait > 0 {
		return overRate(wait)
	}
	return h.shed(t, c.Kind, c.Class)
}

// Send is the `send` command for a caller without a connection.
func (h *Hub) Send(ctx context.Context, id *Identity, a SendArgs) (Sent, error) {
	from, e := agentName(id, a.From)
	if e != nil {
		return Sent{}, e
	}
	c := wire.Command{ID: 1, Kind: wire.KindSend, To: []byte(a.To), Key: []byte(a.Key), Payload: a.Payload, Class: a.Class, Headers: a.Headers, TTLMS: a.TTL.Milliseconds(), Receipts: a.Receipts}
	if e := h.check(&c); e != nil {
		return Sent{}, e
	}
	by, ch := awaited()
	t := h.borrow()
	h.sendFrom(t, id, from, &c, by, func() *wire.Error { return h.admitOperation(t, from, &c) })
	h.giveBack(t)
	ok, err := wait(ctx, ch)
	return Sent{MessageID: ok.MessageID, Outcome: ok.Outcome, Sessions: ok.Sessions}, err
}

// Publish is the `publish` command for a caller without a connection.
func (h *Hub) Publish(ctx context.Context, id *Identity, a PublishArgs) (wire.Since, error) {
	from, e := agentName(id, a.From)
	if e != nil {
		return wire.Since{}, e
	}
	c := wire.Command{ID: 1, Kind: wire.KindPublish, Channel: []byte(a.Channel), Key: []byte(a.Key), Payload: a.Payload, Class: a.Class, Headers: a.Headers}
	if e := h.check(&c); e != nil {
		return wire.Since{}, e
	}
	by, ch := awaited()
	t := h.borrow()
	h.publishFrom(t, id, from, &c, by, func() *wire.Error { return h.admitOperation(t, from, &c) })
	h.giveBack(t)
	ok, err := wait(ctx, ch)
	return wire.Since{Epoch: ok.Epoch, Offset: ok.Offset}, err
}

// answersMax bounds the streamed replies that wait for a slow caller.
const answersMax = 256

// Request is the `request` command for a caller without a connection. each is
// called for every reply; after its error, or when ctx ends, the request is
// cancelled.
func (h *Hub) Request(ctx context.Context, id *Identity, a RequestArgs, each func(Answer) error) error {
	from, e := agentName(id, a.From)
	if e != nil {
		return e
	}
	c := wire.Command{ID: 1, Kind: wire.KindRequest, To: []byte(a.To), Method: []byte(a.Method), Payload: a.Payload, Class: a.Class, Headers: a.Headers, TimeoutMS: a.Timeout.Milliseconds()}
	if e := h.check(&c); e != nil {
		return e
	}
	answers := make(chan Answer, answersMax)
	overrun := make(chan struct{}, 1)
	p := &pending{hub: h, askID: 1, from: from, answer: func(a Answer) {
		select {
		case answers <- a:
		default:
			select {
			case overrun <- struct{}{}:
			default:
			}
		}
	}}
	t := h.borrow()
	if e = h.admitOperation(t, from, &c); e == nil {
		e = h.ask(t, id, p, &c)
	}
	h.giveBack(t)
	if e != nil {
		h.totals.errors.add(string(e.Code))
		return e
	}
	return h.follow(ctx, p, answers, overrun, each)
}

// follow hands the replies of a request to its caller.
func (h *Hub) follow(ctx context.Context, p *pending, answers chan Answer, overrun chan struct{}, each func(Answer) error) error {
	stop := func(err error) error {
		if h.finish(p) {
			t := h.borrow()
			p.callOff(t)
			h.giveBack(t)
		}
		return err
	}
	for {
		select {
		case a := <-answers:
			if a.unreached {
				h.totals.errors.add(string(a.Err.Code))
				return a.Err
			}
			if err := each(a); err != nil {
				return stop(err)
			}
			if !a.More {
				return nil
			}
		case <-overrun:
			return stop(&wire.Error{Code: wire.Overloaded, Message: "the replies came faster than they were read"})
		case <-ctx.Done():
			return stop(&wire.Error{Code: wire.Timeout, Message: "the caller stopped waiting"})
		}
	}
}

// Agents lists the agents of all nodes that id may send to, in the order of names.
// It waits for other nodes, within ctx and 2 s.
func (h *Hub) Agents(ctx context.Context, id *Identity, match, after string, limit int) ([]wire.AgentInfo, Page, error) {
	list, page, e := h.directory(ctx, id, "", match, after, limit)
	if e != nil {
		return nil, Page{}, e
	}
	return list, page, nil
}

// check replaces c by what the relay would have read had it come as a frame: names,
// limits and payloads of callers without a connection are held to the same rules.
func (h *Hub) check(c *wire.Command) *wire.Error {
	if c.TTLMS < 0 || c.TimeoutMS < 0 {
		e := badf("%s: a duration is negative", c.Kind)
		return &e
	}
	frame := wire.AppendCommand(nil, wire.JSON, c)
	_, err := c.Read(wire.JSON, frame, &h.cfg.Limits)
	if err == nil {
		return nil
	}
	var fe *wire.FrameError
	if errors.As(err, &fe) {
		return &fe.Err
	}
	return &wire.Error{Code: wire.BadFrame, Message: err.Error()}
}
