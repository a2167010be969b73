package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"
	"go.uber.org/goleak"

	"agentnet/app/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeRelay accepts WebSocket connections over in-memory pipes, so that it works
// with virtual time, and hands them to the test, which plays the relay frame by
// frame.
type fakeRelay struct {
	t     testing.TB
	peers chan *peer

	mu        sync.Mutex
	refuse    func(w http.ResponseWriter) bool // answers instead of an upgrade when it returns true
	forgiving bool                             // writes to a connection that is gone are no fault
	cut       bool                             // dials fail
	down      map[string]bool                  // dials to these hosts fail
	lag       map[string]time.Duration         // how long these hosts take to answer plain HTTP
	pages     map[string]string                // what plain HTTP gets, by path
	hosts     []string                         // dialled, in order
	conns     chan net.Conn
	server    *http.Server
	wg        sync.WaitGroup
}

func newFakeRelay(t testing.TB) *fakeRelay {
	f := &fakeRelay{t: t, peers: make(chan *peer, 16), conns: make(chan net.Conn, 16)}
	f.server = &http.Server{Handler: http.HandlerFunc(f.upgrade)}
	f.wg.Go(func() { _ = f.server.Serve(f) })
	return f
}

func (f *fakeRelay) stop() {
	_ = f.server.Close()
	f.wg.Wait()
}

// The listener of the HTTP server.
func (f *fakeRelay) Accept() (net.Conn, error) {
	if c, ok := <-f.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (f *fakeRelay) Close() error   { close(f.conns); return nil }
func (f *fakeRelay) Addr() net.Addr { return &net.TCPAddr{} }

func (f *fakeRelay) dial(_ context.Context, _, address string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts = append(f.hosts, address)
	if f.cut || f.down[address] {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	f.conns <- far
	return near, nil
}

func (f *fakeRelay) setCut(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = cut
}

// setDown makes dials to some hosts fail, and to all others work.
func (f *fakeRelay) setDown(hosts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = map[string]bool{}
	for _, h := range hosts {
		f.down[h] = true
	}
}

func (f *fakeRelay) dialled() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.hosts...)
}

func (f *fakeRelay) setRefuse(refuse func(w http.ResponseWriter) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}

func (f *fakeRelay) upgrade(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	refuse, page, lag := f.refuse, f.pages[r.URL.Path], f.lag[r.Host]
	f.mu.Unlock()
	if page != "" {
		time.Sleep(lag)
		_, _ = io.WriteString(w, page)
		return
	}
	if refuse != nil && refuse(w) {
		return
	}
	up := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolJSON, wire.SubprotocolProtobuf}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		f.t.Errorf("upgrade of %s: %v", r.URL, err)
		return
	}
	p := &peer{t: f.t, ws: ws, path: r.URL.Path, forgiving: f.forgiving, commands: make(chan wire.Command, 10000)}
	if ws.Subprotocol() == wire.SubprotocolProtobuf {
		p.encoding = wire.Protobuf
	}
	f.wg.Go(p.pump)
	f.peers <- p
}

// A peer is the relay's end of one connection.
type peer struct {
	t         testing.TB
	ws        *websocket.Conn
	path      string
	forgiving bool
	encoding  wire.Encoding
	commands  chan wire.Command // closed when the connection is gone
	messages  int               // WebSocket messages read; valid after commands is closed
	closed    int               // close code met; valid after commands is closed
}

// pump reads commands until the connection is gone.
func (p *peer) pump() {
	defer close(p.commands)
	limits := wire.DefaultLimits()
	for {
		_, msg, err := p.ws.ReadMessage()
		if err != nil {
			if c, ok := errors.AsType[*websocket.CloseError](err); ok {
				p.closed = c.Code
			}
			return
		}
		p.messages++
		for len(msg) > 0 {
			var cmd wire.Command // a fresh one each: its slices alias msg
			n, err := cmd.Read(p.encoding, msg, &limits)
			if err != nil {
				p.t.Errorf("the client sent a bad frame: %v", err)
				return
			}
			msg = msg[n:]
			if cmd.Kind != wire.KindNone {
				p.commands <- cmd
			}
		}
	}
}

// next returns the next command but ack and ping; it answers pings.
func (p *peer) next() wire.Command {
	p.t.Helper()
	for begin := time.Now(); time.Since(begin) < time.Hour; { // virtual, and pings go on
		cmd := p.any()
		if cmd.Kind == wire.KindPing {
			p.pong(cmd)
		} else if cmd.Kind != wire.KindAck {
			return cmd
		}
	}
	p.t.Fatal("nothing but pings came")
	panic("unreachable")
}

func (p *peer) pong(ping wire.Command) {
	p.send(wire.AppendPong(nil, p.encoding, &wire.Pong{ID: ping.ID, TimeMS: 1}))
}

// any returns the next command, whatever it is.
func (p *peer) any() wire.Command {
	p.t.Helper()
	select {
	case cmd, ok := <-p.commands:
		if !ok {
			p.t.Fatal("the client left while a command was awaited")
		}
		return cmd
	case <-time.After(time.Hour): // virtual
		p.t.Fatal("no command came")
	}
	panic("unreachable")
}

// nextOf returns the next command, which must be of kind.
func (p *peer) nextOf(kind wire.Kind) wire.Command {
	p.t.Helper()
	cmd := p.next()
	if cmd.Kind != kind {
		p.t.Fatalf("got a %v command, want %v", cmd.Kind, kind)
	}
	return cmd
}

// quiet fails when a command (but ack and ping) comes within d. It answers pings.
func (p *peer) quiet(d time.Duration) {
	p.t.Helper()
	p.silent(d, true)
}

func (p *peer) silent(d time.Duration, pong bool) {
	p.t.Helper()
	timer := time.After(d)
	for {
		select {
		case cmd, ok := <-p.commands:
			switch {
			case !ok:
				return
			case cmd.Kind == wire.KindPing && pong:
				p.pong(cmd)
			case cmd.Kind != wire.KindAck && cmd.Kind != wire.KindPing:
				p.t.Fatalf("got a %v command, want silence", cmd.Kind)
			}
		case <-timer:
			return
		}
	}
}

// send writes frames as one WebSocket message.
func (p *peer) send(frames ...[]byte) {
	p.t.Helper()
	var msg []byte
	for _, f := range frames {
		msg = appendFrame(msg, p.encoding, f)
	}
	kind := websocket.TextMessage
	if p.encoding == wire.Protobuf {
		kind = websocket.BinaryMessage
	}
	if err := p.ws.WriteMessage(kind, msg); err != nil && !p.forgiving {
		p.t.Errorf("fake relay: write: %v", err)
	}
}

// accept answers connect with a session.
func (p *peer) accept(session string, resumed bool) wire.Command {
	p.t.Helper()
	return p.acceptWith(wire.Connected{Session: session, Resumed: resumed})
}

func (p *peer) acceptWith(v wire.Connected) wire.Command {
	p.t.Helper()
	cmd := p.nextOf(wire.KindConnect)
	v.ID, v.Agent, v.Node, v.HeartbeatMS, v.ResumeMS = cmd.ID, "alice", "n1", 25000, 120000
	v.Limits = wire.DefaultLimits()
	p.send(wire.AppendConnected(nil, p.encoding, &v))
	return cmd
}

// drop cuts the connection without a close frame.
func (p *peer) drop() { _ = p.ws.NetConn().Close() }

// close ends the connection with a close code.
func (p *peer) close(code wire.CloseCode) {
	_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(code), "told by the test"), time.Now().Add(time.Second))
	p.drop()
}

func (p *peer) ok(cmd wire.Command, v wire.OK) {
	p.t.Helper()
	v.ID, v.For = cmd.ID, cmd.Kind
	p.send(wire.AppendOK(nil, p.encoding, &v))
}

func (p *peer) refuse(cmd wire.Command, e wire.Error) {
	p.t.Helper()
	p.send(wire.AppendError(nil, p.encoding, &wire.ErrorFrame{ID: cmd.ID, Err: e}))
}

func (p *peer) reply(v wire.Reply) { p.send(wire.AppendReply(nil, p.encoding, &v)) }

// direct makes a direct message with a text as payload.
func (p *peer) direct(seq uint64, id, text string) []byte {
	return wire.AppendMessage(nil, p.encoding, &wire.Message{
		Seq: seq, From: "bob", To: "alice", MessageID: id, TimeMS: 1795420800000, Class: wire.Normal,
		Payload: wire.Payload{Data: []byte(`"` + text + `"`)},
	})
}

// published makes a message of a channel.
func (p *peer) published(channel string, offset uint64, id, text string) []byte {
	return wire.AppendMessage(nil, p.encoding, &wire.Message{
		Channel: channel, Offset: offset, From: "bob", MessageID: id, TimeMS: 1795420800000, Class: wire.Normal,
		Payload: wire.Payload{Data: []byte(`"` + text + `"`)},
	})
}

// scene is a client and the relay's end of its connection.
type scene struct {
	*testing.T
	relay  *fakeRelay
	client *Client
	peer   *peer
	states []StateChange // guarded by mu
	mu     sync.Mutex
}

// play runs body in a bubble with virtual time, with a connected client, once for
// each encoding.
func play(t *testing.T, cfg Config, body func(s *scene)) {
	for name, encoding := range map[string]wire.Encoding{"json": wire.JSON, "protobuf": wire.Protobuf} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := cfg
				cfg.Encoding = encoding
				s := &scene{T: t, relay: newFakeRelay(t)}
				defer s.relay.stop()
				s.connect(cfg)
				defer s.client.Close()
				body(s)
			})
		})
	}
}

func (s *scene) connect(cfg Config) {
	s.Helper()
	if cfg.Token == "" && cfg.TokenSource == nil {
		cfg.Token = "agn_test"
	}
	cfg.URL, cfg.NetDial = "http://relay.test/base/", s.relay.dial
	told := cfg.OnState
	cfg.OnState = func(c StateChange) {
		s.mu.Lock()
		s.states = append(s.states, c)
		s.mu.Unlock()
		if told != nil {
			told(c)
		}
	}
	go func() {
		s.peer = <-s.relay.peers
		s.peer.accept("s_1", false)
	}()
	c, err := Dial(s.Context(), cfg)
	if err != nil {
		s.Fatalf("dial: %v", err)
	}
	s.client = c
	synctest.Wait()
}

// rejoin waits for the next connection and accepts it.
func (s *scene) rejoin(session string, resumed bool) wire.Command {
	s.Helper()
	s.peer = s.nextPeer()
	return s.peer.accept(session, resumed)
}

func (s *scene) nextPeer() *peer {
	s.Helper()
	select {
	case p := <-s.relay.peers:
		return p
	case <-time.After(time.Hour):
		s.Fatal("the client did not come back")
	}
	return nil
}

// changes returns what OnState was told, when nothing more is under way.
func (s *scene) changes() []StateChange {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]StateChange(nil), s.states...)
}

// start runs f beside the test and returns its result later.
func start[T any](f func() (T, error)) func() (T, error) {
	var (
		v   T
		err error
	)
	done := make(chan struct{})
	go func() { defer close(done); v, err = f() }()
	return func() (T, error) { <-done; return v, err }
}

// inbasket collects texts that handlers got.
type inbasket struct {
	mu    sync.Mutex
	texts []string
}

func (b *inbasket) put(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.texts = append(b.texts, text)
}

func (b *inbasket) message(_ context.Context, m *Message) { b.put(string(m.Payload.Data)) }

func (b *inbasket) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.texts...)
}
