package scale

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is an invented fleet that follows the decisions, late and not always.
type world struct {
	r        *rand.Rand
	nodes    int // live
	due      []time.Time
	load     float64 // connections in all
	trend    float64
	blind    time.Duration // data are missing until
	blindHow int
}

// next takes the world one second on and returns what the engine sees, and
// whether the data are whole.
func (w *world) next(at time.Time, desired int) (f Inputs, whole bool) {
	for len(w.due) > 0 && !at.Before(w.due[0]) {
		w.due = w.due[1:]
		w.nodes++
	}
	for w.nodes+len(w.due) < desired {
		w.due = append(w.due, at.Add(time.Duration(5+w.r.IntN(60))*time.Second))
	}
	if w.nodes > desired {
		w.nodes = desired
	}
	switch w.r.IntN(400) {
	case 0:
		w.trend = w.r.NormFloat64() * 8
	case 1:
		w.load = w.r.Float64() * 4500 // a step up or down
		w.trend = 0
	case 2:
		w.blind, w.blindHow = time.Duration(w.r.IntN(120))*time.Second, w.r.IntN(4)
	}
	w.load = math.Max(0, math.Min(w.load+w.trend+w.r.NormFloat64()*3, 6000))
	n := max(1, w.nodes)
	each := w.load / float64(n)
	f = w.inputs(at, n, each)
	if w.blind <= 0 {
		return f, true
	}
	w.blind -= time.Second
	switch i := w.r.IntN(n); w.blindHow {
	case 0:
		f.Nodes[i].State = Silent
		f.Nodes[i].Values.stale()
	case 1:
		for k := range f.Nodes {
			f.Nodes[k].Values[Connections] = Reading{}
		}
	case 2:
		f.Partial = "the broker does not answer"
	default:
		for k := range f.Nodes {
			f.Nodes[k].State = Silent
			f.Nodes[k].Values.stale()
		}
	}
	return f, false
}

// inputs is what InputsOf takes from such a fleet, made directly for speed.
func (w *world) inputs(at time.Time, n int, each float64) Inputs {
	in := Inputs{At: at, Nodes: make([]NodeInput, n)}
	for i := range in.Nodes {
		in.Nodes[i].Name = string(rune('a' + i))
		v := &in.Nodes[i].Values
		v.Set(Connections, each)
		v.Set(CPU, math.Min(1, 0.02+each/600))
		v.Set(Memory, 0.3)
		v.Set(MessagesIn, 1)
	}
	for _, s := range [...]Signal{ErrorRate, AcceptRate, Reconnects} {
		in.Fleet.Set(s, 0)
	}
	in.Fleet.SetIdle(DeliveryP95)
	in.Fleet.SetIdle(APIP95)
	return in
}

// TestRandomHistories runs thousands of random loads and holds every decision to
// the promises of the package.
func TestRandomHistories(t *testing.T) {
	histories, length := 2000, 900
	if testing.Short() || raceEnabled {
		histories = 250 // the plain run has them all
	}
	for seed := range uint64(histories) {
		if err := holdsPromises(seed, length, Decide); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
	}
}

// decider is Decide, or a broken version of it.
type decider func(*Policy, State, Inputs) (Decision, State)

// holdsPromises runs one history of so many seconds.
func holdsPromises(seed uint64, seconds int, decide decider) error {
	r := rand.New(rand.NewPCG(seed, 4))
	p := DefaultPolicy(Capacity{})
	p.Min = 1 + r.IntN(3)
	w := &world{r: r, nodes: p.Min + r.IntN(4), load: r.Float64() * 1500}
	var st State
	var d Decision
	var lastUp, blindSince time.Time
	var needs []int // of the last seconds with whole data
	at := start
	desired := w.nodes
	for range seconds {
		at = at.Add(time.Second)
		f, whole := w.next(at, desired)
		d, st = decide(&p, st, f)
		desired = d.Desired
		if blind := !whole; blind {
			blindSince = at
		}
		switch {
		case d.Desired < p.Min || d.Desired > p.Max:
			// A partial view changes nothing, not even towards the bounds.
			if f.Partial == "" {
				return fmt.Errorf("%s: %d instances, want %d to %d", at, d.Desired, p.Min, p.Max)
			}
		case d.Desired < d.Base && !whole:
			return fmt.Errorf("%s: %s, on missing data", at, d.Reason)
		case d.Desired < d.Base && !lastUp.IsZero() && at.Sub(lastUp) < p.Down.Window:
			return fmt.Errorf("%s: %s, %v after the last way up, want %v", at, d.Reason, at.Sub(lastUp), p.Down.Window)
		case d.Desired < d.Base && !blindSince.IsZero() && at.Sub(blindSince) < p.Down.Window:
			return fmt.Errorf("%s: %s, %v after data were missing, want %v", at, d.Reason, at.Sub(blindSince), p.Down.Window)
		}
		if d.Desired > d.Base {
			lastUp = at
		}
		if added, removed := within(st.Changes, at, ScaleDownAfter); removed > max(1, (desired-added+removed+1)/2) {
			return fmt.Errorf("%s: %d of %d instances went within %v", at, removed, desired-added+removed, ScaleDownAfter)
		}
		if !whole {
			needs = needs[:0]
			continue
		}
		if needs = append(needs, min(ceil(w.load/200), p.Max)); len(needs) > int(ScaleUpWithin/time.Second) {
			if least := slices.Min(needs); desired < least {
				return fmt.Errorf("%s: %d instances, but %d or more were needed for %v: %s", at, desired, least, ScaleUpWithin, d.Reason)
			}
			needs = needs[1:]
		}
	}
	return nil
}

// TestPromisesAreTested checks that the property test can fail: each broken
// decider breaks a promise in some history.
func TestPromisesAreTested(t *testing.T) {
	with := func(change func(*Policy)) decider {
		return func(p *Policy, st State, in Inputs) (Decision, State) {
			q := *p
			change(&q)
			return Decide(&q, st, in)
		}
	}
	broken := map[string]decider{
		"too many":         with(func(p *Policy) { p.Max = 25 }),
		"too few":          with(func(p *Policy) { p.Min = 0 }),
		"a short way down": with(func(p *Policy) { p.Down.Window = 2 * time.Minute }),
		"a slow way up":    with(func(p *Policy) { p.Up.Window = 40 * time.Second }),
		"a slow rate up":   with(func(p *Policy) { p.Up.Rates = []Rate{{Count: 1, Period: time.Minute}} }),
		"a fast rate down": with(func(p *Policy) { p.Down.Rates = nil }),
		"blind to silent nodes": func(p *Policy, st State, in Inputs) (Decision, State) {
			in.Nodes = slices.DeleteFunc(slices.Clone(in.Nodes), func(n NodeInput) bool { return n.State == Silent })
			return Decide(p, st, in)
		},
		"blind to a partial view": func(p *Policy, st State, in Inputs) (Decision, State) {
			in.Partial = ""
			return Decide(p, st, in)
		},
	}
	for name, decide := range broken {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				if holdsPromises(seed, 900, decide) != nil {
					return
				}
			}
			t.Error("got no broken promise in 300 histories")
		})
	}
}
