package ws

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Server upgrades requests and owns the sockets that come of it.
type Server struct {
	cfg      Config
	origins  map[string]bool
	waits    timeouts
	start    time.Time
	bufs     buffers
	deflater deflater
	tally    *tally
	asked    atomic.Int64 // ms, when the last upgrade was asked for
	pending  atomic.Int64 // tickets out
	closing  atomic.Bool
	door     door

	// flush is (*relay.Turn).Flush; tests with a hub of their own replace it.
	flush func(t *relay.Turn, idle bool)

	loops   *loops  // nil where there are none
	streams streams // connections with goroutines of their own
}

// New starts a server. Its faults are those of the configuration, and of the
// system when it gives no event queue.
func New(cfg Config) (*Server, error) {
	return newServer(cfg, defaultTimeouts, (*relay.Turn).Flush)
}

func newServer(cfg Config, waits timeouts, flush func(*relay.Turn, bool)) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("websocket server: %w", err)
	}
	origins, err := parseOrigins(cfg.Origins)
	if err != nil {
		return nil, fmt.Errorf("websocket server: %w", err)
	}
	s := &Server{
		cfg: cfg, origins: origins, waits: waits, flush: flush,
		start: time.Now(), tally: newTally(), door: newDoor(),
	}
	s.deflater.bufs = &s.bufs
	s.streams.conns = make(map[*streamConn]struct{})
	if s.loops, err = startLoops(s, cfg.Loops); err != nil {
		return nil, fmt.Errorf("websocket server: %w", err)
	}
	return s, nil
}

// Configure prepares app for Handler: sockets must outlive the handler that
// upgraded them.
func Configure(app *fiber.App) {
	app.Server().KeepHijackedConns = true
}

// now is the time in milliseconds since the start; it never goes back.
func (s *Server) now() int64 { return time.Since(s.start).Milliseconds() }

// crowdedFor is how long after the last newcomer, in milliseconds, more are expected.
const crowdedFor = 20

// crowded tells whether upgrades were asked for just now.
func (s *Server) crowded() bool { return s.now()-s.asked.Load() < crowdedFor }

// asking notes that an upgrade was asked for. The first of a crowd wakes the loops.
func (s *Server) asking() {
	first := !s.crowded()
	s.asked.Store(s.now())
	if first {
		s.loops.wake()
	}
}

// flushTurn guards against a panic in the relay, which must not end the
// loop that all its neighbours live in.
func (s *Server) flushTurn(t *relay.Turn, idle bool) (next *relay.Turn) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic("flush", v)
			next = s.cfg.Hub.NewTurn()
		}
	}()
	s.flush(t, idle)
	return t
}

// accept introduces a connection to the relay. A panic there makes it a connection
// that nobody listens to, which its owner then ends.
func (s *Server) accept(c relay.Conn, info relay.ConnInfo) (r relay.Receiver, f fault) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic("accept", v)
			r, f = deaf{}, fault{wire.CloseInternal, "panic", "internal error"}
		}
	}()
	s.tally.accept()
	return s.cfg.Hub.Accept(c, info), fault{}
}

// deaf stands in for a Receiver that could not be made.
type deaf struct{}

func (deaf) Receive(*relay.Turn, []byte) {}
func (deaf) Seen(*relay.Turn)            {}
func (deaf) Writable(*relay.Turn)        {}
func (deaf) Closed(*relay.Turn)          {}

// take gives an upgraded socket to those who will serve it. early is what was read
// behind the request. nc is closed when it returns false.
func (s *Server) take(nc net.Conn, t *ticket, early []byte) bool {
	if s.closing.Load() {
		nc.Close()
		return false
	}
	if taken, ok := s.loops.take(nc, t, early); taken {
		return ok
	}
	return s.streams.take(s, nc, t, early)
}

// Close ends all connections with 1001, waits until they are gone, or cuts them
// when ctx ends, and ends all goroutines. Upgrades are refused from its beginning.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { s.loops.close(ctx) })
	wg.Go(func() { s.streams.close(ctx) })
	wg.Wait()
	return ctx.Err()
}

func (s *Server) traffic() []*traffic {
	return append(s.loops.traffic(), &s.streams.load)
}

const goingAway = "the relay is shutting down"
