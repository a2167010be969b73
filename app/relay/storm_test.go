package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// A tap is a Conn for real goroutines: the loop that owns it reads what came, and
// tells the relay that it is closed.
type tap struct {
	enc wire.Encoding

	mu     sync.Mutex
	inner  socket
	closed bool
}

func (c *tap) Write(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.inner.enc = c.enc
		c.inner.take(p)
	}
	return false
}
func (c *tap) Ping() {}
func (c *tap) Close(wire.CloseCode, string) {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
}

func (c *tap) take() (evs []wire.Event, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	evs, c.inner.events = c.inner.events, nil
	return evs, c.closed
}

// A rider is one client of a loop.
type rider struct {
	n       *lineage
	conn    *tap
	recv    Receiver
	session string
	id      uint64
}

// storm is what all loops share.
type storm struct {
	t      testing.TB
	hub    *Hub
	agents []string

	mu   sync.Mutex
	log  *annals
	next int
}

func startHub(t *testing.T, cfg Config) *Hub {
	g := &grants{ids: map[string]*Identity{}}
	g.add(t, "all", &Identity{})
	cfg.Authorizer = g
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { h.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return h
}

// TestLoopsAtTheSameTime runs several loops over one hub, as the socket layer does,
// and holds what their clients saw against the promises.
func TestLoopsAtTheSameTime(t *testing.T) {
	const loops, each, steps = 4, 4, 1500
	s := &storm{t: t, hub: startHub(t, Config{}), agents: []string{"a", "b", "c", "d", "e", "f"}}
	s.log = &annals{sends: map[int]*sent{}, ids: map[string]int{}, pubs: map[string]int{}, fault: t.Errorf}
	var wg sync.WaitGroup
	riders := make([][]*rider, loops)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range loops {
		wg.Go(func() { riders[i] = s.loop(rand.New(rand.NewPCG(seed, uint64(i))), each, steps) })
	}
	wg.Wait()
	for range 2 {
		turn := s.hub.NewTurn()
		for _, own := range riders {
			for _, r := range own {
				if r.recv == nil {
					s.connect(turn, r)
				}
				turn.Flush(true)
			}
		}
		for _, own := range riders {
			for _, r := range own {
				s.read(turn, r)
			}
		}
	}
	s.log.finish(true)
	s.hub.EndSessions(func(*Identity) bool { return true }, wire.CloseGoingAway, "over")
	turn := s.hub.NewTurn()
	for _, own := range riders {
		for _, r := range own {
			if r.recv != nil {
				r.recv.Closed(turn)
			}
		}
	}
	turn.Flush(true)
	st := s.hub.Stats()
	if n := st.Connections + st.Sessions + st.Resumable + st.Agents + st.Subscriptions + st.Requests + int(st.QueueBytes+st.QueueFrames); n != 0 {
		t.Errorf("left at the end: %+v", st)
	}
}

func (s *storm) loop(rng *rand.Rand, each, steps int) (own []*rider) {
	turn := s.hub.NewTurn()
	for range each {
		s.mu.Lock()
		n := newLineage(s.agents[rng.IntN(len(s.agents))], len(s.log.all)+1, 1<<30)
		s.log.all = append(s.log.all, n)
		s.mu.Unlock()
		r := &rider{n: n}
		s.connect(turn, r)
		own = append(own, r)
	}
	for range steps {
		r := own[rng.IntN(len(own))]
		switch k := rng.IntN(100); {
		case r.recv == nil:
			s.connect(turn, r)
		case k < 50:
			s.send(turn, r, s.agents[rng.IntN(len(s.agents))])
		case k < 65:
			s.command(turn, r, publish("x", "x"), "publish x")
		case k < 70:
			s.command(turn, r, subscribe("x"), "subscribe x")
		case k < 80:
			r.recv.Receive(turn, frames(r.conn.enc, &wire.Command{Kind: wire.KindAck, Seq: r.n.upTo}))
		case k < 85:
			s.drop(turn, r)
		case k < 88: // the new socket comes before the end of the old one is noticed
			s.read(turn, r)
			if old := *r; old.recv != nil {
				s.connect(turn, r)
				old.recv.Closed(turn)
			}
		}
		turn.Flush(rng.IntN(3) == 0)
		for _, r := range own {
			s.read(turn, r)
		}
	}
	turn.Flush(true)
	return own
}

// connect opens or resumes r's session on a new socket.
func (s *storm) connect(turn *Turn, r *rider) {
	addr := netip.MustParseAddr("127.0.0.1")
	if e := s.hub.Admit(addr); e != nil {
		s.t.Errorf("not admitted: %v", e)
		return
	}
	c := &wire.Connect{Token: "all", Agent: r.n.agent}
	if r.session != "" {
		c.Resume = &wire.Resume{Session: r.session, Seq: r.n.upTo}
		for ch, pl := range r.n.places {
			if !pl.maybe {
				c.Resume.Channels = append(c.Resume.Channels, wire.ChannelPosition{Channel: ch, Epoch: pl.epoch, Offset: pl.offset + pl.missed})
			}
		}
	}
	r.conn = &tap{enc: wire.Encoding(r.id % 2)}
	r.n.resume, r.n.here = r.n.upTo, map[uint64]bool{}
	r.n.lost()
	r.n.waits = map[uint64]string{}
	r.recv = s.hub.Accept(r.conn, ConnInfo{Encoding: r.conn.enc, Addr: addr})
	r.recv.Receive(turn, frames(r.conn.enc, &wire.Command{ID: 1 << 40, Kind: wire.KindConnect, Connect: c}))
	s.read(turn, r)
}

func (s *storm) read(turn *Turn, r *rider) {
	if r.recv == nil {
		return
	}
	evs, closed := r.conn.take()
	s.mu.Lock()
	for i := range evs {
		if ev := &evs[i]; ev.Kind == wire.KindConnected {
			if r.session != "" && (!ev.Connected.Resumed || ev.Connected.Seq != r.n.resume) {
				s.t.Errorf("%s/%d resumed from %d: %+v", r.n.agent, r.n.number, r.n.resume, ev.Connected)
			}
			if r.session == "" {
				r.n.born = s.log.clock
			}
			r.session = ev.Connected.Session
		} else {
			s.log.take(r.n, ev)
		}
	}
	s.mu.Unlock()
	if closed {
		r.recv.Closed(turn)
		r.recv = nil
	}
}

// drop loses the socket with what was not read of it.
func (s *storm) drop(turn *Turn, r *rider) {
	r.recv.Closed(turn)
	r.recv = nil
}

func (s *storm) command(turn *Turn, r *rider, c *wire.Command, what string) {
	r.id++
	c.ID = r.id
	s.mu.Lock()
	r.n.waits[c.ID] = what
	s.mu.Unlock()
	r.recv.Receive(turn, frames(r.conn.enc, c))
}

func (s *storm) send(turn *Turn, r *rider, to string) {
	s.mu.Lock()
	s.next++
	s.log.clock++
	number := s.next
	s.log.sends[number] = &sent{from: r.n, to: to, at: s.log.clock, class: wire.Normal, got: map[*lineage]int{}}
	s.mu.Unlock()
	s.command(turn, r, send(to, fmt.Sprint("m", number)), fmt.Sprint("send ", number))
}

// TestManyResumeOneSession: of those who resume a session at the same time one has
// it in the end, and all others are closed.
func TestManyResumeOneSession(t *testing.T) {
	h := startHub(t, Config{})
	turn := h.NewTurn()
	first := &rider{n: newLineage("a", 1, 0)}
	s := &storm{t: t, hub: h, log: &annals{fault: t.Errorf}}
	s.connect(turn, first)
	for round := range 200 {
		riders := make([]*rider, 6)
		var wg sync.WaitGroup
		for i := range riders {
			r := &rider{n: newLineage("a", 1, 0), session: first.session}
			riders[i] = r
			wg.Go(func() { turn := h.NewTurn(); s.connect(turn, r); turn.Flush(true) })
		}
		wg.Wait()
		open := 0
		for _, r := range append(riders, first) {
			if r.recv == nil {
				continue
			}
			if _, closed := r.conn.take(); closed {
				r.recv.Closed(turn)
				r.recv = nil
				continue
			}
			open++
			first = r
		}
		if open != 1 {
			t.Fatalf("round %d: %d sockets carry the session, want 1", round, open)
		}
	}
	first.recv.Closed(turn)
	if st := h.Stats(); st.Sessions != 1 || st.Resumable != 1 || st.Connections != 0 {
		t.Errorf("got %+v", st)
	}
}

// TestRevocationLeavesNothingOpen ends an identity while its clients connect and
// resume as fast as they can: whoever has a session after it is closed.
func TestRevocationLeavesNothingOpen(t *testing.T) {
	h := startHub(t, Config{})
	s := &storm{t: t, hub: h, log: &annals{fault: func(string, ...any) {}}}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		wg.Go(func() {
			turn, r := h.NewTurn(), &rider{n: newLineage(fmt.Sprint("a", i), i, 0)}
			for j := 0; ; j++ {
				select {
				case <-stop:
					turn.Flush(true)
					return
				default:
				}
				fresh := &rider{n: newLineage(r.n.agent, i, 0)}
				if s.connect(turn, fresh); fresh.recv != nil {
					fresh.recv.Receive(turn, frames(fresh.conn.enc, publish("x", "x"), send("a0", "m1")))
					turn.Flush(j%2 == 0)
					fresh.recv.Closed(turn)
				}
			}
		})
	}
	for range 300 {
		h.EndSessions(func(*Identity) bool { return true }, wire.CloseAuthFailed, "revoked")
	}
	close(stop)
	wg.Wait()
	h.EndSessions(func(*Identity) bool { return true }, wire.CloseAuthFailed, "revoked")
	if st := h.Stats(); st.Sessions != 0 || st.Agents != 0 || st.Resumable != 0 || st.Connections != 0 {
		t.Errorf("left: %d sessions, %d agents, %d resumable, %d connections", st.Sessions, st.Agents, st.Resumable, st.Connections)
	}
}
