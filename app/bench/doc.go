// Package bench is the load generator of `agentnet bench` and its report.
//
// It opens many WebSocket connections to a running server from one thread, gives
// them work (fan-out, direct messages, requests, idling, connect storms, readers
// that never read, or a mixture) and counts what arrives: deliveries a second,
// latency from the moment that a message was due, and per receiver what was lost,
// doubled or out of order. Of the server it reads CPU time and memory from /proc.
//
// It is not a client library: it scans frames for the stamp that it put into the
// payload and decodes little else, so that one core of generator can load one core
// of server. How a server is spoken to is a Dialect; AgentNet is the one built in,
// and scripts/bench brings those of the peers. Connections are plain TCP, and the
// generator runs on Linux only (epoll); elsewhere Run says so.
//
// A connection that the server sends to another node (close code 4004) goes there, to
// an endpoint that the notice named or else to the next of the given URLs, resumes its
// session and is counted; one that ends otherwise is counted as broken and stays away.
//
// Each worker is one goroutine that owns all of its connections, hence nothing in
// it is locked. Run may be called concurrently with itself.
package bench
