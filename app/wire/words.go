package wire

import (
	"fmt"
	"slices"
)

// kindWords are the kinds as they are written in JSON, by Kind.
var kindWords = [...]string{
	KindNone: "none", KindConnect: "connect", KindSend: "send", KindRequest: "request", KindCancel: "cancel",
	KindReceipt: "receipt", KindReply: "reply", KindSubscribe: "subscribe", KindUnsubscribe: "unsubscribe",
	KindPublish: "publish", KindHistory: "history", KindPresence: "presence", KindAgents: "agents",
	KindProfile: "profile", KindAck: "ack", KindPing: "ping", KindConnected: "connected", KindOK: "ok",
	KindError: "error", KindMessage: "message", KindGap: "gap", KindNotice: "notice", KindPong: "pong",
}

// String returns the kind as it is written in frames.
func (k Kind) String() string {
	if int(k) < len(kindWords) {
		return kindWords[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// AllKinds lists the kinds of both directions.
func AllKinds() []Kind {
	kinds := make([]Kind, 0, len(kindWords)-1)
	for k := KindConnect; k <= KindPong; k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// ClientKinds lists the kinds that clients send.
func ClientKinds() []Kind { return AllKinds()[:KindPing] }

// ServerKinds lists the kinds that the relay sends, by their number in the schema.
func ServerKinds() []Kind { return slices.Clone(serverKinds[2:]) }

// clientKind returns the kind with this word that a client may send.
func clientKind(word []byte) Kind {
	switch string(word) {
	case "send":
		return KindSend
	case "publish":
		return KindPublish
	case "request":
		return KindRequest
	case "reply":
		return KindReply
	case "ack":
		return KindAck
	case "ping":
		return KindPing
	case "receipt":
		return KindReceipt
	case "cancel":
		return KindCancel
	case "connect":
		return KindConnect
	case "subscribe":
		return KindSubscribe
	case "unsubscribe":
		return KindUnsubscribe
	case "history":
		return KindHistory
	case "presence":
		return KindPresence
	case "agents":
		return KindAgents
	case "profile":
		return KindProfile
	}
	return KindNone
}

// serverKind returns the kind with this word that the relay may send.
func serverKind(word []byte) Kind {
	switch string(word) {
	case "message":
		return KindMessage
	case "ok":
		return KindOK
	case "error":
		return KindError
	case "request":
		return KindRequest
	case "reply":
		return KindReply
	case "receipt":
		return KindReceipt
	case "cancel":
		return KindCancel
	case "pong":
		return KindPong
	case "presence":
		return KindPresence
	case "gap":
		return KindGap
	case "notice":
		return KindNotice
	case "connected":
		return KindConnected
	}
	return KindNone
}

// serverKinds maps the number of a kind in ServerFrame to the kind. The number
// of a client's kind in ClientFrame is its Kind plus 1.
var serverKinds = [...]Kind{
	2: KindOK, 3: KindError, 4: KindMessage, 5: KindRequest, 6: KindReply, 7: KindCancel,
	8: KindReceipt, 9: KindPresence, 10: KindGap, 11: KindNotice, 12: KindPong, 13: KindConnected,
}

// classWords are the priorities as they are written in JSON, by Class.
var classWords = [Classes]string{Critical: "critical", High: "high", Normal: "normal", Low: "low"}

// classNumbers are the priorities' numbers in the schema, where 0 must be the
// default.
var classNumbers = [Classes]uint64{Normal: 0, Critical: 1, High: 2, Low: 3}

// classesByNumber undoes classNumbers.
var classesByNumber = [Classes]Class{0: Normal, 1: Critical, 2: High, 3: Low}

// String returns the priority as it is written in frames.
func (c Class) String() string {
	if c < Classes {
		return classWords[c]
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// MarshalText returns the priority as it is written in frames.
func (c Class) MarshalText() ([]byte, error) {
	if c >= Classes {
		return nil, fmt.Errorf("priority %d: no such class", uint8(c))
	}
	return []byte(classWords[c]), nil
}

// UnmarshalText is ParseClass.
func (c *Class) UnmarshalText(text []byte) error {
	parsed, err := ParseClass(string(text))
	if err == nil {
		*c = parsed
	}
	return err
}

// ParseClass reads a priority as it is written in frames.
func ParseClass(word string) (Class, error) {
	for c, w := range classWords {
		if w == word {
			return Class(c), nil
		}
	}
	return Normal, fmt.Errorf("priority %.20q: %s", word, wantClass)
}

// AllClasses lists the priorities, the one that leaves first in front.
func AllClasses() []Class { return []Class{Critical, High, Normal, Low} }

// AllCodes lists every code of protocol version 1.
func AllCodes() []Code {
	return []Code{BadFrame, Unauthorized, Forbidden, NotFound, AgentOffline, Timeout, TooLarge,
		RateLimited, Overloaded, Unavailable, Conflict, Gone, Internal}
}

// Valid reports whether c is a code of protocol version 1.
func (c Code) Valid() bool { return slices.Contains(AllCodes(), c) }

// AllCloseCodes lists the WebSocket close codes that the relay sends.
func AllCloseCodes() []CloseCode {
	return []CloseCode{CloseNormal, CloseGoingAway, CloseProtocolError, CloseUnsupported, CloseInvalidPayload,
		ClosePolicy, CloseTooBig, CloseInternal, CloseAuthFailed, CloseTokenExpired, CloseSlowConsumer,
		CloseReplaced, CloseDrain, CloseOverloaded, CloseHeartbeatMissed}
}

// Final reports whether a client must not reconnect by itself after this code.
func (c CloseCode) Final() bool {
	return c == CloseAuthFailed || c == CloseTokenExpired || c == CloseReplaced
}

// AllOutcomes lists what can become of a sent message.
func AllOutcomes() []Outcome { return []Outcome{Delivered, Parked} }

// AllReceiptStates lists the states of a receipt; the relay alone says the first
// two.
func AllReceiptStates() []ReceiptState {
	return []ReceiptState{ReceiptDelivered, ReceiptExpired, ReceiptSurfaced, ReceiptDone, ReceiptRefused, ReceiptHeld}
}

// Valid reports whether a client may say s of a message that it received.
func (s ReceiptState) Valid() bool {
	switch s {
	case ReceiptSurfaced, ReceiptDone, ReceiptRefused, ReceiptHeld:
		return true
	}
	return false
}

// AllAgentStates lists the states of an agent, Offline being the relay's word.
func AllAgentStates() []AgentState { return []AgentState{Available, Busy, Away, Offline} }

// Valid reports whether an agent may say s of itself.
func (s AgentState) Valid() bool { return s == Available || s == Busy || s == Away }

// What a refused word is told.
const (
	wantClass   = "expected critical, high, normal or low"
	wantReceipt = "expected surfaced, done, refused or held"
	wantState   = "expected available, busy or away"
)

// knownWord returns word as a string, without a copy when it is one of the
// protocol's own words.
func knownWord(word []byte) string {
	switch string(word) {
	case "delivered":
		return "delivered"
	case "parked":
		return "parked"
	case "surfaced":
		return "surfaced"
	case "done":
		return "done"
	case "refused":
		return "refused"
	case "held":
		return "held"
	case "expired":
		return "expired"
	case "available":
		return "available"
	case "busy":
		return "busy"
	case "away":
		return "away"
	case "offline":
		return "offline"
	case "join":
		return "join"
	case "leave":
		return "leave"
	case "state":
		return "state"
	}
	return string(word)
}
