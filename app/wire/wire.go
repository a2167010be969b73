// Package wire is the protocol between agents and the relay: frames, codes,
// names, limits, and the two encodings (JSON text, protobuf binary).
//
// The full reference is PROTOCOL.md in this folder, the schema agentnet.proto.
// Decoding reads the envelope of a frame only; a payload is validated where the
// encoding asks for it and is otherwise carried as the bytes that came. The
// package holds no connections, keeps no state between calls and starts no
// goroutines.
package wire

// Encoding is how frames are written on one connection.
type Encoding uint8

const (
	JSON     Encoding = iota // text messages, one frame a line
	Protobuf                 // binary messages, each frame after its length as a varint
	// Encodings is how many there are, for arrays indexed by Encoding.
	Encodings = 2
)

// Subprotocol names as offered in Sec-WebSocket-Protocol.
const (
	SubprotocolJSON     = "agentnet.v1.json"
	SubprotocolProtobuf = "agentnet.v1.protobuf"
)

// Kind is the one field, besides id, that a frame has.
type Kind uint8

// Kinds of both directions. A few words (request, reply, receipt, presence,
// cancel) are used by both sides with different fields.
const (
	KindNone Kind = iota
	KindConnect
	KindSend
	KindRequest
	KindCancel
	KindReceipt
	KindReply
	KindSubscribe
	KindUnsubscribe
	KindPublish
	KindHistory
	KindPresence
	KindAgents
	KindProfile
	KindAck
	KindPing
	KindConnected
	KindOK
	KindError
	KindMessage
	KindGap
	KindNotice
	KindPong
)

// Class is the priority of a message. A lower value leaves first.
type Class uint8

const (
	Critical Class = iota
	High
	Normal
	Low
	// Classes is how many there are, for arrays indexed by Class.
	Classes = 4
)

// Code is the machine-readable word of an error.
type Code string

// Every code of protocol version 1.
const (
	BadFrame     Code = "bad_frame"
	Unauthorized Code = "unauthorized"
	Forbidden    Code = "forbidden"
	NotFound     Code = "not_found"
	AgentOffline Code = "agent_offline"
	Timeout      Code = "timeout"
	TooLarge     Code = "too_large"
	RateLimited  Code = "rate_limited"
	Overloaded   Code = "overloaded"
	Unavailable  Code = "unavailable"
	Conflict     Code = "conflict"
	Gone         Code = "gone"
	Internal     Code = "internal"
)

// Error is a refusal in the words of the protocol. It is what an `error` frame,
// the error of a reply and an HTTP problem document carry.
type Error struct {
	Code         Code   `json:"code"`
	Message      string `json:"message,omitempty"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // 0: not said
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// CloseCode is a WebSocket close code.
type CloseCode uint16

// Close codes that the relay sends. After AuthFailed, TokenExpired and Replaced
// a client does not reconnect by itself.
const (
	CloseNormal          CloseCode = 1000
	CloseGoingAway       CloseCode = 1001
	CloseProtocolError   CloseCode = 1002
	CloseUnsupported     CloseCode = 1003
	CloseInvalidPayload  CloseCode = 1007
	ClosePolicy          CloseCode = 1008
	CloseTooBig          CloseCode = 1009
	CloseInternal        CloseCode = 1011
	CloseAuthFailed      CloseCode = 4000
	CloseTokenExpired    CloseCode = 4001
	CloseSlowConsumer    CloseCode = 4002
	CloseReplaced        CloseCode = 4003
	CloseDrain           CloseCode = 4004
	CloseOverloaded      CloseCode = 4005
	CloseHeartbeatMissed CloseCode = 4006
)

// Outcome says what became of a sent message.
type Outcome string

const (
	Delivered Outcome = "delivered" // handed to at least one live session of the receiver
	Parked    Outcome = "parked"    // on disk in the receiver's mailbox until its ttl
)

// ReceiptState is what became of a message, as told to its sender.
type ReceiptState string

const (
	ReceiptDelivered ReceiptState = "delivered" // by the relay: a parked message reached a session
	ReceiptExpired   ReceiptState = "expired"   // by the relay: its ttl ended first
	ReceiptSurfaced  ReceiptState = "surfaced"  // by the receiver: shown to its person or model
	ReceiptDone      ReceiptState = "done"
	ReceiptRefused   ReceiptState = "refused"
	ReceiptHeld      ReceiptState = "held"
)

// AgentState is what an agent says of itself, or Offline.
type AgentState string

const (
	Available AgentState = "available"
	Busy      AgentState = "busy"
	Away      AgentState = "away"
	Offline   AgentState = "offline"
)

// Limits bound what one frame may hold. They are told in `connected.limits`.
type Limits struct {
	FrameBytes    int   `json:"frame_bytes"`              // one frame, default 65536
	MessageBytes  int   `json:"message_bytes"`            // one WebSocket message, which may hold several frames
	Subscriptions int   `json:"subscriptions"`            // channels of one session
	HeaderCount   int   `json:"header_count"`             // headers of one message
	HeaderBytes   int   `json:"header_bytes"`             // names and values together
	MessagesPerS  int   `json:"messages_per_s,omitempty"` // sustained, an agent; 0: no limit
	BytesPerS     int   `json:"bytes_per_s,omitempty"`
	MaxTTLMS      int64 `json:"max_ttl_ms"`
	MaxTimeoutMS  int64 `json:"max_timeout_ms"`
}
