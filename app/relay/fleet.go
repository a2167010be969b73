package relay

import (
	"context"

	"agentnet/app/wire"
)

// A Fleet is the other nodes, as this one sees them. The relay calls it on the
// message path: no method but Claim waits, and Nodes and Interested allocate only
// when dst is too small. A lone node has none (nil) and sends nothing.
//
// What a node tells the fleet of its agents and channels reaches all others in
// order, and again as a whole after anything was lost on the way, so that every
// node routes in its own memory.
type Fleet interface {
	// Post queues one parcel for one node. It reports false when it cannot go (the
	// node is not a member, its queue is full, the way there is cut): the caller
	// answers its client at once. True promises nothing: parcels may be lost with
	// their node or with the way, which Peers.Lost tells the receiver.
	// The parcel is kept until it was sent: it must not be changed any more.
	Post(node string, parcel []byte) bool
	// Hosts appends the other nodes that hold sessions of an agent.
	Hosts(dst []Host, agent string) []Host
	// Interested appends the other nodes that have subscribers of a channel.
	Interested(dst []string, channel string) []string
	// AgentHere and AgentGone tell the fleet about the agents of this node: the best
	// state of those of its sessions that have a socket, and how many these are; or
	// wire.Offline and the number of those that may come back. sessions is above 0.
	AgentHere(agent string, state wire.AgentState, sessions int)
	AgentGone(agent string)
	// ChannelHere and ChannelGone tell that this node has subscribers of a channel.
	ChannelHere(channel string)
	ChannelGone(channel string)
	// Claim finds the home of a channel, the one node that gives its offsets. When
	// there is none this node becomes it, with epoch. It waits until the other
	// nodes have agreed, within ctx; cut off from all others a node is the home of
	// all its channels, and Peers.Home settles it when the way is back.
	Claim(ctx context.Context, channel, epoch string) (Home, error)
	// Yield gives the channel to another node, which continues the epoch (a planned
	// move), or to nobody (node is empty).
	Yield(channel, node string)
	// Nodes appends all other nodes, for questions that only all can answer.
	Nodes(dst []string) []string
	// Takers appends those of them that do not leave themselves: what a draining node
	// holds can go to them.
	Takers(dst []string) []string
	// Least returns where a client should go instead of here: endpoints of other
	// nodes with room, the less loaded of two first.
	Least(n int) []string
	// Cut reports whether the other nodes of this region cannot be reached now.
	Cut() bool
}

// Host is one node that holds an agent.
type Host struct {
	Node     string
	State    wire.AgentState // wire.Offline: none of its sessions has a socket
	Sessions int
}

// live says whether the agent has a session there that has a socket.
func (o *Host) live() bool { return o.State != wire.Offline }

// Home is the node that orders a channel.
type Home struct {
	Node  string // this node's own name when it is the home itself
	Epoch string
}

// Peers is what a Fleet tells the relay. Calls about one node come one after the
// other; they may be made while none of the relay's locks is held, and must return
// soon.
type Peers interface {
	// Receive hands over parcels of one node in the order in which they were posted.
	// The memory belongs to the relay from then on.
	Receive(node string, parcels [][]byte)
	// Joined tells that a node is there and routes to this one. It may be a new life
	// of a node that was there before: then Left came first.
	Joined(node string)
	// Left tells that a node is gone: whatever was asked of it gets no answer, and
	// what it was the home of has none. planned is true after an orderly drain.
	Left(node string, planned bool)
	// Lost tells that parcels of a node did not arrive and never will.
	Lost(node string, parcels uint64)
	// AgentMoved tells that other nodes began or ceased to hold an agent.
	AgentMoved(agent string)
	// Home tells that a channel has another home, with another epoch unless the move
	// was planned. An empty node: it has none, the next Claim finds one. Not planned and
	// with the node and epoch as before: there was a second home, on the other side of a split, which
	// has given way.
	Home(channel string, home Home, planned bool)
	// Cut tells that the other nodes cannot be reached, or can again.
	Cut(cut bool)
}
