package bench

import (
	"fmt"
	"math"
	"time"
)

// never is the time of a tick that is not wanted.
const never = math.MaxInt64

// A part is one kind of load with connections of its own. All methods are called
// from the worker's goroutine.
type part interface {
	owner
	// plans are the connections that this worker opens for the part.
	plans() []plan
	// joined tells that a connection is ready.
	joined(c *conn)
	// returned tells that one that had left is ready again, at another node.
	returned(c *conn)
	// start begins to send; stop ends it.
	start(now int64)
	stop()
	// tick sends what is due and returns when it wants to be called again.
	tick(now int64) (next int64)
	// missing is how much of what was sent has not come yet; known is false where
	// only another worker could tell.
	missing() (n uint64, known bool)
	// sent is how many messages each numbered sender has sent.
	sent() map[uint32]uint32
	// finish counts what never came, given what was sent in all workers.
	finish(sent map[uint32]uint32)
	// book is the part's tally.
	book() *tally
}

// A tally is what a part has counted.
type tally struct {
	name      string
	counts    Counts
	from, to  Counts // counts when measuring started and ended
	latency   Histogram
	measuring bool
	lastCame  int64      // when something last arrived
	away      *Histogram // how long moved connections were gone; nil: none was moved
}

func (t *tally) book() *tally { return t }

// untilNow is sent less got, not below 0.
func untilNow(sent, got uint64) uint64 {
	if got >= sent {
		return 0
	}
	return sent - got
}

// begin starts the measured time.
func (t *tally) begin() {
	t.measuring = true
	t.from = t.counts.clone()
	t.latency = Histogram{}
}

// end ends the measured time.
func (t *tally) end() {
	t.measuring = false
	t.to = t.counts.clone()
}

// arrived counts a delivery that was due at the time of its stamp.
func (t *tally) arrived(due, now int64) {
	t.counts.Delivered++
	t.lastCame = now
	if t.measuring {
		t.latency.Add(time.Duration(now - due))
	}
}

// other counts the frames that every part counts alike.
func (t *tally) other(f *Frame) {
	switch f.Kind {
	case FrameAnswer:
		t.counts.Answered++
	case FrameError:
		t.counts.Refused++
		t.counts.Codes.add(f.Code)
	case FrameGap:
		t.counts.Gaps++
	}
}

func (t *tally) broken(_ *conn, err error) {
	t.counts.Broken++
	t.counts.Codes.add(err.Error())
}

// result is the tally as the report wants it.
func (t *tally) result() PartResult {
	r := PartResult{Name: t.name, Counts: t.counts.clone(), Latency: &t.latency}
	r.Away = t.away
	r.Counts.Sent = t.to.Sent - t.from.Sent
	r.Counts.Delivered = t.to.Delivered - t.from.Delivered
	r.Counts.Answered = t.to.Answered - t.from.Answered
	r.Counts.Refused = t.to.Refused - t.from.Refused
	return r
}

// A pace says when the next of a steady stream of messages is due.
type pace struct {
	every float64 // nanoseconds between two; 0: no pace
	first int64
	count float64
}

func newPace(perSecond float64, now int64) pace {
	if perSecond <= 0 {
		return pace{}
	}
	return pace{every: float64(time.Second) / perSecond, first: now}
}

// due is when the next message is due.
func (p *pace) due() int64 { return p.first + int64(p.count*p.every) }

// take moves on to the message after it.
func (p *pace) take() { p.count++ }

// share says which of total numbered things worker index of n takes: [from, to).
func share(total, index, n int) (from, to int) {
	return total * index / n, total * (index + 1) / n
}

// portion is what part of total gets of a rate.
func portion(rate float64, part, total int) float64 {
	if total == 0 {
		return 0
	}
	return rate * float64(part) / float64(total)
}

// agentName is the name of agent number i of a part. Agents' names have two parts
// at most, owner and name.
func agentName(run, part string, i int) string { return fmt.Sprintf("bench/%s-%s-%d", run, part, i) }
