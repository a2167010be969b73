package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"agentnet/app/wire"
)

// A simnode is one node's Fleet.
type simnode struct {
	net   *simnet
	name  string
	peers Peers

	mu       sync.RWMutex
	draining bool // Guarded by net.mu.
	dead     bool
	mute     bool // what is posted to it is never taken, and nobody is told
	side     int  // nodes of one side reach each other
	agents   map[string]map[string]Host
	channels map[string]map[string]bool
	known    map[string]bool // nodes
	own      map[string]Host // what this node told of its agents
	ownCh    map[string]bool
	links    map[string]*simlink // to others
	lose     func(p []byte) bool // parcels that are lost, besides those at random; nil: none
}

func (v *simnode) isDead() bool { v.mu.RLock(); defer v.mu.RUnlock(); return v.dead }

func (v *simnode) isMute() bool { v.mu.RLock(); defer v.mu.RUnlock(); return v.mute }

// stall makes a node one that stands still.
func (v *simnode) stall() { v.mu.Lock(); v.mute = true; v.mu.Unlock() }

func (v *simnode) learn(node string) {
	v.mu.Lock()
	v.known[node] = true
	v.mu.Unlock()
	v.peers.Joined(node)
}

func (v *simnode) agentAt(agent string, h Host, gone bool) {
	v.mu.Lock()
	m := v.agents[agent]
	if m == nil {
		m = map[string]Host{}
		v.agents[agent] = m
	}
	if gone {
		delete(m, h.Node)
	} else {
		m[h.Node] = h
	}
	v.mu.Unlock()
	v.peers.AgentMoved(agent)
}

func (v *simnode) channelAt(channel, node string, here bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.channels[channel]
	if m == nil {
		m = map[string]bool{}
		v.channels[channel] = m
	}
	if here {
		m[node] = true
	} else {
		delete(m, node)
	}
}

func (v *simnode) Post(node string, parcel []byte) bool {
	v.net.mu.Lock()
	v.net.posted++
	lost := v.net.rng.Float64() < v.net.loss
	v.net.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.links[node]
	if v.dead || l == nil || !v.known[node] {
		return false
	}
	if lost || v.lose != nil && v.lose(parcel) {
		l.put(simitem{lost: 1})
	} else {
		l.put(simitem{p: parcel})
	}
	return true
}

func (v *simnode) Hosts(dst []Host, agent string) []Host {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, node := range sortedKeys(v.agents[agent]) {
		dst = append(dst, v.agents[agent][node])
	}
	return dst
}

func sortedKeys[T any](m map[string]T) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (v *simnode) Interested(dst []string, channel string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return append(dst, sortedKeys(v.channels[channel])...)
}

// tell queues an announcement for all others, in its place among the parcels.
func (v *simnode) tell(f func(to *simnode)) {
	for _, l := range v.links {
		l.put(simitem{f: f})
	}
}

func (v *simnode) AgentHere(agent string, state wire.AgentState, sessions int) {
	h := Host{Node: v.name, State: state, Sessions: sessions}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.own[agent] = h
	v.tell(func(to *simnode) { to.agentAt(agent, h, false) })
}

func (v *simnode) AgentGone(agent string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.own, agent)
	v.tell(func(to *simnode) { to.agentAt(agent, Host{Node: v.name}, true) })
}

func (v *simnode) ChannelHere(channel string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ownCh[channel] = true
	v.tell(func(to *simnode) { to.channelAt(channel, v.name, true) })
}

func (v *simnode) ChannelGone(channel string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.ownCh, channel)
	v.tell(func(to *simnode) { to.channelAt(channel, v.name, false) })
}

// Claim asks the registry of this node's side, after the time that agreement takes.
func (v *simnode) Claim(ctx context.Context, channel, epoch string) (Home, error) {
	select {
	case <-time.After(4 * time.Millisecond):
	case <-ctx.Done():
		return Home{}, ctx.Err()
	}
	v.net.mu.Lock()
	defer v.net.mu.Unlock()
	if v.isDead() {
		return Home{}, context.Canceled
	}
	side := v.net.claims[v.side]
	if side == nil {
		side = map[string]Home{}
		v.net.claims[v.side] = side
	}
	if _, ok := side[channel]; !ok {
		side[channel] = Home{Node: v.name, Epoch: epoch}
	}
	return side[channel], nil
}

func (v *simnode) Yield(channel, node string) {
	v.net.mu.Lock()
	defer v.net.mu.Unlock()
	side := v.net.claims[v.side]
	home := side[channel]
	if home.Node != v.name {
		return
	}
	home.Node = node
	if node == "" {
		delete(side, channel)
	} else {
		side[channel] = home
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tell(func(to *simnode) { to.peers.Home(channel, home, true) })
}

func (v *simnode) Nodes(dst []string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return append(dst, sortedKeys(v.known)...)
}

func (v *simnode) Takers(dst []string) []string {
	all := v.Nodes(nil)
	v.net.mu.Lock()
	defer v.net.mu.Unlock()
	for _, node := range all {
		if o := v.net.nodes[node]; o != nil && !o.draining {
			dst = append(dst, node)
		}
	}
	return dst
}

func (v *simnode) Least(n int) (out []string) {
	for _, node := range v.Takers(nil) {
		if len(out) < n {
			out = append(out, "ws://"+node)
		}
	}
	return out
}

func (v *simnode) Cut() bool { return false }

// forget removes a node that is gone.
func (v *simnode) forget(node string, planned bool) {
	v.mu.Lock()
	delete(v.known, node)
	delete(v.links, node)
	var moved []string
	for agent, m := range v.agents {
		if _, ok := m[node]; ok {
			delete(m, node)
			moved = append(moved, agent)
		}
	}
	for _, m := range v.channels {
		delete(m, node)
	}
	v.mu.Unlock()
	slices.Sort(moved)
	v.peers.Left(node, planned)
	for _, agent := range moved {
		v.peers.AgentMoved(agent)
	}
}
