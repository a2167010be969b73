package relay

import (
	"fmt"
	"sync"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// askRank orders whom a request goes to: available before busy before away before
// those without a socket.
func askRank(state wire.AgentState, live bool) int {
	switch {
	case !live:
		return 3
	case state == wire.Away:
		return 2
	case state == wire.Busy:
		return 1
	}
	return 0
}

// askElsewhere chooses the node that a request goes to; "" is this one. A session
// of this node is preferred to an equal one elsewhere, and of nodes with equal ones
// one is drawn.
func (h *Hub) askElsewhere(t *Turn, to []byte) string {
	t.hosts = h.hosts(t.hosts[:0], ownString(to))
	if len(t.hosts) == 0 {
		return ""
	}
	best, node, equal := 4, "", 0
	if a := h.agent(to); a != nil {
		if state, live, n := a.summary(); n > 0 {
			best = askRank(state, live > 0)
		}
	}
	for _, o := range t.hosts {
		switch rank := askRank(o.State, o.live()); {
		case rank < best:
			best, node, equal = rank, o.Node, 1
		case rank == best && node != "":
			if equal++; t.chance()*float64(equal) < 1 {
				node = o.Node
			}
		}
	}
	return node
}

// askNode hands a request to another node.
func (h *Hub) askNode(t *Turn, p *pending, c *wire.Command, node string, timeout time.Duration) *wire.Error {
	p.node = node
	if e := h.expect(p); e != nil {
		return e
	}
	p.deadline = p.began + int64(timeout)
	h.wheels.arm(&p.timer, p.deadline)
	ask := parcel.Ask{Number: p.number, From: p.from, To: p.to, Method: string(c.Method), Class: c.Class, Headers: c.Headers, Payload: c.Payload,
		TimeoutMS: max(timeout.Milliseconds(), 1), Handed: p.far.node != ""}
	if !h.fleet.Post(node, parcel.Append(make([]byte, 0, 128+len(c.Payload.Data)), &ask)) {
		h.finish(p)
		return &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("the node that holds agent %q cannot be reached now", p.to), RetryAfterMS: 1000}
	}
	t.count.messages++
	return nil
}

// landAsk takes a request of another node.
func (h *Hub) landAsk(t *Turn, node string, b []byte) bool {
	var v parcel.Ask
	if !parcel.Read(b, &v) {
		return false
	}
	key := farKey{node: node, number: v.Number}
	if h.farAsk(key) != nil {
		return true // it came twice
	}
	p := &pending{hub: h, askID: v.Number, from: cloneString(v.From), far: key, final: v.Handed}
	c := &wire.Command{Kind: wire.KindRequest, To: bytesOf(v.To), Method: bytesOf(v.Method), Class: min(v.Class, wire.Low), Headers: v.Headers, Payload: v.Payload, TimeoutMS: v.TimeoutMS}
	if e := h.askAny(t, p, c); e != nil {
		h.fleet.Post(node, parcel.Append(nil, &parcel.Answer{Number: v.Number, Unreached: true, Index: 1, From: v.To, Err: e}))
	}
	return true
}

// answerNode posts a reply to the node that asked. p.telling must be held.
func (p *pending) answerNode(v *wire.Reply) {
	p.sent++
	a := parcel.Answer{Number: p.far.number, Index: p.sent, From: v.From, More: v.More, Err: v.Err, Payload: v.Payload}
	node := p.far.node
	if p.movedTo != "" {
		a.Number, a.Adopted, node = p.number, true, p.movedTo
	}
	p.hub.fleet.Post(node, parcel.Append(make([]byte, 0, 64+len(v.Payload.Data)), &a))
}

// cancelAt tells the node that was asked that nobody waits any more.
func (p *pending) cancelAt(node string) {
	c := parcel.Cancel{Number: p.number}
	if p.far.adopted {
		c = parcel.Cancel{Number: p.far.number, Adopted: true}
	}
	p.hub.fleet.Post(node, parcel.Append(nil, &c))
}

// landAnswer takes a reply of the node that was asked.
func (h *Hub) landAnswer(t *Turn, node string, b []byte) bool {
	var v parcel.Answer
	if !parcel.Read(b, &v) {
		return false
	}
	var p *pending
	if v.Adopted {
		p = h.farAsk(farKey{node: node, number: v.Number, adopted: true})
	}
	sh := &h.requests[v.Number%shards]
	if p != nil {
		sh = &h.requests[p.number%shards]
	}
	sh.mu.Lock()
	if !v.Adopted {
		p = sh.m[v.Number]
	}
	if p == nil || p.done || p.node != node {
		sh.mu.Unlock()
		t.count.dropped[dropNoAsker]++
		return true
	}
	p.index++
	whole, first := p.index == v.Index, !p.replied
	p.replied = true
	sh.mu.Unlock()
	if !whole {
		h.breakOff(t, p, &wire.Error{Code: wire.Unavailable, Message: "replies were lost on the way between nodes"}, true)
		return true
	}
	if v.Unreached {
		h.unreached(t, p, v.Err)
		return true
	}
	h.replied(t, p, first, &wire.Reply{From: v.From, Payload: v.Payload, More: v.More, Err: v.Err})
	return true
}

// breakOff ends a request with an error that no agent gave. call says that the agent
// is to be told.
func (h *Hub) breakOff(t *Turn, p *pending, e *wire.Error, call bool) {
	if !h.finish(p) {
		return
	}
	if call {
		p.callOff(t)
	}
	p.tell(t, &wire.Reply{ID: p.askID, From: p.to, Err: e})
}

// unreached ends a request that no agent got.
func (h *Hub) unreached(t *Turn, p *pending, e *wire.Error) {
	if e == nil {
		e = &wire.Error{Code: wire.AgentOffline, Message: fmt.Sprintf("agent %q is not connected", p.to)}
	}
	if p.far.node != "" && !p.far.adopted {
		if h.finish(p) {
			h.fleet.Post(p.far.node, parcel.Append(nil, &parcel.Answer{Number: p.far.number, Unreached: true, Index: 1, From: p.to, Err: e}))
		}
		return
	}
	s := p.asker
	if s == nil {
		if h.finish(p) {
			p.answer(Answer{From: p.to, Err: e, unreached: true})
		}
		return
	}
	s.mu.Lock()
	l := s.link
	live := s.live()
	s.mu.Unlock()
	if !live { // an error frame would be lost
		h.breakOff(t, p, e, false)
		return
	}
	if h.finish(p) {
		by := &caller{link: l, session: s, id: p.askID}
		by.fail(t, *e)
	}
}

// landCancel ends a request whose asker, on another node, no longer waits.
func (h *Hub) landCancel(t *Turn, node string, b []byte) bool {
	var v parcel.Cancel
	if !parcel.Read(b, &v) {
		return false
	}
	p := h.farAsk(farKey{node: node, number: v.Number})
	if v.Adopted {
		sh := &h.requests[v.Number%shards]
		sh.mu.Lock()
		if p = sh.m[v.Number]; p != nil && p.movedTo != node {
			p = nil
		}
		sh.mu.Unlock()
	}
	if p != nil && h.finish(p) {
		p.callOff(t)
	}
	return true
}

// replyAfar carries a reply to the node that numbered its request, when the session
// has moved since. False: it is not such a request.
func (s *Session) replyAfar(t *Turn, l *link, c *wire.Command) bool {
	s.mu.Lock()
	node, ok := s.journey.toAnswer()[c.Request]
	if ok && !c.More {
		delete(s.journey.served, c.Request)
	}
	s.mu.Unlock()
	if !ok {
		return false
	}
	if c.More {
		if wait := s.agent.spend(t.clock(), len(c.Payload.Data)); wait > 0 {
			l.strike(t)
			l.fail(t, c.ID, "", *overRate(wait))
			return true
		}
	} else {
		s.agent.charge(t.clock(), len(c.Payload.Data))
	}
	r := parcel.Reply{Request: c.Request, Agent: s.agent.name, More: c.More, Err: c.Err, Payload: c.Payload}
	if !s.hub.fleet.Post(node, parcel.Append(nil, &r)) {
		l.fail(t, c.ID, "", wire.Error{Code: wire.Gone, Message: fmt.Sprintf("request %d is gone: the node that it came to cannot be reached", c.Request)})
	}
	return true
}

// landReply takes a reply of a session that moved to another node.
func (h *Hub) landReply(t *Turn, b []byte) bool {
	var v parcel.Reply
	if !parcel.Read(b, &v) {
		return false
	}
	sh := &h.requests[v.Request%shards]
	sh.mu.Lock()
	p := sh.m[v.Request]
	if p == nil || p.to != v.Agent {
		sh.mu.Unlock()
		t.count.dropped[dropNoAsker]++
		return true
	}
	first := !p.replied
	p.replied = true
	sh.mu.Unlock()
	h.replied(t, p, first, &wire.Reply{From: v.Agent, Payload: v.Payload, More: v.More, Err: v.Err})
	return true
}

// farShard finds requests by what other nodes call them.
type farShard struct {
	mu sync.Mutex
	m  map[farKey]*pending
}

func (h *Hub) farShard(k farKey) *farShard { return &h.farAsks[k.number%shards] }

func (h *Hub) farAsk(k farKey) *pending {
	sh := h.farShard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.m[k]
}

func (h *Hub) fileFar(p *pending) {
	sh := h.farShard(p.far)
	sh.mu.Lock()
	sh.m[p.far] = p
	sh.mu.Unlock()
}

func (h *Hub) forgetFar(p *pending) {
	sh := h.farShard(p.far)
	sh.mu.Lock()
	if sh.m[p.far] == p {
		delete(sh.m, p.far)
	}
	sh.mu.Unlock()
}

// requestsLeft ends the requests that a node was asked or had asked.
func (h *Hub) requestsLeft(t *Turn, node string) {
	var asked, asking []*pending
	for i := range h.requests {
		sh := &h.requests[i]
		sh.mu.Lock()
		for _, p := range sh.m {
			switch {
			case p.node == node:
				asked = append(asked, p)
			case p.far.node == node || p.movedTo == node:
				asking = append(asking, p)
			}
		}
		sh.mu.Unlock()
	}
	for _, p := range asked {
		h.breakOff(t, p, &wire.Error{Code: wire.Unavailable, Message: "the node of the agent that was asked is gone; whether the request was carried out is not known"}, false)
	}
	for _, p := range asking {
		if h.finish(p) {
			p.callOff(t)
		}
	}
}
