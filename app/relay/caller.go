package relay

import "agentnet/app/wire"

// A caller is who waits for the answer to a command: a session on a connection,
// or, with reply set, somebody without one. It may alias a Command until kept.
type caller struct {
	link    *link
	session *Session
	id      uint64
	key     []byte
	reply   func(ok *wire.OK, e *wire.Error)
}

// ok answers the command.
func (by *caller) ok(t *Turn, ok *wire.OK) {
	if by.reply != nil {
		mine := *ok
		by.reply(&mine, nil)
		return
	}
	if by.id == 0 {
		return
	}
	mine := *ok
	mine.ID = by.id
	enc := by.link.info.Encoding
	t.frame = wire.AppendOK(t.room(), enc, &mine)
	by.session.pushAnswer(t, by.link, wire.Seal(enc, t.frame))
}

// fail refuses the command.
func (by *caller) fail(t *Turn, e wire.Error) {
	t.hub.totals.errors.add(string(e.Code))
	if by.reply != nil {
		mine := e
		by.reply(nil, &mine)
		return
	}
	frame := wire.ErrorFrame{ID: by.id, Err: e}
	if by.id == 0 {
		frame.Key = string(by.key)
	}
	enc := by.link.info.Encoding
	t.frame = wire.AppendError(t.room(), enc, &frame)
	by.session.pushAnswer(t, by.link, wire.Seal(enc, t.frame))
}

// keep returns a caller that no longer aliases a Command.
func (by *caller) keep() *caller {
	mine := *by
	mine.key = append([]byte(nil), by.key...)
	return &mine
}
