package relay

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
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
		beat: msDuration(head.BeatMS), acks: head.Acks, wentAt: head.Went, lost: head.Lost, bornMS: head.BornMS, newest: stampOf(head.Newest), tally: tally{born: t.clock()}, arriving: true, mail: true, replayed: true, journey: &journey{from: node, cameAt: t.clock()}}
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
	for _, hash := range head.Lately {
		s.journey.lately = append(s.journey.lately, late{hash, t.clock()})
	}
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
			e := replayEntry{sealed: sealed, order: s.agent.order.Load(), expires: f.ExpiresMS}
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
	j := s.travel()
	if j.tailed == nil {
		j.tailed = make(map[string]struct{})
	}
	j.tailed[ev.Message.MessageID] = struct{}{}
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
			s.travel().serve(o.Number, from)
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
		if p.only == nil && (p.wasRead() || p.TimeMS >= s.bornMS && p.TimeMS < recent || slices.Contains(head.Lately, messageHash(p.MessageID))) {
			p.pass(s)
		} else {
			p.want(s)
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

// movingN is how many clients of this node wait for their sessions.
func (h *Hub) movingN() int {
	h.tickets.mu.Lock()
	defer h.tickets.mu.Unlock()
	return len(h.tickets.m)
}
