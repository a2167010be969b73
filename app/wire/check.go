package wire

import "fmt"

// check refuses a command whose fields were read but cannot be meant: missing,
// not a name, not a word, or over a limit.
func (c *Command) check(s *cursor, present *fieldSet, lim *Limits) {
	required := requiredFields[c.Kind]
	if s.enc == Protobuf && c.Kind == KindAck {
		required = fieldSet{} // seq 0 is not written
	}
	if missing := (fieldSet{required[0] &^ present[0], required[1] &^ present[1]}); missing != (fieldSet{}) {
		for f := fEnd + 1; f < fieldCount; f++ {
			if missing.has(f) {
				s.refuse(BadFrame, f, "missing")
				return
			}
		}
	}
	switch c.Kind {
	case KindSend, KindRequest:
		s.checkName(fTo, ValidAgent(c.To), wantAgent)
	case KindPublish, KindSubscribe, KindUnsubscribe, KindHistory:
		s.checkName(fChannel, ValidChannel(c.Channel), wantChannel)
		s.checkSize(fSince, len(c.Since.Epoch), IDBytes)
	case KindCancel:
		s.checkNumber(fRequest, c.Request)
	case KindReply:
		c.checkReply(s)
	case KindReceipt:
		c.checkReceipt(s)
	case KindPresence:
		c.checkPresence(s)
	case KindAgents:
		if len(c.Match) > 0 && !validGlob(c.Match) {
			s.refuse(BadFrame, fMatch, wantGlob)
		}
		s.checkSize(fAfter, len(c.After), CursorBytes)
	case KindConnect:
		c.Connect.check(s)
	case KindProfile:
		if c.Profile.State != "" && !c.Profile.State.Valid() {
			s.refuse(BadFrame, fState, wantState)
		}
	}
	s.checkSize(fKey, len(c.Key), KeyBytes)
	s.checkSize(fMethod, len(c.Method), MethodBytes)
	s.checkTime(fTTLMS, c.TTLMS, lim.MaxTTLMS)
	s.checkTime(fTimeoutMS, c.TimeoutMS, lim.MaxTimeoutMS)
}

func (s *cursor) checkName(f field, ok bool, want string) {
	if !ok {
		s.refuse(BadFrame, f, want)
	}
}

// checkNumber refuses 0, which numbers nothing.
func (s *cursor) checkNumber(f field, v uint64) {
	if v == 0 {
		s.refuse(BadFrame, f, "expected the number of a request, from 1")
	}
}

func (s *cursor) checkSize(f field, n, limit int) {
	if n > limit {
		s.refuse(TooLarge, f, fmt.Sprintf("%d bytes, the limit is %d", n, limit))
	}
}

func (s *cursor) checkTime(f field, ms, limit int64) {
	if limit > 0 && ms > limit {
		s.refuse(TooLarge, f, fmt.Sprintf("%d ms, the limit is %d", ms, limit))
	}
}

func (c *Command) checkReply(s *cursor) {
	s.checkNumber(fRequest, c.Request)
	if c.Err == nil {
		return
	}
	if c.Payload.Data != nil || c.Payload.Binary {
		s.refuse(BadFrame, fError, "a reply has either an error or a payload")
	}
	if !validCode(string(c.Err.Code)) {
		s.refuse(BadFrame, fError, "expected a code of 1 to 64 bytes of a-z 0-9 _ . -")
	}
}

// validCode reports whether an agent may use word as the code of its own errors.
func validCode(word string) bool {
	for i := range len(word) {
		c := word[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(word) > 0 && len(word) <= IDBytes
}

func (c *Command) checkReceipt(s *cursor) {
	if len(c.MessageID) == 0 {
		s.refuse(BadFrame, fID, "expected the id of a message")
	}
	s.checkSize(fID, len(c.MessageID), IDBytes)
	if !c.State.Valid() {
		s.refuse(BadFrame, fState, wantReceipt)
	}
	s.checkSize(fNote, len(c.Note), NoteBytes)
}

func (c *Command) checkPresence(s *cursor) {
	switch {
	case len(c.Channel) > 0 && len(c.Agent) > 0:
		s.refuse(BadFrame, fAgent, "expected either a channel or an agent")
	case len(c.Channel) > 0:
		s.checkName(fChannel, ValidChannel(c.Channel), wantChannel)
	case len(c.Agent) > 0:
		s.checkName(fAgent, ValidAgent(c.Agent), wantAgent)
	default:
		s.refuse(BadFrame, fChannel, "expected a channel or an agent")
	}
}

func (c *Connect) check(s *cursor) {
	if c.Agent != "" {
		s.checkName(fAgent, ValidAgent(c.Agent), wantAgent)
	}
	s.checkSize(fClient, max(len(c.Client.Name), len(c.Client.Version)), NameBytes)
	if c.Resume == nil {
		return
	}
	if c.Resume.Session == "" {
		s.refuse(BadFrame, fResume, "session is missing")
	}
	s.checkSize(fResume, len(c.Resume.Session), CursorBytes)
	for i := range c.Resume.Channels {
		at := &c.Resume.Channels[i]
		s.checkName(fChannels, ValidChannel(at.Channel), wantChannel)
		s.checkSize(fChannels, len(at.Epoch), IDBytes)
	}
}
