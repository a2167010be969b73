package cluster

import (
	"context"
)

// meet returns the peer of a name, making it when it is new.
func (n *Node) meet(name string) *peer {
	if p := n.peer(name); p != nil {
		return p
	}
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	if p := n.peer(name); p != nil || n.ctx.Err() != nil {
		return p
	}
	old := *n.peers.Load()
	if len(old) >= maxPeers {
		n.count.dropped.add(ReasonFull, 1)
		return nil
	}
	p := &peer{node: n, name: name, channel: nodeChannel(name)}
	p.out.wake = make(chan struct{}, flights)
	p.in.wake = make(chan struct{}, 1)
	p.member.Store(&Member{Name: name, State: Gone})
	slots := append([]*peer(nil), *n.slots.Load()...)
	for i := 1; i < len(slots) && p.slot == 0; i++ {
		if slots[i] == nil {
			slots[i], p.slot = p, uint16(i)
		}
	}
	if p.slot == 0 {
		p.slot = uint16(len(slots))
		slots = append(slots, p)
	}
	peers := make(map[string]*peer, len(old)+1)
	for k, v := range old {
		peers[k] = v
	}
	peers[name] = p
	n.slots.Store(&slots)
	n.peers.Store(&peers)
	var ctx context.Context
	ctx, p.stop = context.WithCancel(n.ctx)
	n.wg.Go(func() { p.run(ctx) })
	for range flights {
		n.wg.Go(func() { p.send(ctx) })
	}
	return p
}

// forget removes a peer that has been gone for long.
func (n *Node) forget(p *peer) {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	peers := make(map[string]*peer, len(*n.peers.Load()))
	for k, v := range *n.peers.Load() {
		if v != p {
			peers[k] = v
		}
	}
	slots := append([]*peer(nil), *n.slots.Load()...)
	slots[p.slot] = nil
	n.peers.Store(&peers)
	n.slots.Store(&slots)
	p.stop()
}
