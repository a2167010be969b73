package relay

import (
	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// A caller is who waits for the answer to a command: a session on a connection,
// or, with reply set, somebody without one. It may alias a Command until kept.
type caller struct {
	link    *link
	session *Session
	id      uint64
	key     []byte
	reply   func(ok *wire.OK, e *wire.Error)

	// Set instead of the rest.
	node    string                                    // another node, which calls the command id
	settled func(t *Turn, ok *wire.OK, e *wire.Error) // a part of this node; must not call back
}

// ok answers the command.
func (by *caller) ok(t *Turn, ok *wire.OK) {
	if by.reply != nil {
		mine := *ok
		by.reply(&mine, nil)
		return
	}
	if by.settled != nil {
		mine := *ok
		by.settled(t, &mine, nil)
		return
	}
	if by.node != "" {
		t.outcome(by.node, outcomeOf(by.id, ok))
		return
	}
	if by.id == 0 {
		return
	}
	if t.hub.tracing.on.Load() != nil {
		t.hub.traceOutcome(by.session, by.id, ok, nil)
	}
	mine := *ok
	mine.ID = by.id
	enc := by.link.info.Encoding
	t.frame = wire.AppendOK(t.room(), enc, &mine)
	by.session.pushAnswer(t, by.link, wire.Seal(enc, t.frame))
}

// fail refuses the command.
func (by *caller) fail(t *Turn, e wire.Error) {
	if by.settled != nil {
		mine := e
		by.settled(t, nil, &mine)
		return
	}
	if by.node != "" {
		mine := e
		t.outcome(by.node, parcel.Outcome{Number: by.id, Result: parcel.Failed, Err: &mine})
		return
	}
	t.hub.totals.errors.add(string(e.Code))
	if by.reply != nil {
		mine := e
		by.reply(nil, &mine)
		return
	}
	if t.hub.tracing.on.Load() != nil {
		t.hub.traceOutcome(by.session, by.id, nil, &e)
	}
	frame := wire.ErrorFrame{ID: by.id, Err: e}
	if by.id == 0 {
		frame.Key = string(by.key)
	}
	enc := by.link.info.Encoding
	t.frame = wire.AppendError(t.room(), enc, &frame)
	by.session.pushAnswer(t, by.link, wire.Seal(enc, t.frame))
}

// outcomeOf is an answer as another node is told it.
func outcomeOf(number uint64, ok *wire.OK) parcel.Outcome {
	o := parcel.Outcome{Number: number, Result: parcel.Parked, Sessions: ok.Sessions, Epoch: ok.Epoch, Offset: ok.Offset}
	switch {
	case ok.For == wire.KindPublish:
		o.Result = parcel.Published
	case ok.Outcome == wire.Delivered:
		o.Result = parcel.Delivered
	}
	return o
}

// absent tells another node that the agent is not here.
func (by *caller) absent(t *Turn) {
	t.outcome(by.node, parcel.Outcome{Number: by.id, Result: parcel.Absent})
}

// keep returns a caller that no longer aliases a Command.
func (by *caller) keep() *caller {
	mine := *by
	mine.key = append([]byte(nil), by.key...)
	return &mine
}
