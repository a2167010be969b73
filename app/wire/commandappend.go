package wire

// AppendCommand appends the frame of a command: what clients send, and what Read
// decodes. Fields that are not of c.Kind are not looked at.
func AppendCommand(dst []byte, enc Encoding, c *Command) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(c.ID, c.Kind, uint64(c.Kind)+1, len(c.Payload.Data)+48)
	switch c.Kind {
	case KindConnect:
		w.connect(c.Connect)
	case KindSend:
		w.textBytes(fTo, c.To)
		w.class(c.Class)
		w.int(fTTLMS, c.TTLMS)
		w.textBytes(fKey, c.Key)
		w.headers(c.Headers)
		w.flag(fReceipts, c.Receipts)
		w.payload(&c.Payload)
	case KindRequest:
		w.textBytes(fTo, c.To)
		w.textBytes(fMethod, c.Method)
		w.int(fTimeoutMS, c.TimeoutMS)
		w.class(c.Class)
		w.headers(c.Headers)
		w.payload(&c.Payload)
	case KindCancel:
		w.uintAlways(fRequest, c.Request)
	case KindReceipt:
		w.textBytes(fID, c.MessageID)
		w.text(fState, string(c.State))
		w.textBytes(fNote, c.Note)
	case KindReply:
		w.uintAlways(fRequest, c.Request)
		w.flag(fMore, c.More)
		w.fault(fError, c.Err)
		w.payload(&c.Payload)
	case KindPublish:
		w.textBytes(fChannel, c.Channel)
		w.class(c.Class)
		w.textBytes(fKey, c.Key)
		w.headers(c.Headers)
		w.payload(&c.Payload)
	case KindAck:
		w.uintAlways(fSeq, c.Seq)
	case KindPing:
		w.int(fRTTMS, c.RTTMS)
	default:
		w.query(c)
	}
	return w.endFrame(mark, room)
}

// query writes the fields of commands that ask for or change what a session has.
func (w *writer) query(c *Command) {
	switch c.Kind {
	case KindUnsubscribe:
		w.textBytes(fChannel, c.Channel)
	case KindSubscribe:
		w.textBytes(fChannel, c.Channel)
		w.since(c)
		w.flag(fPresence, c.Presence)
	case KindHistory:
		w.textBytes(fChannel, c.Channel)
		w.since(c)
		w.int(fLimit, int64(c.Limit))
	case KindPresence:
		w.textBytes(fChannel, c.Channel)
		w.textBytes(fAgent, c.Agent)
	case KindAgents:
		w.textBytes(fMatch, c.Match)
		w.int(fLimit, int64(c.Limit))
		w.textBytes(fAfter, c.After)
	case KindProfile:
		if c.Profile != nil {
			w.json(fCard, c.Profile.Card)
			w.json(fKeys, c.Profile.Keys)
			w.text(fState, string(c.Profile.State))
		}
	}
}

func (w *writer) since(c *Command) {
	if c.HasSince {
		mark, room := w.open(fSince)
		w.text(fEpoch, c.Since.Epoch)
		w.uintAlways(fOffset, c.Since.Offset)
		w.close(mark, room)
	}
}

func (w *writer) connect(c *Connect) {
	if c == nil {
		return
	}
	w.text(fToken, c.Token)
	w.text(fAgent, c.Agent)
	if r := c.Resume; r != nil {
		mark, room := w.open(fResume)
		w.text(fSession, r.Session)
		w.uintAlways(fSeq, r.Seq)
		if len(r.Channels) > 0 {
			w.list(fChannels)
			for i := range r.Channels {
				at := &r.Channels[i]
				mark, room := w.element(fChannels)
				w.text(fChannel, at.Channel)
				w.text(fEpoch, at.Epoch)
				w.uintAlways(fOffset, at.Offset)
				w.close(mark, room)
			}
			w.endList()
		}
		w.close(mark, room)
	}
	if c.Client != (ClientInfo{}) {
		mark, room := w.open(fClient)
		w.text(fName, c.Client.Name)
		w.text(fVersion, c.Client.Version)
		w.close(mark, room)
	}
}
