// Package drill rehearses faults: it breaks something under a node, measures what
// clients notice, and holds that against what was promised.
//
// It is a client of the node and the owner of the way to it (a Valve), nothing
// more: whoever uses it says how nodes are started and ended (Place). A drill that
// cannot be run here (no rights to mount, no node of its own) says so and is not
// counted as passed. Everything that it starts it ends, also when it fails.
package drill
