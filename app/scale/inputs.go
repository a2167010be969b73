package scale

import (
	"slices"
	"time"
)

// Inputs is the part of a Fleet that a decision is made from, small enough to be
// kept with it in the scaling log.
type Inputs struct {
	At        time.Time   `json:"at"`
	Nodes     []NodeInput `json:"nodes"`
	Requested int         `json:"requested,omitempty"`
	Waiting   float64     `json:"waiting,omitempty"`
	Partial   string      `json:"partial,omitempty"`
	Ahead     Ahead       `json:"ahead,omitzero"`
	Leader    string      `json:"leader,omitempty"`
	Fence     uint64      `json:"fence,omitempty"` // of the leader that decided; nothing follows from it

	// Fleet holds what is only known of the whole: merged latencies, weighted shares.
	Fleet Readings `json:"fleet"`
}

// A NodeInput is one node, with the signals that the policy uses.
type NodeInput struct {
	Name   string    `json:"name"`
	State  NodeState `json:"state"`
	Values Readings  `json:"values"`
}

// An Ahead is a count that a forecast asks for before the load is there. It can
// only raise the count, within the same bounds as everything else.
type Ahead struct {
	Count int    `json:"count,omitempty"`
	Why   string `json:"why,omitempty"`
}

// InputsOf takes from a fleet what the policy looks at.
func InputsOf(f *Fleet, p *Policy) Inputs {
	used := make([]Signal, 0, len(p.Targets)+1)
	used = append(used, Connections)
	for _, t := range p.Targets {
		used = append(used, t.Signal)
	}
	slices.Sort(used)
	used = slices.Compact(used)

	in := Inputs{At: f.At.UTC().Round(0), Nodes: make([]NodeInput, 0, len(f.Nodes)),
		Requested: f.Requested, Waiting: f.Waiting, Partial: f.Partial, Ahead: f.Ahead, Leader: f.Leader, Fence: f.Fence}
	for i := range f.Nodes {
		n := NodeInput{Name: f.Nodes[i].Name, State: f.Nodes[i].State}
		for _, s := range used {
			n.Values[s] = f.Nodes[i].Values[s]
		}
		in.Nodes = append(in.Nodes, n)
	}
	whole := []Signal{AcceptRate, Reconnects}
	for _, g := range p.Guards {
		whole = append(whole, g.Signal)
	}
	for _, s := range whole {
		in.Fleet[s] = f.Total(s).reading(s)
	}
	return in
}

// reading is the aggregate as one value of the fleet.
func (a Aggregate) reading(s Signal) Reading {
	v := a.Mean
	if s.Additive() {
		v = a.Sum
	}
	switch {
	case a.Known > 0:
		return Reading{Value: v, State: Fresh}
	case a.Lost > 0:
		return Reading{State: Stale}
	case a.Idle > 0:
		return Reading{State: Idle}
	}
	return Reading{}
}

// live counts the nodes that are capacity or will be.
func (in *Inputs) live() (n int) {
	for i := range in.Nodes {
		if in.Nodes[i].State != Draining {
			n++
		}
	}
	return n
}

// silent names the first node without a sample, and counts all of them.
func (in *Inputs) silent() (first string, n int) {
	for i := range in.Nodes {
		if in.Nodes[i].State == Silent {
			if n == 0 {
				first = in.Nodes[i].Name
			}
			n++
		}
	}
	return first, n
}
