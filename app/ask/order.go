package ask

// The kinds of questions that nodes answer.
const (
	KindDrain      = "drain"      // Order -> Done
	KindUndrain    = "undrain"    // Order -> Done
	KindRebalance  = "rebalance"  // Order -> Done
	KindDisconnect = "disconnect" // Order -> Done
	KindAgents     = "agents"     // roster.Query -> roster.List
	KindSessions   = "sessions"   // Order, of which only Agent -> []roster.Session
	KindTrace      = "trace"      // Order -> relay.Trace: begin one
	KindTraceEnd   = "trace_end"  // Order -> Done
	KindTraced     = "traced"     // Order, of which only Agent -> relay.Trace: read one
)

// An Order is what an operator wants of a node.
type Order struct {
	Actor   string `json:"actor"` // who asks, for the log of the node that does it
	Reason  string `json:"reason,omitempty"`
	Clients int    `json:"clients,omitempty"` // of KindRebalance: how many are to go
	Agent   string `json:"agent,omitempty"`   // of KindDisconnect, KindSessions and the traces
	Seconds int    `json:"seconds,omitempty"` // of KindTrace
}

// Done is what became of an order that a node has accepted. What it refuses is a
// *wire.Error.
type Done struct {
	Node     string   `json:"node" doc:"The node that does it."`
	State    string   `json:"state,omitempty" doc:"Of the node from now on: ready or draining."`
	Clients  int      `json:"clients,omitempty" doc:"Connections that go; while a node drains, those that it still had."`
	Sessions int      `json:"sessions,omitempty" doc:"Sessions of the agent that were ended."`
	Nodes    []string `json:"nodes,omitempty" doc:"On which nodes they were."`
	Missing  []string `json:"missing,omitempty" doc:"Nodes that did not answer: the agent may have a session there."`
	Message  string   `json:"message" doc:"What happens now, in a sentence."`
}
