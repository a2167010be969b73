package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentnet/app/relay"
)

// The home of a channel is the one node that gives its offsets. Nodes agree on it
// among themselves, without Redis:
//
// A node that wants to be home asks all nodes that it hears, and is home once each
// has agreed or is gone. Who knows a home answers with it. Of two that ask at the
// same time the one with the smaller (time, name) goes on; the other agrees to it and
// waits. Since each needs the other's word, never are two home at once among
// nodes that hear each other. After a split there may be two; when they meet, the
// smaller (time, name) stays.

// maxHomes bounds the table.
const maxHomes = 4 << 20

// errTooMany follows maxHomes.
var errTooMany = errors.New("too many channels have homes")

// A home is what is known of one channel.
type home struct {
	node  string
	epoch string
	time  int64  // of the claim
	moves uint32 // planned moves since
	gen   uint8  // of the node's snapshot that it was last seen in
}

// before is the order in which homes win: deterministic, the same on all nodes.
func (h *home) before(o *home) bool {
	if h.time != o.time {
		return h.time < o.time
	}
	return h.node < o.node
}

// A claim is a wish of this node that is not decided yet.
type claim struct {
	home
	agreed  map[string]uint64 // node: its life when it agreed
	yielded time.Time         // when another one's claim went before; zero: it stands
	waiters int
	decided chan struct{} // closed with result
	result  home
	err     error
}

// homes is the table of all channels' homes.
type homes struct {
	node *Node

	mu     sync.RWMutex
	at     map[string]home
	claims map[string]*claim
	gives  map[string]string // channel: node that was given it and has not confirmed
	last   int64             // latest time of any claim seen
	// sums say what each node is the home of: the hashes of channel and epoch, by
	// exclusive or. A node tells its own with each ping, behind all that came before,
	// so that a table that has gone astray is found.
	sums map[string]uint64
}

// hash stands for one home in sums.
func hash(channel, epoch string) uint64 {
	const prime = 1099511628211 // FNV-1a
	h := uint64(14695981039346656037)
	for i := range len(channel) {
		h = (h ^ uint64(channel[i])) * prime
	}
	h *= prime
	for i := range len(epoch) {
		h = (h ^ uint64(epoch[i])) * prime
	}
	return h
}

// put enters a home, and remove takes it out. h.mu must be held.
func (h *homes) put(channel string, at home) {
	h.remove(channel)
	h.at[channel] = at
	h.sums[at.node] ^= hash(channel, at.epoch)
}

func (h *homes) remove(channel string) {
	at, ok := h.at[channel]
	if !ok {
		return
	}
	delete(h.at, channel)
	if sum := h.sums[at.node] ^ hash(channel, at.epoch); sum != 0 {
		h.sums[at.node] = sum
	} else {
		delete(h.sums, at.node)
	}
}

// sum is what this table says of a node's homes.
func (h *homes) sum(node string) uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sums[node]
}

// ping puts a ping into a peer's outbox: the clock, and the sum of this node's homes
// at this place of the stream.
func (h *homes) ping(p *peer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 16), uint64(h.node.clock()))
	p.out.push(topicPing, binary.LittleEndian.AppendUint64(b, h.sums[h.node.cfg.Name]))
}

func (h *homes) init(n *Node) {
	h.node = n
	h.sums = map[string]uint64{}
	h.at, h.claims, h.gives = map[string]home{}, map[string]*claim{}, map[string]string{}
}

// homeMove is told to the relay once no lock is held.
type homeMove struct {
	channel string
	home    relay.Home
	planned bool
}

func (h *homes) tell(moves []homeMove) {
	if r := h.node.relay; r != nil {
		for _, m := range moves {
			r.Home(m.channel, m.home, m.planned)
		}
	}
}

// Claim implements relay.Fleet.
func (h *homes) Claim(ctx context.Context, channel, epoch string) (relay.Home, error) {
	h.mu.RLock()
	at, ok := h.at[channel]
	h.mu.RUnlock()
	if ok {
		return relay.Home{Node: at.node, Epoch: at.epoch}, nil
	}
	c := h.begin(channel, epoch)
	select {
	case <-c.decided:
	case <-ctx.Done():
		h.abandon(channel, c)
		select {
		case <-c.decided: // just now
		default:
			return relay.Home{}, fmt.Errorf("find the home of %s: other nodes have not agreed in time: %w", channel, ctx.Err())
		}
	}
	if c.err != nil {
		return relay.Home{}, fmt.Errorf("find the home of %s: %w", channel, c.err)
	}
	return relay.Home{Node: c.result.node, Epoch: c.result.epoch}, nil
}

// begin returns the claim under way for a channel, starting one when there is none.
func (h *homes) begin(channel, epoch string) *claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, ok := h.at[channel]; ok { // just now
		c := &claim{decided: make(chan struct{}), result: at}
		close(c.decided)
		return c
	}
	c := h.claims[channel]
	if c == nil {
		c = &claim{home: home{node: h.node.cfg.Name, epoch: epoch}, decided: make(chan struct{})}
		if len(h.at)+len(h.claims) >= maxHomes {
			c.err = errTooMany
			close(c.decided)
			return c
		}
		h.claims[channel] = c
		h.stand(channel, c)
	}
	c.waiters++
	return c
}

// stand makes a claim, or makes it again with a later time.
func (h *homes) stand(channel string, c *claim) {
	h.last = max(h.last+1, time.Now().UnixMilli())
	c.time, c.yielded, c.agreed = h.last, time.Time{}, map[string]uint64{}
	h.node.announce(topicClaim, claimRecord(c.time, c.epoch, channel))
	h.check(channel, c)
}

func (h *homes) abandon(channel string, c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.waiters--; c.waiters == 0 && h.claims[channel] == c {
		delete(h.claims, channel)
	}
}

// check makes this node the home when nobody's word is missing.
func (h *homes) check(channel string, c *claim) {
	if !c.yielded.IsZero() || !h.node.settled() {
		return
	}
	for _, p := range *h.node.peers.Load() {
		if life := p.alive.Load(); life != 0 && c.agreed[p.name] != life {
			return
		}
	}
	h.put(channel, c.home)
	h.decide(channel, c.home)
	h.node.announce(topicHome, homeRecord(&c.home, channel, false))
}

// decide ends the claim for a channel, if there is one.
func (h *homes) decide(channel string, at home) {
	if c := h.claims[channel]; c != nil {
		delete(h.claims, channel)
		c.result = at
		close(c.decided)
	}
}

// tick asks those again who have not answered, looks whether nodes are gone, and
// stands again where the other claim came to nothing.
func (h *homes) tick() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for channel, c := range h.claims {
		if !c.yielded.IsZero() {
			if time.Since(c.yielded) > h.node.cfg.Lease/2 {
				h.stand(channel, c)
			}
			continue
		}
		record := claimRecord(c.time, c.epoch, channel)
		for _, p := range *h.node.peers.Load() {
			if life := p.alive.Load(); life != 0 && c.agreed[p.name] != life {
				p.out.push(topicClaim, record)
			}
		}
		h.check(channel, c)
	}
}

// Yield implements relay.Fleet.
func (h *homes) Yield(channel, node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.at[channel]
	if !ok || at.node != h.node.cfg.Name {
		return
	}
	if p := h.node.peer(node); p != nil && p.routed.Load() {
		at.moves++
		if p.out.push(topicGive, homeRecord(&at, channel, true)) == "" {
			at.node = node
			h.put(channel, at)
			h.gives[channel] = node
			return
		}
	}
	h.remove(channel)
	h.node.announce(topicNoHome, homeRecord(&at, channel, true))
}

// left forgets all homes of a node, and what was given to it. It returns the channels.
func (h *homes) left(node string) (gone []homeMove) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for channel, at := range h.at {
		if at.node != node {
			continue
		}
		h.remove(channel)
		gone = append(gone, homeMove{channel, relay.Home{}, false})
		if h.gives[channel] == node {
			delete(h.gives, channel)
			// The others still take this node for the home.
			h.node.announce(topicNoHome, homeRecord(&at, channel, false))
		}
	}
	for channel, c := range h.claims {
		h.check(channel, c)
	}
	return gone
}

// restamp makes the homes of this node young, so that they give way to those that
// others took while this one was asleep.
func (h *homes) restamp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, time.Now().UnixMilli())
	for channel, at := range h.at {
		if at.node == h.node.cfg.Name {
			at.time = h.last
			h.put(channel, at)
		}
	}
}

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

// snapshot puts into a peer's outbox what this node is the home of, what it gave to
// the peer, and what it claims.
func (h *homes) snapshot(p *peer) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	ok := true
	for channel, at := range h.at {
		switch {
		case at.node == h.node.cfg.Name:
			ok = ok && p.out.push(topicHome, homeRecord(&at, channel, false)) == ""
		case h.gives[channel] == p.name:
			ok = ok && p.out.push(topicGive, homeRecord(&at, channel, true)) == ""
		}
	}
	for channel, c := range h.claims {
		if c.yielded.IsZero() {
			ok = ok && p.out.push(topicClaim, claimRecord(c.time, c.epoch, channel)) == ""
		}
	}
	return ok
}

// sweep drops the homes of a node that its snapshot did not name.
func (h *homes) sweep(node string, gen uint8) {
	var moves []homeMove
	h.mu.Lock()
	for channel, at := range h.at {
		if at.node == node && at.gen != gen && h.gives[channel] != node {
			h.remove(channel)
			moves = append(moves, homeMove{channel, relay.Home{}, false})
		}
	}
	h.mu.Unlock()
	h.tell(moves)
}

func (h *homes) size() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.at)
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
