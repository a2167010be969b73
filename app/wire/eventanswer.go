package wire

func (s *cursor) ok(l *level, v *OK) {
	*v = OK{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fID:
			v.MessageID = s.copied(f)
		case fOutcome:
			v.Outcome = Outcome(knownWord(s.text(f)))
		case fSessions:
			v.Sessions = s.int(f)
		case fEpoch:
			v.Epoch = s.copied(f)
		case fOffset:
			v.Offset = s.uint(f)
		case fRecovered:
			v.Recovered = s.flag(f)
		case fMessages:
			for first := true; s.element(f, &first); {
				var m Message
				inner := s.open(f, &messageFields)
				s.message(&inner, &m)
				v.Messages = append(v.Messages, m)
			}
		case fMembers:
			for first := true; s.element(f, &first); {
				v.Members = append(v.Members, s.member(f))
			}
		case fAgents:
			for first := true; s.element(f, &first); {
				v.Agents = append(v.Agents, s.agentInfo(f))
			}
		case fNext:
			v.Next = s.copied(f)
		case fPartial:
			v.Partial = s.flag(f)
		}
	}
}

func (s *cursor) member(f field) (v Member) {
	l := s.open(f, &memberFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fAgent:
			v.Agent = s.copied(f)
		case fState:
			v.State = AgentState(knownWord(s.text(f)))
		case fSessions:
			v.Sessions = s.int(f)
		case fLastActiveMS:
			v.LastActiveMS = s.int64(f)
		case fQueue:
			v.Queue = s.int(f)
		}
	}
	return v
}

func (s *cursor) agentInfo(f field) (v AgentInfo) {
	l := s.open(f, &agentFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fAgent:
			v.Agent = s.copied(f)
		case fState:
			v.State = AgentState(knownWord(s.text(f)))
		case fSessions:
			v.Sessions = s.int(f)
		case fLastActiveMS:
			v.LastActiveMS = s.int64(f)
		case fQueue:
			v.Queue = s.int(f)
		case fCard:
			v.Card = s.json(f)
		case fKeys:
			v.Keys = s.json(f)
		}
	}
	return v
}

func (s *cursor) connected(l *level, v *Connected) {
	*v = Connected{}
	for f := s.next(l); f != fEnd; f = s.next(l) {
		switch f {
		case fSession:
			v.Session = s.copied(f)
		case fAgent:
			v.Agent = s.copied(f)
		case fNode:
			v.Node = s.copied(f)
		case fRegion:
			v.Region = s.copied(f)
		case fResumed:
			v.Resumed = s.flag(f)
		case fSeq:
			v.Seq = s.uint(f)
		case fHeartbeatMS:
			v.HeartbeatMS = s.int64(f)
		case fResumeMS:
			v.ResumeMS = s.int64(f)
		case fLimits:
			s.limits(f, &v.Limits)
		case fServer:
			inner := s.open(f, &serverFields)
			for f := s.next(&inner); f != fEnd; f = s.next(&inner) {
				v.Version = s.copied(f)
			}
		}
	}
}

func (s *cursor) limits(f field, v *Limits) {
	l := s.open(f, &limitFields)
	for f := s.next(&l); f != fEnd; f = s.next(&l) {
		switch f {
		case fFrameBytes:
			v.FrameBytes = s.int(f)
		case fMessageBytes:
			v.MessageBytes = s.int(f)
		case fSubscriptions:
			v.Subscriptions = s.int(f)
		case fHeaderCount:
			v.HeaderCount = s.int(f)
		case fHeaderBytes:
			v.HeaderBytes = s.int(f)
		case fMessagesPerS:
			v.MessagesPerS = s.int(f)
		case fBytesPerS:
			v.BytesPerS = s.int(f)
		case fMaxTTLMS:
			v.MaxTTLMS = s.int64(f)
		case fMaxTimeoutMS:
			v.MaxTimeoutMS = s.int64(f)
		}
	}
}
