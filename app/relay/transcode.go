package relay

import "agentnet/app/wire"

// transcode rewrites the kept frames for a client that came back with the other
// encoding. s.mu must be held.
func (s *Session) transcode(enc wire.Encoding) {
	old := s.enc
	s.enc, s.slab = enc, nil
	s.replay.bytes = 0
	for i := range s.replay.len() {
		e := s.replay.at(i)
		e.sealed = transcode(e.sealed, old, enc)
		s.replay.bytes += len(e.sealed)
	}
}

// transcode turns one sealed direct frame into the other encoding.
func transcode(sealed []byte, from, to wire.Encoding) []byte {
	var ev wire.Event
	if _, err := ev.Read(from, wire.Body(sealed)); err != nil {
		return sealed // our own frame can always be read
	}
	buf := make([]byte, wire.HeaderRoom, wire.HeaderRoom+len(sealed)*2)
	switch ev.Kind {
	case wire.KindMessage:
		buf = wire.AppendMessage(buf, to, &ev.Message)
	case wire.KindRequest:
		buf = wire.AppendRequest(buf, to, &ev.Request)
	case wire.KindReply:
		buf = wire.AppendReply(buf, to, &ev.Reply)
	case wire.KindReceipt:
		buf = wire.AppendReceipt(buf, to, &ev.Receipt)
	}
	return wire.Seal(to, buf)
}
