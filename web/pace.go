package web

import (
	"net"
	"runtime"
	"sync/atomic"
)

// acceptBatch is how many connections are accepted before all that can run had its
// turn.
const acceptBatch = 16

// A pacedListener lets others run between connections. In a storm thousands wait to
// be accepted: taken in one go, each becomes a goroutine that can run, and whoever
// serves established connections stands behind all of them. No connection is
// refused or made to wait while the processor has nothing else to do.
type pacedListener struct {
	net.Listener
	accepted atomic.Uint64
}

// Accept is net.Listener's.
func (l *pacedListener) Accept() (net.Conn, error) {
	if l.accepted.Add(1)%acceptBatch == 0 {
		runtime.Gosched()
	}
	return l.Listener.Accept()
}
