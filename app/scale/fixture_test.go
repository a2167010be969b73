package scale

import (
	"fmt"
	"testing"
	"time"
)

// start is the first moment of every test.
var start = time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)

// level is what every node of a made-up fleet shows.
type level map[Signal]float64

// calm is a level at which nothing is wanted and nothing is wrong.
func calm() level {
	return level{Connections: 150, CPU: 0.5, Memory: 0.5, MessagesIn: 50, ErrorRate: 0, Broker: 1, AcceptRate: 0, Reconnects: 0}
}

// quiet is a level at which one instance would do.
func quiet() level {
	return level{Connections: 20, CPU: 0.1, Memory: 0.1, MessagesIn: 5, ErrorRate: 0, Broker: 1, AcceptRate: 0, Reconnects: 0}
}

// with returns a copy with one value changed.
func (l level) with(s Signal, v float64) level {
	out := level{}
	for k, old := range l {
		out[k] = old
	}
	out[s] = v
	return out
}

// fleetOf makes n ready nodes that all show the level. Latencies without a value
// are idle, as in a fleet without messages.
func fleetOf(at time.Time, n int, l level) Fleet {
	f := Fleet{At: at}
	for i := range n {
		node := Node{Name: fmt.Sprintf("n%02d", i+1)}
		for s := DeliveryP50; s <= APIP99; s++ {
			node.Values.SetIdle(s)
		}
		for s, v := range l {
			node.Values.Set(s, v)
		}
		f.Nodes = append(f.Nodes, node)
	}
	f.Sum()
	return f
}

// pilot runs a policy second by second.
type pilot struct {
	t  *testing.T
	p  Policy
	st State
	at time.Time
	d  Decision
}

func newPilot(t *testing.T, p Policy) *pilot {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return &pilot{t: t, p: p, at: start}
}

// step decides once on the fleet and moves on by a second.
func (p *pilot) step(f Fleet) Decision {
	f.At = p.at
	p.d, p.st = Decide(&p.p, p.st, InputsOf(&f, &p.p))
	p.at = p.at.Add(time.Second)
	return p.d
}

// run decides each second for a time, or until the count changes, and returns
// the time that went by until then.
func (p *pilot) run(d time.Duration, f Fleet) (changed bool, after time.Duration) {
	for begin := p.at; p.at.Sub(begin) <= d; {
		now := p.at
		if dec := p.step(f); dec.Changed() {
			return true, now.Sub(begin)
		}
	}
	return false, d
}

func wantCount(t *testing.T, d Decision, want int) {
	t.Helper()
	if d.Desired != want {
		t.Errorf("got %d instances (%s), want %d", d.Desired, d.Reason, want)
	}
}
