package cluster

import (
	"encoding/binary"
	"time"
)

// handle goes through one batch.
func (p *peer) handle(it item, skip uint64) {
	seen := uint64(0)
	for t, body := range records(it.records) {
		if seen++; seen <= skip {
			p.node.count.repeated.Add(1)
			continue
		}
		if p.alive.Load() == 0 {
			return // it said goodbye in the middle
		}
		if t == TopicRelay && p.routed.Load() && p.node.relay != nil {
			p.relayed = append(p.relayed, body)
			continue
		}
		p.handOver()
		if t >= topicHello {
			p.own(t, body)
		} else {
			p.foreign(t, body)
		}
	}
	p.handOver()
	p.node.count.recordsIn.Add(seen)
	if missing := uint64(it.header.count) - min(seen, uint64(it.header.count)); missing > 0 {
		p.node.count.dropped.add(ReasonBad, missing)
		p.lost(missing)
	}
}

// handOver gives the relay its parcels.
func (p *peer) handOver() {
	if len(p.relayed) == 0 {
		return
	}
	p.node.relay.Receive(p.name, p.relayed)
	p.relayed = make([][]byte, 0, min(cap(p.relayed), 1024)) // the relay may keep the old one
}

// foreign handles a record of another part of the node.
func (p *peer) foreign(t Topic, body []byte) {
	if !p.routed.Load() {
		p.node.count.dropped.add(ReasonStranger, 1)
		return
	}
	h := p.node.handlers[t]
	if h == nil {
		p.node.count.dropped.add(ReasonUnheard, 1)
		return
	}
	h(p.name, body)
}

// own handles a record of this package.
func (p *peer) own(t Topic, body []byte) {
	switch t {
	case topicHello:
		if h, err := parseHello(body); err == nil && h.name == p.name && h.life == p.alive.Load() {
			p.settings = h.settings
			p.hear(&h)
		}
	case topicBye:
		p.part(true, false)
	case topicPing:
		if len(body) != 16 {
			return
		}
		p.out.push(topicPong, body[:8])
		p.compare(binary.LittleEndian.Uint64(body[8:]))
	case topicPong:
		if len(body) == 8 {
			p.rtt = time.Duration(p.node.clock() - int64(binary.LittleEndian.Uint64(body)))
			p.publish()
		}
	case topicResync:
		p.sendSnapshot()
	case topicSnapStart, topicSnapEnd, topicSnapAck:
		p.snap(t, body)
	case topicShed:
		p.node.told(body)
	case topicAgent, topicChannel:
		p.announced(t, body)
	case topicClaim, topicAgree, topicHome, topicNoHome, topicGive:
		p.node.homes.receive(p, t, body)
	}
}

// compare finds that this node's table of the peer's homes is not what the peer has.
// Right after a move or a meeting that may be so.
func (p *peer) compare(sum uint64) {
	if !p.whole || p.asking || sum == p.node.homes.sum(p.name) {
		p.astray = 0
		return
	}
	if p.astray++; p.astray%4 == 2 {
		p.node.count.astray.Add(1)
		p.ask()
	}
}

// ask asks the peer for all that it hosts.
func (p *peer) ask() {
	p.snapshot, p.asking, p.asked = 0, true, 0
	p.out.push(topicResync, nil)
}

// announced takes an agent or a channel that came, changed or went.
func (p *peer) announced(t Topic, body []byte) {
	if len(body) < 2 {
		return
	}
	r := reader{b: body[1:]}
	sessions := r.uvarint()
	name := string(r.b)
	if r.bad || name == "" {
		return
	}
	table := &p.node.interest.agents
	if t == topicChannel {
		table = &p.node.interest.channels
	}
	moved := table.set(name, host{slot: p.slot, gen: p.gen, state: body[0], sessions: uint32(min(sessions, 1<<31))})
	if moved && t == topicAgent && p.routed.Load() && p.node.relay != nil {
		p.node.relay.AgentMoved(name)
	}
}
