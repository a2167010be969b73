package scale

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestEveryDefaultRuleBacktests drives each default rule over its threshold three
// times, live, and wants the backtest on the stored form of the same seconds to name
// the same episodes: same alert, same beginning, same end, same worst value.
func TestEveryDefaultRuleBacktests(t *testing.T) {
	c := Capacity{Connections: 1000, Messages: 100, ScaleAt: 200, Source: "bench"}
	for _, r := range DefaultRules() {
		t.Run(r.Name, func(t *testing.T) {
			live := r
			live.InhibitedBy = nil
			set, err := NewAlerts([]Rule{live}, c)
			if err != nil {
				t.Fatal(err)
			}
			fleetWide := r.Reduce == Mean || r.Reduce == Sum
			var points []Point
			open, want := map[string]int{}, []Episode{}
			for i := range 1500 {
				at := start.Add(time.Duration(i) * time.Second)
				length := 130
				if r.OfSilence() {
					length = 50 // a node that is silent for longer is forgotten
				}
				f := everyRuleFleet(&r, at, i%500 >= 200 && i%500 < 200+length)
				for _, j := range set.Observe(&f) {
					for _, e := range j.Events {
						switch e.To {
						case Firing:
							open[e.Alert] = len(want)
							want = append(want, Episode{Alert: e.Alert, From: e.At})
						case Resolved:
							want[open[e.Alert]].Until, want[open[e.Alert]].Worst = e.At, j.After.Worst
						}
					}
				}
				if fleetWide {
					s := SlotOf(&f)
					points = append(points, Point{At: s.At, Instances: s.Instances, Values: s.Values})
					continue
				}
				for k := range f.Nodes {
					if n := &f.Nodes[k]; n.State != Silent {
						points = append(points, Point{At: at, Node: n.Name, Instances: 1, Values: n.Values})
					}
				}
			}
			if len(want) != 3 {
				t.Fatalf("live it fired %d times, want 3: %+v", len(want), want)
			}
			got, err := Backtest(r, c, points)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got.Episodes) != fmt.Sprint(want) {
				t.Errorf("got  %v\nwant %v", got.Episodes, want)
			}
		})
	}
}

// everyRuleFleet is a calm fleet of two, or one that is half beyond the threshold of
// a rule.
func everyRuleFleet(r *Rule, at time.Time, breach bool) Fleet {
	l := calm().with(KernelMemory, 0.1).with(Descriptors, 0.1).with(DeliveryP95, 0.01).with(APIP95, 0.01).with(AcceptRate, 1)
	if !breach || r.OfSilence() {
		f := fleetOf(at, 2, l)
		if breach {
			f.Nodes[1].State = Silent
			f.Nodes[1].Values.stale()
			f.Sum()
		}
		return f
	}
	v := 1.5 * r.Threshold
	if r.Below {
		v = 0.5 * r.Threshold
	}
	if r.OfCapacity {
		v *= map[Signal]float64{Connections: 1000, MessagesIn: 100}[r.Signal]
	} else if r.Reduce == Sum {
		v /= 2
	}
	return fleetOf(at, 2, l.with(r.Signal, v))
}

// TestEveryDecisionReplays runs random loads and has each decision that changed the
// count, or what holds it, replayed from what a database would give back.
func TestEveryDecisionReplays(t *testing.T) {
	replayed := 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 9))
		p := DefaultPolicy(Capacity{})
		p.Min = 1 + r.IntN(3)
		w := &world{r: r, nodes: p.Min + r.IntN(4), load: r.Float64() * 1500}
		var st State
		desired, at, last := w.nodes, start, ""
		for range 900 {
			at = at.Add(time.Second)
			in, _ := w.next(at, desired)
			d := DecisionData{Policy: p, State: st, Inputs: in}
			d.Decision, st = Decide(&p, st, in)
			desired = d.Decision.Desired
			if !d.Decision.Changed() && d.Decision.Reason == last {
				continue
			}
			last = d.Decision.Reason
			e, err := decisionEntry("eu", d)
			if err == nil {
				e, err = Seal(Head{}, e)
			}
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var back Entry
			if err := json.Unmarshal(raw, &back); err != nil {
				t.Fatal(err)
			}
			again, err := Replay(back)
			if err != nil || again.Hash != e.Hash || again.Summary != e.Summary {
				t.Fatalf("history %d, %s: %q replays as %q, %v", seed, at, e.Summary, again.Summary, err)
			}
			replayed++
		}
	}
	if replayed < 1000 {
		t.Errorf("replayed %d decisions, want more to try it on", replayed)
	}
}
