// Package roster lists agents for people who operate the relay: their state, queues,
// round trips and rates, filtered and sorted. A node lists its own; several lists
// become one by Merge, so that a page shows the agents of all nodes. It is not the
// directory that agents see, which the relay keeps, and knows nothing of what agents
// say.
//
// A list is bounded: at most MaxRows rows of one node, those that are first by the
// order asked for. The counts beside them are of all.
package roster
