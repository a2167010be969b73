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
