package embedded

import (
	"sync/atomic"
	"time"
)

// A meter counts commands and knows about how much memory the content takes. An
// exact count looks at every key, so that between two of them the meter adds what
// commands bring and takes nothing off: the estimate errs upwards, and near the
// limit a new count is made.
type meter struct {
	commands, refused, changes, panics atomic.Uint64

	bytes, keys atomic.Int64
	maxBytes    int64
	maxKeys     int64
	wanted      chan struct{} // one slot: count anew
}

// What an argument and a key cost besides their bytes: string headers, map slots,
// the tables of types, times to live and last uses.
const (
	argOverhead = 48
	keyOverhead = 400
)

// grow adds what a command brings, and asks for a count at three quarters.
func (m *meter) grow(args []string) {
	n := int64(0)
	for _, a := range args {
		n += int64(len(a)) + argOverhead
	}
	bytes, keys := m.bytes.Add(n), m.keys.Add(1)
	if bytes > m.maxBytes/4*3 || keys > m.maxKeys/4*3 {
		m.recount()
	}
}

func (m *meter) recount() {
	select {
	case m.wanted <- struct{}{}:
	default:
	}
}

// keepCounting counts when asked, but spends no more than a twentieth of the time
// on it.
func (s *Server) keepCounting() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.meter.wanted:
		}
		begin := time.Now()
		s.count()
		pause := time.NewTimer(max(100*time.Millisecond, 20*time.Since(begin)))
		select {
		case <-s.stop:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// count measures the content. What commands bring meanwhile is added on top.
func (s *Server) count() {
	bytesBefore, keysBefore := s.meter.bytes.Load(), s.meter.keys.Load()
	bytes, keys := int64(0), int64(0)
	for it := range s.items() {
		bytes += it.cost()
		keys++
	}
	s.meter.bytes.Add(bytes - bytesBefore)
	s.meter.keys.Add(keys - keysBefore)
}
