// Package ws is the WebSocket door: it upgrades HTTP requests, takes the sockets
// over and carries whole messages between them and the relay.
//
// It speaks RFC 6455 (server side, in full) and, where it is turned on,
// permessage-deflate (RFC 7692). It knows nothing of frames, agents or sessions:
// a message is bytes for a relay.Receiver, and bytes from the relay are written
// as they are.
//
// On Linux a plain TCP or Unix socket leaves fasthttp and the Go netpoller after
// the upgrade and is served by one of a few epoll loops, so that an idle
// connection has no goroutine, no stack and no buffer. TLS connections, and all
// connections on other systems, have one reading goroutine each and a writing one
// only while something waits. Both ways share the protocol code and behave alike.
//
// The package promises that a byte written for one connection never reaches
// another one, even when a relay.Conn is used after its end; that memory held for
// one connection is bounded by the message limit; that no call of a relay.Conn
// waits; and that whatever a peer sends ends at worst its own connection.
package ws
