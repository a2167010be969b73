package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

// due says in which list of a Turn a session waits to be written to.
const (
	dueNone uint8 = iota
	dueLazy
	dueUrgent
)

// slabBytes is the size of the chunks that hold a session's own frames. It is
// doubled up to slabMax while frames come faster than they are acknowledged.
const (
	slabBytes = 512
	slabMax   = 8 << 10
)

// A Session is one attachment of an agent. It outlives its socket by
// Config.Resume, and keeps what comes in between.
type Session struct {
	// Fixed at construction.
	hub    *Hub
	agent  *agent
	secret secretHash
	order  uint64 // the agent's order when it joined
	newest stamp  // of the session's own messages; touched by the link that has the session alone

	// mu guards the rest. It comes after link.mu, agent.mu and channel.mu, and
	// nothing is locked while it is held but the hub's timers.
	// The small ones stand together: an idle agent costs what this struct does.
	mu        sync.Mutex
	who       *Identity
	link      *link // nil while the socket is gone
	conn      Conn  // the link's
	queue     queue.Queue
	enc       wire.Encoding
	full      bool // the socket has a rest to send: nothing is written before writable
	due       uint8
	ended     bool
	endWait   bool         // an orderly end is on its way; no resume
	mail      bool         // parked messages wait for room in the queue
	hadMail   bool         // a copy may wait in the mailbox for this session alone
	replayed  bool         // kept messages were replayed, and their senders are not told yet
	acks      bool         // the client acknowledges
	arriving  bool         // it came from another node, which has not let go of it yet
	blind     bool         // direct frames may have been lost while it was away
	onTime    uint8        // heartbeats in a row that came in time
	crossingN atomic.Int32 // own messages on their way to other nodes
	state     wire.AgentState
	replay    replay
	lost      uint64 // direct frames that came while detached and found no room
	slab      []byte
	subs      []*subscription
	late      []*subscription // those with something in the queue
	asks      []*pending      // own requests that wait for a reply
	wentAt    uint64          // replay.last when the socket was lost
	bytes     int64           // what Stats.QueueBytes counts for this session
	frames    int64           // and Stats.QueueFrames
	beat      time.Duration   // heartbeat interval
	goneAt    int64           // when the socket was lost
	fullAt    int64           // when the socket stopped taking
	leaving   *leaving        // it is being handed to another node
	journey   *journey        // of a session that moves, else nil
	bornMS    int64           // when it began, wall clock
	timer     timer           // resume window while detached, slow deadline while full
	tally     tally           // what the census tells of it
}

// deliverable says whether messages are handed to the session at once. s.mu must
// be held.
func (s *Session) deliverable() bool { return s.live() && !s.mail && !s.ended }

// live says whether the session has a socket that is not being closed. s.mu must
// be held.
func (s *Session) live() bool { return s.conn != nil && !s.endWait }

// keep copies b to memory that lives as long as the session's frames. s.mu must
// be held.
func (s *Session) keep(b []byte) []byte {
	if cap(s.slab)-len(s.slab) < len(b) {
		size := slabBytes
		if cap(s.slab) > 0 {
			size = min(2*cap(s.slab), slabMax)
		}
		s.slab = make([]byte, 0, max(size, len(b)))
	}
	n := len(s.slab)
	s.slab = append(s.slab, b...)
	return s.slab[n:len(s.slab):len(s.slab)]
}

// recycle reuses the slab when no frame is left in it. s.mu must be held.
func (s *Session) recycle() {
	if s.queue.Empty() && s.replay.len() == 0 {
		s.slab = s.slab[:0]
	}
}

// push queues a frame of the session's own: direct frames and answers. s.mu must
// be held. A session that cannot take it is cut as a slow consumer; what is in
// the replay is not lost by that.
func (s *Session) push(t *Turn, sealed []byte, class wire.Class) {
	if !s.live() {
		return
	}
	s.easeQueue(t, len(sealed))
	res := s.queue.Push(s.hub.bounds.Load().Queue, queue.Item{Sealed: sealed, Messages: 1, Class: class}, queue.Refuse)
	if res.Outcome == queue.Full {
		if s.queue.Empty() && !s.full && s.live() { // larger than a whole queue, but the socket takes it
			s.out(t, sealed)
			return
		}
		s.cutSlow(t)
		return
	}
	s.accountFull()
}

// easeQueue writes what waits for the end of the turn when the queue gets long
// although the socket takes everything. s.mu must be held.
func (s *Session) easeQueue(t *Turn, room int) {
	lim := &s.hub.bounds.Load().Queue
	if !s.full && (s.queue.Len() >= lim.Items/2 || s.queue.Bytes()+room > lim.Bytes/2) {
		s.drain(t)
	}
}

// pushAnswer queues an answer if l still carries the session.
func (s *Session) pushAnswer(t *Turn, l *link, sealed []byte) {
	s.mu.Lock()
	if s.link == l && s.live() {
		s.push(t, s.keep(sealed), wire.Critical)
		if !s.full {
			t.markLazy(s)
		}
	}
	s.mu.Unlock()
}

// account keeps the node's sums of what is queued. s.mu must be held.
func (s *Session) account() {
	if now := int64(s.queue.Bytes()); now != s.bytes {
		s.hub.load.queueBytes.Add(now - s.bytes)
		s.bytes = now
	}
	if now := int64(s.queue.Len()); now != s.frames {
		s.hub.load.queueFrames.Add(now - s.frames)
		s.frames = now
	}
}

// accountFull is account while the socket does not take more: else the queue is
// empty again when the turn ends, and the sums, which all loops share, are left
// alone. s.mu must be held.
func (s *Session) accountFull() {
	if s.full {
		s.account()
	}
}

// cutSlow closes a socket that does not take what it is sent. s.mu must be held.
func (s *Session) cutSlow(t *Turn) {
	if !s.live() {
		return
	}
	s.endWait = true // until detach: nothing more is queued for this socket
	s.link.cut.Store(true)
	s.hub.totals.closed.add(wire.CloseSlowConsumer)
	s.conn.Close(wire.CloseSlowConsumer, "too slow: the queue is full; reconnect and resume")
}

// flush writes what waits, as far as the socket takes it.
func (s *Session) flush(t *Turn) {
	s.mu.Lock()
	s.due = dueNone
	s.write(t)
	more := s.mail && !s.holding() && !s.full && s.live() && s.queue.Empty()
	s.mu.Unlock()
	if more {
		s.agent.deliverMail(t, s)
	}
}

// write is flush with s.mu held.
func (s *Session) write(t *Turn) {
	s.drain(t)
	s.recycle()
}

// drain is write for callers that hold a frame in the slab. s.mu must be held.
func (s *Session) drain(t *Turn) {
	for s.live() && !s.full && !s.queue.Empty() {
		s.writeItems(t, t.items[:s.queue.Next(t.items, joinBytes)])
	}
	if s.queue.Empty() && len(s.late) > 0 {
		for _, sub := range s.late {
			sub.behind, sub.wrote, sub.turned = false, sub.sent, false
		}
		s.late = nil
	}
	s.account()
}

// noteFull starts the deadline of a socket that just stopped taking. s.mu must be
// held.
func (s *Session) noteFull(t *Turn) {
	if s.full && s.fullAt == 0 {
		s.fullAt = t.clock()
		s.hub.wheels.arm(&s.timer, s.fullAt+int64(s.hub.cfg.SlowAfter))
	}
}

// writeItems writes the items that just left the queue. s.mu must be held.
func (s *Session) writeItems(t *Turn, items []queue.Item) {
	t.parts = t.parts[:0]
	for i := range items {
		it := &items[i]
		if sub, ok := it.Source.(*subscription); ok && sub.dead {
			continue
		}
		if it.Missed > 0 {
			t.parts = append(t.parts, s.gapFrame(t, it))
			continue
		}
		t.parts = append(t.parts, it.Sealed)
		t.count.framesOut += uint64(it.Messages)
		s.tally.sent += uint64(it.Messages)
	}
	switch len(t.parts) {
	case 0:
	case 1:
		s.out(t, t.parts[0])
	default:
		t.join = wire.AppendJoined(t.join[:0], s.enc, t.parts)
		s.out(t, t.join)
	}
	clear(items)
	clear(t.parts)
}

// out hands one message to the socket. s.mu must be held.
func (s *Session) out(t *Turn, p []byte) {
	t.count.bytesOut += uint64(len(p))
	s.full = s.conn.Write(p)
	s.noteFull(t)
}

// gapFrame encodes what a gap marker of the queue stands for.
func (s *Session) gapFrame(t *Turn, it *queue.Item) []byte {
	gap := wire.Gap{Missed: uint64(it.Missed)}
	if sub, ok := it.Source.(*subscription); ok {
		gap.Channel = sub.ch.name
	}
	t.count.gaps++
	t.frame = wire.AppendGap(t.room(), s.enc, &gap)
	return append([]byte(nil), wire.Seal(s.enc, t.frame)...)
}

// writable goes on after the socket took its rest.
func (s *Session) writable(t *Turn, l *link) {
	s.mu.Lock()
	if s.link == l && s.full {
		s.full, s.fullAt = false, 0
		s.hub.wheels.stop(&s.timer)
	}
	s.mu.Unlock()
	s.flush(t)
}

// direct assigns the next seq to a frame that encode makes, keeps it for replay
// and queues it. s.mu must be held. It answers false when the session is detached
// and has no room left.
func (s *Session) direct(t *Turn, class wire.Class, entry replayEntry, encode func(dst []byte, enc wire.Encoding, seq uint64) []byte) bool {
	if s.ended || s.lost > 0 && !s.live() { // behind a loss nothing is kept, so that the gap stands in its place
		return false
	}
	t.frame = encode(t.room(), s.enc, s.replay.last+1)
	sealed := wire.Seal(s.enc, t.frame)
	if s.replay.len() >= s.hub.cfg.ReplayFrames || s.replay.bytes+len(sealed) > s.hub.cfg.ReplayBytes {
		if !s.live() {
			return false
		}
		s.evict(t, len(sealed))
	}
	entry.sealed = s.keep(sealed)
	if s.hub.tracing.on.Load() != nil {
		s.traceFrame(t, class, entry.sealed)
	}
	s.replay.append(entry)
	s.push(t, entry.sealed, class)
	if s.live() && !s.full {
		t.markUrgent(s)
	}
	return true
}

// evict makes room in the replay of a connected client that does not
// acknowledge: the oldest frames were handed to its socket long ago. s.mu must be
// held.
func (s *Session) evict(t *Turn, room int) {
	for s.replay.len() > 0 && (s.replay.len() >= s.hub.cfg.ReplayFrames || s.replay.bytes+room > s.hub.cfg.ReplayBytes) {
		e := s.replay.drop()
		if e.parked != nil {
			s.hub.mailRead(e.parked)
		}
	}
}

// keepOwn gives a frame that carries a seq to the session, or counts it as lost.
// s.mu must be held.
func (s *Session) keepOwn(t *Turn, class wire.Class, encode func(dst []byte, enc wire.Encoding, seq uint64) []byte) {
	if !s.direct(t, class, replayEntry{}, encode) && !s.ended {
		s.lost++
		t.count.dropped[dropReplayFull]++
	}
}

// ack forgets what the client has handled.
func (s *Session) ack(t *Turn, l *link, c *wire.Command) {
	s.mu.Lock()
	if s.link != l {
		s.mu.Unlock()
		return
	}
	if c.Seq > s.replay.last {
		last := s.replay.last
		s.mu.Unlock()
		l.fail(t, c.ID, "", badf("ack: seq %d was not sent yet, the last one is %d", c.Seq, last))
		return
	}
	s.acks = true
	s.acked(c.Seq)
	s.mu.Unlock()
}

// acked drops everything up to seq. s.mu must be held.
func (s *Session) acked(seq uint64) {
	for s.replay.len() > 0 && s.replay.first() <= seq {
		if e := s.replay.drop(); e.parked != nil {
			s.hub.mailRead(e.parked)
		}
	}
	s.recycle()
}

// expire ends what s.timer was set for.
func (s *Session) expire(t *Turn, _ *timer) {
	now := t.clock()
	s.mu.Lock()
	switch {
	case s.ended:
	case s.conn == nil && now >= s.goneAt+int64(s.hub.cfg.Resume):
		s.mu.Unlock()
		s.end(t, false)
		return
	case s.conn != nil && s.full && now >= s.fullAt+int64(s.hub.cfg.SlowAfter):
		s.cutSlow(t)
	}
	s.mu.Unlock()
}
