package relay

import (
	"time"

	"agentnet/app/wire"
)

// A cause is why clients are asked to leave this node, in the words that they, new
// ones and whoever asks whether the node is ready are told.
type cause struct {
	word    string // level of the notice
	reason  string // in the notice and in the close frame
	refusal string // to new connections
	state   string // of the readiness check
}

// The causes; all but the first leave the process alive.
var (
	stopping = cause{word: "stop", reason: "this node is shutting down; reconnect and resume",
		refusal: "this node is shutting down; connect to another, or again in a moment", state: "shutting down; clients are being moved"}
	emptying = cause{word: "order", reason: "an operator empties this node; reconnect to another and resume",
		refusal: "an operator empties this node; connect to another", state: "emptied by an operator until that is taken back; clients are being moved"}
	moving    = cause{word: "order", reason: "an operator moves clients to other nodes; reconnect there and resume"}
	balancing = cause{word: "load", reason: "another node has more room; reconnect there and resume"}
)

// notice is what clients are told; kind is drain or rebalance.
func (c *cause) notice(kind string, pause time.Duration) wire.Notice {
	return wire.Notice{Kind: kind, Level: c.word, Message: c.reason, ReconnectInMS: pause.Milliseconds()}
}

// drainCause is why the node drains, or drained last.
func (h *Hub) drainCause() *cause {
	if why := h.leaving.Load(); why != nil {
		return why
	}
	return &stopping
}
