package bench

import "maps"

// Counts is what a part of a load sent and got. Sent, Delivered, Answered and
// Refused in a report are those of the measured time; the others are those of the
// whole run, warm-up and draining included.
type Counts struct {
	Sent       uint64 `json:"sent"`
	Delivered  uint64 `json:"delivered"`         // messages, requests and replies that arrived
	Answered   uint64 `json:"answered"`          // commands that the server accepted
	Refused    uint64 `json:"refused"`           // commands that it answered with an error
	Lost       uint64 `json:"lost"`              // sent and never arrived
	Doubled    uint64 `json:"doubled"`           // arrived twice
	OutOfOrder uint64 `json:"out_of_order"`      // arrived after a later one
	Gaps       uint64 `json:"gaps"`              // losses that the server itself named
	Strange    uint64 `json:"strange"`           // deliveries without a readable stamp, or for someone else
	Stalls     uint64 `json:"stalls"`            // times that a sender gave up waiting and went on
	Broken     uint64 `json:"broken"`            // connections that ended during the load
	Moved      uint64 `json:"moved"`             // times that the server sent a connection to another node
	Fresh      uint64 `json:"fresh"`             // of them, those that got a new session there
	Stranded   uint64 `json:"stranded"`          // of them, those that never got there
	Unanswered uint64 `json:"unanswered"`        // commands of moved connections whose answer had not come: a client that must be sure repeats them with their key
	Codes      Codes  `json:"reasons,omitempty"` // why, of Refused and Broken
}

// Codes counts reasons. It keeps at most maxCodes different ones.
type Codes map[string]uint64

const maxCodes = 16

// add counts one reason; when there are too many, under "other".
func (c *Codes) add(reason string) {
	if *c == nil {
		*c = Codes{}
	}
	if _, known := (*c)[reason]; !known && len(*c) >= maxCodes {
		reason = "other"
	}
	(*c)[reason]++
}

// merge adds all of other to c.
func (c *Counts) merge(other *Counts) {
	c.Sent += other.Sent
	c.Delivered += other.Delivered
	c.Answered += other.Answered
	c.Refused += other.Refused
	c.Lost += other.Lost
	c.Doubled += other.Doubled
	c.OutOfOrder += other.OutOfOrder
	c.Gaps += other.Gaps
	c.Strange += other.Strange
	c.Stalls += other.Stalls
	c.Broken += other.Broken
	c.Moved += other.Moved
	c.Fresh += other.Fresh
	c.Stranded += other.Stranded
	c.Unanswered += other.Unanswered
	for reason, n := range other.Codes {
		if c.Codes == nil {
			c.Codes = Codes{}
		}
		c.Codes[reason] += n
	}
}

// clone returns a copy that shares nothing with c.
func (c *Counts) clone() Counts {
	cp := *c
	cp.Codes = maps.Clone(c.Codes)
	return cp
}
