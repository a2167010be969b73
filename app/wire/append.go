package wire

// The functions of this file append one frame that the relay sends: no line
// feed, no length prefix, no WebSocket header. None keeps a reference to what it
// was given.

// Numbers of the kinds in ServerFrame; serverKinds holds them for reading.
const (
	numberOK = iota + 2
	numberError
	numberMessage
	numberRequest
	numberReply
	numberCancel
	numberReceipt
	numberPresence
	numberGap
	numberNotice
	numberPong
	numberConnected
)

// AppendConnected appends the answer to connect.
func AppendConnected(dst []byte, enc Encoding, v *Connected) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(v.ID, KindConnected, numberConnected, 256)
	w.text(fSession, v.Session)
	w.text(fAgent, v.Agent)
	w.text(fNode, v.Node)
	w.text(fRegion, v.Region)
	w.flagAlways(fResumed, v.Resumed)
	w.uintAlways(fSeq, v.Seq)
	w.int(fHeartbeatMS, v.HeartbeatMS)
	w.int(fResumeMS, v.ResumeMS)
	w.limits(&v.Limits)
	if v.Version != "" {
		mark, room := w.open(fServer)
		w.text(fVersion, v.Version)
		w.close(mark, room)
	}
	return w.endFrame(mark, room)
}

func (w *writer) limits(v *Limits) {
	mark, room := w.open(fLimits)
	w.int(fFrameBytes, int64(v.FrameBytes))
	w.int(fMessageBytes, int64(v.MessageBytes))
	w.int(fSubscriptions, int64(v.Subscriptions))
	w.int(fHeaderCount, int64(v.HeaderCount))
	w.int(fHeaderBytes, int64(v.HeaderBytes))
	w.int(fMessagesPerS, int64(v.MessagesPerS))
	w.int(fBytesPerS, int64(v.BytesPerS))
	w.int(fMaxTTLMS, v.MaxTTLMS)
	w.int(fMaxTimeoutMS, v.MaxTimeoutMS)
	w.close(mark, room)
}

// AppendOK appends the answer to the command that v.For names. With KindNone it
// writes all fields that hold something.
func AppendOK(dst []byte, enc Encoding, v *OK) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(v.ID, KindOK, numberOK, 64)
	switch v.For {
	case KindSend:
		w.sent(v)
	case KindSubscribe:
		w.place(v)
		w.flagAlways(fRecovered, v.Recovered)
	case KindPublish:
		w.place(v)
	case KindHistory:
		w.messages(v.Messages)
		w.place(v)
	case KindPresence:
		w.members(v.Members)
		w.flag(fPartial, v.Partial)
	case KindAgents:
		w.agents(v.Agents)
		w.text(fNext, v.Next)
		w.flag(fPartial, v.Partial)
	case KindUnsubscribe, KindProfile:
	default:
		w.allOK(v)
	}
	return w.endFrame(mark, room)
}

func (w *writer) sent(v *OK) {
	w.text(fID, v.MessageID)
	w.text(fOutcome, string(v.Outcome))
	w.int(fSessions, int64(v.Sessions))
}

// place writes where a channel stands; a new one stands at offset 0.
func (w *writer) place(v *OK) {
	w.text(fEpoch, v.Epoch)
	w.uintAlways(fOffset, v.Offset)
}

func (w *writer) allOK(v *OK) {
	w.sent(v)
	w.text(fEpoch, v.Epoch)
	w.uint(fOffset, v.Offset)
	w.flag(fRecovered, v.Recovered)
	if v.Messages != nil {
		w.messages(v.Messages)
	}
	if v.Members != nil {
		w.members(v.Members)
	}
	if v.Agents != nil {
		w.agents(v.Agents)
	}
	w.text(fNext, v.Next)
	w.flag(fPartial, v.Partial)
}

func (w *writer) messages(vs []Message) {
	w.list(fMessages)
	for i := range vs {
		mark, room := w.element(fMessages)
		w.message(&vs[i])
		w.close(mark, room)
	}
	w.endList()
}

func (w *writer) members(vs []Member) {
	w.list(fMembers)
	for i := range vs {
		v := &vs[i]
		mark, room := w.element(fMembers)
		w.standing(v.Agent, v.State, v.Sessions, v.LastActiveMS, v.Queue)
		w.close(mark, room)
	}
	w.endList()
}

func (w *writer) agents(vs []AgentInfo) {
	w.list(fAgents)
	for i := range vs {
		v := &vs[i]
		mark, room := w.element(fAgents)
		w.standing(v.Agent, v.State, v.Sessions, v.LastActiveMS, v.Queue)
		w.json(fCard, v.Card)
		w.json(fKeys, v.Keys)
		w.close(mark, room)
	}
	w.endList()
}

// standing writes how an agent is there; its readers find all of it.
func (w *writer) standing(agent string, state AgentState, sessions int, active int64, queue int) {
	w.textAlways(fAgent, agent)
	w.textAlways(fState, string(state))
	w.intAlways(fSessions, int64(sessions))
	w.intAlways(fLastActiveMS, active)
	w.intAlways(fQueue, int64(queue))
}

// AppendError appends a refusal.
func AppendError(dst []byte, enc Encoding, v *ErrorFrame) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(v.ID, KindError, numberError, 64)
	w.faultFields(&v.Err)
	w.text(fKey, v.Key)
	return w.endFrame(mark, room)
}

// AppendMessage appends a direct or a channel message.
func AppendMessage(dst []byte, enc Encoding, v *Message) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindMessage, numberMessage, len(v.Payload.Data)+80)
	w.message(v)
	return w.endFrame(mark, room)
}

func (w *writer) message(v *Message) {
	w.uint(fSeq, v.Seq)
	w.text(fChannel, v.Channel)
	w.uint(fOffset, v.Offset)
	w.text(fFrom, v.From)
	w.text(fTo, v.To)
	w.text(fID, v.MessageID)
	w.int(fTime, v.TimeMS)
	w.class(v.Class)
	w.headers(v.Headers)
	w.payload(&v.Payload)
}

// AppendRequest appends a question for the agent that shall answer it.
func AppendRequest(dst []byte, enc Encoding, v *Request) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindRequest, numberRequest, len(v.Payload.Data)+64)
	w.uint(fSeq, v.Seq)
	w.uint(fRequest, v.Request)
	w.text(fFrom, v.From)
	w.text(fMethod, v.Method)
	w.int(fDeadline, v.DeadlineMS)
	w.headers(v.Headers)
	w.payload(&v.Payload)
	return w.endFrame(mark, room)
}

// AppendReply appends an answer for the agent that asked.
func AppendReply(dst []byte, enc Encoding, v *Reply) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(v.ID, KindReply, numberReply, len(v.Payload.Data)+48)
	w.uint(fSeq, v.Seq)
	w.text(fFrom, v.From)
	w.flag(fMore, v.More)
	w.fault(fError, v.Err)
	w.payload(&v.Payload)
	return w.endFrame(mark, room)
}

// AppendReceipt appends what became of a message.
func AppendReceipt(dst []byte, enc Encoding, v *Receipt) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindReceipt, numberReceipt, 64)
	w.uint(fSeq, v.Seq)
	w.text(fID, v.MessageID)
	w.text(fFrom, v.From)
	w.text(fState, string(v.State))
	w.text(fNote, v.Note)
	w.int(fTime, v.TimeMS)
	return w.endFrame(mark, room)
}

// AppendPresence appends who came, went or changed in a channel.
func AppendPresence(dst []byte, enc Encoding, v *PresenceEvent) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindPresence, numberPresence, 64)
	w.text(fChannel, v.Channel)
	w.text(fEvent, v.Event)
	w.text(fAgent, v.Agent)
	w.text(fState, string(v.State))
	return w.endFrame(mark, room)
}

// AppendGap appends the name of a loss.
func AppendGap(dst []byte, enc Encoding, v *Gap) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindGap, numberGap, 64)
	w.text(fChannel, v.Channel)
	w.uint(fMissed, v.Missed)
	w.text(fEpoch, v.Epoch)
	w.uint(fOffset, v.Offset)
	return w.endFrame(mark, room)
}

// AppendNotice appends what the relay is about to do or has turned off.
func AppendNotice(dst []byte, enc Encoding, v *Notice) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindNotice, numberNotice, 64)
	w.text(fKind, v.Kind)
	w.text(fLevel, v.Level)
	w.text(fMessage, v.Message)
	w.int(fUntil, v.UntilMS)
	w.int(fReconnectInMS, v.ReconnectInMS)
	if len(v.Endpoints) > 0 {
		w.list(fEndpoints)
		for _, e := range v.Endpoints {
			w.textElement(fEndpoints, e)
		}
		w.endList()
	}
	return w.endFrame(mark, room)
}

// AppendPong appends the answer to ping.
func AppendPong(dst []byte, enc Encoding, v *Pong) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(v.ID, KindPong, numberPong, 16)
	w.int(fTime, v.TimeMS)
	w.int(fHeartbeatMS, v.HeartbeatMS)
	return w.endFrame(mark, room)
}

// AppendCancel appends that the asker of a request no longer waits; request is
// the number that the reply would have named.
func AppendCancel(dst []byte, enc Encoding, request uint64) []byte {
	w := writer{dst, enc}
	mark, room := w.frame(0, KindCancel, numberCancel, 16)
	w.uint(fRequest, request)
	return w.endFrame(mark, room)
}
