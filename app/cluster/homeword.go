package cluster

import (
	"encoding/binary"
	"time"

	"agentnet/app/relay"
)

// receive takes what a peer says about a channel.
func (h *homes) receive(p *peer, t Topic, body []byte) {
	said, channel, planned, ok := parseHome(t, body)
	if !ok {
		h.node.count.dropped.add(ReasonBad, 1)
		return
	}
	var moves []homeMove
	h.mu.Lock()
	h.last = max(h.last, said.time)
	switch t {
	case topicClaim:
		said.node = p.name
		moves = h.claimed(p, channel, said)
	case topicAgree:
		if c := h.claims[channel]; c != nil && c.time == said.time && c.yielded.IsZero() {
			c.agreed[p.name] = p.alive.Load()
			h.check(channel, c)
		}
	case topicHome:
		said.gen, said.node = p.gen, p.name
		moves = h.learn(p, channel, said, planned)
	case topicNoHome:
		// Wherever it is thought to be: its epoch has ended.
		if at, ok := h.at[channel]; ok && at.node != h.node.cfg.Name && at.epoch == said.epoch && at.moves <= said.moves {
			h.remove(channel)
			moves = []homeMove{{channel, relay.Home{}, planned}}
		} else if ok && at.epoch != said.epoch {
			// A second home, of the other side of a split, has given way: who follows
			// the one that stays never gets what that one has accepted.
			moves = []homeMove{{channel, relay.Home{Node: at.node, Epoch: at.epoch}, false}}
		}
	case topicGive:
		moves = h.given(channel, said)
	}
	h.mu.Unlock()
	h.tell(moves)
}

// claimed answers the claim of a peer. Only the home itself speaks for itself: the
// peer asks it too, if it hears it.
func (h *homes) claimed(p *peer, channel string, said home) (moves []homeMove) {
	switch at, ok := h.at[channel]; {
	case !ok:
	case at.node == h.node.cfg.Name:
		p.out.push(topicHome, homeRecord(&at, channel, false))
		return nil
	case h.gives[channel] == p.name:
		p.out.push(topicGive, homeRecord(&at, channel, true)) // it has not heard of it yet
		return nil
	case h.gives[channel] != "":
		return nil // that one will say when it has it
	case at.node == p.name:
		h.remove(channel) // not any more
		moves = []homeMove{{channel, relay.Home{}, false}}
	}
	if c := h.claims[channel]; c != nil && c.yielded.IsZero() {
		if c.before(&said) {
			return moves // that one will agree to ours
		}
		c.yielded = time.Now()
	}
	p.out.push(topicAgree, claimRecord(said.time, "", channel))
	return moves
}

// learn takes a peer's word that it is the home of a channel.
func (h *homes) learn(p *peer, channel string, said home, planned bool) []homeMove {
	at, known := h.at[channel]
	switch {
	case !known:
	case at.node == said.node:
		if at.epoch == said.epoch {
			h.put(channel, said)
			delete(h.gives, channel) // it has taken it
			return nil
		}
		planned = false
	case at.epoch == said.epoch:
		if said.moves < at.moves || said.moves == at.moves && said.node > at.node {
			return nil // an older move
		}
		planned = true
	case !h.node.reaches(at.node) || said.before(&at):
		planned = false
		if at.node == h.node.cfg.Name { // it accepts nothing more: the others may tell that
			h.node.announce(topicNoHome, homeRecord(&at, channel, false))
		}
	default:
		if at.node == h.node.cfg.Name {
			p.out.push(topicHome, homeRecord(&at, channel, false))
		}
		return nil
	}
	h.put(channel, said)
	delete(h.gives, channel)
	h.decide(channel, said)
	return []homeMove{{channel, relay.Home{Node: said.node, Epoch: said.epoch}, planned}}
}

// given makes this node the home of a channel whose home moves here.
func (h *homes) given(channel string, said home) (moves []homeMove) {
	said.node = h.node.cfg.Name
	at, ok := h.at[channel]
	switch {
	case ok && at.epoch == said.epoch && at.moves >= said.moves:
		if at.node != said.node {
			return nil // it has moved on since
		}
	case ok && at.epoch != said.epoch && at.node == said.node && at.before(&said):
		// Both sides of a split had one; ours stays, and all hear of it again.
	default:
		planned := !ok || at.node != said.node
		h.put(channel, said)
		h.decide(channel, said)
		moves = []homeMove{{channel, relay.Home{Node: said.node, Epoch: said.epoch}, planned}}
		at = said
	}
	h.node.announce(topicHome, homeRecord(&at, channel, true))
	return moves
}

// claimRecord is a claim or the consent to one.
func claimRecord(time int64, epoch, channel string) []byte {
	b := binary.AppendVarint(make([]byte, 0, 16+len(epoch)+len(channel)), time)
	return append(appendText(b, epoch), channel...)
}

// homeRecord says where a channel is at home.
func homeRecord(h *home, channel string, planned bool) []byte {
	b := make([]byte, 0, 24+len(h.epoch)+len(channel))
	flags := byte(0)
	if planned {
		flags = 1
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, h.time)
	b = binary.AppendUvarint(b, uint64(h.moves))
	b = appendText(b, h.epoch)
	return append(b, channel...)
}

func parseHome(t Topic, body []byte) (h home, channel string, planned, ok bool) {
	r := reader{b: body}
	if t == topicClaim || t == topicAgree {
		h.time = r.varint()
		h.epoch = r.text()
	} else {
		planned = r.byte() == 1
		h.time = r.varint()
		h.moves = uint32(r.uvarint())
		h.epoch = r.text()
	}
	channel = string(r.b)
	return h, channel, planned, !r.bad && channel != ""
}
