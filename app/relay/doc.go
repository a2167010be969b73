// Package relay is the message path of one node: sessions, agents, channels,
// requests, presence and delivery.
//
// It knows no sockets, HTTP, Redis or SQLite: a socket is a Conn, credentials are
// an Authorizer, the disk is a Journal and what nodes share is a Broker; all four
// are interfaces declared here and implemented elsewhere. Delivery between two
// local agents takes no global lock, waits for nothing and touches neither the
// Broker nor the Journal. What it promises, and the order of its locks, stands in
// DESIGN.md.
package relay
