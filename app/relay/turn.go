package relay

import (
	"math/rand/v2"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

const (
	// flushEvery is how many receivers may wait for the end of the turn. More are
	// written to at once, so that a long batch of ready sockets does not delay the
	// first of them.
	flushEvery = 64
	// lazyTurns and lazyFor bound how long an answer that nobody waits for may ride
	// along until there is a message for the same socket, or the loop is idle.
	lazyTurns = 64
	lazyFor   = time.Millisecond
	// passesPerFlush bounds the rounds through channels whose publications arrive
	// while they are being delivered; what is left is done in the next turn, or by a
	// goroutine when the loop wants to wait.
	passesPerFlush = 4
	// joinBytes is the size at which several waiting frames stop being joined to
	// one WebSocket message.
	joinBytes = 48 << 10
	// joinItems is how many frames are joined at most.
	joinItems = 256
)

// A Turn collects what one pass over ready sockets produced, so that each
// receiver is written to once. One goroutine owns it, and it is the place of all
// scratch memory of the message path. It must be flushed before its owner waits.
type Turn struct {
	hub *Hub

	now   int64  // ns since the hub's start; 0: to be read at the next use
	wall  int64  // ms since 1970, read with now
	slot  uint32 // its place in load.began
	begun int64  // when the first message of this turn came

	urgent   []*Session // something waits that somebody may be waiting for
	lazy     []*Session // only answers wait
	lazyAge  int
	lazyFrom int64
	channels []*channel // with publications that no pass has taken yet
	history  bool       // some channel has publications to be stored

	delivered uint64 // messages handed to sockets or queues in this turn
	count     counters
	rng       *rand.ChaCha8

	id    [26]byte // the newest message id
	cmd   wire.Command
	by    caller // who sent it, and the message that it holds
	mail  letter
	frame []byte          // one frame being encoded, after wire.HeaderRoom
	join  []byte          // one joined WebSocket message
	items []queue.Item    // leaving one queue
	parts [][]byte        // their sealed frames
	subs  []*subscription // one chunk of a channel's pass

	nodes      []string
	pubs       []parcel.Pub
	hosts      []Host         // the nodes that hold one agent
	outcomes   []nodeOutcomes // what other nodes are told in the end
	concluded  []func(t *Turn)
	concluding bool
}

// NewTurn makes a Turn for one goroutine.
func (h *Hub) NewTurn() *Turn {
	return &Turn{hub: h, slot: h.load.turns.Add(1) % turnSlots, rng: rand.NewChaCha8(h.seed()), items: make([]queue.Item, joinItems)}
}

// borrow gives a Turn to a goroutine that needs one for a moment.
func (h *Hub) borrow() *Turn {
	t := h.turns.Get().(*Turn)
	t.clock()
	return t
}

// giveBack flushes t and returns it.
func (h *Hub) giveBack(t *Turn) {
	t.Flush(true)
	h.turns.Put(t)
}

// clock reads the time once a turn.
func (t *Turn) clock() int64 {
	if t.now == 0 {
		now := time.Now()
		t.now = int64(now.Sub(t.hub.started)) + 1
		t.wall = now.UnixMilli()
		if t.begun == 0 {
			t.begun = t.now
			t.hub.load.began[t.slot].Store(t.begun)
		}
	}
	return t.now
}

// wallMS is the wall clock of this turn in ms since 1970.
func (t *Turn) wallMS() int64 { t.clock(); return t.wall }

// markUrgent puts s among those that are written to before the turn ends. s.mu
// must be held.
func (t *Turn) markUrgent(s *Session) {
	if s.due != dueUrgent {
		s.due = dueUrgent
		t.urgent = append(t.urgent, s)
	}
}

// markLazy is markUrgent for answers. s.mu must be held.
func (t *Turn) markLazy(s *Session) {
	if s.due == dueNone {
		s.due = dueLazy
		t.lazy = append(t.lazy, s)
	}
}

// relieve writes early when many receivers wait. No lock may be held.
func (t *Turn) relieve() {
	if len(t.urgent) >= flushEvery {
		t.flushUrgent()
	}
}

func (t *Turn) flushUrgent() {
	for i := 0; i < len(t.urgent); i++ {
		t.urgent[i].flush(t)
	}
	clear(t.urgent)
	t.urgent = t.urgent[:0]
}

func (t *Turn) flushLazy() {
	for i := 0; i < len(t.lazy); i++ {
		t.lazy[i].flush(t)
	}
	clear(t.lazy)
	t.lazy = t.lazy[:0]
	t.lazyAge, t.lazyFrom = 0, 0
}

// Flush writes what the turn produced. idle says that the caller is about to
// wait; without it, answers may stay for a later Flush that must follow soon, so
// that they share a system call with what comes next for the same socket.
func (t *Turn) Flush(idle bool) {
	if t.hub.fleet != nil {
		t.concludeAll()
	}
	t.flushUrgent()
	for pass := 0; len(t.channels) > 0 && pass < passesPerFlush; pass++ {
		t.passChannels()
		t.flushUrgent()
	}
	if idle && len(t.channels) > 0 {
		t.handOver()
	}
	if len(t.lazy) > 0 {
		t.lazyAge++
		if t.lazyFrom == 0 {
			t.lazyFrom = t.clock()
		}
		if idle || t.lazyAge > lazyTurns || t.clock()-t.lazyFrom > int64(lazyFor) {
			t.flushLazy()
		}
	}
	if len(t.outcomes) > 0 {
		t.postOutcomes()
	}
	t.end()
}

// handOver leaves channels that others go on publishing to to a goroutine, which
// ends when nothing is left: this loop's sockets must not wait for it.
func (t *Turn) handOver() {
	rest := append([]*channel(nil), t.channels...)
	clear(t.channels)
	t.channels = t.channels[:0]
	h := t.hub
	go func() {
		t := h.borrow()
		t.channels = append(t.channels, rest...)
		for len(t.channels) > 0 {
			t.passChannels()
			t.Flush(false)
			t.clock()
		}
		h.giveBack(t)
	}()
}

// passChannels delivers what the channels of this turn collected.
func (t *Turn) passChannels() {
	n := len(t.channels)
	for i := range n {
		t.channels[i].pass(t)
	}
	rest := copy(t.channels, t.channels[n:])
	clear(t.channels[rest:])
	t.channels = t.channels[:rest]
}

// end closes the books of the turn: latency, counters, load.
func (t *Turn) end() {
	if t.begun == 0 {
		t.now = 0
		return
	}
	spent := int64(time.Since(t.hub.started)) + 1 - t.begun
	if t.delivered > 0 {
		t.hub.delivery.observe(time.Duration(spent), t.delivered)
		t.count.delivered += t.delivered
		t.delivered = 0
	}
	t.hub.load.turn(spent)
	t.hub.totals.add(&t.count)
	if t.history {
		t.history = false
		t.hub.wakeHistorian()
	}
	t.hub.load.began[t.slot].Store(0)
	t.now, t.begun = 0, 0
	t.by, t.mail = caller{}, letter{} // they hold on to connections
}

// room is the scratch space for one frame, with the room for its header.
func (t *Turn) room() []byte {
	const keep = 256 << 10
	if cap(t.frame) < wire.HeaderRoom || cap(t.frame) > keep {
		t.frame = make([]byte, wire.HeaderRoom, 4096)
	}
	return t.frame[:wire.HeaderRoom]
}
