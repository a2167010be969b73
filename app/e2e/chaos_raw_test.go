//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"agentnet/app/wire"
)

// An errand is a send or publish until it is answered.
type errand struct {
	cmd  wire.Command
	deed *deed
}

// A seat is the place of a raw actor in a channel.
type seat struct {
	epoch string
	era   uint64 // epochs before this one
	base  uint64 // everything up to it was handled or is told lost
	set   map[uint64]bool
}

// settle moves base over what was handled; skip of the missing ones are told lost.
func (s *seat) settle(skip uint64) {
	for {
		switch {
		case s.set[s.base+1]:
			s.base++
		case skip > 0:
			s.base++
			skip--
		default:
			return
		}
	}
}

// A rawActor speaks the protocol by hand, by the letter of PROTOCOL.md's "what a
// client must do".
type rawActor struct {
	arena *arena
	index int
	d     *diary
	rnd   *rand.Rand // owned by live
	rate  float64    // actions a second
	tasks sync.WaitGroup

	mu      sync.Mutex
	sock    *socket // nil while not connected
	away    int64   // until then it does not reconnect
	session string
	enc     wire.Encoding
	lineage int
	base    uint64 // direct seqs handled up to here
	above   map[uint64]bool
	acked   uint64
	seats   map[int]*seat
	asked   map[uint64]int // ids of subscribe commands, to channels
	lastID  uint64
	n       int
	waiting []*errand
	asks    map[uint64]ask
	holes   string // a seq that never came
}

type ask struct {
	n, lineage int
	until      int64
}

func newRawActor(a *arena, i int, seed uint64, rate float64) *rawActor {
	return &rawActor{arena: a, index: i, d: a.record.agents[i], rnd: rand.New(rand.NewPCG(seed, uint64(i))), rate: rate, lineage: -1,
		seats: map[int]*seat{}, asked: map[uint64]int{}, asks: map[uint64]ask{}, above: map[uint64]bool{}, lastID: 1}
}

func (r *rawActor) live(ctx context.Context) {
	for ctx.Err() == nil {
		r.ensure(true)
		r.act()
		r.tick()
		r.idle(ctx, time.Duration(r.rnd.ExpFloat64()/r.rate*float64(time.Second)))
	}
	for !r.arena.calm.Load() {
		r.ensure(false)
		r.tick()
		time.Sleep(50 * time.Millisecond)
	}
}

// idle waits until the next act. Who loses the connection comes back before: a slow
// agent must not stay away for longer than its session is kept.
func (r *rawActor) idle(ctx context.Context, d time.Duration) {
	const look = 500 * time.Millisecond
	for ; d > look && ctx.Err() == nil; d -= look {
		pause(ctx, look)
		r.ensure(true)
	}
	pause(ctx, d)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// ensure reconnects when the connection is gone.
func (r *rawActor) ensure(rough bool) {
	r.mu.Lock()
	there := r.sock != nil
	away := rough && r.arena.now() < r.away
	r.mu.Unlock()
	if there || away {
		return
	}
	if err := r.connect(rough && r.rnd.IntN(2) == 0); err != nil {
		if ref := (*turnedAway)(nil); errors.As(err, &ref) {
			time.Sleep(min(max(ref.retry, 0), time.Second))
		}
		time.Sleep(time.Duration(r.rnd.IntN(50)) * time.Millisecond)
	}
}

// connect opens a connection, resumes or begins a session and repeats what had no
// answer, in order.
func (r *rawActor) connect(proxied bool) error {
	conn, err := dial(r.arena.door(r.index, proxied), 0, 0)
	if err != nil {
		return err
	}
	enc := wire.Encoding(r.rnd.IntN(wire.Encodings))
	s, err := upgrade(conn, r.arena.p.addr, enc, 2048)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var resume *wire.Resume
	if r.session != "" {
		resume = &wire.Resume{Session: r.session, Seq: r.base}
		for ch, at := range r.seats {
			resume.Channels = append(resume.Channels, wire.ChannelPosition{Channel: channelName(ch), Epoch: at.epoch, Offset: at.base})
		}
	}
	begun := r.arena.now()
	c, rest, err := s.hello(r.arena.p.token, agentName(r.index), resume)
	if err != nil {
		r.d.tell(r.arena.now(), "connect failed after %d ms: %v", (r.arena.now()-begun)/1e6, err)
		conn.Close()
		return err
	}
	r.sock, r.enc = s, enc
	r.d.tell(r.arena.now(), "connected: proxied %v, asked to resume %v, resumed %v, own base %d, relay's seq %d", proxied, resume != nil, c.Resumed, r.base, c.Seq)
	var again []*wire.Command
	if c.Resumed {
		r.session = c.Session // another one when it goes on at another node
		r.arena.resumes.Add(1)
		clear(r.asks)        // which of them the relay ever got is not known; they may be answered or not
		for r.base < c.Seq { // told lost by the gap that follows
			r.base++
			delete(r.above, r.base)
		}
	} else {
		if resume != nil {
			r.arena.ended.Add(1)
		}
		again = r.beginLocked(c.Session)
	}
	for _, e := range r.waiting {
		e.deed.again = true
		again = append(again, &e.cmd)
	}
	for len(again) > 0 && err == nil {
		n := min(len(again), 50)
		err = s.write(again[:n]...)
		again = again[n:]
	}
	rest(func(ev *wire.Event) { r.take(ev) })
	r.tasks.Go(func() { r.receive(s) })
	return nil
}

// beginLocked starts a lineage: a session that knows nothing of former ones.
func (r *rawActor) beginLocked(session string) []*wire.Command {
	r.arena.fresh.Add(1)
	now := r.arena.now()
	r.d.mu.Lock()
	if n := len(r.d.lineages); n > 0 && r.d.lineages[n-1].ended == 0 {
		r.d.lineages[n-1].ended = now
	}
	r.d.lineages = append(r.d.lineages, lineage{begun: now})
	r.d.mu.Unlock()
	r.lineage++
	r.session, r.base, r.acked = session, 0, 0
	clear(r.above)
	clear(r.seats)
	clear(r.asked)
	clear(r.asks) // their session has ended
	var cmds []*wire.Command
	for _, ch := range r.channels() {
		r.lastID++
		r.asked[r.lastID] = ch
		cmds = append(cmds, &wire.Command{ID: r.lastID, Kind: wire.KindSubscribe, Channel: []byte(channelName(ch)), Class: wire.Normal})
	}
	return cmds
}

// channels are the two that this agent listens to.
func (r *rawActor) channels() []int {
	n := len(r.arena.record.channels)
	return slices.Compact([]int{r.index % n, (r.index*7 + 3) % n})
}

func (r *rawActor) receive(s *socket) {
	var ev wire.Event
	for {
		err := s.read(&ev, func(ev *wire.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.sock == s { // else it was given up, and comes again
				r.take(ev)
			}
		})
		if err == nil {
			continue
		}
		s.conn.Close()
		r.mu.Lock()
		if r.sock == s {
			r.sock = nil
			r.d.tell(r.arena.now(), "connection ended: %v", err)
			if c := (*closing)(nil); errors.As(err, &c) && (c.code < 4000 && c.code != 1001 || c.code == 4000) {
				r.arena.t.Errorf("agent %d was closed with %d: %s", r.index, c.code, c.reason)
			}
			if len(r.asked) > 0 {
				r.session = "" // whether the subscriptions stand is not known: begin anew
			}
		}
		r.mu.Unlock()
		return
	}
}

// take handles one frame. r.mu must be held.
func (r *rawActor) take(ev *wire.Event) {
	switch ev.Kind {
	case wire.KindMessage:
		if ev.Message.Channel != "" {
			r.hear(&ev.Message)
		} else if r.fresh(ev.Message.Seq) {
			r.arena.note(r.index, &ev.Message, r.lineage)
		}
	case wire.KindRequest:
		if r.fresh(ev.Request.Seq) {
			_ = r.sock.write(&wire.Command{Kind: wire.KindReply, Request: ev.Request.Request, Payload: r.arena.echo(r.index, ev.Request.Payload), Class: wire.Normal})
		}
	case wire.KindReply:
		if r.fresh(ev.Reply.Seq) {
			if q, ok := r.asks[ev.ID]; ok {
				delete(r.asks, ev.ID)
				if ev.Reply.Err == nil {
					r.arena.answered(r.index, q.n, ev.Reply.Payload)
				}
			}
		}
	case wire.KindReceipt:
		r.fresh(ev.Receipt.Seq)
	case wire.KindGap:
		r.lost(&ev.Gap)
	case wire.KindOK:
		r.done(ev.ID, &ev.OK, nil)
	case wire.KindError:
		r.done(ev.ID, nil, &ev.Error.Err)
	}
	if r.base >= r.acked+8 {
		r.ack()
	}
}

// fresh notes a direct frame and says whether it came for the first time.
func (r *rawActor) fresh(seq uint64) bool {
	if seq <= r.base || r.above[seq] {
		return false
	}
	r.above[seq] = true
	for r.above[r.base+1] {
		r.base++
		delete(r.above, r.base)
	}
	return true
}

func (r *rawActor) hear(m *wire.Message) {
	var ch int
	if _, err := fmt.Sscanf(m.Channel, "e2e/c/%d", &ch); err != nil {
		r.arena.foreign(r.index, "a message of channel "+m.Channel)
		return
	}
	at := r.seats[ch]
	if at == nil || m.Offset <= at.base && !at.set[m.Offset] && m.Offset == 0 || at.set[m.Offset] {
		return
	}
	at.set[m.Offset] = true
	at.settle(0)
	in := *m
	in.Offset += at.era << 40
	r.arena.note(r.index, &in, r.lineage)
}

func (r *rawActor) lost(g *wire.Gap) {
	l := loss{lineage: r.lineage, channel: -1, missed: g.Missed}
	if g.Channel != "" {
		if _, err := fmt.Sscanf(g.Channel, "e2e/c/%d", &l.channel); err != nil {
			return
		}
		if at := r.seats[l.channel]; at != nil {
			if g.Missed == 0 && g.Epoch != "" && g.Epoch != at.epoch {
				*at = seat{epoch: g.Epoch, era: at.era + 1, base: g.Offset, set: map[uint64]bool{}}
			} else if g.Missed == 0 {
				for o := range at.set {
					at.base = max(at.base, o)
				}
			}
			at.settle(g.Missed)
		}
	}
	r.d.tell(r.arena.now(), "gap: channel %q, missed %d", g.Channel, g.Missed)
	r.d.mu.Lock()
	r.d.losses = append(r.d.losses, l)
	r.d.mu.Unlock()
}

// done takes the answer to a command.
func (r *rawActor) done(id uint64, ok *wire.OK, refusal *wire.Error) {
	if ch, is := r.asked[id]; is {
		delete(r.asked, id)
		if ok == nil {
			r.arena.t.Errorf("agent %d: subscribe to channel %d: %v", r.index, ch, refusal)
			return
		}
		r.seats[ch] = &seat{epoch: ok.Epoch, base: ok.Offset, set: map[uint64]bool{}}
		r.d.mu.Lock()
		r.d.listenings = append(r.d.listenings, listening{lineage: r.lineage, channel: ch, after: ok.Offset})
		r.d.mu.Unlock()
		return
	}
	if _, is := r.asks[id]; is {
		delete(r.asks, id)
		return
	}
	i := slices.IndexFunc(r.waiting, func(e *errand) bool { return e.cmd.ID == id })
	if i < 0 {
		return
	}
	m := r.waiting[i].deed
	r.waiting = slices.Delete(r.waiting, i, i+1)
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	m.ended = r.arena.now()
	switch {
	case ok == nil:
		m.verdict = refused
	case m.channel:
		m.verdict, m.offset = published, ok.Offset
	case ok.Outcome == wire.Parked:
		m.verdict, m.id = parked, ok.MessageID
	default:
		m.verdict, m.id = delivered, ok.MessageID
	}
}

// ack tells what is handled. r.mu must be held.
func (r *rawActor) ack() {
	if r.sock != nil && r.base > r.acked {
		r.acked = r.base
		_ = r.sock.write(&wire.Command{Kind: wire.KindAck, Seq: r.base, Class: wire.Normal})
	}
}
