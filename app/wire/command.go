package wire

import (
	"bytes"
	"fmt"
)

// scratchKept bounds the scratch space that a Command keeps for its next frame.
const scratchKept = 128 << 10

// Read decodes the first frame of a WebSocket message into c and returns how many
// bytes it took, at least 1 while msg is not empty. When only white space was
// left, c.Kind is KindNone and the error nil.
//
// A *FrameError refuses this frame; the caller answers it and goes on after n.
// ErrMalformed says that the frames cannot be told apart any more. Only with a
// nil error do the fields of c mean anything. The limits bound what one frame may
// hold; nil, or 0 in a limit, does not bound it.
//
// After a fault of JSON syntax, n ends at the next line end, because a relay must
// not lose the frames of other lines with it.
func (c *Command) Read(enc Encoding, msg []byte, lim *Limits) (n int, err error) {
	if lim == nil {
		lim = &Limits{}
	}
	scratch := c.scratch[:0]
	if cap(scratch) > scratchKept {
		scratch = nil
	}
	*c = Command{scratch: scratch}
	if len(msg) == 0 {
		return 0, nil
	}
	s := cursor{b: msg, enc: enc, scratch: scratch}
	var start, end int
	if enc == Protobuf {
		if start, end, err = protoExtent(msg); err != nil {
			return len(msg), err
		}
		s.b, s.i = msg[:end], start
		c.readProto(&s, lim)
		s.i = end
	} else {
		if s.space(); s.i == len(msg) {
			return len(msg), nil
		}
		start = s.i
		c.readJSON(&s, lim)
		if s.broken {
			return resume(msg, start, s.fault.at), c.refusal(&s.fault, start)
		}
		end = s.i
		s.space()
	}
	c.scratch, n = s.scratch, s.i
	if lim.FrameBytes > 0 && end-start > lim.FrameBytes {
		s.fault = fault{set: true, frame: true, code: TooLarge, want: fmt.Sprintf("the frame has %d bytes, the limit is %d", end-start, lim.FrameBytes)}
	}
	if s.fault.set {
		return n, c.refusal(&s.fault, start)
	}
	return n, nil
}

// resume returns where reading goes on after a fault of syntax at index at of a
// frame that starts at start: after the next line end. White space before the
// fault is looked at too, because a frame that was cut off is noticed at the
// first byte of the next line.
func resume(msg []byte, start, at int) int {
	for at > start && (msg[at-1] == ' ' || msg[at-1] == '\n' || msg[at-1] == '\r' || msg[at-1] == '\t') {
		at--
	}
	if at < len(msg) {
		if line := bytes.IndexByte(msg[at:], '\n'); line >= 0 {
			return at + line + 1
		}
	}
	return len(msg)
}

// protoExtent returns where the first frame of a protobuf message starts and ends.
func protoExtent(msg []byte) (start, end int, err error) {
	s := cursor{b: msg, enc: Protobuf}
	n := s.varint(len(msg))
	if s.broken || n > uint64(len(msg)-s.i) {
		return 0, 0, ErrMalformed
	}
	return s.i, s.i + int(n), nil
}

// refusal makes the error that refuses c's frame.
func (c *Command) refusal(f *fault, start int) error {
	e := &FrameError{ID: c.ID, Err: Error{Code: f.code, Message: f.describe(c.Kind, start)}}
	if c.ID == 0 {
		e.Key = string(c.Key[:min(len(c.Key), KeyBytes)])
	}
	return e
}

func (c *Command) readJSON(s *cursor, lim *Limits) {
	if s.b[s.i] != '{' {
		s.fail(s.i, "expected a frame: an object")
		return
	}
	s.i++
	seenID := false
	for first := true; s.advance(&first, '}'); {
		word := s.name()
		if s.broken {
			return
		}
		if string(word) == "id" {
			if seenID {
				s.refuseFrame("id is given twice")
				s.skip()
				continue
			}
			seenID = true
			if !s.null() {
				c.ID = s.frameID()
			}
			continue
		}
		if s.null() {
			continue
		}
		switch kind := clientKind(word); {
		case kind == KindNone:
			s.refuseFrame(unknownKind(word))
			s.skip()
		case c.Kind != KindNone:
			s.refuseFrame("a frame has one kind, this one has two")
			s.skip()
		default:
			c.Kind = kind
			c.readFields(s, lim)
		}
		if s.broken {
			return
		}
	}
	if c.Kind == KindNone && !s.broken {
		s.refuseFrame("the frame has no kind")
	}
}

// frameID reads the id of a frame. A fault is told without a kind.
func (s *cursor) frameID() uint64 {
	before := s.fault.set
	id := s.uint(fEnd)
	if !before && s.fault.set && !s.broken {
		s.fault.frame, s.fault.want = true, "id: "+s.fault.want
	}
	return id
}

// unknownKind describes a word that is no kind. It is repeated only when it looks
// like one, because error texts must not carry what agents say.
func unknownKind(word []byte) string {
	for _, c := range word {
		if c != '_' && (c < 'a' || c > 'z') {
			return "unknown kind"
		}
	}
	if len(word) == 0 || len(word) > 24 {
		return "unknown kind"
	}
	return "unknown kind " + string(word)
}

func (c *Command) readProto(s *cursor, lim *Limits) {
	for s.i < len(s.b) && !s.broken {
		number := s.frameField()
		if s.broken {
			return
		}
		switch {
		case number == 1:
			c.ID = s.frameID()
		case number > uint64(KindPing)+1:
			s.refuseFrame("unknown kind")
			s.skip()
		case c.Kind != KindNone:
			s.refuseFrame("a frame has one kind, this one has two")
			s.skip()
		default:
			c.Kind = Kind(number - 1)
			c.readFields(s, lim)
		}
	}
	if c.Kind == KindNone && !s.broken {
		s.refuseFrame("the frame has no kind")
	}
}

// readFields reads the object of c.Kind and checks it.
func (c *Command) readFields(s *cursor, lim *Limits) {
	switch c.Kind {
	case KindConnect:
		c.Connect = new(Connect)
	case KindProfile:
		c.Profile = new(Profile)
	}
	c.Class = Normal
	l := s.open(fEnd, &commandFields[c.Kind])
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fTo:
			c.To = s.text(f)
		case fData, fBytes:
			s.payload(f, &c.Payload)
		case fChannel:
			c.Channel = s.text(f)
		case fKey:
			c.Key = s.text(f)
		case fMethod:
			c.Method = s.text(f)
		case fRequest:
			c.Request = s.uint(f)
		case fSeq:
			c.Seq = s.uint(f)
		case fPriority:
			c.Class = s.class(f)
		case fHeaders:
			c.Headers = s.headers(f, c.Headers, lim)
		case fTTLMS:
			c.TTLMS = s.int64(f)
		case fTimeoutMS:
			c.TimeoutMS = s.int64(f)
		case fReceipts:
			c.Receipts = s.flag(f)
		case fMore:
			c.More = s.flag(f)
		case fError:
			c.Err = s.error(f, c.Err)
		case fRTTMS:
			c.RTTMS = s.int64(f)
		case fID:
			c.MessageID = s.text(f)
		case fNote:
			c.Note = s.text(f)
		case fSince:
			c.HasSince = true
			s.since(f, &c.Since)
		case fPresence:
			c.Presence = s.flag(f)
		case fLimit:
			c.Limit = s.int(f)
		case fMatch:
			c.Match = s.text(f)
		case fAfter:
			c.After = s.text(f)
		default:
			c.readRare(s, f, lim)
		}
	}
	if !s.broken && !s.fault.set {
		c.check(s, &l.present, lim)
	}
}

// readRare reads the fields of connect and profile, and those whose type depends
// on the kind.
func (c *Command) readRare(s *cursor, f field, lim *Limits) {
	switch f {
	case fState:
		word := s.text(f)
		if c.Kind == KindProfile {
			c.Profile.State = AgentState(knownWord(word))
		} else {
			c.State = ReceiptState(knownWord(word))
		}
	case fAgent:
		if c.Kind == KindConnect {
			c.Connect.Agent = s.copied(f)
		} else {
			c.Agent = s.text(f)
		}
	case fToken:
		c.Connect.Token = s.copied(f)
	case fResume:
		if c.Connect.Resume == nil {
			c.Connect.Resume = new(Resume)
		}
		s.resume(f, c.Connect.Resume, lim)
	case fClient:
		s.client(f, &c.Connect.Client)
	case fCard:
		c.Profile.Card = s.json(f)
	case fKeys:
		c.Profile.Keys = s.json(f)
	default:
		s.skip()
	}
}

// error reads the error of a reply.
func (s *cursor) error(f field, into *Error) *Error {
	if into == nil {
		into = new(Error)
	}
	l := s.open(f, &errorFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fCode:
			into.Code = Code(s.copied(f))
		case fMessage:
			into.Message = s.copied(f)
		case fRetryAfterMS:
			into.RetryAfterMS = s.int64(f)
		}
	}
	return into
}

// since reads a place in a channel.
func (s *cursor) since(f field, into *Since) {
	l := s.open(f, &sinceFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fEpoch:
			into.Epoch = s.copied(f)
		case fOffset:
			into.Offset = s.uint(f)
		}
	}
}

// resume reads what a client has of an earlier session.
func (s *cursor) resume(f field, into *Resume, lim *Limits) {
	l := s.open(f, &resumeFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fSession:
			into.Session = s.copied(f)
		case fSeq:
			into.Seq = s.uint(f)
		case fChannels:
			for first := true; s.element(f, &first); {
				at := s.position(f)
				if lim.Subscriptions > 0 && len(into.Channels) >= lim.Subscriptions {
					s.refuse(TooLarge, f, fmt.Sprintf("more than %d channels", lim.Subscriptions))
					continue
				}
				into.Channels = append(into.Channels, at)
			}
		}
	}
}

// position reads where a resuming client stands in one channel.
func (s *cursor) position(f field) (at ChannelPosition) {
	l := s.open(f, &positionFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fChannel:
			at.Channel = s.copied(f)
		case fEpoch:
			at.Epoch = s.copied(f)
		case fOffset:
			at.Offset = s.uint(f)
		}
	}
	return at
}

// client reads what a client says it is.
func (s *cursor) client(f field, into *ClientInfo) {
	l := s.open(f, &clientFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fName:
			into.Name = s.copied(f)
		case fVersion:
			into.Version = s.copied(f)
		}
	}
}
