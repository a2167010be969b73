package scale

import (
	"fmt"
	"time"
)

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

	Anchor *LogAnchor `json:"anchor,omitempty" doc:"Where the log begins here; absent: at its first entry."`
}

// A LogAnchor is where the log of an origin begins in one database, after its
// oldest entries have left it.
type LogAnchor struct {
	Origin  string `json:"origin"`
	Head    Head   `json:"head" doc:"The entry before the first one of the log."`
	Gone    Head   `json:"gone" doc:"The last entry that left; before head where a node was away while the others archived."`
	Entries uint64 `json:"entries" doc:"How many have left."`
	File    string `json:"file,omitempty" doc:"The last archive, below the data directory."`
	Digest  string `json:"digest,omitempty" doc:"Its SHA-256, in hexadecimal."`
}

// A LogArchive is what the verification of an archive came to.
type LogArchive struct {
	Origin  string  `json:"origin"`
	After   Head    `json:"after"` // the entry before its first one
	End     Head    `json:"end"`
	Entries uint64  `json:"entries"`
	Digest  string  `json:"digest"` // SHA-256 of the file, in hexadecimal
	Faults  []Fault `json:"faults"`
}

// Beside says how an archive stands to the log that it was taken from. A fault is
// what cannot be, for two that are as they were written.
func (a *LogArchive) Beside(anchor *LogAnchor) (text string, fault *Fault) {
	switch {
	case anchor == nil:
		return "no entry of this log has left the database", nil
	case a.End.Seq == anchor.Gone.Seq && a.End.Hash != anchor.Gone.Hash, a.Digest != anchor.Digest && anchor.Digest != "" && a.End == anchor.Gone:
		f := Fault{Seq: a.End.Seq, Kind: FaultReplaced, Text: fmt.Sprintf("the archive ends with entry %d, but it is not the archive that the log names", a.End.Seq)}
		return f.Text, &f
	case a.End == anchor.Gone && anchor.Gone == anchor.Head:
		return fmt.Sprintf("the log goes on with entry %d", anchor.Head.Seq+1), nil
	case a.End.Seq < anchor.Gone.Seq:
		return fmt.Sprintf("entries %d to %d are in later archives", a.End.Seq+1, anchor.Gone.Seq), nil
	case a.End == anchor.Gone:
		return fmt.Sprintf("entries %d to %d never were in this database; the log goes on with entry %d", a.End.Seq+1, anchor.Head.Seq, anchor.Head.Seq+1), nil
	}
	return fmt.Sprintf("it reaches beyond entry %d, up to which entries have left this database", anchor.Gone.Seq), nil
}
