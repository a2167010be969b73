package relay

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"agentnet/app/wire"
)

const (
	// requestTimeout is how long a request waits when it does not say.
	requestTimeout = 30 * time.Second
	// requestsPerSession bounds how many own requests may wait at one time.
	requestsPerSession = 1024
	// requestsPerShard bounds the requests of the node, 262,144 in all.
	requestsPerShard = 4096
)

type requestShard struct {
	mu sync.Mutex
	m  map[uint64]*pending
}

// A farKey is what another node calls a request.
type farKey struct {
	node    string
	number  uint64
	adopted bool // that node answers it; else it asked
}

// A pending is a request that waits for its reply.
type pending struct {
	// Fixed at construction.
	hub      *Hub
	number   uint64 // what the reply names
	askID    uint64 // what the asker calls it
	asker    *Session
	answer   func(Answer) // set instead of asker; must not wait
	to       string
	from     string
	began    int64
	deadline int64

	timer timer

	// telling makes the replies one sequence, so that none comes after the last. It
	// comes before Session.mu.
	telling sync.Mutex
	told    bool // the last was told

	// Guarded by the shard's lock: true once a reply without more, a cancel or the
	// deadline ended it.
	done    bool
	replied bool
	server  *Session // who was asked, on this node

	// Of requests that cross nodes; fixed before they are filed, except node and
	// index.
	far     farKey // what the node that asked, or answers in its own numbers, calls it
	node    string // who was asked for an answer; "": a session of this node
	index   uint64 // the answers that came from node so far; guarded by the shard's lock
	sent    uint64 // the answers that went to another node so far; guarded by telling
	movedTo string // the node that the asker's session moved to; written under telling and the shard's lock
	final   bool   // an ask that was handed on already goes to this node only
}

// request handles a question to an agent.
func (s *Session) request(t *Turn, l *link, c *wire.Command) {
	by := &caller{link: l, session: s, id: c.ID}
	if c.ID == 0 {
		by.fail(t, badf("request: `id` is missing, so that the reply could not be told from others"))
		return
	}
	s.mu.Lock()
	busy := len(s.asks)
	again := slices.ContainsFunc(s.asks, func(p *pending) bool { return p.askID == c.ID })
	s.mu.Unlock()
	if again { // a client repeats what a cut may have swallowed; the one reply answers both
		return
	}
	if e := s.admitMessage(t, l, c); e != nil {
		by.fail(t, *e)
		return
	}
	if busy >= requestsPerSession {
		by.fail(t, wire.Error{Code: wire.RateLimited, Message: "too many requests of this session wait for a reply", RetryAfterMS: 1000})
		return
	}
	p := &pending{hub: s.hub, askID: c.ID, asker: s, from: s.agent.name}
	if e := s.hub.ask(t, s.who, p, c); e != nil {
		by.fail(t, *e)
	}
}

// ask gives p a number and hands the request to one session of the receiver.
func (h *Hub) ask(t *Turn, who *Identity, p *pending, c *wire.Command) *wire.Error {
	if !who.Send.MatchBytes(c.To) {
		e := forbidden("ask", c.To)
		return &e
	}
	return h.askAny(t, p, c)
}

// askAny is ask for those who may.
func (h *Hub) askAny(t *Turn, p *pending, c *wire.Command) *wire.Error {
	timeout := requestTimeout
	if c.TimeoutMS > 0 {
		timeout = bounded(c.TimeoutMS, h.cfg.Limits.MaxTimeoutMS)
	}
	p.number = h.requestNumber()
	p.began = t.clock()
	p.timer.owner, p.timer.shard = p, uint8(p.number)
	if h.fleet != nil && !p.final {
		p.to = string(c.To)
		if node := h.askElsewhere(t, c.To); node != "" {
			return h.askNode(t, p, c, node, timeout)
		}
	}
	a := h.agent(c.To)
	if a == nil || a.pick() == nil {
		return &wire.Error{Code: wire.AgentOffline, Message: fmt.Sprintf("agent %q is not connected", c.To)}
	}
	p.to = a.name
	if e := h.expect(p); e != nil {
		return e
	}
	p.deadline = p.began + int64(timeout)
	h.wheels.arm(&p.timer, p.deadline)
	for range 3 { // the session that was picked may just have ended
		server := a.pick()
		if server == nil {
			break
		}
		sh := &h.requests[p.number%shards]
		sh.mu.Lock()
		p.server = server
		sh.mu.Unlock()
		if server.deliverRequest(t, p, c, timeout) {
			t.count.messages++
			t.delivered++
			return nil
		}
	}
	h.finish(p)
	return &wire.Error{Code: wire.AgentOffline, Message: fmt.Sprintf("agent %q is away and keeps too much unread", a.name)}
}

// expect files p under its number and with its asker.
func (h *Hub) expect(p *pending) *wire.Error {
	sh := &h.requests[p.number%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.m) >= requestsPerShard {
		return &wire.Error{Code: wire.Overloaded, Message: "too many requests wait for replies", RetryAfterMS: 1000}
	}
	sh.m[p.number] = p
	if p.far.node != "" {
		h.fileFar(p)
	}
	h.requestN.Add(1)
	if s := p.asker; s != nil {
		s.mu.Lock()
		s.asks = append(s.asks, p)
		s.mu.Unlock()
	}
	return nil
}

// finish takes p out; true for the one that ended it.
func (h *Hub) finish(p *pending) bool {
	sh := &h.requests[p.number%shards]
	sh.mu.Lock()
	if p.done {
		sh.mu.Unlock()
		return false
	}
	p.done = true
	delete(sh.m, p.number)
	sh.mu.Unlock()
	if p.far.node != "" {
		h.forgetFar(p)
	}
	h.requestN.Add(-1)
	h.wheels.stop(&p.timer)
	if s := p.asker; s != nil {
		s.mu.Lock()
		if i := slices.Index(s.asks, p); i >= 0 {
			last := len(s.asks) - 1
			s.asks[i] = s.asks[last]
			s.asks[last] = nil
			if s.asks = s.asks[:last]; last == 0 && cap(s.asks) > 8 {
				s.asks = nil
			}
		}
		s.mu.Unlock()
	}
	return true
}

func (s *Session) deliverRequest(t *Turn, p *pending, c *wire.Command, timeout time.Duration) bool {
	v := wire.Request{Request: p.number, From: p.from, Method: string(c.Method), Payload: c.Payload, DeadlineMS: timeout.Milliseconds(), Headers: c.Headers}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.direct(t, c.Class, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
		v.Seq = seq
		return wire.AppendRequest(dst, enc, &v)
	})
}

// replyTo carries a reply back to the asker.
func (s *Session) replyTo(t *Turn, l *link, c *wire.Command) {
	h := s.hub
	sh := &h.requests[c.Request%shards]
	sh.mu.Lock()
	p := sh.m[c.Request]
	first := p != nil && p.to == s.agent.name && !p.replied
	if first {
		p.replied = true
	}
	sh.mu.Unlock()
	if p == nil || p.to != s.agent.name {
		if h.fleet != nil && s.replyAfar(t, l, c) {
			return
		}
		t.count.dropped[dropNoAsker]++
		l.fail(t, c.ID, "", wire.Error{Code: wire.Gone, Message: fmt.Sprintf("request %d is gone: answered, cancelled or out of time", c.Request)})
		return
	}
	if c.More {
		if wait := s.agent.spend(t.clock(), len(c.Payload.Data)); wait > 0 {
			l.strike(t)
			l.fail(t, c.ID, "", *overRate(wait))
			return
		}
	} else { // the last reply is never refused, but counts
		s.agent.charge(t.clock(), len(c.Payload.Data))
	}
	h.replied(t, p, first, &wire.Reply{From: s.agent.name, Payload: c.Payload, More: c.More, Err: c.Err})
}

// replied carries one reply to the asker of p and ends p with the last.
func (h *Hub) replied(t *Turn, p *pending, first bool, v *wire.Reply) {
	if first {
		h.reply.observe(time.Duration(t.clock()-p.began), 1)
	}
	t.count.messages++
	if !v.More && !h.finish(p) {
		t.count.dropped[dropNoAsker]++
		return
	}
	v.ID = p.askID
	p.tell(t, v)
}

// tell hands one reply to the asker.
func (p *pending) tell(t *Turn, v *wire.Reply) {
	p.telling.Lock()
	defer p.telling.Unlock()
	if p.told {
		t.count.dropped[dropNoAsker]++
		return
	}
	p.told = !v.More
	t.delivered++
	if p.movedTo != "" || p.far.node != "" && !p.far.adopted {
		p.answerNode(v)
		return
	}
	if p.answer != nil {
		p.answer(Answer{From: v.From, More: v.More, Err: v.Err, Payload: wire.Payload{Data: append([]byte(nil), v.Payload.Data...), Binary: v.Payload.Binary}})
		return
	}
	s := p.asker
	s.mu.Lock()
	s.keepOwn(t, wire.Normal, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
		v.Seq = seq
		return wire.AppendReply(dst, enc, v)
	})
	s.mu.Unlock()
}

// cancel ends an own request.
func (s *Session) cancel(t *Turn, c *wire.Command) {
	s.mu.Lock()
	var mine *pending
	for _, p := range s.asks {
		if p.askID == c.Request {
			mine = p
			break
		}
	}
	s.mu.Unlock()
	if mine != nil && s.hub.finish(mine) {
		mine.callOff(t)
	}
}

// callOff tells the agent that was asked that nobody waits any more.
func (p *pending) callOff(t *Turn) {
	sh := &p.hub.requests[p.number%shards]
	sh.mu.Lock()
	s, node := p.server, p.node
	sh.mu.Unlock()
	if node != "" {
		p.cancelAt(node)
		return
	}
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.journey.destination() != "" {
		s.mu.Unlock()
		buf := wire.AppendCancel(make([]byte, wire.HeaderRoom, 64), wire.Protobuf, p.number)
		s.sendAfter(wire.Seal(wire.Protobuf, buf))
		return
	}
	defer s.mu.Unlock()
	if !s.live() {
		return
	}
	t.frame = wire.AppendCancel(t.room(), s.enc, p.number)
	s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.High)
	if !s.full {
		t.markUrgent(s)
	}
}

// expire ends a request whose deadline has come.
func (p *pending) expire(t *Turn, _ *timer) {
	if !p.hub.finish(p) {
		return
	}
	p.callOff(t)
	p.tell(t, &wire.Reply{ID: p.askID, From: p.to, Err: &wire.Error{Code: wire.Timeout, Message: fmt.Sprintf("agent %q did not answer in time", p.to)}})
}

func msDuration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
