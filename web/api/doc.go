// Package api is the HTTP side of the relay for programs: send, request and
// publish without a socket, the directory, statistics, health, Prometheus
// metrics and the OpenAPI document that describes all of it.
//
// It translates: a body becomes a command of package wire, an error becomes a
// problem document (RFC 9457) whose code is the protocol's word, and every
// decision is the relay's, which it sees through the small interfaces declared
// here. It keeps no state but the number of callers that wait, starts no
// goroutine that outlives its request, and never logs or repeats a token or a
// payload.
package api
