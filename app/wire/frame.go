package wire

// Header is one name and value that travels with a message, untouched.
type Header struct{ Name, Value string }

// Since is a place in a channel: everything after Offset of Epoch is wanted.
type Since struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// Payload is what agents say to each other. Data is JSON text, or raw bytes when
// Binary is true (`bytes` in the schema). A nil Data with Binary false is "no
// payload given".
type Payload struct {
	Data   []byte
	Binary bool
}

// Command is one decoded frame from a client. It is meant to be reused: Read
// overwrites every field. All byte slices alias the decoded input or the
// Command's own scratch space and are valid only until either is reused, so that
// whoever keeps one copies it. Strings, Headers, Err, Connect and the State of
// Profile are copies that may be kept; Card and Keys of Profile are byte slices.
//
// A client that fills in a Command for AppendCommand sets Class: its zero value
// is Critical, not the protocol's default.
type Command struct {
	ID   uint64 // 0: none was given
	Kind Kind

	To      []byte // send, request
	Channel []byte // subscribe, unsubscribe, publish, history, presence
	Agent   []byte // presence
	Method  []byte // request
	Key     []byte // send, publish
	Match   []byte // agents
	After   []byte // agents
	Payload Payload
	Class   Class // send, request, publish
	Headers []Header

	TTLMS     int64 // send
	TimeoutMS int64 // request
	Receipts  bool  // send

	Request uint64 // cancel (an own request's id), reply (the server's number)
	More    bool   // reply
	Err     *Error // reply; nil when it is an answer

	MessageID []byte       // receipt
	State     ReceiptState // receipt
	Note      []byte       // receipt

	HasSince bool  // subscribe, history
	Since    Since // subscribe, history
	Presence bool  // subscribe
	Limit    int   // history, agents

	Seq   uint64 // ack
	RTTMS int64  // ping

	Connect *Connect // connect only
	Profile *Profile // profile only

	scratch []byte
}

// Connect opens a session or resumes one.
type Connect struct {
	Token  string
	Agent  string
	Resume *Resume
	Client ClientInfo
}

// Resume names the session to go on with and what of it has arrived.
type Resume struct {
	Session  string
	Seq      uint64
	Channels []ChannelPosition
}

// ChannelPosition is where a resuming client stands in one channel.
type ChannelPosition struct {
	Channel string `json:"channel"`
	Epoch   string `json:"epoch"`
	Offset  uint64 `json:"offset"`
}

// ClientInfo is what a client says it is.
type ClientInfo struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

// Profile is what an agent publishes of itself. Card and Keys are JSON values
// that the relay carries and never reads.
type Profile struct {
	Card  []byte
	Keys  []byte
	State AgentState // "" leaves it as it is
}

// The types below are frames that the relay sends. An ID of 0 is left out.

// Connected answers connect.
type Connected struct {
	ID          uint64
	Session     string
	Agent       string
	Node        string
	Region      string
	Resumed     bool
	Seq         uint64
	HeartbeatMS int64
	ResumeMS    int64
	Limits      Limits
	Version     string // server.version
}

// OK answers a command. Which fields are written depends on the command that it
// answers, named by For: send (MessageID, Outcome, Sessions), subscribe (Epoch,
// Offset, Recovered), publish (Epoch, Offset), history (Messages, Epoch,
// Offset), presence (Members, Partial), agents (Agents, Next, Partial), and none
// for unsubscribe and profile.
type OK struct {
	ID        uint64
	For       Kind
	MessageID string
	Outcome   Outcome
	Sessions  int
	Epoch     string
	Offset    uint64
	Recovered bool
	Messages  []Message
	Members   []Member
	Agents    []AgentInfo
	Next      string
	Partial   bool // of lists: not every node answered in time
}

// Message is a direct message (To and Seq) or a channel message (Channel and
// Offset).
type Message struct {
	Seq       uint64
	Channel   string
	Offset    uint64
	From      string
	To        string
	Payload   Payload
	MessageID string // ULID
	TimeMS    int64
	Class     Class // written when it is not Normal
	Headers   []Header
}

// Request is a question on its way to the agent that answers.
type Request struct {
	Seq        uint64
	Request    uint64 // the number that the reply names
	From       string
	Method     string
	Payload    Payload
	DeadlineMS int64 // milliseconds left
	Headers    []Header
}

// Reply is an answer on its way back. ID is the asker's own request id.
type Reply struct {
	ID      uint64
	Seq     uint64
	From    string
	Payload Payload
	More    bool
	Err     *Error
}

// Receipt tells a sender what became of a message.
type Receipt struct {
	Seq       uint64
	MessageID string
	From      string
	State     ReceiptState
	Note      string
	TimeMS    int64
}

// ErrorFrame refuses the command ID, or speaks of the connection when ID is 0.
// Key repeats the dedup key of a refused send or publish that had no id.
type ErrorFrame struct {
	ID  uint64
	Key string
	Err Error
}

// PresenceEvent tells who came, went or changed in a channel.
type PresenceEvent struct {
	Channel string
	Event   string // join, leave, state
	Agent   string
	State   AgentState
}

// Gap names a loss that will not be made good. Missed 0 means "not known".
type Gap struct {
	Channel string // "" is the session's direct frames
	Missed  uint64
	Epoch   string // of a channel: where it goes on, behind Offset; "": not said
	Offset  uint64
}

// Notice tells clients what the relay is about to do or has turned off.
type Notice struct {
	Kind          string // degraded, drain, rebalance, limit, cluster
	Level         string
	Message       string
	UntilMS       int64 // wall clock, ms since 1970; 0: not known
	ReconnectInMS int64
	Endpoints     []string
}

// Pong answers ping.
type Pong struct {
	ID          uint64
	TimeMS      int64
	HeartbeatMS int64
}

// Member is one agent in an answer to presence.
type Member struct {
	Agent        string     `json:"agent"`
	State        AgentState `json:"state"`
	Sessions     int        `json:"sessions"`
	LastActiveMS int64      `json:"last_active_ms"` // wall clock of the last thing heard from it
	Queue        int        `json:"queue"`          // frames waiting for it
}

// AgentInfo is one entry of the directory.
type AgentInfo struct {
	Agent        string     `json:"agent"`
	State        AgentState `json:"state"`
	Sessions     int        `json:"sessions"`
	LastActiveMS int64      `json:"last_active_ms"`
	Queue        int        `json:"queue"`
	Card         []byte     `json:"-"` // JSON, nil when it published none
	Keys         []byte     `json:"-"`
}
