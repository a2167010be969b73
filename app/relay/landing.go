package relay

import (
	"slices"
	"strings"
	"sync"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// landedMax bounds what a node remembers of what came from others, to know what
// comes again.
const landedMax = 1 << 16

// landed remembers the newest of what other nodes may post again: receipts, and
// messages that may be parked. What it holds are hashes under a seed that nobody
// outside knows.
type landed struct {
	mu   sync.Mutex
	m    map[uint64]int // the place in the ring
	ring []uint64
	next int
}

// first notes something; false when it was noted before.
func (l *landed) first(hash uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.m[hash]; again {
		return false
	}
	if l.m == nil {
		l.m = make(map[uint64]int)
	}
	at := len(l.ring)
	if at < landedMax {
		l.ring = append(l.ring, hash)
	} else {
		at, l.next = l.next, (l.next+1)%landedMax
		if old := l.ring[at]; l.m[old] == at { // not one that was forgotten and noted anew
			delete(l.m, old)
		}
		l.ring[at] = hash
	}
	l.m[hash] = at
	return true
}

// forget takes out what was noted too early.
func (l *landed) forget(hash uint64) {
	l.mu.Lock()
	delete(l.m, hash)
	l.mu.Unlock()
}

// landLetter takes a direct message from another node.
func (h *Hub) landLetter(t *Turn, node string, p []byte) bool {
	var l parcel.Sent
	if !parcel.Read(p, &l) {
		return false
	}
	m := letterOf(&l.Letter)
	m.origin = node
	by := caller{node: node, id: l.Number}
	var once *dedupEntry
	if len(l.Key) > 0 && len(l.Targets) == 0 {
		var had wire.OK
		if once, had = h.meet(t, &m, l.Key); had.Outcome != "" {
			t.outcome(node, outcomeOf(l.Number, &had))
			return true
		}
	}
	if m.receipts {
		h.await(strings.Clone(m.id), strings.Clone(m.from), strings.Clone(l.To), m.timeMS+max(m.ttl, receiptTime).Milliseconds(), false)
	}
	if h.departedN.Load() > 0 {
		h.sendCopies(t, &m)
	}
	if onward := h.onward(l.To, l.Targets); len(onward) > 0 {
		if h.agent(m.to) != nil { // its sessions here get it too, and need no other copy
			h.landed.first(h.hashOf(m.id))
		}
		h.undo(t, once, &errNoWay) // who has the message knows its key no longer
		h.passOn(t, &m, &by, onward)
		return true
	}
	h.land(t, &m, &by, once)
	return true
}

// land gives a message of another node to the sessions that its receiver has here.
func (h *Hub) land(t *Turn, m *letter, by *caller, once *dedupEntry) {
	n, held := h.deliver(t, m, m.spare)
	switch {
	case n > 0:
		h.settle(t, once, &wire.OK{For: wire.KindSend, MessageID: m.id, Outcome: wire.Delivered, Sessions: n})
		t.outcome(by.node, parcel.Outcome{Number: by.id, Result: parcel.Delivered, Sessions: n})
	case held && m.spare:
		h.settle(t, once, &wire.OK{For: wire.KindSend, MessageID: m.id, Outcome: wire.Parked})
		t.outcome(by.node, parcel.Outcome{Number: by.id, Result: parcel.Done})
	case held:
		h.park(t, m, by, once)
	default:
		h.undo(t, once, &errNoWay)
		by.absent(t)
		return
	}
	if m.ttl > 0 || len(m.targets) > 1 { // it may be forwarded from where it was parked too
		h.landed.first(h.hashOf(m.id))
	}
}

// forwardMax bounds the letters of one Mail, and forwardBytes their bytes.
const (
	forwardMax   = 128
	forwardBytes = 64 << 10
)

// forward posts what is parked here for an agent to one of the nodes that hold it,
// in order, and goes on when that node has it. The route's shard must be held; the
// caller sets route.mail when the answer is true.
func (h *Hub) forward(t *Turn, to string, hosts []Host, tried ...string) bool {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(o Host) bool { return slices.Contains(tried, o.Node) })
	if len(hosts) == 0 {
		return false
	}
	best := hosts[0]
	for _, o := range hosts {
		if o.live() && (!best.live() || o.Sessions > best.Sessions) {
			best = o
		}
	}
	batch := h.mailBatch(t, to)
	if len(batch) == 0 {
		return false
	}
	to = strings.Clone(to)
	h.postMail(t, best.Node, batch, &parcel.Mail{}, func(t *Turn, ok bool) {
		sh := &h.routes[h.shardOf(to)]
		sh.mu.Lock()
		defer sh.mu.Unlock()
		r := sh.m[to]
		if r == nil {
			return
		}
		r.mail = false
		if !ok { // it may have moved on meanwhile
			if h.agent(bytesOf(to)) == nil && h.forward(t, to, h.hosts(nil, to), append(tried, best.Node)...) {
				r.mail = true
				return
			}
			h.abandonMail(t, r)
		}
		h.advance(t, sh, &crossing{to: to, way: to}, r)
	})
	return true
}

// abandonMail lets those pass that waited behind parked messages which cannot be
// forwarded now. The route's shard must be held.
func (h *Hub) abandonMail(t *Turn, r *route) {
	waiting := r.waiting
	r.waiting = nil
	for _, x := range waiting {
		x.posted = false
		t.conclude(func(t *Turn) {
			if h.take(x) {
				x.err = &errNoWay
				h.crossed(t, x)
			}
		})
	}
}

// mailBatch is the first of what is parked for an agent.
func (h *Hub) mailBatch(t *Turn, to string) (batch []*parkedMessage) {
	now, size := t.wallMS(), 0
	for _, e := range h.mail.Waiting(to) {
		p := e.Value
		if p.only != nil || p.ExpiresMS <= now || !p.mayTravel() {
			continue
		}
		if size += e.Bytes; len(batch) == forwardMax || size > forwardBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, p)
	}
	return batch
}

// postMail posts parked messages to a node until it has them, and forgets them
// here.
func (h *Hub) postMail(t *Turn, node string, batch []*parkedMessage, mail *parcel.Mail, then func(t *Turn, ok bool)) {
	for _, p := range batch {
		p.travel(true)
	}
	h.postLetters(t, node, batch, mail, func(t *Turn, ok bool) {
		for _, p := range batch {
			if ok {
				h.mailDone(p)
			} else {
				p.travel(false)
			}
		}
		then(t, ok)
	})
}

// postLetters posts copies of parked messages to a node until it has them.
func (h *Hub) postLetters(t *Turn, node string, batch []*parkedMessage, mail *parcel.Mail, then func(t *Turn, ok bool)) {
	mail.Number = h.crossLast.Add(1)
	for _, p := range batch {
		mail.Letters = append(mail.Letters, letterOfParked(p))
	}
	h.errand(t, []string{node}, mail.Number, parcel.Append(nil, mail), func(t *Turn, o *parcel.Outcome) { then(t, o.Result == parcel.Done) })
}

func letterOfParked(p *parkedMessage) parcel.Letter {
	return parcel.Letter{From: p.From, To: p.To, ID: p.MessageID, TimeMS: p.TimeMS, Class: p.Class, Receipts: p.Receipts, Headers: p.Headers, Payload: p.Payload,
		TTLMS: max(p.ExpiresMS-p.TimeMS, 1)}
}

// landMail parks what another node had parked.
func (h *Hub) landMail(t *Turn, node string, p []byte) bool {
	var v parcel.Mail
	if !parcel.Read(p, &v) {
		return false
	}
	if !v.Keep && len(v.Letters) > 0 && h.agent(bytesOf(v.Letters[0].To)) == nil {
		t.outcome(node, parcel.Outcome{Number: v.Number, Result: parcel.Absent})
		return true
	}
	var s *Session
	if len(v.Secret) == len(secretHash{}) {
		secret := secretHash(v.Secret)
		s = h.sessionOf(secret)
		if to := h.moves.wentTo(secret); s == nil && to != "" && to != node { // it has moved on
			h.passMailOn(t, node, to, &v)
			return true
		}
	}
	h.parkAll(t, &v, s, func(t *Turn, e *wire.Error) {
		o := parcel.Outcome{Number: v.Number, Result: parcel.Done}
		if e != nil {
			o.Result, o.Err = parcel.Failed, e
		}
		t.outcome(node, o)
	})
	return true
}

// passMailOn hands letters on to the node that their session moved on to. That node
// knows those that it has.
func (h *Hub) passMailOn(t *Turn, node, to string, v *parcel.Mail) {
	asked := v.Number
	v.Number = h.crossLast.Add(1)
	h.errand(t, []string{to}, v.Number, parcel.Append(nil, v), func(t *Turn, o *parcel.Outcome) {
		t.outcome(node, parcel.Outcome{Number: asked, Result: o.Result, Err: o.Err})
	})
}

// parkAll parks letters of another node and tells when all are on disk, or one
// could not be kept. What came before is not parked again. With a secret they came
// along with a session that moved, s if it is here still: others have had them.
func (h *Hub) parkAll(t *Turn, v *parcel.Mail, s *Session, then func(t *Turn, e *wire.Error)) {
	letters, seed := v.Letters, string(v.Secret)
	g := &gathering{left: 1, then: then}
	var others []*Session
	if s != nil {
		others = s.others()
	}
	for i := range letters {
		m := letterOf(&letters[i])
		m.others = others
		hash := h.hashOf(m.id + seed)
		if m.ttl <= 0 || !h.landed.first(hash) {
			continue
		}
		noted := s != nil && h.landed.first(h.hashOf(m.id)) // whoever else has it need not forward it
		if s != nil && !v.Private && h.joinMail(t, s, m.id) {
			continue
		}
		if m.receipts {
			h.await(strings.Clone(m.id), strings.Clone(m.from), strings.Clone(letters[i].To), m.timeMS+max(m.ttl, receiptTime).Milliseconds(), false)
		}
		g.add()
		id := strings.Clone(m.id)
		by := &caller{settled: func(t *Turn, _ *wire.OK, e *wire.Error) {
			switch {
			case e != nil:
				if h.landed.forget(hash); noted {
					h.landed.forget(h.hashOf(id))
				}
			case s != nil:
				s.mailCame(t, id)
			}
			g.note(t, e)
		}}
		if s != nil && v.Private {
			s.takePrivate(t, &m, by)
			continue
		}
		h.park(t, &m, by, nil)
	}
	g.note(t, nil)
}

// others are the sessions that its agent has here besides s.
func (s *Session) others() []*Session {
	s.agent.mu.Lock()
	defer s.agent.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.agent.sessions), func(o *Session) bool { return o == s })
}

// A gathering waits for several things to be carried out.
type gathering struct {
	mu   sync.Mutex
	left int
	err  *wire.Error
	then func(t *Turn, e *wire.Error)
}

func (g *gathering) add() { g.mu.Lock(); g.left++; g.mu.Unlock() }

// note counts one down. The last calls then.
func (g *gathering) note(t *Turn, e *wire.Error) {
	g.mu.Lock()
	if e != nil {
		mine := *e
		g.err = &mine
	}
	g.left--
	left, err := g.left, g.err
	g.mu.Unlock()
	if left == 0 {
		g.then(t, err)
	}
}

// landReceipt tells the sessions of a sender what became of its message.
func (h *Hub) landReceipt(t *Turn, node string, p []byte) bool {
	var r parcel.Receipt
	if !parcel.Read(p, &r) || !r.State.Valid() && r.State != wire.ReceiptDelivered && r.State != wire.ReceiptExpired {
		return false
	}
	o := parcel.Outcome{Number: r.Number, Result: parcel.Done}
	v := wire.Receipt{MessageID: r.ID, From: r.From, State: r.State, Note: r.Note, TimeMS: r.TimeMS}
	if !r.Seek {
		h.awaited(r.ID, r.From, r.State, true) // a last word ends the wait of the node that accepted the message
	}
	switch {
	case !h.landed.first(h.hashOf(node, r.Number)):
	case r.Seek:
		if w := h.awaited(r.ID, r.From, r.State, true); w != nil {
			h.tellSender(t, w.from, &v)
		} else {
			o.Result = parcel.Absent
		}
	case !h.tellHere(t, r.To, &v):
		if onward := h.departedTo(r.To); len(onward) > 0 {
			h.postReceipt(t, onward, r.To, &v)
		} else {
			t.count.dropped[dropNoSender]++
		}
	}
	t.outcome(node, o)
	return true
}

// onward are the nodes that a message for an agent has to be handed on to, besides
// those that its sender's node knows.
func (h *Hub) onward(agent string, targets []string) []Host {
	if h.departedN.Load() == 0 {
		return nil
	}
	return slices.DeleteFunc(h.departedTo(agent), func(o Host) bool { return slices.Contains(targets, o.Node) })
}
