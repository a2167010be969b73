package ws

import (
	"sync"
	"sync/atomic"

	"agentnet/app/wire"
)

// Stats is one reading of the counters of a Server. Counters only grow while the
// process lives.
type Stats struct {
	Connections int // gauge: taken over and not yet given up
	Pending     int // gauge: admitted, the upgrade still under way

	Accepted   uint64 // connections taken over
	MessagesIn uint64 // whole messages handed to the relay
	BytesIn    uint64 // read from sockets, with frame headers
	Writes     uint64 // calls of Conn.Write that went out
	BytesOut   uint64 // given to sockets or kept for them, with frame headers
	Rests      uint64 // times that a socket did not take all

	// Closed counts ends by close code: what we sent first, else what the peer
	// sent; 1005 for a close frame without a code, 1006 for none at all, and 0 for
	// codes that neither RFC 6455 nor this protocol knows.
	Closed map[wire.CloseCode]uint64
	// Faults counts connections that we ended for what the peer did, by kind.
	Faults map[string]uint64
	// Refused counts upgrades that were refused, by the code of the answer.
	Refused map[wire.Code]uint64
}

const (
	closeNoCode   wire.CloseCode = 1005
	closeAbnormal wire.CloseCode = 1006
)

// traffic is counted apart for each loop, so that loops do not share cache lines.
type traffic struct {
	messagesIn, bytesIn     atomic.Uint64
	writes, bytesOut, rests atomic.Uint64
	connections             atomic.Int64
	_                       [64]byte
}

// tally counts what happens once in the life of a connection.
type tally struct {
	mu       sync.Mutex
	accepted uint64
	closed   map[wire.CloseCode]uint64
	faults   map[string]uint64
	refused  map[wire.Code]uint64
}

func newTally() *tally {
	t := &tally{
		closed:  make(map[wire.CloseCode]uint64),
		faults:  make(map[string]uint64),
		refused: make(map[wire.Code]uint64),
	}
	for _, l := range faultLabels() {
		t.faults[l] = 0
	}
	return t
}

func (t *tally) refuse(code wire.Code) {
	t.mu.Lock()
	t.refused[code]++
	t.mu.Unlock()
}

func (t *tally) accept() {
	t.mu.Lock()
	t.accepted++
	t.mu.Unlock()
}

func (t *tally) fault(label string) {
	t.mu.Lock()
	t.faults[label]++
	t.mu.Unlock()
}

func (t *tally) close(code wire.CloseCode) {
	if !knownCloseCode(code) {
		code = 0 // peers may choose among 2,000 codes: the map must stay small
	}
	t.mu.Lock()
	t.closed[code]++
	t.mu.Unlock()
}

func knownCloseCode(code wire.CloseCode) bool {
	return code >= 1000 && code <= 1014 ||
		code >= wire.CloseAuthFailed && code <= wire.CloseHeartbeatMissed
}

// Stats reads all counters.
func (s *Server) Stats() Stats {
	var out Stats
	for _, t := range s.traffic() {
		out.Connections += int(t.connections.Load())
		out.MessagesIn += t.messagesIn.Load()
		out.BytesIn += t.bytesIn.Load()
		out.Writes += t.writes.Load()
		out.BytesOut += t.bytesOut.Load()
		out.Rests += t.rests.Load()
	}
	out.Pending = int(s.pending.Load())
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	out.Accepted = s.tally.accepted
	out.Closed = copyMap(s.tally.closed)
	out.Faults = copyMap(s.tally.faults)
	out.Refused = copyMap(s.tally.refused)
	return out
}

func copyMap[K comparable](m map[K]uint64) map[K]uint64 {
	out := make(map[K]uint64, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
