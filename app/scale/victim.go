package scale

import (
	"cmp"
	"slices"
)

// victims names the n nodes that cost least to end: those that carry the fewest
// connections, of equals the leader last, then by name. A silent node comes first:
// it serves nobody that we know of.
func (in *Inputs) victims(n int) []string {
	type candidate struct {
		name        string
		rank        int
		connections float64
		leads       int
	}
	var all []candidate
	for i := range in.Nodes {
		node := &in.Nodes[i]
		if node.State == Draining {
			continue
		}
		c := candidate{name: node.Name, connections: node.Values[Connections].Value, rank: 1}
		if node.State == Silent {
			c.rank = 0
		}
		if node.Values[Connections].State == Missing {
			c.rank = 2 // it may carry the most of all
		}
		if node.Name == in.Leader {
			c.leads = 1 // another would have to take over first
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.connections, b.connections), cmp.Compare(a.leads, b.leads), cmp.Compare(a.name, b.name))
	})
	out := make([]string, 0, n)
	for _, c := range all[:min(n, len(all))] {
		out = append(out, c.name)
	}
	return out
}

// DeletionCosts gives each node the cost of ending it, in connections, for
// control planes that choose the victim themselves, such as by Kubernetes'
// pod-deletion-cost. A node whose connections are unknown costs the most.
func DeletionCosts(f *Fleet) map[string]int {
	highest := 0.0
	for i := range f.Nodes {
		highest = max(highest, f.Nodes[i].Values[Connections].Value)
	}
	out := make(map[string]int, len(f.Nodes))
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if v, ok := n.Values.Get(Connections); ok {
			out[n.Name] = int(v)
		} else {
			out[n.Name] = int(highest) + 1
		}
	}
	return out
}

// A Move asks a node to send some of its clients away.
type Move struct {
	Node  string `json:"node"`
	Count int    `json:"count"`
}

// Rebalance names the nodes that hold more than factor times the mean of the
// nodes that take clients, and how many clients each should let go, most first.
// It says nothing while a node is silent, drains or is warming up: the balance
// is still changing by itself.
func Rebalance(f *Fleet, factor float64) []Move {
	var sum float64
	ready := 0
	for i := range f.Nodes {
		v, known := f.Nodes[i].Values.Get(Connections)
		if f.Nodes[i].State != Ready || !known {
			return nil
		}
		sum += v
		ready++
	}
	if ready < 2 || factor < 1 {
		return nil
	}
	mean := sum / float64(ready)
	var out []Move
	for i := range f.Nodes {
		if v, _ := f.Nodes[i].Values.Get(Connections); v > factor*mean && v-mean >= 1 {
			out = append(out, Move{Node: f.Nodes[i].Name, Count: int(v - mean)})
		}
	}
	slices.SortFunc(out, func(a, b Move) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Node, b.Node)) })
	return out
}
