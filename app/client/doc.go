// Package client connects a Go program to the relay as an agent.
//
// A Client keeps one connection alive: it reconnects with full-jitter backoff,
// resumes its session and its channels, drops what is replayed twice,
// acknowledges what was handled, and measures the round trip by heartbeats.
// Commands given while the connection is down wait, bounded, until it is back or
// their context ends. A send or publish whose answer was lost is repeated with
// its dedup key, so that it is accepted once.
//
// What cannot be promised is said: an error that wraps ErrUncertain means that the
// relay may or may not have accepted the command, a Gap names what was lost.
//
// Handlers of messages run one after the other on one goroutine, in the order in
// which the relay sent; handlers of requests run concurrently, bounded. All
// methods may be called concurrently and from handlers. The package keeps nothing
// on disk: a session is resumed as long as the process lives.
package client
