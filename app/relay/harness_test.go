package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A peer is a client in a test.
type peer struct {
	t    testing.TB
	hub  *Hub
	sock *socket
	name string
	id   uint64

	session string
	hello   wire.Connected
}

// world is a hub in a synctest bubble.
type world struct {
	t   testing.TB
	hub *Hub
	enc wire.Encoding
}

// grants is an Authorizer whose tokens are names of agents; "token of " + name
// may do everything as that name, anything starting with "bad" is refused, and
// "slow ..." needs the slow path.
type grants struct {
	mu  sync.Mutex
	ids map[string]*Identity
}

func allGlobs(t testing.TB, globs ...string) wire.Globs {
	g, err := wire.ParseGlobs(globs)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *grants) add(t testing.TB, token string, id *Identity) *Identity {
	g.mu.Lock()
	defer g.mu.Unlock()
	if id.Token == "" {
		id.Token = token
	}
	all := allGlobs(t, "**")
	for _, p := range []*wire.Globs{&id.Agents, &id.Send, &id.Subscribe, &id.Publish} {
		if *p == nil {
			*p = all
		}
	}
	g.ids[token] = id
	return id
}

func (g *grants) Cached(token []byte) (*Identity, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(token) > 5 && string(token[:5]) == "slow " {
		return nil, false
	}
	id, ok := g.ids[string(token)]
	return id, ok
}

func (g *grants) Authorize(ctx context.Context, token string) (*Identity, error) {
	g.mu.Lock()
	id := g.ids[token]
	g.mu.Unlock()
	if id == nil {
		return nil, ErrUnauthorized
	}
	if len(token) > 5 && token[:5] == "slow " {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return id, nil
}

// inWorld runs f once for each encoding, in virtual time, with a running hub.
func inWorld(t *testing.T, change func(*Config), f func(w *world)) {
	t.Helper()
	for enc, name := range []string{"json", "protobuf"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &grants{ids: map[string]*Identity{}}
				g.add(t, "all", &Identity{})
				cfg := Config{Authorizer: g, Version: "test"}
				if os.Getenv("RELAY_LOG") != "" {
					cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
				}
				if change != nil {
					change(&cfg)
				}
				h, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				if err := h.Load(); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { h.Run(ctx); close(done) }()
				defer func() { cancel(); <-done }()
				f(&world{t: t, hub: h, enc: wire.Encoding(enc)})
			})
		})
	}
}

func (w *world) grants() *grants { return w.hub.cfg.Authorizer.(*grants) }

// dial opens a socket that is not connected yet.
func (w *world) dial() *peer {
	w.t.Helper()
	addr := netip.MustParseAddr("127.0.0.1")
	if e := w.hub.Admit(addr); e != nil {
		w.t.Fatalf("not admitted: %v", e)
	}
	c := &socket{enc: w.enc, turn: w.hub.NewTurn(), home: w.hub}
	c.mu.Lock()
	c.link = w.hub.Accept(c, ConnInfo{Encoding: w.enc, Addr: addr})
	c.mu.Unlock()
	return &peer{t: w.t, hub: w.hub, sock: c}
}

// join connects an agent with the token that may do all.
func (w *world) join(name string) *peer {
	w.t.Helper()
	p := w.dial()
	p.connect(&wire.Connect{Token: "all", Agent: name})
	return p
}

func (p *peer) connect(c *wire.Connect) {
	p.t.Helper()
	p.name = c.Agent
	ev := p.ask(&wire.Command{Kind: wire.KindConnect, Connect: c})
	if ev.Kind != wire.KindConnected {
		p.t.Fatalf("connect %s: got %s %+v", c.Agent, ev.Kind, ev.Error)
	}
	p.hello = ev.Connected
	p.session = ev.Connected.Session
}

// back reconnects with resume on a new socket.
func (w *world) back(old *peer, seq uint64, channels ...wire.ChannelPosition) *peer {
	w.t.Helper()
	p := w.dial()
	p.connect(&wire.Connect{Token: "all", Agent: old.name, Resume: &wire.Resume{Session: old.session, Seq: seq, Channels: channels}})
	return p
}

// tell sends commands in one WebSocket message and flushes the turn.
func (p *peer) tell(cmds ...*wire.Command) {
	var msg []byte
	for _, c := range cmds {
		msg = wire.AppendFramed(msg, p.sock.enc, func(dst []byte) []byte { return wire.AppendCommand(dst, p.sock.enc, c) })
	}
	p.raw(msg)
}

func (p *peer) raw(msg []byte) {
	p.sock.link.Receive(p.sock.turn, msg)
	p.sock.turn.Flush(true)
	synctest.Wait()
}

// ask sends one command with a fresh id and returns the answer to it.
func (p *peer) ask(c *wire.Command) wire.Event {
	p.t.Helper()
	p.id++
	c.ID = p.id
	p.tell(c)
	for range 100 {
		p.sock.mu.Lock()
		for i, ev := range p.sock.events {
			if ev.ID == c.ID {
				p.sock.events = append(p.sock.events[:i:i], p.sock.events[i+1:]...)
				p.sock.mu.Unlock()
				return ev
			}
		}
		p.sock.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
	}
	p.t.Fatalf("no answer to %s", c.Kind)
	return wire.Event{}
}

// ok is ask for a command that must succeed.
func (p *peer) ok(c *wire.Command) wire.OK {
	p.t.Helper()
	ev := p.ask(c)
	if ev.Kind != wire.KindOK {
		p.t.Fatalf("%s: got %s %+v", c.Kind, ev.Kind, ev.Error.Err)
	}
	return ev.OK
}

// refused is ask for a command that must fail with code.
func (p *peer) refused(c *wire.Command, code wire.Code) {
	p.t.Helper()
	ev := p.ask(c)
	if ev.Kind != wire.KindError || ev.Error.Err.Code != code {
		p.t.Fatalf("%s: got %s %+v, want error %s", c.Kind, ev.Kind, ev.Error.Err, code)
	}
}

// take returns and forgets all that came.
func (p *peer) take() []wire.Event {
	synctest.Wait()
	p.sock.mu.Lock()
	defer p.sock.mu.Unlock()
	evs := p.sock.events
	p.sock.events = nil
	return evs
}

// drop loses the socket without a word.
func (p *peer) drop() {
	p.sock.mu.Lock()
	p.sock.code = 1006
	p.sock.mu.Unlock()
	p.sock.link.Closed(p.sock.turn)
	p.sock.turn.Flush(true)
	synctest.Wait()
}

// block makes the socket take one more write and then nothing.
func (p *peer) block() { p.sock.mu.Lock(); p.sock.blocked = true; p.sock.mu.Unlock() }

// unblock lets it take all again.
func (p *peer) unblock() {
	p.sock.mu.Lock()
	p.sock.blocked, p.sock.full = false, false
	p.sock.mu.Unlock()
	p.sock.link.Writable(p.sock.turn)
	p.sock.turn.Flush(true)
	synctest.Wait()
}

func (p *peer) code() wire.CloseCode {
	synctest.Wait()
	p.sock.mu.Lock()
	defer p.sock.mu.Unlock()
	return p.sock.code
}

func text(s string) wire.Payload { return wire.Payload{Data: []byte(fmt.Sprintf("%q", s))} }

func send(to, data string) *wire.Command {
	return &wire.Command{Kind: wire.KindSend, To: []byte(to), Payload: text(data), Class: wire.Normal}
}

func publish(channel, data string) *wire.Command {
	return &wire.Command{Kind: wire.KindPublish, Channel: []byte(channel), Payload: text(data), Class: wire.Normal}
}

func subscribe(channel string) *wire.Command {
	return &wire.Command{Kind: wire.KindSubscribe, Channel: []byte(channel)}
}

// only keeps the events of one kind.
func only(evs []wire.Event, kind wire.Kind) (out []wire.Event) {
	for _, ev := range evs {
		if ev.Kind == kind {
			out = append(out, ev)
		}
	}
	return out
}

func datas(evs []wire.Event) (out []string) {
	for _, ev := range evs {
		out = append(out, string(ev.Message.Payload.Data))
	}
	return out
}
