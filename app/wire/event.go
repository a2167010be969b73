package wire

// An Event is one decoded frame from the relay, as clients read it. Only the
// member that Kind names means anything after Read; ID is that of the answered
// command, 0 for a frame that answers none. Strings are copies; Payload.Data,
// Card and Keys alias the message where it holds them as they are.
type Event struct {
	ID   uint64
	Kind Kind

	Connected     Connected
	OK            OK // For is not set: who sent the command knows
	Error         ErrorFrame
	Message       Message
	Request       Request
	Reply         Reply
	Receipt       Receipt
	Presence      PresenceEvent
	Gap           Gap
	Notice        Notice
	Pong          Pong
	CancelRequest uint64
}

// eventLimits bound what a client reads from a relay that it need not trust: looking
// for repeated headers takes time in the square of their number.
var eventLimits = Limits{HeaderCount: 4096}

// Read decodes the first frame of a WebSocket message from the relay and returns
// how many bytes it took, at least 1 while msg is not empty. Kind is KindNone
// when only white space was left. A *FrameError means that this frame cannot be
// understood, be it newer than this package or broken; go on after n.
// ErrMalformed means that the rest of the message cannot be taken apart.
func (e *Event) Read(enc Encoding, msg []byte) (n int, err error) {
	e.ID, e.Kind = 0, KindNone
	if len(msg) == 0 {
		return 0, nil
	}
	s := cursor{b: msg, enc: enc}
	var start int
	if enc == Protobuf {
		var end int
		if start, end, err = protoExtent(msg); err != nil {
			return len(msg), err
		}
		s.b, s.i = msg[:end], start
		e.readProto(&s)
		s.i = end
	} else {
		if s.space(); s.i == len(msg) {
			return len(msg), nil
		}
		start = s.i
		e.readJSON(&s)
		if s.broken {
			return resume(msg, start, s.fault.at), e.refusal(&s.fault, start)
		}
		s.space()
	}
	if s.fault.set {
		return s.i, e.refusal(&s.fault, start)
	}
	e.setID()
	return s.i, nil
}

// setID repeats the id in the member that has one.
func (e *Event) setID() {
	switch e.Kind {
	case KindConnected:
		e.Connected.ID = e.ID
	case KindOK:
		e.OK.ID = e.ID
	case KindError:
		e.Error.ID = e.ID
	case KindReply:
		e.Reply.ID = e.ID
	case KindPong:
		e.Pong.ID = e.ID
	}
}

func (e *Event) refusal(f *fault, start int) error {
	return &FrameError{ID: e.ID, Err: Error{Code: f.code, Message: f.describe(e.Kind, start)}}
}

func (e *Event) readJSON(s *cursor) {
	if s.b[s.i] != '{' {
		s.fail(s.i, "expected a frame: an object")
		return
	}
	s.i++
	for first := true; s.advance(&first, '}'); {
		word := s.name()
		if s.broken {
			return
		}
		if string(word) == "id" {
			if !s.null() {
				e.ID = s.frameID()
			}
			continue
		}
		if s.null() {
			continue
		}
		switch kind := serverKind(word); {
		case kind == KindNone:
			s.refuseFrame(unknownKind(word))
			s.skip()
		case e.Kind != KindNone:
			s.refuseFrame("a frame has one kind, this one has two")
			s.skip()
		default:
			e.Kind = kind
			e.readKind(s)
		}
		if s.broken {
			return
		}
	}
	if e.Kind == KindNone && !s.broken {
		s.refuseFrame("the frame has no kind")
	}
}

func (e *Event) readProto(s *cursor) {
	for s.i < len(s.b) && !s.broken {
		number := s.frameField()
		if s.broken {
			return
		}
		switch {
		case number == 1:
			e.ID = s.frameID()
		case number >= uint64(len(serverKinds)):
			s.refuseFrame("unknown kind")
			s.skip()
		case e.Kind != KindNone:
			s.refuseFrame("a frame has one kind, this one has two")
			s.skip()
		default:
			e.Kind = serverKinds[number]
			e.readKind(s)
		}
	}
	if e.Kind == KindNone && !s.broken {
		s.refuseFrame("the frame has no kind")
	}
}

func (e *Event) readKind(s *cursor) {
	l := s.open(fEnd, &eventFields[e.Kind])
	switch e.Kind {
	case KindMessage:
		s.message(&l, &e.Message)
	case KindOK:
		s.ok(&l, &e.OK)
	case KindError:
		s.errorFrame(&l, &e.Error)
	case KindRequest:
		s.request(&l, &e.Request)
	case KindReply:
		s.reply(&l, &e.Reply)
	case KindReceipt:
		s.receipt(&l, &e.Receipt)
	case KindConnected:
		s.connected(&l, &e.Connected)
	case KindPresence:
		s.presence(&l, &e.Presence)
	case KindNotice:
		s.notice(&l, &e.Notice)
	case KindCancel:
		e.CancelRequest = 0
		for f := s.next(&l); f != fEnd; f = s.next(&l) {
			e.CancelRequest = s.uint(f)
		}
	case KindGap:
		e.Gap = Gap{}
		for f := s.next(&l); f != fEnd; f = s.next(&l) {
			switch f {
			case fChannel:
				e.Gap.Channel = s.copied(f)
			case fEpoch:
				e.Gap.Epoch = s.copied(f)
			case fOffset:
				e.Gap.Offset = s.uint(f)
			default:
				e.Gap.Missed = s.uint(f)
			}
		}
	case KindPong:
		e.Pong = Pong{}
		for f := s.next(&l); f != fEnd; f = s.next(&l) {
			if f == fTime {
				e.Pong.TimeMS = s.int64(f)
			} else {
				e.Pong.HeartbeatMS = s.int64(f)
			}
		}
	}
}

func (s *cursor) message(l *level, v *Message) {
	*v = Message{Class: Normal}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fSeq:
			v.Seq = s.uint(f)
		case fChannel:
			v.Channel = s.copied(f)
		case fOffset:
			v.Offset = s.uint(f)
		case fFrom:
			v.From = s.copied(f)
		case fTo:
			v.To = s.copied(f)
		case fID:
			v.MessageID = s.copied(f)
		case fTime:
			v.TimeMS = s.int64(f)
		case fPriority:
			v.Class = s.class(f)
		case fHeaders:
			v.Headers = s.headers(f, v.Headers, &eventLimits)
		case fData, fBytes:
			s.payload(f, &v.Payload)
		}
	}
}

func (s *cursor) request(l *level, v *Request) {
	*v = Request{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fSeq:
			v.Seq = s.uint(f)
		case fRequest:
			v.Request = s.uint(f)
		case fFrom:
			v.From = s.copied(f)
		case fMethod:
			v.Method = s.copied(f)
		case fDeadline:
			v.DeadlineMS = s.int64(f)
		case fHeaders:
			v.Headers = s.headers(f, v.Headers, &eventLimits)
		case fData, fBytes:
			s.payload(f, &v.Payload)
		}
	}
}

func (s *cursor) reply(l *level, v *Reply) {
	*v = Reply{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fSeq:
			v.Seq = s.uint(f)
		case fFrom:
			v.From = s.copied(f)
		case fMore:
			v.More = s.flag(f)
		case fError:
			v.Err = s.error(f, v.Err)
		case fData, fBytes:
			s.payload(f, &v.Payload)
		}
	}
}

func (s *cursor) receipt(l *level, v *Receipt) {
	*v = Receipt{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fSeq:
			v.Seq = s.uint(f)
		case fID:
			v.MessageID = s.copied(f)
		case fFrom:
			v.From = s.copied(f)
		case fState:
			v.State = ReceiptState(knownWord(s.text(f)))
		case fNote:
			v.Note = s.copied(f)
		case fTime:
			v.TimeMS = s.int64(f)
		}
	}
}

func (s *cursor) errorFrame(l *level, v *ErrorFrame) {
	*v = ErrorFrame{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fCode:
			v.Err.Code = Code(s.copied(f))
		case fMessage:
			v.Err.Message = s.copied(f)
		case fRetryAfterMS:
			v.Err.RetryAfterMS = s.int64(f)
		case fKey:
			v.Key = s.copied(f)
		}
	}
}

func (s *cursor) presence(l *level, v *PresenceEvent) {
	*v = PresenceEvent{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fChannel:
			v.Channel = s.copied(f)
		case fEvent:
			v.Event = knownWord(s.text(f))
		case fAgent:
			v.Agent = s.copied(f)
		case fState:
			v.State = AgentState(knownWord(s.text(f)))
		}
	}
}

func (s *cursor) notice(l *level, v *Notice) {
	*v = Notice{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fKind:
			v.Kind = s.copied(f)
		case fLevel:
			v.Level = s.copied(f)
		case fMessage:
			v.Message = s.copied(f)
		case fUntil:
			v.UntilMS = s.int64(f)
		case fReconnectInMS:
			v.ReconnectInMS = s.int64(f)
		case fEndpoints:
			for first := true; s.element(f, &first); {
				v.Endpoints = append(v.Endpoints, s.copied(f))
			}
		}
	}
}
