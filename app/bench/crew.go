package bench

import (
	"context"
	"time"
)

// A crew makes load: one worker in this process, or several in their own. Run
// leads it through the methods in the order in which they stand here.
type crew interface {
	// connect opens all connections.
	connect(ctx context.Context) (Connects, error)
	// start lets the load begin; run makes it for d.
	start() error
	run(ctx context.Context, d time.Duration) error
	// measure starts or ends the measured time.
	measure(on bool) error
	// drain stops sending, waits for what is under way, and returns by part how
	// many messages each sender has sent.
	drain(ctx context.Context) ([]map[uint32]uint32, error)
	// finish counts what is missing of what was sent in all crews.
	finish(sent []map[uint32]uint32) ([]PartResult, error)
	// rest keeps the connections served for a moment, with whatever load runs.
	rest() error
	// pids are its worker processes, if it has any.
	pids() []int
	close()
}

// Connects is how the connections came to be.
type Connects struct {
	Ready   uint64     `json:"ready"`
	Failed  uint64     `json:"failed"`  // attempts that ended in an error and were repeated
	Refused uint64     `json:"refused"` // attempts that the server told to come back later (429, 503)
	Reasons Codes      `json:"reasons,omitempty"`
	Latency *Histogram `json:"latency"` // from the first packet to authenticated and subscribed
	First   int64      `json:"first_ns"`
	Last    int64      `json:"last_ns"` // monotonic time of the first attempt and the last success
}

// PartResult is what one part of a load has counted.
type PartResult struct {
	Name    string     `json:"name"`
	Counts  Counts     `json:"counts"`
	Latency *Histogram `json:"latency"`
	Away    *Histogram `json:"away,omitempty"` // from the close of a moved connection until it was ready elsewhere
}

// merge adds what the same part of another worker has counted.
func (p *PartResult) merge(other *PartResult) {
	p.Counts.merge(&other.Counts)
	p.Latency.Merge(other.Latency)
	switch {
	case p.Away == nil:
		p.Away = other.Away
	case other.Away != nil:
		p.Away.Merge(other.Away)
	}
}

// merge adds the connections of another worker.
func (c *Connects) merge(other *Connects) {
	c.Ready += other.Ready
	c.Failed += other.Failed
	c.Refused += other.Refused
	for reason, n := range other.Reasons {
		if c.Reasons == nil {
			c.Reasons = Codes{}
		}
		c.Reasons[reason] += n
	}
	c.Latency.Merge(other.Latency)
	c.First = min(c.First, other.First)
	c.Last = max(c.Last, other.Last)
}
