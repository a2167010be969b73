// Package limit says how much is too much: token buckets, limits for each client
// address, and the gate that paces new connections.
//
// It reads no clock and starts no goroutine: the caller passes now, in nanoseconds
// of a monotonic clock that is never negative, such as the time since the process
// began. It knows neither sockets nor HTTP; it only says whether to go on, and if
// not, how long to wait. A refusal takes nothing. Memory is bounded whatever the
// number of clients, and nothing allocates once tables have grown to their bound.
package limit
