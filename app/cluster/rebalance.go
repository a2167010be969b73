package cluster

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// balanceEvery is how often the leader looks whether load lies evenly: what one step
// moves has arrived elsewhere by the next.
const balanceEvery = 10 * time.Second

// Balance says how evenly connections have to lie, and how fast they may be moved.
type Balance struct {
	// Ratio is how much fuller than the average the fullest node may be. Default 1.1.
	Ratio float64
	// Least is how many connections too many are not worth a move. Default 20.
	Least int
	// PerStep bounds what one node gives away in one step. Default 200.
	PerStep int
}

func (b Balance) withDefaults() Balance {
	if b.Ratio <= 1 {
		b.Ratio = 1.1
	}
	if b.Least <= 0 {
		b.Least = 20
	}
	if b.PerStep <= 0 {
		b.PerStep = 200
	}
	return b
}

// A Move is a wish that a node gives connections away, to nodes with room.
type Move struct {
	Node  string
	Count int
	To    []string // names of nodes, the one with most room first
}

// Rebalance plans one step towards even load among the nodes of a region that take
// clients. A node is measured by the share of what it can hold where all say what
// that is, else by connections. It moves nothing while a node joins or drains, since
// the load is on its way then, and never more than what brings a giver down to the
// average or the takers up to it.
func Rebalance(members []Member, region string, b Balance) []Move {
	b = b.withDefaults()
	var nodes []Member
	for _, m := range members {
		if m.Region != region || m.State == Gone {
			continue
		}
		if m.State != Ready || !m.Routed {
			return nil
		}
		nodes = append(nodes, m)
	}
	if len(nodes) < 2 {
		return nil
	}
	targets := targets(nodes)
	room := make([]int, len(nodes))
	var takers []int
	for i := range nodes {
		if room[i] = targets[i] - nodes[i].Load.Connections; room[i] > 0 && nodes[i].Addr != "" {
			takers = append(takers, i)
		}
	}
	slices.SortFunc(takers, func(a, b int) int {
		if room[a] != room[b] {
			return room[b] - room[a]
		}
		return strings.Compare(nodes[a].Name, nodes[b].Name)
	})
	total := 0
	var to []string
	for _, i := range takers {
		total += room[i]
		to = append(to, nodes[i].Name)
	}
	var moves []Move
	for i, m := range nodes {
		over := -room[i]
		if over < b.Least || float64(m.Load.Connections) <= b.Ratio*float64(targets[i]) {
			continue
		}
		if count := min(over, b.PerStep, total); count > 0 {
			total -= count
			moves = append(moves, Move{Node: m.Name, Count: count, To: to})
		}
	}
	return moves
}

// targets is how many connections each node should have: the same share of its
// capacity, or the same number.
func targets(nodes []Member) []int {
	connections, capacity, known := 0, 0, true
	for _, m := range nodes {
		connections += m.Load.Connections
		capacity += m.Load.Capacity
		known = known && m.Load.Capacity > 0
	}
	out := make([]int, len(nodes))
	for i, m := range nodes {
		if known {
			out[i] = int(int64(connections) * int64(m.Load.Capacity) / int64(capacity))
		} else {
			out[i] = connections / len(nodes)
		}
	}
	return out
}

// OnShed has shed called when this node should give count connections away to others,
// whose endpoints are given. It is called by one goroutine at a time and ends with
// ctx. It must be set before Run; without it the node takes no part.
func (n *Node) OnShed(b Balance, shed func(ctx context.Context, count int, endpoints []string)) {
	n.balance, n.shed = b, shed
}

// balanceLoad is the leader's duty to keep the load of its region even.
func (n *Node) balanceLoad() {
	if n.shed == nil {
		return
	}
	for sleep(n.ctx, balanceEvery) {
		lease := n.Leader()
		if !lease.Mine || n.cut.Load() {
			continue
		}
		for _, m := range Rebalance(n.Members(), n.cfg.Region, n.balance) {
			n.log.Info("cluster: a node gives connections away", "node", m.Node, "connections", m.Count, "to", strings.Join(m.To, " "))
			if m.Node == n.cfg.Name {
				n.shedSome(m.Count, m.To)
			} else if p := n.peer(m.Node); p != nil {
				p.out.push(topicShed, shedRecord(lease.Fence, m))
			}
		}
	}
}

func shedRecord(fence uint64, m Move) []byte {
	b := binary.AppendUvarint(nil, fence)
	b = binary.AppendUvarint(b, uint64(m.Count))
	for _, to := range m.To {
		b = appendText(b, to)
	}
	return b
}

// told takes the leader's wish, unless a newer leader is known.
func (n *Node) told(body []byte) {
	r := reader{b: body}
	fence, count := r.uvarint(), r.uvarint()
	var to []string
	for len(r.b) > 0 && len(to) < maxPeers {
		to = append(to, r.text())
	}
	if r.bad || fence < n.leader.highest() || count > 1<<20 {
		n.count.dropped.add(ReasonStale, 1)
		return
	}
	n.shedSome(int(count), to)
}

// shedSome gives connections away in the background, one step at a time.
func (n *Node) shedSome(count int, to []string) {
	var endpoints []string
	for _, name := range to {
		if p := n.peer(name); p != nil {
			if m := p.member.Load(); m.State == Ready && m.Addr != "" {
				endpoints = append(endpoints, m.Addr)
			}
		}
	}
	if n.shed == nil || len(endpoints) == 0 || n.shedding.Swap(true) {
		return
	}
	n.wg.Go(func() {
		defer n.shedding.Store(false)
		n.shed(n.ctx, count, endpoints)
	})
}
