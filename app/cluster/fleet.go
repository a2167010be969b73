package cluster

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// Fleet returns the relay's view of the other nodes, who tell p what happens. It
// must be called before Run, once.
func (n *Node) Fleet(p relay.Peers) relay.Fleet {
	n.relay = p
	return fleet{n}
}

// A fleet is a Node as the relay sees it.
type fleet struct{ n *Node }

var _ relay.Fleet = fleet{}

// Post implements relay.Fleet.
func (f fleet) Post(node string, parcel []byte) bool { return f.n.Post(TopicRelay, node, parcel) }

// Hosts returns the other nodes that hold sessions of an agent, as this one knows.
func (n *Node) Hosts(agent string) []relay.Host { return fleet{n}.Hosts(nil, agent) }

// Hosts implements relay.Fleet.
func (f fleet) Hosts(dst []relay.Host, agent string) []relay.Host {
	t := &f.n.interest.agents
	s := t.shard(agent)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.by[agent]
	if !ok {
		return dst
	}
	slots := *f.n.slots.Load()
	dst = appendHost(dst, slots, e.one)
	if e.more != nil {
		for _, h := range *e.more {
			dst = appendHost(dst, slots, h)
		}
	}
	return dst
}

func appendHost(dst []relay.Host, slots []*peer, h host) []relay.Host {
	if p := routedPeer(slots, h); p != nil {
		return append(dst, relay.Host{Node: p.name, State: stateWord(h.state), Sessions: int(h.sessions)})
	}
	return dst
}

// routedPeer returns the node of an entry when messages can go there.
func routedPeer(slots []*peer, h host) *peer {
	if int(h.slot) >= len(slots) {
		return nil
	}
	if p := slots[h.slot]; p != nil && p.routed.Load() {
		return p
	}
	return nil
}

// Interested implements relay.Fleet.
func (f fleet) Interested(dst []string, channel string) []string {
	t := &f.n.interest.channels
	s := t.shard(channel)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.by[channel]
	if !ok {
		return dst
	}
	slots := *f.n.slots.Load()
	if p := routedPeer(slots, e.one); p != nil {
		dst = append(dst, p.name)
	}
	if e.more != nil {
		for _, h := range *e.more {
			if p := routedPeer(slots, h); p != nil {
				dst = append(dst, p.name)
			}
		}
	}
	return dst
}

// AgentHere implements relay.Fleet.
func (f fleet) AgentHere(agent string, state wire.AgentState, sessions int) {
	f.n.agent(agent, stateByte(state), uint32(max(sessions, 1)))
}

// AgentGone implements relay.Fleet.
func (f fleet) AgentGone(agent string) { f.n.agent(agent, 0, 0) }

// ChannelHere implements relay.Fleet.
func (f fleet) ChannelHere(channel string) { f.n.channelHere(channel, true) }

// ChannelGone implements relay.Fleet.
func (f fleet) ChannelGone(channel string) { f.n.channelHere(channel, false) }

// Claim implements relay.Fleet.
func (f fleet) Claim(ctx context.Context, channel, epoch string) (relay.Home, error) {
	return f.n.homes.Claim(ctx, channel, epoch)
}

// Yield implements relay.Fleet.
func (f fleet) Yield(channel, node string) { f.n.homes.Yield(channel, node) }

// Nodes implements relay.Fleet.
func (f fleet) Nodes(dst []string) []string {
	for name, p := range *f.n.peers.Load() {
		if p.routed.Load() {
			dst = append(dst, name)
		}
	}
	return dst
}

// Takers implements relay.Fleet.
func (f fleet) Takers(dst []string) []string {
	for name, p := range *f.n.peers.Load() {
		if p.routed.Load() && p.member.Load().State < Draining {
			dst = append(dst, name)
		}
	}
	return dst
}

// Least implements relay.Fleet.
func (f fleet) Least(count int) []string { return f.n.Least(f.n.cfg.Region, count) }

// Cut implements relay.Fleet.
func (f fleet) Cut() bool { return f.n.cut.Load() }

// Least returns endpoints of up to count nodes of a region that take clients, this
// one aside. Each is the less loaded of two drawn at random: drawing the least loaded
// of all would send everybody to the same one.
func (n *Node) Least(region string, count int) []string {
	var fit []*Member
	for _, p := range *n.peers.Load() {
		if m := p.member.Load(); m.State == Ready && m.Routed && m.Region == region && m.Addr != "" {
			fit = append(fit, m)
		}
	}
	var out []string
	for len(out) < count && len(fit) > 0 {
		a := rand.IntN(len(fit))
		b := rand.IntN(len(fit))
		if busier(fit[a], fit[b]) > 0 {
			a = b
		}
		out = append(out, fit[a].Addr)
		fit = slices.Delete(fit, a, a+1)
	}
	return out
}

// busier compares how loaded two nodes are: by the share of what they can hold,
// where that is known, else by connections.
func busier(a, b *Member) int {
	return cmp.Compare(a.Load.share(b.Load), b.Load.share(a.Load))
}

// share is how full a node is, on a scale that other can be measured on too.
func (l Load) share(other Load) float64 {
	if l.Capacity > 0 && other.Capacity > 0 {
		return max(float64(l.Connections)/float64(l.Capacity), l.CPU, l.Memory)
	}
	return float64(l.Connections)
}
