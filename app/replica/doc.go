// Package replica keeps logs equal on all nodes: what one node wrote reaches all
// others within two seconds, and what a node missed (it was away, cut off, or its
// disk is new) it gets from any node that has it.
//
// A log has entries of many origins. An origin is one data directory; it numbers
// its entries 1, 2, 3 … and nobody else writes under its name. A node therefore
// says all that it has by one number an origin: its heads.
//
// Fresh entries are broadcast at once. Each second every node broadcasts a digest
// of its heads; whoever hears another digest sends its heads there and is answered
// with what it lacks. Nothing is kept anywhere but on the nodes: the bus may lose,
// double and reorder parcels, and the Redis below it may forget everything.
//
// The package knows neither Redis nor SQLite nor what the entries say. DESIGN.md
// has the guarantees and bounds.
package replica
