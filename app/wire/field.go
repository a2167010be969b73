package wire

// A field is a word of the protocol inside a kind. In JSON it is the word, in
// protobuf the number; a word has the same number wherever it is used, so that
// one table serves all messages of both directions. Words that are often sent
// have numbers below 16, which take one byte.
type field uint8

const (
	fEnd field = iota // no field: the object has ended
	fTo
	fChannel
	fData
	fBytes
	fID
	fSeq
	fFrom
	fOffset
	fTime
	fRequest
	fPriority
	fHeaders
	fKey
	fMethod
	fOutcome
	fSessions // 16
	fEpoch
	fTimeoutMS
	fTTLMS
	fReceipts
	fMore
	fError
	fState
	fNote
	fAgent
	fSince
	fPresence
	fLimit
	fDeadline
	fRTTMS
	fCode
	fMessage // 32
	fRetryAfterMS
	fHeartbeatMS
	fRecovered
	fMatch
	fAfter
	fCard
	fKeys
	fToken
	fResume
	fClient
	fSession
	fChannels
	fName
	fVersion
	fNode
	fRegion // 48
	fResumed
	fResumeMS
	fLimits
	fServer
	fMembers
	fMessages
	fAgents
	fNext
	fEvent
	fMissed
	fKind
	fLevel
	fUntil
	fReconnectInMS
	fEndpoints
	fLastActiveMS // 64
	fQueue
	fFrameBytes
	fMessageBytes
	fSubscriptions
	fHeaderCount
	fHeaderBytes
	fMessagesPerS
	fBytesPerS
	fMaxTTLMS
	fMaxTimeoutMS
	fPartial
	fieldCount
)

// fieldWords are the fields as they are written in JSON.
var fieldWords = [fieldCount]string{
	fTo: "to", fChannel: "channel", fData: "data", fBytes: "bytes", fID: "id", fSeq: "seq", fFrom: "from",
	fOffset: "offset", fTime: "time", fRequest: "request", fPriority: "priority", fHeaders: "headers",
	fKey: "key", fMethod: "method", fOutcome: "outcome", fSessions: "sessions", fEpoch: "epoch",
	fTimeoutMS: "timeout_ms", fTTLMS: "ttl_ms", fReceipts: "receipts", fMore: "more", fError: "error",
	fState: "state", fNote: "note", fAgent: "agent", fSince: "since", fPresence: "presence", fLimit: "limit",
	fDeadline: "deadline", fRTTMS: "rtt_ms", fCode: "code", fMessage: "message",
	fRetryAfterMS: "retry_after_ms", fHeartbeatMS: "heartbeat_ms", fRecovered: "recovered", fMatch: "match",
	fAfter: "after", fCard: "card", fKeys: "keys", fToken: "token", fResume: "resume", fClient: "client",
	fSession: "session", fChannels: "channels", fName: "name", fVersion: "version", fNode: "node",
	fRegion: "region", fResumed: "resumed", fResumeMS: "resume_ms", fLimits: "limits", fServer: "server",
	fMembers: "members", fMessages: "messages", fAgents: "agents", fNext: "next", fEvent: "event",
	fMissed: "missed", fKind: "kind", fLevel: "level", fUntil: "until", fReconnectInMS: "reconnect_in_ms",
	fEndpoints: "endpoints", fLastActiveMS: "last_active_ms", fQueue: "queue", fFrameBytes: "frame_bytes",
	fMessageBytes: "message_bytes", fSubscriptions: "subscriptions", fHeaderCount: "header_count",
	fHeaderBytes: "header_bytes", fMessagesPerS: "messages_per_s", fBytesPerS: "bytes_per_s",
	fMaxTTLMS: "max_ttl_ms", fMaxTimeoutMS: "max_timeout_ms", fPartial: "partial",
}

// fieldSlots is the size of fieldIndex: with it, wordSlot puts no two words of
// the protocol on one slot, which a test holds.
const fieldSlots = 512

// wordSlot is a hash of a word that is not empty, made for the words above.
func wordSlot(word []byte) uint {
	n := len(word)
	return (uint(n)*9 + uint(word[0])*150 + uint(word[n-1])*238 + uint(word[n>>1])*248) % fieldSlots
}

// fieldIndex finds the field of a word by its slot.
var fieldIndex = indexFields()

func indexFields() (index [fieldSlots]field) {
	for f := fEnd + 1; f < fieldCount; f++ {
		index[wordSlot([]byte(fieldWords[f]))] = f
	}
	return index
}

// fieldOf returns the field with this word, fEnd when there is none.
func fieldOf(word []byte) field {
	if len(word) == 0 {
		return fEnd
	}
	if f := fieldIndex[wordSlot(word)]; fieldWords[f] == string(word) {
		return f
	}
	return fEnd
}

// A fieldSet is a set of fields.
type fieldSet [2]uint64

func fieldsOf(fields ...field) (s fieldSet) {
	for _, f := range fields {
		s.add(f)
	}
	return s
}

func (s *fieldSet) add(f field)      { s[f>>6&1] |= 1 << (f & 63) }
func (s *fieldSet) has(f field) bool { return s[f>>6&1]>>(f&63)&1 != 0 }

// commandFields are the fields of the kinds that clients send.
var commandFields = [KindPing + 1]fieldSet{
	KindConnect:     fieldsOf(fToken, fAgent, fResume, fClient),
	KindSend:        fieldsOf(fTo, fData, fBytes, fPriority, fTTLMS, fKey, fHeaders, fReceipts),
	KindRequest:     fieldsOf(fTo, fMethod, fData, fBytes, fTimeoutMS, fPriority, fHeaders),
	KindCancel:      fieldsOf(fRequest),
	KindReceipt:     fieldsOf(fID, fState, fNote),
	KindReply:       fieldsOf(fRequest, fData, fBytes, fMore, fError),
	KindSubscribe:   fieldsOf(fChannel, fSince, fPresence),
	KindUnsubscribe: fieldsOf(fChannel),
	KindPublish:     fieldsOf(fChannel, fData, fBytes, fPriority, fKey, fHeaders),
	KindHistory:     fieldsOf(fChannel, fSince, fLimit),
	KindPresence:    fieldsOf(fChannel, fAgent),
	KindAgents:      fieldsOf(fMatch, fLimit, fAfter),
	KindProfile:     fieldsOf(fCard, fKeys, fState),
	KindAck:         fieldsOf(fSeq),
	KindPing:        fieldsOf(fRTTMS),
}

// requiredFields are the fields without which a command means nothing.
var requiredFields = [KindPing + 1]fieldSet{
	KindSend:        fieldsOf(fTo),
	KindRequest:     fieldsOf(fTo),
	KindCancel:      fieldsOf(fRequest),
	KindReceipt:     fieldsOf(fID, fState),
	KindReply:       fieldsOf(fRequest),
	KindSubscribe:   fieldsOf(fChannel),
	KindUnsubscribe: fieldsOf(fChannel),
	KindPublish:     fieldsOf(fChannel),
	KindHistory:     fieldsOf(fChannel),
	KindAck:         fieldsOf(fSeq),
}

// messageFields are those of a message, alone and in an answer to history.
var messageFields = fieldsOf(fSeq, fChannel, fOffset, fFrom, fTo, fData, fBytes, fID, fTime, fPriority, fHeaders)

// eventFields are the fields of the kinds that the relay sends.
var eventFields = [KindPong + 1]fieldSet{
	KindConnected: fieldsOf(fSession, fAgent, fNode, fRegion, fResumed, fSeq, fHeartbeatMS, fResumeMS, fLimits, fServer),
	KindOK:        fieldsOf(fID, fOutcome, fSessions, fEpoch, fOffset, fRecovered, fMessages, fMembers, fAgents, fNext, fPartial),
	KindError:     fieldsOf(fCode, fMessage, fRetryAfterMS, fKey),
	KindMessage:   messageFields,
	KindRequest:   fieldsOf(fSeq, fRequest, fFrom, fMethod, fData, fBytes, fDeadline, fHeaders),
	KindReply:     fieldsOf(fSeq, fFrom, fData, fBytes, fMore, fError),
	KindCancel:    fieldsOf(fRequest),
	KindReceipt:   fieldsOf(fSeq, fID, fFrom, fState, fNote, fTime),
	KindPresence:  fieldsOf(fChannel, fEvent, fAgent, fState),
	KindGap:       fieldsOf(fChannel, fMissed, fEpoch, fOffset),
	KindNotice:    fieldsOf(fKind, fLevel, fMessage, fUntil, fReconnectInMS, fEndpoints),
	KindPong:      fieldsOf(fTime, fHeartbeatMS),
}

// Fields of the objects inside kinds.
var (
	sinceFields    = fieldsOf(fEpoch, fOffset)
	positionFields = fieldsOf(fChannel, fEpoch, fOffset)
	resumeFields   = fieldsOf(fSession, fSeq, fChannels)
	clientFields   = fieldsOf(fName, fVersion)
	serverFields   = fieldsOf(fVersion)
	errorFields    = fieldsOf(fCode, fMessage, fRetryAfterMS)
	memberFields   = fieldsOf(fAgent, fState, fSessions, fLastActiveMS, fQueue)
	agentFields    = fieldsOf(fAgent, fState, fSessions, fLastActiveMS, fQueue, fCard, fKeys)
	limitFields    = fieldsOf(fFrameBytes, fMessageBytes, fSubscriptions, fHeaderCount, fHeaderBytes,
		fMessagesPerS, fBytesPerS, fMaxTTLMS, fMaxTimeoutMS)
)
