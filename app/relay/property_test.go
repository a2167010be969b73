package relay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay/mailbox"
	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

// A run is a number of clients that do things at random in virtual time.
type run struct {
	w      *world
	place  func() *world // where the next connection goes
	all    func() []*world
	pause  func() // after a session began
	change func() // does something to the nodes now and then; nil: nothing
	rng    *rand.Rand
	log    *annals
	rough  bool
	next   int // numbers of messages
	agents []string
}

// runs is how many seeds one test tries.
const runs = 8

// TestRandomLives lets clients connect, lose sockets, resume, talk, and block at
// random, and holds what they saw against the promises of the protocol. RELAY_SEED
// repeats one run.
func TestRandomLives(t *testing.T) {
	first, seeds := uint64(time.Now().UnixNano()), runs
	if s := os.Getenv("RELAY_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		seeds = 1
	}
	for i := range seeds {
		seed := first + uint64(i)
		rough := seed%2 == 1
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			set := func(c *Config) {
				c.Resume = time.Minute
				if rough {
					c.ReplayFrames, c.Queue = 12, queue.Limits{Items: 16, Bytes: 1 << 20}
					c.Mailbox = mailbox.Limits{AgentCount: 20}
					c.Channels = []ChannelRule{{Match: allGlobs(t, "**"), Recent: RecentLimits{Count: 8}}}
				}
			}
			inWorld(t, set, func(w *world) {
				r := &run{w: w, place: func() *world { return w }, all: func() []*world { return []*world{w} }, pause: func() {}, rng: rand.New(rand.NewPCG(seed, 7)), rough: rough, agents: []string{"a", "b", "c", "d"}}
				r.log = &annals{sends: map[int]*sent{}, ids: map[string]int{}, pubs: map[string]int{}, fault: func(f string, args ...any) {
					t.Helper()
					t.Errorf("step %d: %s", r.log.clock, fmt.Sprintf(f, args...))
				}}
				for _, a := range r.agents {
					w.grants().add(t, "token "+a, &Identity{Agents: allGlobs(t, a)})
				}
				r.live()
				r.quiet()
				r.log.finish(!rough)
				r.leave()
				wantEmpty(t, w.hub)
			})
		})
	}
}

// live does 500 things.
func (r *run) live() {
	for range 6 {
		r.begin(r.agents[r.rng.IntN(len(r.agents))])
	}
	for range 500 {
		r.log.clock++
		if r.change != nil {
			r.change()
		}
		n := r.log.all[r.rng.IntN(len(r.log.all))]
		switch {
		case n.ended:
		case n.p == nil:
			r.comeBack(n)
		default:
			r.act(n)
		}
		if r.rng.IntN(4) == 0 {
			time.Sleep(time.Duration(r.rng.IntN(800)) * time.Millisecond)
		}
		for _, n := range r.log.all {
			if n.p != nil {
				r.read(n, -1)
			}
		}
	}
}

func (r *run) begin(agent string) {
	n := newLineage(agent, len(r.log.all)+1, r.log.clock)
	r.log.all = append(r.log.all, n)
	p := r.place().dial()
	p.connect(&wire.Connect{Token: "token " + agent, Agent: agent})
	n.attach(p, 0)
	r.pause()
}

// comeBack resumes a session, in rough runs sometimes too late.
func (r *run) comeBack(n *lineage) {
	if r.rough && r.rng.IntN(10) == 0 {
		time.Sleep(70 * time.Second)
	}
	want := &wire.Resume{Session: n.was.session, Seq: n.upTo}
	for ch, pl := range n.places {
		if pl.maybe || n.clean && r.rng.IntN(2) == 0 {
			pl.unnamed = true
			continue
		}
		pl.unnamed = false
		want.Channels = append(want.Channels, wire.ChannelPosition{Channel: ch, Epoch: pl.epoch, Offset: pl.offset + pl.missed})
	}
	p := r.reconnect(n, want)
	if !p.hello.Resumed {
		if !r.rough {
			r.log.fault("%s/%d could not resume", n.agent, n.number)
		}
		n.ended = true
		fresh := newLineage(n.agent, len(r.log.all)+1, r.log.clock)
		r.log.all = append(r.log.all, fresh)
		fresh.attach(p, 0)
		n.p = nil
		r.pause()
		return
	}
	if p.hello.Seq > n.upTo {
		n.gaps++
		n.upTo = p.hello.Seq
	}
	for n.handled[n.upTo+1] != "" {
		n.upTo++
	}
	n.attach(p, p.hello.Seq)
}

// reconnect resumes a session, again while the relay says that it cannot tell yet.
func (r *run) reconnect(n *lineage, want *wire.Resume) *peer {
	for range 10 {
		p := r.place().dial()
		p.id, p.name = n.was.id, n.agent
		ev := p.ask(&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "token " + n.agent, Agent: n.agent, Resume: want}})
		if ev.Kind == wire.KindConnected {
			p.hello, p.session = ev.Connected, ev.Connected.Session
			return p
		}
		if ev.Error.Err.Code != wire.Unavailable {
			r.w.t.Fatalf("%s/%d: resume was refused: %+v", n.agent, n.number, ev.Error.Err)
		}
		time.Sleep(time.Second)
	}
	r.w.t.Fatalf("%s/%d could not come back", n.agent, n.number)
	return nil
}

// read lets n handle up to limit events, all if it is below 0, and notices a close.
func (r *run) read(n *lineage, limit int) {
	evs := n.p.take()
	n.unread = limit >= 0 && limit < len(evs)
	if n.unread {
		evs = evs[:limit]
	}
	for i := range evs {
		r.log.take(n, &evs[i])
	}
	if code := n.p.code(); code != 0 {
		if n.detach(); code == wire.CloseAuthFailed {
			n.ended = true
		}
	}
}

// command sends c with an id and notes that it waits for an answer.
func (r *run) command(n *lineage, c *wire.Command, what string) {
	n.p.id++
	c.ID = n.p.id
	n.waits[c.ID] = what
	n.p.tell(c)
}

func (r *run) act(n *lineage) {
	channel := []string{"x/1", "x/2"}[r.rng.IntN(2)]
	switch k := r.rng.IntN(100); {
	case k < 36:
		for range 1 + r.rng.IntN(12) {
			r.send(n)
		}
	case k < 50:
		for range 1 + r.rng.IntN(12) {
			r.command(n, publish(channel, channel), "publish "+channel)
		}
	case k < 56:
		r.command(n, subscribe(channel), "subscribe "+channel)
	case k < 58:
		r.unsubscribe(n, channel)
	case k < 66:
		to := r.agents[r.rng.IntN(len(r.agents))]
		r.command(n, request(to, "m", "q", int64(500+r.rng.IntN(20_000))), "request")
		n.asks[n.p.id] = false
	case k < 68:
		for id := range n.asks {
			if n.finals[id] == 0 {
				n.asks[id] = true
				n.p.tell(&wire.Command{Kind: wire.KindCancel, Request: id})
				break
			}
		}
	case k < 76:
		r.reply(n)
	case k < 84:
		n.p.tell(&wire.Command{Kind: wire.KindAck, Seq: n.upTo})
	case k < 85: // another socket takes the session over
		r.read(n, -1)
		if n.p != nil {
			n.detach()
			n.clean = n.clean && len(r.all()) == 1 // more may come on the old socket while another node fetches the session
			r.comeBack(n)
		}
	case k < 87:
		n.p.block()
	case k < 91:
		n.p.unblock()
	case k < 97: // the network is gone, with some of what was on its way
		r.read(n, r.rng.IntN(4))
		if n.p != nil {
			n.p.drop()
			n.detach()
		}
	case k < 98 && len(r.log.all) < 12:
		r.begin(n.agent)
	case k < 99 && r.rough:
		r.revoke("token " + n.agent)
		for _, o := range r.log.all {
			o.ended = o.ended || o.agent == n.agent
		}
		time.Sleep(time.Millisecond)
		r.begin(n.agent)
	}
}

// revoke ends the sessions of a token, on every node.
func (r *run) revoke(token string) {
	for _, w := range r.all() {
		w.hub.EndSessions(func(id *Identity) bool { return id.Token == token }, wire.CloseAuthFailed, "revoked")
	}
}

func (r *run) send(n *lineage) {
	r.next++
	c := send(r.agents[r.rng.IntN(len(r.agents))], fmt.Sprint("m", r.next))
	c.Class = wire.Class(r.rng.IntN(wire.Classes))
	if r.rough && r.rng.IntN(2) == 0 {
		c.TTLMS = int64(1000 + r.rng.IntN(60_000))
	}
	c.Receipts = r.rng.IntN(3) == 0
	repeat := r.rng.IntN(5) == 0
	if repeat {
		c.Key = []byte(fmt.Sprint("key", r.next))
	}
	r.log.sends[r.next] = &sent{from: n, to: string(c.To), at: r.log.clock, since: r.log.answers, class: c.Class, ttlMS: c.TTLMS, got: map[*lineage]int{}}
	r.command(n, c, fmt.Sprint("send ", r.next))
	if repeat {
		r.command(n, c, fmt.Sprint("send ", r.next))
	}
}

func (r *run) unsubscribe(n *lineage, channel string) {
	r.read(n, -1)
	if n.p == nil {
		return
	}
	for _, what := range n.waits {
		if what == "subscribe "+channel {
			return // its answer is still behind a blocked socket
		}
	}
	if n.p.sock.isFull() {
		return // what is on its way would come without a place
	}
	r.command(n, &wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte(channel)}, "unsubscribe "+channel)
	r.read(n, -1)
	delete(n.places, channel)
}

func (r *run) reply(n *lineage) {
	if len(n.todo) == 0 {
		return
	}
	number := n.todo[0]
	n.todo = n.todo[1:]
	var cmds []*wire.Command
	for i := range r.rng.IntN(3) {
		cmds = append(cmds, &wire.Command{Kind: wire.KindReply, Request: number, More: true, Payload: text(fmt.Sprint(i))})
	}
	n.p.tell(append(cmds, &wire.Command{Kind: wire.KindReply, Request: number, Payload: text("end")})...)
}

// quiet brings everybody back and lets everything arrive.
func (r *run) quiet() {
	for range 3 {
		for _, n := range append([]*lineage(nil), r.log.all...) {
			if !n.ended && n.p == nil {
				r.comeBack(n)
			}
		}
		for _, n := range r.log.all {
			if n.p != nil {
				n.p.unblock()
			}
		}
		for range 30 {
			time.Sleep(time.Second)
			for _, n := range r.log.all {
				if n.p != nil {
					r.read(n, -1)
				}
			}
		}
	}
}

// leave loses all sockets and lets every window end.
func (r *run) leave() {
	for _, n := range r.log.all {
		if n.p != nil {
			n.p.drop()
		}
	}
	time.Sleep(30 * time.Minute)
	synctest.Wait()
}

// wantEmpty checks that a hub without clients keeps nothing.
func wantEmpty(t *testing.T, h *Hub) {
	t.Helper()
	left := map[string]int64{"links": h.links.n.Load(), "sessions": h.sessionN.Load(), "resumable": h.resumableN.Load(), "agents": h.agentN.Load(), "online": h.onlineN.Load(),
		"channels": h.channelN.Load(), "subscriptions": h.subscriptionN.Load(), "requests": h.requestN.Load(), "queue bytes": h.load.queueBytes.Load(),
		"queue frames": h.load.queueFrames.Load(), "mailbox": int64(h.mail.Count()), "mailbox bytes": h.mail.Bytes(), "profiles": h.profileBytes.Load()}
	connections, pending := h.gate.Counts()
	left["gate"], left["pending"] = int64(connections), int64(pending)
	for i := range shards {
		left["agent map"] += int64(len(h.agents[i].m))
		left["session map"] += int64(len(h.sessions[i].m))
		left["channel map"] += int64(len(h.channels[i].m))
		left["request map"] += int64(len(h.requests[i].m))
		left["receipt map"] += int64(len(h.receipts[i].m))
		left["dedup map"] += int64(len(h.dedup[i].m) + len(h.dedup[i].order))
		left["link map"] += int64(len(h.links.shard[i].m))
	}
	for i := range h.wheels.shard {
		for _, tm := range h.wheels.shard[i].slot {
			for ; tm != nil; tm = tm.next {
				left["timers"]++
			}
		}
	}
	for what, n := range left {
		if n != 0 {
			t.Errorf("%d left in %s, want 0", n, what)
		}
	}
}
