package relay

import (
	"time"

	"agentnet/app/wire"
)

// The types below are for callers that have no connection of their own, such as
// the HTTP API. Errors of the operations are *wire.Error.

// SendArgs is a direct message. From may be "" when the identity covers exactly
// one agent.
type SendArgs struct {
	From, To string
	Payload  wire.Payload
	Class    wire.Class
	TTL      time.Duration // how long it may wait in the mailbox; 0: not at all
	Key      string        // dedup, "" for none
	Receipts bool          // the sessions of From are told what becomes of it
	Headers  []wire.Header
}

// Sent is what became of a message.
type Sent struct {
	MessageID string
	Outcome   wire.Outcome
	Sessions  int // live sessions that it was handed to
}

// RequestArgs is a question to one agent.
type RequestArgs struct {
	From, To string
	Method   string
	Payload  wire.Payload
	Class    wire.Class
	Timeout  time.Duration // 0: 30 s
	Headers  []wire.Header
}

// An Answer is one reply to a request; More says that another follows. Err is the
// answering agent's refusal.
type Answer struct {
	From    string
	Payload wire.Payload
	More    bool
	Err     *wire.Error

	unreached bool // no agent was asked: Err says why
}

// PublishArgs is a message to a channel.
type PublishArgs struct {
	From, Channel string
	Payload       wire.Payload
	Class         wire.Class
	Key           string
	Headers       []wire.Header
}

// ChannelInfo is one entry of the list of channels.
type ChannelInfo struct {
	Channel     string  `json:"channel"`
	Epoch       string  `json:"epoch"`
	Offset      uint64  `json:"offset"`
	Subscribers int     `json:"subscribers"`
	PerSecond   float64 `json:"messages_per_s"`
	LastMS      int64   `json:"last_ms"` // wall clock of the last publication, 0: none
	Home        string  `json:"home,omitempty" doc:"The node that orders its publications; absent while that is being found."`

	orders bool // the node that says this is its home
}

// A Page says what is known beside the entries of a list of all nodes.
type Page struct {
	Next    string   // where the next page begins; "" when there is none
	Partial bool     // what only others know may be missing
	Missing []string // the nodes that did not answer in time, by name
}

// A Reason says why a node is not ready, or is ready but hurt.
type Reason struct {
	Check   string `json:"check"` // hub, store, broker, drain, overload
	OK      bool   `json:"ok"`
	Message string `json:"message"`
}
