package relay

// A replayEntry is one direct frame that the client has not acknowledged.
type replayEntry struct {
	sealed  []byte
	parked  *parkedMessage // the mailbox's copy, nil for most
	order   uint64         // the agent's order when it was delivered
	expires int64          // wall ms until which it may be parked should the session end; 0: not at all
}

// A replay is the ring of unacknowledged direct frames of a session, by seq
// without holes. Its zero value holds nothing and no memory.
type replay struct {
	ring  []replayEntry
	head  int
	n     int
	bytes int
	last  uint64 // the seq assigned last
}

func (r *replay) len() int { return r.n }

// first is the seq of the oldest frame kept; last+1 when none is.
func (r *replay) first() uint64 { return r.last + 1 - uint64(r.n) }

// append adds the frame whose seq is last+1.
func (r *replay) append(e replayEntry) {
	if r.n == len(r.ring) {
		r.grow()
	}
	r.ring[(r.head+r.n)%len(r.ring)] = e
	r.n++
	r.bytes += len(e.sealed)
	r.last++
}

func (r *replay) grow() {
	ring := make([]replayEntry, max(4, 2*len(r.ring)))
	for i := range r.n {
		ring[i] = r.ring[(r.head+i)%len(r.ring)]
	}
	r.ring, r.head = ring, 0
}

// drop removes the oldest frame. There must be one.
func (r *replay) drop() replayEntry {
	e := r.ring[r.head]
	r.ring[r.head] = replayEntry{}
	r.head = (r.head + 1) % len(r.ring)
	r.n--
	r.bytes -= len(e.sealed)
	if r.n == 0 && len(r.ring) > 64 {
		r.ring, r.head = nil, 0 // a burst is over; a quiet session costs nothing
	}
	return e
}

// at returns the i-th oldest frame.
func (r *replay) at(i int) *replayEntry { return &r.ring[(r.head+i)%len(r.ring)] }

// release gives the ring back when it is empty.
func (r *replay) release() {
	if r.n == 0 {
		r.ring, r.head = nil, 0
	}
}
