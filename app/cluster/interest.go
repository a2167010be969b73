package cluster

import (
	"encoding/binary"
	"hash/maphash"
	"sync"

	"agentnet/app/wire"
)

// shards of the interest tables: enough that two cores seldom meet.
const shards = 64

// A host is one node that holds an agent, or has subscribers of a channel.
type host struct {
	slot     uint16 // of the peer
	state    uint8  // of an agent
	gen      uint8  // snapshot that it was last seen in
	sessions uint32 // 0: no more
}

// hosts of one name: mostly one, so that the table needs no second allocation.
type hosts struct {
	one  host
	more *[]host
}

// A table says which other nodes want what is sent to a name.
type table struct {
	seed   maphash.Seed
	shards [shards]tableShard
}

type tableShard struct {
	mu sync.RWMutex
	by map[string]hosts
	_  [32]byte // a cache line each
}

// interest is what the other nodes host.
type interest struct{ agents, channels table }

func (t *table) init() {
	t.seed = maphash.MakeSeed()
	for i := range t.shards {
		t.shards[i].by = map[string]hosts{}
	}
}

func (t *table) shard(name string) *tableShard {
	return &t.shards[maphash.String(t.seed, name)%shards]
}

// set notes what one node says of a name, which it keeps. It reports whether the
// node began or ceased to host it.
func (t *table) set(name string, h host) (moved bool) {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.sessions == 0 {
		return s.remove(name, func(o host) bool { return o.slot == h.slot })
	}
	e, ok := s.by[name]
	switch {
	case !ok:
		s.by[name] = hosts{one: h}
		return true
	case e.one.slot == h.slot:
		e.one = h
		s.by[name] = e
		return false
	case e.more == nil:
		e.more = &[]host{h}
		s.by[name] = e
		return true
	}
	for i := range *e.more {
		if (*e.more)[i].slot == h.slot {
			(*e.more)[i] = h
			return false
		}
	}
	*e.more = append(*e.more, h)
	return true
}

// remove takes the hosts off a name that match. s.mu must be held.
func (s *tableShard) remove(name string, match func(host) bool) (removed bool) {
	e, ok := s.by[name]
	if !ok {
		return false
	}
	var rest []host
	if match(e.one) {
		removed = true
	} else {
		rest = append(rest, e.one)
	}
	if e.more != nil {
		for _, h := range *e.more {
			if match(h) {
				removed = true
			} else {
				rest = append(rest, h)
			}
		}
	}
	if !removed {
		return false
	}
	switch len(rest) {
	case 0:
		delete(s.by, name)
	case 1:
		s.by[name] = hosts{one: rest[0]}
	default:
		more := rest[1:]
		s.by[name] = hosts{one: rest[0], more: &more}
	}
	return true
}

// sweep removes what matches of one node and returns the names.
func (t *table) sweep(match func(host) bool) (names []string) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for name, e := range s.by {
			found := match(e.one)
			if !found && e.more != nil {
				for _, h := range *e.more {
					found = found || match(h)
				}
			}
			if found && s.remove(name, match) {
				names = append(names, name)
			}
		}
		s.mu.Unlock()
	}
	return names
}

// size counts the names.
func (t *table) size() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += len(s.by)
		s.mu.RUnlock()
	}
	return n
}

// drop forgets all that a node hosts.
func (i *interest) drop(slot uint16) (agents []string, channels int) {
	of := func(h host) bool { return h.slot == slot }
	return i.agents.sweep(of), len(i.channels.sweep(of))
}

// each calls f for each agent of a node, without a lock.
func (i *interest) each(slot uint16, f func(agent string)) {
	var names []string
	for k := range i.agents.shards {
		s := &i.agents.shards[k]
		names = names[:0]
		s.mu.RLock()
		for name, e := range s.by {
			here := e.one.slot == slot
			if !here && e.more != nil {
				for _, h := range *e.more {
					here = here || h.slot == slot
				}
			}
			if here {
				names = append(names, name)
			}
		}
		s.mu.RUnlock()
		for _, name := range names {
			f(name)
		}
	}
}

// agentStates are the states as they travel, the best first.
var agentStates = [...]wire.AgentState{wire.Available, wire.Busy, wire.Away, wire.Offline}

func stateByte(s wire.AgentState) byte {
	for i, known := range agentStates {
		if s == known {
			return byte(i)
		}
	}
	return 0
}

func stateWord(b byte) wire.AgentState { return agentStates[min(int(b), len(agentStates)-1)] }

// local is what this node hosts itself: what it announces. A shard is locked while
// a change of it is put into the peers' outboxes, so that all get changes in order.
type local struct {
	seed   maphash.Seed
	shards [shards]localShard
}

type localShard struct {
	mu       sync.Mutex
	agents   map[string]here
	channels map[string]struct{}
	scratch  []byte
}

// here is one agent of this node.
type here struct {
	state    byte
	sessions uint32
}

func (l *local) init() {
	l.seed = maphash.MakeSeed()
	for i := range l.shards {
		l.shards[i].agents, l.shards[i].channels = map[string]here{}, map[string]struct{}{}
	}
}

func (l *local) shard(name string) *localShard {
	return &l.shards[maphash.String(l.seed, name)%shards]
}

// announcement appends one change as it travels.
func announcement(b []byte, state byte, sessions uint32, name string) []byte {
	b = append(b, state)
	b = binary.AppendUvarint(b, uint64(sessions))
	return append(b, name...)
}

// agent notes an agent of this node, with no sessions when it went, and tells the
// others.
func (n *Node) agent(name string, state byte, sessions uint32) {
	s := n.local.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	was, ok := s.agents[name]
	now := here{state, sessions}
	if was == now && ok == (sessions > 0) {
		return
	}
	if sessions > 0 {
		s.agents[name] = now
	} else {
		delete(s.agents, name)
	}
	s.scratch = announcement(s.scratch[:0], state, sessions, name)
	n.announce(topicAgent, s.scratch)
}

// channelHere notes whether this node has subscribers of a channel and tells the
// others.
func (n *Node) channelHere(name string, here bool) {
	s := n.local.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, was := s.channels[name]; was == here {
		return
	}
	sessions := uint32(0)
	if here {
		s.channels[name] = struct{}{}
		sessions = 1
	} else {
		delete(s.channels, name)
	}
	s.scratch = announcement(s.scratch[:0], 0, sessions, name)
	n.announce(topicChannel, s.scratch)
}

// announce puts a record into the outbox of each peer. One that has no room is
// sent everything again when it has.
func (n *Node) announce(t Topic, body []byte) {
	for _, p := range *n.peers.Load() {
		if p.alive.Load() != 0 && p.out.push(t, body) == ReasonFull {
			p.in.do(func() { p.wantSnap = true })
		}
	}
}

// sendSnapshot sends all that this node hosts, in a goroutine of its own that waits
// for room in between. It is called by the peer's goroutine.
func (p *peer) sendSnapshot() {
	p.wantSnap = true
	if p.sending.Swap(true) {
		return // tick tries again
	}
	p.wantSnap, p.acked, p.waiting = false, p.acked && p.routed.Load(), 0
	p.sentSnap++
	id, mine := p.sentSnap, p.mine
	p.node.wg.Go(func() {
		defer p.sending.Store(false)
		if !p.snapshotOut(id, mine) {
			p.in.do(func() { p.wantSnap = true })
		}
	})
}

// snapshotOut puts one snapshot into the outbox. It reports false when that had no
// room; one that is not wanted any more needs none.
func (p *peer) snapshotOut(id, mine uint32) bool {
	n := p.node
	mark := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, id), mine)
	if p.out.push(topicSnapStart, mark) == ReasonFull {
		return false
	}
	var b []byte
	for i := range n.local.shards {
		if !p.room() {
			return true
		}
		s := &n.local.shards[i]
		s.mu.Lock()
		ok := true
		for name, h := range s.agents {
			b = announcement(b[:0], h.state, h.sessions, name)
			ok = ok && p.out.push(topicAgent, b) == ""
		}
		for name := range s.channels {
			b = announcement(b[:0], 0, 1, name)
			ok = ok && p.out.push(topicChannel, b) == ""
		}
		s.mu.Unlock()
		if !ok {
			return false
		}
	}
	return n.homes.snapshot(p) && p.out.push(topicSnapEnd, mark) == ""
}

// room waits until at most half of the outbox is in use. It reports false when the
// relationship is over.
func (p *peer) room() bool {
	for wait := retryFirst / 8; ; wait = min(2*wait, retryMost) {
		if p.alive.Load() == 0 {
			return false
		}
		if records, bytes := p.out.backlog(); bytes < outBytes/2 && records < outRecords/2 {
			return true
		}
		if !sleep(p.node.ctx, wait) {
			return false
		}
	}
}

// snap takes the marks of a snapshot.
func (p *peer) snap(t Topic, body []byte) {
	if len(body) != 8 {
		return
	}
	id, epoch := binary.LittleEndian.Uint32(body), binary.LittleEndian.Uint32(body[4:])
	switch t {
	case topicSnapStart:
		p.snapshot = id
		p.gen++
	case topicSnapEnd:
		if id != p.snapshot || id == 0 {
			return // its beginning is missing
		}
		p.snapshot, p.asking = 0, false
		gen, slot := p.gen, p.slot
		stale := func(h host) bool { return h.slot == slot && h.gen != gen }
		gone := p.node.interest.agents.sweep(stale)
		p.node.interest.channels.sweep(stale)
		p.node.homes.sweep(p.name, gen)
		if r := p.node.relay; r != nil && p.routed.Load() {
			for _, a := range gone {
				r.AgentMoved(a)
			}
		}
		p.whole = true
		p.out.push(topicSnapAck, body)
		p.join()
	case topicSnapAck:
		if id == p.sentSnap && epoch == p.mine {
			p.acked = true
			p.join()
		}
	}
}
