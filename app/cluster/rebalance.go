package cluster

import (
	"cmp"
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
	// Least is how many connections too many are moved as soon as they are seen.
	// Fewer may come of chance and go by themselves: they are moved when Patience looks
	// in a row have found the node too full. Defaults 20 and 3.
	Least, Patience int
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
	if b.Patience <= 0 {
		b.Patience = 3
	}
	if b.PerStep <= 0 {
		b.PerStep = 200
	}
	return b
}

// A Move is a wish that a node gives connections away, to nodes with room.
type Move struct {
	Node  string
	Over  int // how many it has too many
	Count int // of them, those that go now
	// To are names of nodes, the one with most room first. The connections are spread
	// over them evenly, and there is room for that.
	To []string
}

// A scale weighs the nodes again and again, and remembers since when which of them
// are too full.
type scale struct {
	balance Balance
	looks   map[string]int // by node: how often in a row it was found too full
}

// plan is what has to move now.
func (s *scale) plan(members []Member, region string) []Move {
	b := s.balance.withDefaults()
	looks := map[string]int{}
	var now []Move
	for _, m := range Rebalance(members, region, b) {
		looks[m.Node] = s.looks[m.Node] + 1
		if m.Over >= b.Least || looks[m.Node] >= b.Patience {
			now = append(now, m)
			if delete(looks, m.Node); m.Count < m.Over {
				looks[m.Node] = b.Patience // what one step could not take is no chance
			}
		}
	}
	s.looks = looks
	return now
}

// Rebalance plans one step towards even load among the nodes of a region that take
// clients. A node is measured by the share of what it can hold where all say what
// that is, else by connections. It moves nothing while a node joins or drains, since
// the load is on its way then, and never more than what brings a giver down to its
// share and the takers up to theirs. So each step makes the load more even, until no
// node has more than Ratio times its share or none has a connection more than another.
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
	shares := shares(nodes)
	targets := targets(nodes, shares)
	var takers []taker
	for i, m := range nodes {
		if room := targets[i] - m.Load.Connections; room > 0 && m.Addr != "" {
			takers = append(takers, taker{m.Name, room})
		}
	}
	var moves []Move
	for i, m := range nodes {
		over := m.Load.Connections - targets[i]
		if over < 1 || float64(m.Load.Connections) <= b.Ratio*shares[i] {
			continue
		}
		if count, to := allot(takers, min(over, b.PerStep)); count > 0 {
			moves = append(moves, Move{Node: m.Name, Over: over, Count: count, To: to})
		}
	}
	return moves
}

// A taker is a node with room for connections.
type taker struct {
	name string
	room int
}

// allot finds the takers over which the most of count connections can be spread
// evenly, takes their room, and returns how many that are.
func allot(takers []taker, count int) (n int, to []string) {
	slices.SortFunc(takers, func(a, b taker) int {
		return cmp.Or(cmp.Compare(b.room, a.room), strings.Compare(a.name, b.name))
	})
	over := 0 // how many takers
	for i, t := range takers {
		if can := min(count, (i+1)*t.room); can > n || can == n && t.room > 0 {
			n, over = can, i+1
		}
	}
	if n == 0 {
		return 0, nil
	}
	for i := range takers[:over] {
		to = append(to, takers[i].name)
		takers[i].room -= n / over
		if i < n%over {
			takers[i].room--
		}
	}
	return n, to
}

// shares is how many connections each node should have: the same share of its
// capacity, or the same number.
func shares(nodes []Member) []float64 {
	connections, capacity, known := 0, 0, true
	for _, m := range nodes {
		connections += m.Load.Connections
		capacity += m.Load.Capacity
		known = known && m.Load.Capacity > 0
	}
	out := make([]float64, len(nodes))
	for i, m := range nodes {
		if known {
			out[i] = float64(connections) * float64(m.Load.Capacity) / float64(capacity)
		} else {
			out[i] = float64(connections) / float64(len(nodes))
		}
	}
	return out
}

// targets are shares in whole connections: rounded down, and what is left over stays
// where most are above that.
func targets(nodes []Member, shares []float64) []int {
	out, left := make([]int, len(nodes)), 0
	order := make([]int, len(nodes))
	for i, m := range nodes {
		out[i], order[i] = int(shares[i]), i
		left += m.Load.Connections - out[i]
	}
	above := func(i int) int { return nodes[i].Load.Connections - out[i] }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(above(b), above(a)) })
	for _, i := range order[:min(max(left, 0), len(order))] {
		out[i]++
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
	weigh := scale{balance: n.balance}
	for sleep(n.ctx, balanceEvery) {
		lease := n.Leader()
		if !lease.Mine || n.cut.Load() {
			weigh.looks = nil
			continue
		}
		for _, m := range weigh.plan(n.Members(), n.cfg.Region) {
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
