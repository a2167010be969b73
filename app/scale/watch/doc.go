// Package watch runs the scaling engine in a node. Each second it takes a sample
// of the relay, the machine and the API, tells it to the other nodes, looks at the
// fleet, and, where this node leads, lets the engine decide. What follows is
// written to the scaling log, handed to the actuator and the notifier, and summed
// up for the history.
//
// A tick waits for nothing: the database, the actuator and people are served by
// goroutines of their own, behind bounded queues. Nothing here is on the path of a
// message; all it asks of the relay is one reading of its counters a second.
//
// It promises that a node without a leader, or cut off from the others, changes no
// count; that a decision is in the log, on disk, before it is acted upon; and that
// alerts, silences, the policy's memory and comparisons that are due survive a
// restart. It opens no socket and no database: the store, the fleet, the actuator
// and the notifier are interfaces.
package watch
