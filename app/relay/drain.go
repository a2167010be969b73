package relay

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

const (
	// drainStep is how often the next wave of a drain is closed.
	drainStep = 50 * time.Millisecond
	// drainMoves is how long a draining node waits for clients to fetch their sessions
	// from other nodes, after the last socket was closed.
	drainMoves = 10 * time.Second
	// drainMail is how long it waits for other nodes to have its parked messages.
	drainMail = 5 * time.Second
	// drainAlone is how long it goes on although no node that stays is seen: one that
	// has just begun anew is seen again by then.
	drainAlone = time.Second
	// drainEndpoints is how many other nodes a client is told of, drainNodes of how many
	// all clients together: they take them in turn, so that they do not all come to
	// the same node.
	drainEndpoints, drainNodes = 3, 32
)

// Drain lets no connection in, tells every client, closes them spread over window
// so that they do not come back all at once, and returns when all are gone or ctx
// ends. Their sessions stay resumable as long as the process lives; with other
// nodes that stay Drain also waits a while for them to fetch the sessions, and leaves
// to them what is still parked here. When all nodes stop it ends as on a lone node:
// channels and parked messages stay where they are stored.
func (h *Hub) Drain(ctx context.Context, window time.Duration) error {
	return h.drain(ctx, window, &stopping)
}

// DrainByOrder is Drain for an operator who empties the node: clients are told so,
// because the process lives on and may be given clients again.
func (h *Hub) DrainByOrder(ctx context.Context, window time.Duration) error {
	return h.drain(ctx, window, &emptying)
}

func (h *Hub) drain(ctx context.Context, window time.Duration, why *cause) error {
	h.leaving.Store(why)
	h.draining.Store(true)
	var all []*link
	h.links.each(func(l *link) { all = append(all, l) })
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	t := h.NewTurn()
	delay := window / 2
	h.tellAll(t, inTurn(why.notice("drain", max(delay, 100*time.Millisecond)), h.elsewhere())...)
	t.Flush(true)
	if err := h.closeInWaves(ctx, t, all, window, why.reason); err != nil {
		return err
	}
	err := h.waitFor(ctx, func() bool {
		// Some were admitted just before the drain began.
		h.links.each(func(l *link) { l.end(t, wire.CloseDrain, why.reason) })
		t.Flush(true)
		return h.links.n.Load() == 0
	})
	if err != nil || h.stopsLast() {
		return err
	}
	return h.handAllOver(ctx, t)
}

// Undrain lets connections in again, after a Drain that was not the end of the
// process; one that still runs must have been ended by cancelling its context. What the
// node gave to others stays there until clients bring it back; sessions that are still
// here go on here.
func (h *Hub) Undrain() {
	h.draining.Store(false)
	h.closing.Store(false)
}

// stopsLast reports whether a draining node has nobody to leave anything to: it has
// no fleet, or all others leave as well or cannot be reached. While it is so no
// channel gets another home.
func (h *Hub) stopsLast() bool {
	last := h.fleet == nil || len(h.fleet.Takers(nil)) == 0
	h.closing.Store(last && h.draining.Load())
	return last
}

// elsewhere are endpoints of other nodes.
func (h *Hub) elsewhere() []string {
	if h.fleet == nil {
		return nil
	}
	return h.fleet.Least(drainNodes)
}

// inTurn makes notices that name some of the endpoints each, and all of them first
// equally often.
func inTurn(n wire.Notice, endpoints []string) []wire.Notice {
	out := make([]wire.Notice, max(len(endpoints), 1))
	for i := range out {
		out[i] = n
		for j := range min(drainEndpoints, len(endpoints)) {
			out[i].Endpoints = append(out[i].Endpoints, endpoints[(i+j)%len(endpoints)])
		}
	}
	return out
}

// waitFor asks until ok, or ctx ends.
func (h *Hub) waitFor(ctx context.Context, ok func() bool) error {
	beat := time.NewTicker(drainStep)
	defer beat.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		}
	}
	return nil
}

// handAllOver leaves to other nodes what a drained one still holds: sessions go as
// their clients ask for them; of the others, what may be parked is, and what is
// parked moves.
func (h *Hub) handAllOver(ctx context.Context, t *Turn) error {
	h.yieldAll(t)
	moves, cancel := context.WithTimeout(ctx, drainMoves)
	defer cancel()
	seen := time.Now()
	h.waitFor(moves, func() bool {
		if !h.stopsLast() {
			seen = time.Now()
		}
		return h.sessionN.Load() == 0 || time.Since(seen) > drainAlone
	})
	if h.stopsLast() {
		return ctx.Err()
	}
	if err := h.endRest(ctx, t); err != nil {
		return err
	}
	mail, done := context.WithTimeout(ctx, drainMail)
	defer done()
	tried := make(map[string]bool)
	h.waitFor(mail, func() bool {
		h.sendMailAway(t, tried)
		t.Flush(true)
		return h.mail.Count() == 0 || h.stopsLast()
	})
	if n := h.mail.Count(); n > 0 {
		h.log.Warn("parked messages stay on this node's disk until it starts again", "count", n)
	}
	return ctx.Err()
}

// endRest ends the sessions that nobody fetched. A drain that was taken back, which
// cancels ctx, leaves those that are still there.
func (h *Hub) endRest(ctx context.Context, t *Turn) error {
	defer t.Flush(true)
	for i := range h.sessions {
		sh := &h.sessions[i]
		var left []*Session
		sh.mu.Lock()
		for _, s := range sh.m {
			left = append(left, s)
		}
		sh.mu.Unlock()
		for _, s := range left {
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			s.end(t, true)
		}
	}
	return nil
}

// sendMailAway posts what is parked here to the nodes that hold its receivers, or
// to any. tried are the agents that are under way.
func (h *Hub) sendMailAway(t *Turn, tried map[string]bool) {
	nodes := h.fleet.Takers(nil)
	for _, agent := range h.mail.Agents() {
		if tried[agent] || len(nodes) == 0 {
			continue
		}
		if len(h.hosts(nil, agent)) > 0 {
			h.forwardParked(t, agent)
			continue
		}
		tried[agent] = h.sendMailOf(t, nodes[rand.IntN(len(nodes))], agent)
	}
}

// sendMailOf posts what is parked for an agent to a node, one batch after the other as
// that node has them; false when there is nothing to post.
func (h *Hub) sendMailOf(t *Turn, node, agent string) bool {
	batch := h.mailBatch(t, agent)
	if len(batch) == 0 {
		return false
	}
	h.postMail(t, node, batch, &parcel.Mail{Keep: true}, func(t *Turn, ok bool) {
		if ok {
			h.sendMailOf(t, node, agent)
		}
	})
	return true
}

// closeInWaves closes the connections evenly over window, be they few or many.
func (h *Hub) closeInWaves(ctx context.Context, t *Turn, all []*link, window time.Duration, reason string) error {
	beat := time.NewTicker(drainStep)
	defer beat.Stop()
	began, closed := time.Now(), 0
	for closed < len(all) {
		due := len(all)
		if spent := time.Since(began); spent < window {
			due = 1 + int(float64(len(all)-1)*float64(spent)/float64(window))
		}
		h.stopsLast()
		for ; closed < due; closed++ {
			all[closed].end(t, wire.CloseDrain, reason)
		}
		t.Flush(true)
		if closed == len(all) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		}
	}
	return nil
}

// Shed moves up to n connections to other nodes, because those have more room:
// each is told some of the endpoints, another one first each time, and closed,
// spread over window. Quiet ones go first, and none that waits for a reply while there are others. It returns how
// many it closed, when that is done or ctx ends.
func (h *Hub) Shed(ctx context.Context, n int, endpoints []string, window time.Duration) int {
	return h.shedFor(ctx, n, endpoints, window, &balancing)
}

// ShedByOrder is Shed for an operator who moves clients, wherever there is more room.
func (h *Hub) ShedByOrder(ctx context.Context, n int, endpoints []string, window time.Duration) int {
	return h.shedFor(ctx, n, endpoints, window, &moving)
}

func (h *Hub) shedFor(ctx context.Context, n int, endpoints []string, window time.Duration, why *cause) int {
	chosen := h.quietest(n)
	t := h.NewTurn()
	notices := inTurn(why.notice("rebalance", 100*time.Millisecond), endpoints)
	began := time.Now()
	beat := time.NewTicker(drainStep)
	defer beat.Stop()
	for i, l := range chosen {
		for time.Since(began) < window*time.Duration(i)/time.Duration(len(chosen)) {
			select {
			case <-ctx.Done():
				return i
			case <-beat.C:
			}
		}
		l.tell(t, &notices[i%len(notices)])
		l.end(t, wire.CloseDrain, why.reason)
		t.Flush(true)
	}
	return len(chosen)
}

// quietest are the n connections that a move disturbs least.
func (h *Hub) quietest(n int) []*link {
	type candidate struct {
		l    *link
		busy int
		seen int64
	}
	var all []candidate
	h.links.each(func(l *link) {
		l.mu.Lock()
		s := l.session
		l.mu.Unlock()
		if s == nil {
			return
		}
		s.mu.Lock()
		busy := len(s.asks)*4 + len(s.journey.toAnswer())*4 + s.queue.Len() + s.replay.len()
		live := s.link == l && s.live() && !s.arriving
		s.mu.Unlock()
		if live {
			all = append(all, candidate{l, busy, l.seen.Load()})
		}
	})
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.busy, b.busy), cmp.Compare(a.seen, b.seen)) })
	var out []*link
	for _, c := range all[:min(max(n, 0), len(all))] {
		out = append(out, c.l)
	}
	return out
}

// tell sends a notice to one connection.
func (l *link) tell(t *Turn, n *wire.Notice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkOpen {
		t.frame = wire.AppendNotice(t.room(), l.info.Encoding, n)
		l.answer(t, wire.Seal(l.info.Encoding, t.frame))
	}
}

// cutNotice tells every client that the other nodes cannot be reached, or can again.
func (h *Hub) cutNotice(t *Turn, cut bool) {
	n := wire.Notice{Kind: "cluster", Level: "whole", Message: "all nodes can be reached again"}
	if cut {
		n.Level, n.Message = "cut", "other nodes cannot be reached: agents of this node reach each other, others do not"
	}
	h.tellAll(t, n)
}
