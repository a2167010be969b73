package cluster

import (
	"slices"
	"strings"
	"time"
)

// State says how far a node is in its life.
type State uint8

// The states of a node.
const (
	Joining  State = iota // it is there, but not all others route to it yet
	Ready                 // it takes clients
	Draining              // it sends its clients away
	Gone                  // it left, or its lease ran out
)

func (s State) String() string {
	if int(s) < len(stateWords) {
		return stateWords[s]
	}
	return "unknown"
}

var stateWords = [...]string{"joining", "ready", "draining", "gone"}

// An Event is what happened to a Member.
type Event uint8

// The events of a Member.
const (
	EventJoined   Event = iota // it and this node route to each other
	EventReady                 // it takes clients
	EventDraining              // it sends its clients away
	EventLeft                  // it left in order
	EventLost                  // its lease ran out, or it began a new life
)

func (e Event) String() string {
	return [...]string{"joined", "ready", "draining", "left", "lost"}[min(e, EventLost)]
}

// A Member is one node as this one knows it.
type Member struct {
	Name        string
	Region      string
	Addr        string // public endpoint that clients use, may be empty
	Version     string
	Fingerprint string // of the settings that must be equal in all nodes
	Life        uint64 // incarnation: another one after each start and each lost lease
	Started     time.Time
	State       State
	Load        Load
	RTT         time.Duration // to it and back over the bus; 0: not known
	Seen        time.Time     // when it was last heard
	Self        bool
	Leader      bool // of its region
	Routed      bool // it and this node route to each other
}

// Load is how busy a node says it is.
type Load struct {
	Connections  int
	Capacity     int     // connections that it can hold; 0: not known
	CPU          float64 // share of its processors, 0 to 1
	Memory       float64 // share of its memory limit, 0 to 1
	MessagesPerS float64
}

// Members returns all nodes that are known and not gone, this one included, by
// name.
func (n *Node) Members() []Member {
	out := []Member{n.self()}
	for _, p := range *n.peers.Load() {
		if m := p.member.Load(); m.State != Gone {
			out = append(out, *m)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// self describes this node.
func (n *Node) self() Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	lease := n.leader.current()
	return Member{Name: n.cfg.Name, Region: n.cfg.Region, Addr: n.addr, Version: n.cfg.Version, Fingerprint: n.cfg.Fingerprint,
		Life: n.life.Load(), Started: n.started, State: n.stateLocked(), Load: n.load, Seen: time.Now(), Self: true, Leader: lease.Mine, Routed: true}
}

// OnMember has f called for each event of another node, one after the other for
// each node. It must be called before Run; f must return soon.
func (n *Node) OnMember(f func(Member, Event)) { n.watchers = append(n.watchers, f) }

func (n *Node) tell(m Member, e Event) {
	for _, f := range n.watchers {
		f(m, e)
	}
}

// SetLoad says how busy this node is; the others hear it within half a second.
func (n *Node) SetLoad(l Load) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.load = l
}

// SetAddr says where clients reach this node, once that is known.
func (n *Node) SetAddr(addr string) {
	n.mu.Lock()
	n.addr = addr
	n.mu.Unlock()
	n.beatSoon()
}

// SetState says that this node is Draining, or Ready again. Joining ends by itself.
func (n *Node) SetState(s State) {
	n.mu.Lock()
	n.draining = s == Draining
	n.mu.Unlock()
	n.beatSoon()
}

// stateLocked is this node's state. n.mu must be held.
func (n *Node) stateLocked() State {
	switch {
	case n.left:
		return Gone
	case n.draining:
		return Draining
	case n.ready:
		return Ready
	}
	return Joining
}
