package relay

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

const (
	// fetchTime is how long a client that comes back to another node waits for its
	// session.
	fetchTime = 4 * time.Second
	// arrivalTime is how long a session that was handed over waits for the end of
	// what came for it at its old node.
	arrivalTime = 3 * time.Second
	// secretBytes is the part of a session's secret that its hash is made of. What
	// follows names the node that has it.
	secretBytes = 26
	// ticketsMax bounds the clients that wait for their sessions.
	ticketsMax = 65_536
)

// nodeMark stands for a node in the secrets of its sessions.
func nodeMark(node string) string {
	sum := sha256.Sum256([]byte(node))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// secretHere makes a secret name this node.
func (h *Hub) secretHere(secret string) string {
	if h.fleet == nil {
		return secret
	}
	return secret[:min(len(secret), secretBytes)] + h.mark
}

// A ticket is a client that waits for its session, which another node has.
type ticket struct {
	hub    *Hub
	number uint64
	link   *link
	id     uint64
	who    *Identity
	name   string
	want   *wire.Resume
	timer  timer

	// Guarded by tickets.mu.
	done  bool
	all   bool     // every node was asked
	asked []string // that have not answered
	parts []*parcel.Handover
}

type tickets struct {
	mu sync.Mutex
	m  map[uint64]*ticket
}

// fetch asks the other nodes for the session that a client wants back. It answers
// false when there is nobody to ask. l.mu must be held.
func (l *link) fetch(t *Turn, id uint64, who *Identity, name string, want *wire.Resume) bool {
	h := l.hub
	if want == nil || h.fleet == nil {
		return false
	}
	nodes := h.fleet.Nodes(nil)
	if len(nodes) == 0 {
		return false
	}
	k := &ticket{hub: h, number: h.crossLast.Add(1), link: l, id: id, who: who, name: name, want: want}
	k.timer.owner, k.timer.shard = k, uint8(k.number)
	k.asked, k.all = nodes, true
	if len(want.Session) > secretBytes {
		if i := slices.IndexFunc(nodes, func(n string) bool { return nodeMark(n) == want.Session[secretBytes:] }); i >= 0 {
			k.asked, k.all = []string{nodes[i]}, len(nodes) == 1
		}
	}
	h.tickets.mu.Lock()
	full := len(h.tickets.m) >= ticketsMax
	if !full {
		h.tickets.m[k.number] = k
	}
	h.tickets.mu.Unlock()
	if full {
		l.refuseConnect(t, id, &wire.Error{Code: wire.Overloaded, Message: "too many sessions are being moved", RetryAfterMS: 1000}, wire.CloseOverloaded)
		return true
	}
	l.state = linkAuthenticating // what comes meanwhile waits
	h.wheels.stop(&l.beat)
	h.wheels.arm(&k.timer, t.clock()+int64(fetchTime))
	k.ask(slices.Clone(k.asked))
	return true
}

// ask posts a Take to nodes.
func (k *ticket) ask(nodes []string) {
	secret := hashSecret(k.want.Session)
	p := parcel.Append(nil, &parcel.Take{Ticket: k.number, Secret: secret[:], Agent: k.name, Seq: k.want.Seq})
	for _, node := range nodes {
		k.hub.fleet.Post(node, p) // a node that cannot be reached is waited for: it may have the session
	}
}

// expire sends a client away that waited too long for its session: it comes back,
// and finds it when the node that has it answers or is known to be gone.
func (k *ticket) expire(t *Turn, _ *timer) {
	if !k.hub.takeTicket(k) {
		return
	}
	l := k.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkAuthenticating {
		l.refuseConnect(t, k.id, &wire.Error{Code: wire.Unavailable, Message: "the node that has the session does not answer; come back in a moment", RetryAfterMS: 1000}, wire.CloseGoingAway)
	}
}

// takeTicket removes k; true for the one that did.
func (h *Hub) takeTicket(k *ticket) bool {
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	if k.done {
		return false
	}
	k.done = true
	delete(h.tickets.m, k.number)
	h.wheels.stop(&k.timer)
	return true
}

// landHandover goes on with a client whose session comes, or is nowhere.
func (h *Hub) landHandover(t *Turn, node string, b []byte) bool {
	v := new(parcel.Handover)
	if !parcel.Read(b, v) {
		return false
	}
	h.tickets.mu.Lock()
	k := h.tickets.m[v.Ticket]
	if k == nil {
		h.tickets.mu.Unlock()
		return true // the client went away: the old node keeps the session
	}
	switch {
	case v.Result == parcel.TakeGranted:
		k.parts = append(k.parts, v)
		h.tickets.mu.Unlock()
		if !v.More && h.takeTicket(k) {
			k.arrive(t, node)
		}
	case v.Result == parcel.TakeRefused:
		h.tickets.mu.Unlock()
		k.expire(t, nil)
	default:
		h.tickets.mu.Unlock()
		h.notThere(t, k, node)
	}
	return true
}

// notThere notes that a node does not have the session.
func (h *Hub) notThere(t *Turn, k *ticket, node string) {
	h.tickets.mu.Lock()
	if i := slices.Index(k.asked, node); i >= 0 {
		k.asked = slices.Delete(k.asked, i, i+1)
	} else if k.all { // it answers for another, which handed the question on
		k.asked = k.asked[:max(len(k.asked)-1, 0)]
	} else {
		k.asked = nil
	}
	if len(k.asked) > 0 || k.done {
		h.tickets.mu.Unlock()
		return
	}
	if !k.all {
		k.all = true
		k.asked = slices.DeleteFunc(h.fleet.Nodes(nil), func(n string) bool { return n == node })
		if more := slices.Clone(k.asked); len(more) > 0 {
			h.tickets.mu.Unlock()
			k.ask(more)
			return
		}
	}
	h.tickets.mu.Unlock()
	if h.takeTicket(k) {
		k.anew(t)
	}
}

// ticketsLeft notes that a node is gone which was asked for sessions.
func (h *Hub) ticketsLeft(t *Turn, node string) {
	var some []*ticket
	h.tickets.mu.Lock()
	for _, k := range h.tickets.m {
		if slices.Contains(k.asked, node) {
			some = append(some, k)
		}
	}
	h.tickets.mu.Unlock()
	for _, k := range some {
		h.notThere(t, k, node)
	}
}

// anew gives the client a new session and tells it that its former one is gone.
func (k *ticket) anew(t *Turn) {
	l := k.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != linkAuthenticating {
		return
	}
	l.state = linkOpen
	if !l.begin(t, k.id, k.who, k.name) {
		return
	}
	s := l.session
	s.mu.Lock()
	s.tellBlind(t)
	s.mu.Unlock()
	l.opened(t, "opened")
	l.goOnWithBacklog(t)
}

// goOnWithBacklog handles what came while the client had to wait. l.mu must be held.
func (l *link) goOnWithBacklog(t *Turn) {
	backlog := l.backlog
	l.backlog = nil
	for _, msg := range backlog {
		l.handle(t, msg)
	}
}

// arrive puts a session together that came from another node.
func (k *ticket) arrive(t *Turn, node string) {
	l, h := k.link, k.hub
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != linkAuthenticating {
		return // the socket is gone; the old node keeps the session
	}
	head := k.parts[0]
	s := &Session{hub: h, secret: hashSecret(k.want.Session), who: k.who, enc: l.info.Encoding, link: l, conn: l.conn, state: head.State,
		beat: msDuration(head.BeatMS), acks: head.Acks, wentAt: head.Went, lost: head.Lost, bornMS: head.BornMS, tally: tally{born: t.clock()}, arriving: true, mail: true, replayed: true, from: node, cameAt: t.clock()}
	if !s.state.Valid() {
		s.state = wire.Available
	}
	s.beat = min(max(s.beat, h.cfg.HeartbeatMin), h.cfg.HeartbeatMax)
	s.timer.owner, s.timer.shard = s, s.secret[0]
	var others []*Session
	if a := h.agent(bytesOf(k.name)); a != nil {
		a.mu.Lock()
		others = slices.Clone(a.sessions)
		a.mu.Unlock()
	}
	s.mu.Lock()
	for s.agent = h.join(k.name, s); s.agent == nil; s.agent = h.join(k.name, s) {
		s.mu.Unlock()
		if !h.endOldest(t, k.name) {
			l.refuseConnect(t, k.id, &wire.Error{Code: wire.RateLimited, Message: "the agent has as many connected sessions here as it may"}, wire.ClosePolicy)
			return
		}
		s.mu.Lock()
	}
	l.session = s
	l.state = linkOpen
	s.agent.connected(1)
	s.rebeat()
	g := &gathering{left: 1}
	g.then = func(t *Turn, _ *wire.Error) { s.thank(t, node, k.number) }
	s.unpack(t, k.parts, others, g)
	missed := uint64(0)
	if first := s.replay.first(); k.want.Seq+1 < first {
		missed = first - 1 - k.want.Seq
	}
	s.acked(k.want.Seq)
	t.join = s.greet(t, t.join[:0], k.id, h.secretHere(k.want.Session), true, k.want.Seq+missed)
	s.replayAll(t, missed)
	if head.Blind {
		s.tellBlind(t)
	}
	s.mu.Unlock()

	s.passOver(t, head)
	s.mu.Lock()
	for _, hash := range head.Lately {
		s.lately = append(s.lately, late{hash, t.clock()})
	}
	s.mu.Unlock()
	h.moves.forget(s.secret)
	h.noteReturn(s)
	sh := h.sessionShard(s.secret)
	sh.mu.Lock()
	sh.m[s.secret] = s
	sh.mu.Unlock()
	h.sessionN.Add(1)
	h.wheels.arm(s.awaitTail(), t.clock()+int64(arrivalTime))
	s.unpackRest(t, l, k, head, node)
	l.opened(t, "resumed")
	g.note(t, nil)
	l.goOnWithBacklog(t)
}

// unpack fills the replay with what the client has not acknowledged. s.mu must be
// held; what is parked is on disk when g is told.
func (s *Session) unpack(t *Turn, parts []*parcel.Handover, others []*Session, g *gathering) {
	n := 0
	for _, part := range parts {
		n += len(part.Frames)
	}
	s.replay.last = parts[0].Last - min(parts[0].Last, uint64(n))
	for _, part := range parts {
		for i := range part.Frames {
			f := &part.Frames[i]
			sealed := slices.Clone(f.Data)
			if s.enc != wire.Protobuf {
				sealed = transcode(f.Data, wire.Protobuf, s.enc)
			}
			s.noteFrame(f)
			e := replayEntry{sealed: sealed, order: s.agent.order, expires: f.ExpiresMS}
			if f.Parked {
				if e.parked = s.parkFrame(t, f, others, g); e.parked != nil {
					e.expires = 0
				}
			}
			s.replay.append(e)
		}
	}
}

// noteFrame notes the message of a frame, which may come to this node on its own way
// too. s.mu must be held.
func (s *Session) noteFrame(f *parcel.Frame) {
	var ev wire.Event
	if _, err := ev.Read(wire.Protobuf, wire.Body(f.Data)); err != nil || ev.Kind != wire.KindMessage {
		return
	}
	if s.tailed == nil {
		s.tailed = make(map[string]struct{})
	}
	s.tailed[ev.Message.MessageID] = struct{}{}
}

// parkFrame puts a frame that waited in the old node's mailbox too into this one's.
// s.mu must be held. nil when it cannot be kept: then the replay has it alone.
func (s *Session) parkFrame(t *Turn, f *parcel.Frame, others []*Session, g *gathering) *parkedMessage {
	var ev wire.Event
	if _, err := ev.Read(wire.Protobuf, wire.Body(f.Data)); err != nil || ev.Kind != wire.KindMessage {
		return nil
	}
	v := &ev.Message
	m := letter{from: v.From, class: v.Class, payload: v.Payload, headers: v.Headers, receipts: f.Receipts, id: v.MessageID, timeMS: v.TimeMS}
	p := newParked(&m, s.agent.name, f.ExpiresMS)
	p.holders, p.had, p.handed = []*Session{s}, others, f.Handed
	h := s.hub
	if h.mail.Add(&p.entry) != nil {
		if o := h.mail.Get(p.MessageID); o != nil && o.Value.hold(s) {
			return o.Value // theirs is parked here
		}
		return nil
	}
	h.landed.first(h.hashOf(p.MessageID))
	if f.Receipts {
		h.await(p.MessageID, p.From, p.To, max(p.ExpiresMS, v.TimeMS+receiptTime.Milliseconds()), false)
	}
	if h.cfg.Journal != nil {
		g.add()
		h.cfg.Journal.Put(&p.Parked, func(err error) {
			h.ready.journal(err)
			t := h.borrow()
			g.note(t, nil)
			h.giveBack(t)
		})
	}
	return p
}

// unpackRest restores what a session has besides frames. l.mu must be held.
func (s *Session) unpackRest(t *Turn, l *link, k *ticket, head *parcel.Handover, node string) {
	h := s.hub
	h.learnKeys(s.agent, head.Keys, t.clock())
	if len(head.Card)+len(head.AgKeys) > 0 {
		if card, keys := s.agent.published(); card == nil && keys == nil {
			s.agent.describe(&wire.Profile{Card: head.Card, Keys: head.AgKeys})
		}
	}
	for i := range head.Opens {
		o := &head.Opens[i]
		from := node
		if o.Node != "" {
			from = cloneString(o.Node)
		}
		if o.Asked == 0 {
			s.mu.Lock()
			if s.served == nil {
				s.served = make(map[uint64]string)
			}
			s.served[o.Number] = from
			s.mu.Unlock()
			continue
		}
		h.adopt(t, s, o, from)
	}
	var subs []*subscription
	for i := range head.Places {
		if sub := s.settle(&head.Places[i]); sub != nil {
			subs = append(subs, sub)
		}
	}
	s.rejoinAll(t, l, k.who, k.want, subs)
}

// passOver notes which of the messages that are parked here the session has had on
// its own way: all that were accepted since it began, but those that may not have
// reached its old node before it left.
func (s *Session) passOver(t *Turn, head *parcel.Handover) {
	recent := t.wallMS() - lateTime/int64(time.Millisecond)
	for _, e := range s.hub.mail.Waiting(s.agent.name) {
		p := e.Value
		if p.only == nil && p.TimeMS >= s.bornMS && (p.TimeMS < recent || slices.Contains(head.Lately, messageHash(p.MessageID))) {
			p.pass(s)
		}
	}
}

// settle adds a subscription that is not in its place yet.
func (s *Session) settle(p *parcel.Place) *subscription {
	c := s.hub.lockChannel(bytesOf(p.Channel))
	if c == nil {
		return nil
	}
	sub := &subscription{ch: c, s: s, index: -1, presence: p.Presence, paused: true, sent: p.Offset, wrote: p.Offset, epoch: cloneString(p.Epoch)}
	c.mu.Unlock()
	s.mu.Lock()
	s.subs = append(s.subs, sub)
	s.mu.Unlock()
	return sub
}

// adopt makes a request of the session known here. The old node goes on answering
// it in its own numbers.
func (h *Hub) adopt(t *Turn, s *Session, o *parcel.Open, node string) {
	p := &pending{hub: h, askID: o.Asked, asker: s, from: s.agent.name, to: cloneString(o.To), node: node, number: h.requestNumber(), began: t.clock(),
		far: farKey{node: node, number: o.Number, adopted: true}}
	p.timer.owner, p.timer.shard = p, uint8(p.number)
	if h.expect(p) == nil {
		p.deadline = p.began + max(o.LeftMS, 1)*int64(time.Millisecond) + int64(time.Second) // the old node tells first
		h.wheels.arm(&p.timer, p.deadline)
	}
}

// thank tells the old node that the session is here and kept.
func (s *Session) thank(t *Turn, node string, number uint64) {
	p := parcel.Append(nil, &parcel.Taken{Secret: s.secret[:], Ticket: number})
	s.hub.errand(t, []string{node}, number, p, nil)
}

// An arrivalTimer ends the wait for a session's tail.
type arrivalTimer struct {
	s     *Session
	timer timer
}

func (s *Session) awaitTail() *timer {
	a := &arrivalTimer{s: s}
	a.timer.owner, a.timer.shard = a, s.secret[0]
	return &a.timer
}

// expire gives up what may have come at the old node: that is told by a gap.
func (a *arrivalTimer) expire(t *Turn, _ *timer) { a.s.arrived(t, nil, true) }

// landTail delivers what came for a session at its old node.
func (h *Hub) landTail(t *Turn, node string, b []byte) bool {
	var v parcel.Tail
	if !parcel.Read(b, &v) || len(v.Secret) != len(secretHash{}) {
		return false
	}
	secret := secretHash(v.Secret)
	s := h.sessionOf(secret)
	switch {
	case s == nil:
		if to := h.moves.wentTo(secret); to != "" && to != node && !v.Refused {
			h.fleet.Post(to, b)
		}
	case v.Refused:
		s.mu.Lock()
		mine := s.arriving && s.from == node
		s.mu.Unlock()
		if mine {
			s.closeFor(t, wire.CloseGoingAway, "the session is back at its old node")
		}
	case v.Index == 0:
		s.arrived(t, &v, false)
	default:
		s.mu.Lock()
		for i := range v.Frames {
			s.takeFrame(t, &v.Frames[i])
		}
		s.mu.Unlock()
	}
	return true
}

// arrived makes a session whole: what came for it at its old node is next, then what
// waited here.
func (s *Session) arrived(t *Turn, tail *parcel.Tail, lost bool) {
	s.mu.Lock()
	if !s.arriving || s.ended {
		s.mu.Unlock()
		return
	}
	s.arriving = false
	var over []uint64
	if s.tailed == nil {
		s.tailed = make(map[string]struct{})
	}
	if tail != nil {
		s.lost += tail.Lost
		for i := range tail.Frames {
			if id := s.takeFrame(t, &tail.Frames[i]); id != 0 {
				over = append(over, id)
			}
		}
	}
	if lost {
		s.tellBlind(t)
	}
	var ended []*pending
	for _, p := range s.asks {
		if slices.Contains(over, p.askID) {
			ended = append(ended, p)
		}
	}
	s.mu.Unlock()
	for _, p := range ended {
		s.hub.finish(p)
	}
	s.agent.declare()
	s.agent.deliverMail(t, s)
	s.mu.Lock()
	s.tailed = nil
	s.mu.Unlock()
}

// takeFrame adds a frame of the tail to the session, with the next seq. It returns
// the request that a last reply ends, or 0. s.mu must be held.
func (s *Session) takeFrame(t *Turn, f *parcel.Frame) (ended uint64) {
	var ev wire.Event
	if _, err := ev.Read(wire.Protobuf, wire.Body(f.Data)); err != nil {
		return 0
	}
	give := func(class wire.Class, e replayEntry, encode func(dst []byte, enc wire.Encoding, seq uint64) []byte) {
		if !s.direct(t, class, e, encode) && !s.ended {
			s.lost++
			t.count.dropped[dropReplayFull]++
		}
	}
	switch ev.Kind {
	case wire.KindMessage:
		v := &ev.Message
		if f.Bare && s.hadLately(v.MessageID) {
			return 0
		}
		if s.tailed != nil {
			s.tailed[v.MessageID] = struct{}{}
		}
		s.noteLately(t, v.MessageID)
		give(v.Class, replayEntry{order: s.agent.order, expires: f.ExpiresMS}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendMessage(dst, enc, v)
		})
	case wire.KindRequest:
		v := &ev.Request
		if s.served == nil {
			s.served = make(map[uint64]string)
		}
		s.served[v.Request] = s.from
		give(wire.Normal, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendRequest(dst, enc, v)
		})
	case wire.KindReply:
		v := &ev.Reply
		give(wire.Normal, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendReply(dst, enc, v)
		})
		if !v.More {
			return v.ID
		}
	case wire.KindReceipt:
		v := &ev.Receipt
		give(wire.Normal, replayEntry{}, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendReceipt(dst, enc, v)
		})
	case wire.KindCancel:
		delete(s.served, ev.CancelRequest)
		if s.live() {
			t.frame = wire.AppendCancel(t.room(), s.enc, ev.CancelRequest)
			s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.High)
			t.markUrgent(s)
		}
	}
	return 0
}

// movingN is how many clients of this node wait for their sessions.
func (h *Hub) movingN() int {
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	return len(h.tickets.m)
}
