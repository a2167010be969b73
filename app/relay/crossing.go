package relay

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

const (
	// crossTime is how long a message to another node waits for its outcome.
	crossTime = 2 * time.Second
	// errandTime is how long an errand waits before it is posted again, and
	// errandTries how often it is.
	errandTime  = 700 * time.Millisecond
	errandTries = 6
	// crossingsPerShard bounds what waits for outcomes of other nodes, 1,048,576 in
	// all.
	crossingsPerShard = 16_384
)

// A crossing waits for what other nodes say became of something that was posted to
// them: a direct message, or an errand.
type crossing struct {
	// Fixed before it is filed.
	hub    *Hub
	number uint64
	to     string
	way    string // its route: to, and for what is handed on the node that posted it
	by     caller
	once   *dedupEntry
	ttl    time.Duration
	onward bool                             // it came from another node, which parks it when nobody has it
	report func(t *Turn, o *parcel.Outcome) // an errand: what to do in the end; no lock is held
	timer  timer

	ch     *channel // of a publication: its channel
	posted bool     // guarded by the route's shard: counted in route.out

	// Guarded by the crossing's shard.
	sealed   []byte // what was posted, or will be
	tries    int    // of an errand: how often it may be posted again
	done     bool
	local    bool     // the outcome of this node itself is missing
	hosts    []string // whose outcomes are missing
	sessions int
	parked   bool
	carried  bool // an errand was done
	err      *wire.Error
	epoch    string // of a publication that was accepted
	offset   uint64
}

type crossShard struct {
	mu sync.Mutex
	m  map[uint64]*crossing
}

var (
	errCrossings = wire.Error{Code: wire.Overloaded, Message: "too many messages wait for other nodes", RetryAfterMS: 500}
	errNoWay     = wire.Error{Code: wire.Unavailable, Message: "the node that holds the agent cannot be reached now", RetryAfterMS: 1000}
	errUnknown   = wire.Error{Code: wire.Unavailable, Message: "the node that holds the agent did not answer in time; whether the message arrived is not known"}
	errLeft      = wire.Error{Code: wire.Unavailable, Message: "the node that held the agent is gone; whether the message arrived is not known"}
)

func (h *Hub) newCrossing(to string) *crossing {
	x := &crossing{hub: h, number: h.crossLast.Add(1), to: to}
	x.timer.owner, x.timer.shard = x, uint8(x.number)
	return x
}

func (h *Hub) crossShard(number uint64) *crossShard { return &h.crossings[number%shards] }

// file puts x among those that wait, with its deadline.
func (h *Hub) file(t *Turn, x *crossing, limit time.Duration) bool {
	sh := h.crossShard(x.number)
	sh.mu.Lock()
	if len(sh.m) >= crossingsPerShard {
		sh.mu.Unlock()
		return false
	}
	sh.m[x.number] = x
	sh.mu.Unlock()
	if s := x.by.session; s != nil {
		s.crossingN.Add(1)
	}
	h.wheels.arm(&x.timer, t.clock()+int64(limit))
	return true
}

// take removes x from those that wait; true for the one that did.
func (h *Hub) take(x *crossing) bool {
	sh := h.crossShard(x.number)
	sh.mu.Lock()
	if x.done {
		sh.mu.Unlock()
		return false
	}
	x.done = true
	delete(sh.m, x.number)
	sh.mu.Unlock()
	h.release(x)
	return true
}

// release lets go of what a crossing holds that ended.
func (h *Hub) release(x *crossing) {
	h.wheels.stop(&x.timer)
	if s := x.by.session; s != nil {
		s.crossingN.Add(-1)
	}
}

// arrived notes what a node (this one if it is "") says of a crossing. No lock may
// be held but link.mu.
func (h *Hub) arrived(t *Turn, number uint64, node string, o *parcel.Outcome) {
	sh := h.crossShard(number)
	sh.mu.Lock()
	x := sh.m[number]
	if x == nil || !x.heard(node) {
		sh.mu.Unlock()
		return // it came after the deadline: the client was told that nobody knows
	}
	switch o.Result {
	case parcel.Delivered:
		x.sessions += o.Sessions
	case parcel.Parked:
		x.parked = true
	case parcel.Done:
		x.carried = true
	case parcel.Published:
		x.epoch, x.offset = cloneString(o.Epoch), o.Offset
	case parcel.Failed:
		if x.err = o.Err; x.err == nil {
			x.err = &errNoWay
		}
	}
	if x.local || len(x.hosts) > 0 {
		sh.mu.Unlock()
		return
	}
	x.done = true
	delete(sh.m, number)
	sh.mu.Unlock()
	h.release(x)
	h.crossed(t, x)
}

// heard takes a node from those whose outcomes are missing. The shard must be held.
func (x *crossing) heard(node string) bool {
	if node == "" {
		was := x.local
		x.local = false
		return was
	}
	if x.ch != nil { // a home that moved hands it on, and the new one answers
		x.hosts = nil
		return true
	}
	i := slices.Index(x.hosts, node)
	if i < 0 {
		return false
	}
	x.hosts = slices.Delete(x.hosts, i, i+1)
	return true
}

// expire ends a crossing whose deadline has come, or posts an errand again.
func (x *crossing) expire(t *Turn, _ *timer) {
	h := x.hub
	sh := h.crossShard(x.number)
	sh.mu.Lock()
	if x.done {
		sh.mu.Unlock()
		return
	}
	if x.tries > 0 && len(x.hosts) > 0 {
		x.tries--
		for _, node := range x.hosts {
			h.fleet.Post(node, x.sealed)
		}
		sh.mu.Unlock()
		h.wheels.arm(&x.timer, t.clock()+int64(errandTime))
		return
	}
	x.done = true
	delete(sh.m, x.number)
	if x.err == nil {
		x.err = &errUnknown
	}
	sh.mu.Unlock()
	h.release(x)
	h.crossed(t, x)
}

// crossed answers the sender when all outcomes are known, or never will be.
func (h *Hub) crossed(t *Turn, x *crossing) {
	if x.report != nil {
		o := parcel.Outcome{Result: parcel.Absent}
		if x.carried {
			o.Result = parcel.Done
		} else if x.err != nil {
			o.Result, o.Err = parcel.Failed, x.err
		}
		x.report(t, &o)
		return
	}
	if x.ch != nil {
		h.published(t, x)
		return
	}
	ok := wire.OK{For: wire.KindSend, Outcome: wire.Parked}
	var l parcel.Letter
	parcel.Read(x.sealed, &l)
	m := letterOf(&l)
	ok.MessageID = m.id
	switch {
	case x.sessions > 0:
		ok.Outcome, ok.Sessions = wire.Delivered, x.sessions
		t.count.live++
		fallthrough
	case x.parked, x.carried: // a session that may come back keeps it
		h.settle(t, x.once, &ok)
		x.by.ok(t, &ok)
	case x.err != nil && (x.ttl == 0 || x.onward):
		h.refuse(t, &m, &x.by, x.once, *x.err)
	case x.onward:
		x.by.absent(t)
	case x.ttl > 0:
		h.holdRoute(x)
		h.park(t, &m, &x.by, x.once)
	default:
		h.refuse(t, &m, &x.by, x.once, offline(m.to))
	}
	h.leaveRoute(t, x)
}

// errand posts something to nodes until each of them has carried it out, or gives
// it up. report is called once, without a lock held, unless it is nil.
func (h *Hub) errand(t *Turn, nodes []string, number uint64, sealed []byte, report func(t *Turn, o *parcel.Outcome)) {
	if report == nil {
		report = func(*Turn, *parcel.Outcome) {}
	}
	x := &crossing{hub: h, number: number, sealed: sealed, tries: errandTries, hosts: slices.Clone(nodes), report: report}
	x.timer.owner, x.timer.shard = x, uint8(number)
	if !h.file(t, x, errandTime) {
		t.conclude(func(t *Turn) { report(t, &parcel.Outcome{Result: parcel.Failed, Err: &errCrossings}) })
		return
	}
	for _, node := range nodes {
		h.fleet.Post(node, sealed) // what cannot go now goes later
	}
}

// nodeLeft ends the wait for a node's outcomes.
func (h *Hub) nodeLeft(t *Turn, node string) {
	var numbers []uint64
	for i := range h.crossings {
		sh := &h.crossings[i]
		sh.mu.Lock()
		for n, x := range sh.m {
			if slices.Contains(x.hosts, node) {
				numbers = append(numbers, n)
			}
		}
		sh.mu.Unlock()
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		h.arrived(t, n, node, &parcel.Outcome{Result: parcel.Failed, Err: &errLeft})
	}
}

// offline refuses a message to an agent that is nowhere.
func offline(to []byte) wire.Error {
	return wire.Error{Code: wire.AgentOffline, Message: fmt.Sprintf("agent %q is not connected; a ttl_ms would keep the message for it", to)}
}

// outcome notes what to tell a node of something that it posted; it leaves with the
// others of this turn.
func (t *Turn) outcome(node string, o parcel.Outcome) {
	for i := range t.outcomes {
		if t.outcomes[i].node == node {
			t.outcomes[i].list.List = append(t.outcomes[i].list.List, o)
			return
		}
	}
	t.outcomes = append(t.outcomes, nodeOutcomes{node: node, list: parcel.Outcomes{List: []parcel.Outcome{o}}})
}

// nodeOutcomes are the outcomes of one turn for one node.
type nodeOutcomes struct {
	node string
	list parcel.Outcomes
}

// postOutcomes sends what the turn collected.
func (t *Turn) postOutcomes() {
	for i := range t.outcomes {
		o := &t.outcomes[i]
		t.hub.fleet.Post(o.node, parcel.Append(make([]byte, 0, 16+8*len(o.list.List)), &o.list))
	}
	clear(t.outcomes)
	t.outcomes = t.outcomes[:0]
}

// conclude runs f when no lock is held but link.mu: at the end of the command or
// of the turn.
func (t *Turn) conclude(f func(t *Turn)) { t.concluded = append(t.concluded, f) }

// concludeAll runs what was left to the end. No lock may be held but link.mu.
func (t *Turn) concludeAll() {
	if t.concluding {
		return
	}
	t.concluding = true
	for i := 0; i < len(t.concluded); i++ {
		t.concluded[i](t)
	}
	clear(t.concluded)
	t.concluded, t.concluding = t.concluded[:0], false
}
