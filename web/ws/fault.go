package ws

import "agentnet/app/wire"

// A fault is why we end a connection. The zero value is none.
type fault struct {
	code  wire.CloseCode
	label string // one of a few words, for counters
	text  string // for the close frame: what was wrong
}

func (f fault) bad() bool { return f.code != 0 }

func protocolFault(label, text string) fault {
	return fault{wire.CloseProtocolError, label, text}
}

// faultLabels is every label that a fault may have, so that counters are bounded.
func faultLabels() []string {
	return []string{
		"unmasked", "rsv", "opcode", "control_frame", "fragmentation", "length",
		"too_big", "wrong_type", "utf8", "close_payload", "close_code", "flood",
		"stalled", "inflate", "panic", "backlog", "crowded",
	}
}

// stalledFault is that of a client that begins a message and does not go on.
func stalledFault() fault {
	return fault{wire.ClosePolicy, "stalled", "the rest of the message did not come in time"}
}
