package scale

import "time"

// The types below are what a store of samples and of the log is asked with. They
// lie here because both those who ask and those who store know this package.

// A NodeRollup is one span of one node; of the whole fleet where Node is "".
type NodeRollup struct {
	Node   string
	Rollup Rollup
}

// A Promotion asks for one span of one node to be summed up from the rows of the
// next finer span.
type Promotion struct {
	Node string
	From time.Time
	Span time.Duration // any but the finest of Resolutions
}

// A RollupQuery chooses rollups of one span.
type RollupQuery struct {
	Span     time.Duration // one of Resolutions
	Nodes    []string      // "" is the whole fleet; nil: every node and the fleet
	From, To time.Time     // spans that begin from From until before To
	Signals  []Signal      // nil: all
}

// A LogEntry is an entry and whose it is.
type LogEntry struct {
	Place  uint64 `json:"place"`  // order of arrival where it is stored
	Origin string `json:"origin"` // the node that wrote it
	Entry
}

// A LogFilter chooses entries of all origins, the newest first.
type LogFilter struct {
	Origin   string // "": every one
	Kinds    []Kind
	Actor    string
	Match    string    // part of the summary, any case
	From, To time.Time // zero: any
	Before   uint64    // Place that the page before ended with; 0: the first page
	Oldest   bool      // oldest first; Before is then what the places lie above
	Limit    int       // 1 to 1000; 0 is 100
}

// A LogReport is what the verification of one origin's log came to.
type LogReport struct {
	Origin string  `json:"origin"`
	Rows   uint64  `json:"rows"`
	Faults []Fault `json:"faults"`
	End    Head    `json:"end"`
	Known  Head    `json:"known"` // as it was noted outside of the database; zero: it was not
}
