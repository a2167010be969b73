package bench

import "time"

// A FrameKind is what a frame from the server means to the load generator.
type FrameKind uint8

// What a Dialect may find in a message.
const (
	FrameOther     FrameKind = iota // nothing that concerns the load
	FrameConnected                  // the connection is authenticated
	FrameAnswer                     // a command was accepted
	FrameDelivery                   // a message from another client
	FrameRequest                    // a question that wants a reply; Frame.Number names it
	FrameReply                      // the answer to an own question
	FrameError                      // a command was refused; Frame.Code says why
	FrameGap                        // the server says that something was lost
	FramePing                       // wants Dialect.AppendPong
	FrameMove                       // the server will send the client to another node
)

// A Frame is one frame from the server. Data aliases the read buffer.
type Frame struct {
	Kind      FrameKind
	Sequenced bool   // counts towards Dialect.AppendAck
	Number    uint64 // of a FrameRequest
	Code      string // of a FrameError
	Data      []byte // holds the payload, stamp and all
	Where     *Where // of a FrameMove, and of a FrameConnected by a Mover
}

// Where is what a Mover says of a session and of the node that shall have it.
type Where struct {
	Session   string // what AppendResume wants; "": it cannot be resumed
	Resumed   bool   // the session that was asked for goes on
	Seq       uint64 // of the last sequenced frame before those that follow
	Endpoints []string
	Pause     time.Duration // before the client goes there
}

// A Dialect is how one kind of server is spoken to over WebSocket. Append methods
// add one command to the message in dst, with whatever separates it from those
// before; they may add nothing where the server knows no such thing. An id of 0
// asks for no answer where that is possible. One Dialect serves one worker, from
// one goroutine.
type Dialect interface {
	// Name is the server's name in reports.
	Name() string
	// Upgrade is the path of the WebSocket door, below the base URL, and further
	// header lines of the upgrade request without line ends.
	Upgrade() (path string, header []string)
	// Binary tells that the client's messages are binary, not text.
	Binary() bool
	// Inbox tells that a client must subscribe to its own name to get what is sent
	// to it.
	Inbox() bool

	AppendConnect(dst []byte, agent string) []byte
	AppendSubscribe(dst []byte, id uint64, channel string) []byte
	AppendPublish(dst []byte, id uint64, channel string, payload []byte) []byte
	AppendSend(dst []byte, id uint64, to string, payload []byte) []byte
	AppendAck(dst []byte, seq uint64) []byte
	AppendPing(dst []byte) []byte
	AppendPong(dst []byte) []byte

	// Next reads the first frame of msg. n is the bytes it took; 0 means that the
	// frame goes on in the next message.
	Next(msg []byte) (f Frame, n int, err error)
}

// A Mover is a Dialect of a server that sends connections to other nodes and goes on
// with their sessions there.
type Mover interface {
	// Elsewhere tells whether a close code sends the client to another node.
	Elsewhere(code int) bool
	// AppendResume is AppendConnect for a session that goes on; seq is the last
	// sequenced frame that came.
	AppendResume(dst []byte, agent, session string, seq uint64) []byte
}

// An Asker is a Dialect of a server that knows requests and replies.
type Asker interface {
	AppendRequest(dst []byte, id uint64, to string, payload []byte) []byte
	AppendReply(dst []byte, number uint64, payload []byte) []byte
}
