package relay

import (
	"hash/maphash"
	"math/rand/v2"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// peers is what the Fleet calls.
type peers struct{ h *Hub }

// joinFleet makes the hub one of several nodes.
func (h *Hub) joinFleet(make func(Peers) Fleet) {
	if make == nil {
		return
	}
	h.mark = nodeMark(h.cfg.Node)
	h.requestTag = (1 + uint64(rand.N(1<<20-1))) << 32
	h.fleet = make(peers{h})
}

// requestNumber names a request. In a fleet no two nodes give the same one, because
// a session takes those it has to answer along when it moves.
func (h *Hub) requestNumber() uint64 {
	n := h.requestLast.Add(1)
	if h.requestTag != 0 {
		n = h.requestTag | n&(1<<32-1)
	}
	return n
}

// hashOf is the keyed hash of what identifies something that came from a node.
func (h *Hub) hashOf(what string, number ...uint64) uint64 {
	var mh maphash.Hash
	mh.SetSeed(h.hash)
	mh.WriteString(what)
	for _, n := range number {
		maphash.WriteComparable(&mh, n)
	}
	return mh.Sum64()
}

// Receive carries out what another node posted.
func (p peers) Receive(node string, parcels [][]byte) {
	h := p.h
	t := h.borrow()
	defer h.giveBack(t)
	for _, b := range parcels {
		kind := parcel.KindOf(b)
		h.totals.parcelsIn.Add(1)
		if !h.landParcel(t, node, kind, b) {
			h.totals.parcelsOdd.Add(1)
			h.log.Warn("a parcel was not understood", "node", node, "kind", uint8(kind), "bytes", len(b))
		}
		t.concludeAll()
		t.relieve()
	}
}

// landParcel carries out one parcel; false when it is of an unknown kind or cannot
// be read.
func (h *Hub) landParcel(t *Turn, node string, kind parcel.Kind, b []byte) bool {
	switch kind {
	case parcel.KindLetter:
		return h.landLetter(t, node, b)
	case parcel.KindOutcomes:
		return h.landOutcomes(t, node, b)
	case parcel.KindReceipt:
		return h.landReceipt(t, node, b)
	case parcel.KindMail:
		return h.landMail(t, node, b)
	case parcel.KindAsk:
		return h.landAsk(t, node, b)
	case parcel.KindAnswer:
		return h.landAnswer(t, node, b)
	case parcel.KindCancel:
		return h.landCancel(t, node, b)
	case parcel.KindPublish:
		return h.landPublish(t, node, b)
	case parcel.KindPubs:
		return h.landPubs(t, node, b)
	case parcel.KindSync:
		return h.landSync(t, node, b)
	case parcel.KindState:
		return h.landState(t, node, b)
	case parcel.KindEvent:
		return h.landEvent(t, node, b)
	case parcel.KindQuery:
		return h.landQuery(node, b)
	case parcel.KindFound:
		return h.landFound(node, b)
	case parcel.KindListed:
		return h.landListed(node, b)
	case parcel.KindTake:
		return h.landTake(t, node, b)
	case parcel.KindHandover:
		return h.landHandover(t, node, b)
	case parcel.KindTaken:
		return h.landTaken(t, node, b)
	case parcel.KindTail:
		return h.landTail(t, node, b)
	case parcel.KindReply:
		return h.landReply(t, b)
	}
	return false
}

func (h *Hub) landOutcomes(t *Turn, node string, b []byte) bool {
	var v parcel.Outcomes
	if !parcel.Read(b, &v) {
		return false
	}
	for i := range v.List {
		h.arrived(t, v.List[i].Number, node, &v.List[i])
	}
	return true
}

// Joined has nothing to do: what is parked for agents of a node that just came goes
// there as the fleet tells of them.
func (p peers) Joined(node string) {}

// Left ends what waits for a node that is gone.
func (p peers) Left(node string, planned bool) {
	h := p.h
	t := h.borrow()
	defer h.giveBack(t)
	h.nodeLeft(t, node)
	h.requestsLeft(t, node)
	h.ticketsLeft(t, node)
	h.questionsLeft(node)
	h.refind(func(c *channel) bool { return c.home == node })
}

// Lost notes parcels that will never come. Direct messages among them are told by
// their own node, which gets no outcome; replies by the number of the next one.
func (p peers) Lost(node string, parcels uint64) {
	p.h.totals.parcelsLost.Add(parcels)
	p.h.refind(func(c *channel) bool { return c.home == node && c.synced })
	p.h.tellLoss()
	p.h.log.Warn("parcels of another node were lost on the way", "node", node, "parcels", parcels)
}

// tellLoss tells the agents that other nodes hold too that direct messages may have
// been lost: their senders were told that those nodes delivered them. Of agents that
// are here alone the senders get an error.
func (h *Hub) tellLoss() {
	t := h.borrow()
	defer h.giveBack(t)
	var some []*agent
	for i := range h.agents {
		sh := &h.agents[i]
		some = some[:0]
		sh.mu.RLock()
		for _, a := range sh.m {
			if a.share.Load() > 0 {
				some = append(some, a)
			}
		}
		sh.mu.RUnlock()
		for _, a := range some {
			a.mu.Lock()
			for _, s := range a.sessions {
				s.mu.Lock()
				s.tellBlind(t)
				s.mu.Unlock()
			}
			a.mu.Unlock()
		}
	}
}

// tellBlind tells a session that direct frames may have been lost on the way to this
// node, now or when it comes back. s.mu must be held.
func (s *Session) tellBlind(t *Turn) {
	if s.ended {
		return
	}
	if !s.live() {
		s.blind = true
		return
	}
	s.blind = false
	t.frame = wire.AppendGap(t.room(), s.enc, &wire.Gap{})
	s.push(t, s.keep(wire.Seal(s.enc, t.frame)), wire.Critical)
	t.markUrgent(s)
	t.count.gaps++
}

// AgentMoved forwards what is parked here for an agent that is somewhere else now.
func (p peers) AgentMoved(agent string) {
	h := p.h
	h.payDebt(agent, false)
	if a := h.agent(bytesOf(agent)); a != nil {
		a.share.Store(int32(len(h.fleet.Hosts(nil, agent))))
	}
	if h.mail.Len(agent) == 0 {
		return
	}
	t := h.borrow()
	defer h.giveBack(t)
	h.forwardParked(t, agent)
}

// forwardParked forwards what is parked here for an agent, if only others hold it.
func (h *Hub) forwardParked(t *Turn, agent string) {
	if h.agent(bytesOf(agent)) != nil {
		return
	}
	hosts := h.hosts(nil, agent)
	if len(hosts) == 0 {
		return
	}
	sh := &h.routes[h.shardOf(agent)]
	sh.mu.Lock()
	r := sh.m[agent]
	if r == nil {
		r = new(route)
		sh.m[cloneString(agent)] = r
		h.routeN.Add(1)
	}
	switch {
	case r.mail:
	case r.out == 0:
		r.mail = h.forward(t, agent, hosts)
	default: // it goes when what is on the way has arrived
		r.due = true
	}
	h.tidy(sh, agent, r)
	sh.mu.Unlock()
}

// mailAgain is how often parked messages that could not be forwarded are tried
// again.
const mailAgain = 5

// forwardAll tries again, every few seconds, what could not be forwarded before.
func (h *Hub) forwardAll(t *Turn, round int) {
	if h.fleet == nil || round%mailAgain != 0 || h.mail.Count() == 0 {
		return
	}
	for _, agent := range h.mail.Agents() {
		h.forwardParked(t, agent)
	}
}

// Home goes on with a channel whose home is another. A planned move needs nothing
// else: the new home has the window and the epoch, and says so when it is asked.
func (p peers) Home(channel string, home Home, planned bool) { p.h.homeMoved(channel, home, planned) }

// Cut tells the clients, and lets this node's channels go on without the others: each
// gets a home that can be reached.
func (p peers) Cut(cut bool) {
	h := p.h
	t := h.borrow()
	defer h.giveBack(t)
	h.cutNotice(t, cut)
	h.refind(func(c *channel) bool { return c.home != "" })
}

// summary is what other nodes know of an agent: the best state of its live
// sessions, how many of those there are, and of all.
func (a *agent) summary() (state wire.AgentState, live, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sum()
}

// sum is summary with a.mu held.
func (a *agent) sum() (state wire.AgentState, live, all int) {
	state = wire.Away
	for _, s := range a.sessions {
		s.mu.Lock()
		if s.arriving { // until it is whole, what comes for it goes through its old node
			s.mu.Unlock()
			continue
		}
		all++
		if s.live() {
			live++
			if askRank(s.state, true) < askRank(state, true) {
				state = s.state
			}
		}
		s.mu.Unlock()
	}
	return state, live, all
}

// declare tells the fleet how the agent is, if that is new. No lock may be held but
// link.mu.
func (a *agent) declare() {
	f := a.hub.fleet
	if f == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	state, live, all := a.sum()
	if a.told == nil {
		a.share.Store(int32(len(f.Hosts(nil, a.name))))
	}
	if all == 0 { // part has told that it is gone
		return
	}
	if live == 0 {
		state, live = wire.Offline, all
	}
	if now := (Host{State: state, Sessions: live}); a.told == nil || *a.told != now {
		a.told = &now
		f.AgentHere(a.name, state, live)
	}
}

// passOn hands a message on to nodes that took sessions over from here.
func (h *Hub) passOn(t *Turn, m *letter, by *caller, onward []Host) {
	m.onward = true
	t.hosts = append(t.hosts[:0], onward...)
	sh := &h.routes[h.shardOfBytes(m.to)]
	sh.mu.Lock()
	e := h.enterRoute(t, sh, m, by, nil)
	sh.mu.Unlock()
	if e != nil {
		by.fail(t, *e)
	}
	t.concludeAll()
}
