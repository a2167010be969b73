package relay

import (
	"net/netip"

	"agentnet/app/wire"
)

// A Conn is a socket as the relay sees it. Its methods may be called concurrently
// and are called with locks held: none of them may wait for anything, and none may
// call back into the Receiver before it has returned. Writes of one Conn never
// overlap.
type Conn interface {
	// Write hands over whole sealed WebSocket messages (wire.Seal, wire.AppendJoined).
	// It writes to the socket what fits at once, and copies and keeps the rest:
	// p is the caller's again on return. full says that a rest was kept; then the
	// relay writes nothing more until Receiver.Writable. A broken socket takes
	// everything and answers false; Receiver.Closed follows by itself.
	Write(p []byte) (full bool)
	// Ping sends a WebSocket ping. It may be left out while a rest is kept.
	Ping()
	// Close sends what was kept as far as the socket takes it at once, then a close
	// frame, waits a bounded time for the peer's, and frees the socket. Receiver.Closed
	// follows. Only the first call counts.
	Close(code wire.CloseCode, reason string)
}

// ConnInfo is what is known of a connection before its first frame.
type ConnInfo struct {
	Encoding wire.Encoding
	Addr     netip.Addr // the client, as trusted proxies tell it
	// Identity is what the bearer token of the upgrade request proved; nil when
	// there was none and the first frame must bring it.
	Identity *Identity
}

// A Receiver is the relay's side of one connection. The socket's owner calls it;
// calls for one connection never overlap.
type Receiver interface {
	// Receive takes the payload of one whole WebSocket message. msg is valid only
	// during the call.
	Receive(t *Turn, msg []byte)
	// Seen tells that the peer is alive although no message came (ping, pong).
	Seen(t *Turn)
	// Writable tells that the socket has taken all that Conn.Write kept.
	Writable(t *Turn)
	// Closed tells that the socket is gone. It is called exactly once, last.
	Closed(t *Turn)
}
