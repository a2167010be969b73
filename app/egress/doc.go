// Package egress is how a node calls programs outside: notification services,
// control planes, heartbeat receivers.
//
// A Client checks the address that it is about to connect to, after the name was
// resolved, so that no configuration and no answer of a name server leads it to
// this machine, the private network or a metadata service unless that was allowed.
// It follows redirects only within the same host, bounds time and size of every
// call, and keeps URLs, which often hold secrets, out of its errors. A Breaker and
// a Backoff say when to try again. The package keeps no queue and starts no
// goroutine of its own.
package egress
