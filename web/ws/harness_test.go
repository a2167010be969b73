package ws

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(loadJob); job != "" {
		runLoad(job) // this process is the load of a benchmark in another one
		return
	}
	goleak.VerifyTestMain(m,
		// fasthttp keeps a clock for the Date header as long as the process lives, and
		// its pool of workers ends only when a sleep of ten seconds does.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// testWait bounds every wait of the tests.
const testWait = 10 * time.Second

// An echoHub admits everybody and sends every message back.
type echoHub struct {
	mu       sync.Mutex
	admitted int // admissions that were neither accepted nor given back
	refuse   *wire.Error
	conns    []*echo
	infos    []relay.ConnInfo
	accepts  chan *echo
	// on replaces what an echo does with a message.
	on func(e *echo, msg []byte)
	// onFlush replaces what a flush does.
	onFlush func(idle bool)
	greet   func(c relay.Conn) // called by Accept
}

func newEchoHub() *echoHub { return &echoHub{accepts: make(chan *echo, 4096)} }

func (h *echoHub) NewTurn() *relay.Turn { return new(relay.Turn) }

func (h *echoHub) Admit(netip.Addr) *wire.Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return h.refuse
	}
	h.admitted++
	return nil
}

func (h *echoHub) Unadmit(netip.Addr) {
	h.mu.Lock()
	h.admitted--
	h.mu.Unlock()
}

func (h *echoHub) Accept(c relay.Conn, info relay.ConnInfo) relay.Receiver {
	e := &echo{hub: h, conn: c, op: opText, closed: make(chan struct{})}
	if info.Encoding == wire.Protobuf {
		e.op = opBinary
	}
	h.mu.Lock()
	h.admitted--
	greet := h.greet
	h.mu.Unlock()
	if greet != nil {
		greet(c)
	}
	h.mu.Lock()
	h.conns = append(h.conns, e)
	h.infos = append(h.infos, info)
	h.mu.Unlock()
	select {
	case h.accepts <- e:
	default:
	}
	return e
}

func (h *echoHub) flush(_ *relay.Turn, idle bool) {
	if h.onFlush != nil {
		h.onFlush(idle)
	}
}

func (h *echoHub) pending() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.admitted
}

// An echo is a Receiver that checks the duties of its caller.
type echo struct {
	hub    *echoHub
	conn   relay.Conn
	op     byte
	busy   atomic.Int32
	seen   atomic.Int32
	writes atomic.Int32 // Writable calls
	ends   atomic.Int32
	misuse atomic.Int32
	full   atomic.Bool
	closed chan struct{}
}

func (e *echo) enter() func() {
	if e.busy.Add(1) != 1 || e.ends.Load() != 0 {
		e.misuse.Add(1)
	}
	return func() { e.busy.Add(-1) }
}

func (e *echo) Receive(_ *relay.Turn, msg []byte) {
	defer e.enter()()
	if e.hub.on != nil {
		e.hub.on(e, msg)
		return
	}
	e.send(msg)
}

func (e *echo) send(msg []byte) {
	if e.conn.Write(sealed(e.op, msg)) {
		e.full.Store(true)
	}
}

func (e *echo) Seen(*relay.Turn) { defer e.enter()(); e.seen.Add(1) }

func (e *echo) Writable(*relay.Turn) {
	defer e.enter()()
	e.full.Store(false)
	e.writes.Add(1)
}

func (e *echo) Closed(*relay.Turn) {
	defer e.enter()()
	if e.ends.Add(1) == 1 {
		close(e.closed)
	}
}

func sealed(op byte, msg []byte) []byte {
	return append(appendHead(nil, bitFin|op, len(msg)), msg...)
}

// A node is a real fiber server with a Server of this package behind /ws.
type node struct {
	t    testing.TB
	hub  *echoHub
	srv  *Server
	addr string
	tls  bool
	logs *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type nodeOption func(*Config, *timeouts)

func startNode(t testing.TB, useTLS bool, opts ...nodeOption) *node {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startNodeOn(t, ln, useTLS, opts...)
}

// A dressedListener gives sockets that are not taken for plain ones, so that they
// are served as on systems without epoll.
type dressedListener struct{ net.Listener }

type dressed struct{ *net.TCPConn }

func (l dressedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return dressed{nc.(*net.TCPConn)}, nil
}

func startNodeOn(t testing.TB, ln net.Listener, useTLS bool, opts ...nodeOption) *node {
	t.Helper()
	n := &node{t: t, hub: newEchoHub(), tls: useTLS, logs: &logBuffer{}}
	cfg := Config{Hub: n.hub, Logger: slog.New(slog.NewTextHandler(n.logs, nil))}
	waits := defaultTimeouts
	waits.close, waits.sweep = 500*time.Millisecond, 20*time.Millisecond
	for _, o := range opts {
		o(&cfg, &waits)
	}
	var err error
	n.srv, err = newServer(cfg, waits, n.hub.flush)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, ReadTimeout: testWait, Concurrency: 1 << 17})
	Configure(app)
	app.Get("/ws", n.srv.Handler())
	n.addr = ln.Addr().String()
	if useTLS {
		ln = tls.NewListener(ln, serverTLS(t))
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testWait)
		defer cancel()
		if err := n.srv.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := app.ShutdownWithTimeout(testWait); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		ln.Close() // when the test was over before the app had begun to listen
		<-served
		n.hub.check(t)
	})
	return n
}

// check looks at the duties of a relay.Receiver's caller, when all is over.
func (h *echoHub) check(t testing.TB) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.admitted != 0 {
		t.Errorf("admissions neither accepted nor given back: got %d, want 0", h.admitted)
	}
	for i, e := range h.conns {
		if got := e.ends.Load(); got != 1 {
			t.Errorf("connection %d: Closed was called %d times, want 1", i, got)
		}
		if got := e.misuse.Load(); got != 0 {
			t.Errorf("connection %d: %d calls overlapped or came after Closed", i, got)
		}
	}
}

var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

func serverTLS(t testing.TB) *tls.Config {
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

// A client speaks raw bytes.
type client struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader

	offered chan struct{} // closed when what was offered has been sent
}

// connect opens a socket without saying anything.
func (n *node) connect() *client {
	n.t.Helper()
	nc, err := net.DialTimeout("tcp", n.addr, testWait)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.tls {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the certificate is made for this run
	}
	nc.SetDeadline(time.Now().Add(testWait))
	n.t.Cleanup(func() { nc.Close() })
	return &client{t: n.t, nc: nc, br: bufio.NewReader(nc)}
}

func upgradeRequest(headers ...string) string {
	r := "GET /ws HTTP/1.1\r\nHost: relay.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range headers {
		r += h + "\r\n"
	}
	return r + "\r\n"
}

// dial upgrades and fails the test when that is refused.

func (n *node) dial(headers ...string) *client {
	n.t.Helper()
	c := n.connect()
	res := c.upgrade(upgradeRequest(headers...))
	if res.StatusCode != http.StatusSwitchingProtocols {
		n.t.Fatalf("upgrade: got status %d, want 101", res.StatusCode)
	}
	return c
}

func (c *client) upgrade(request string) *http.Response {
	c.t.Helper()
	c.send([]byte(request))
	res, err := http.ReadResponse(c.br, &http.Request{Method: "GET"})
	if err != nil {
		c.t.Fatalf("read the answer to the upgrade: %v", err)
	}
	return res
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(p); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// frame reads one frame of the server.
func (c *client) frame() (first byte, payload []byte, err error) {
	var h [2]byte
	if _, err = io.ReadFull(c.br, h[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(h[1])
	if h[1]&bitMask != 0 {
		return 0, nil, fmt.Errorf("the server sent a masked frame")
	}
	var ext [8]byte
	switch length {
	case 126:
		if _, err = io.ReadFull(c.br, ext[:2]); err != nil {
			return 0, nil, err
		}
		length = uint64(binary.BigEndian.Uint16(ext[:]))
	case 127:
		if _, err = io.ReadFull(c.br, ext[:8]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(ext[:])
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(c.br, payload)
	return h[0], payload, err
}

// want reads one frame and compares it.
func (c *client) want(first byte, payload string) {
	c.t.Helper()
	got, p, err := c.frame()
	if err != nil {
		c.t.Fatalf("read a frame: %v", err)
	}
	if got != first || string(p) != payload {
		c.t.Fatalf("got frame %#x %s, want %#x %s", got, short(p), first, short([]byte(payload)))
	}
}

func short(p []byte) string {
	if len(p) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", p[:60], len(p))
	}
	return fmt.Sprintf("%q", p)
}

// wantClose reads frames until a close frame, which must have code; 0 means no code.
func (c *client) wantClose(code wire.CloseCode) (reason string) {
	c.t.Helper()
	for {
		first, p, err := c.frame()
		if err != nil {
			c.t.Fatalf("wait for the close frame: %v", err)
		}
		if first != bitFin|opClose {
			continue
		}
		got := wire.CloseCode(0)
		if len(p) >= 2 {
			got, reason = wire.CloseCode(binary.BigEndian.Uint16(p)), string(p[2:])
		}
		if got != code {
			c.t.Fatalf("got close code %d %q, want %d", got, reason, code)
		}
		return reason
	}
}

// wantEOF waits for the end of the socket.
func (c *client) wantEOF() {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	if err != nil || len(rest) != 0 {
		c.t.Fatalf("at the end: got %d bytes and %v, want none and EOF", len(rest), err)
	}
}

// masked is a frame of a client. first is its first byte.
func masked(first byte, payload []byte) []byte {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	out := appendHead(nil, first, len(payload))
	out[1] |= bitMask
	out = append(out, key[:]...)
	at := len(out)
	out = append(out, payload...)
	for i := range payload {
		out[at+i] ^= key[i&3]
	}
	return out
}

func text(s string) []byte { return masked(bitFin|opText, []byte(s)) }

// wait waits for the next accepted connection.
func (h *echoHub) wait(t testing.TB) *echo {
	t.Helper()
	select {
	case e := <-h.accepts:
		return e
	case <-time.After(testWait):
		t.Fatal("no connection was accepted in time")
		return nil
	}
}

// until polls for a state that no event tells of.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testWait); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// ways runs a test over plain TCP and over TLS, which are read in different ways.
func ways(t *testing.T, run func(t *testing.T, useTLS bool)) {
	for _, useTLS := range []bool{false, true} {
		name := "tcp"
		if useTLS {
			name = "tls"
		}
		t.Run(name, func(t *testing.T) { run(t, useTLS) })
	}
}

func (c *client) wantUpgraded() {
	c.t.Helper()
	res, err := http.ReadResponse(c.br, &http.Request{Method: "GET"})
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("upgrade: got %v and %v, want 101", res, err)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func socketless() netip.Addr { return netip.Addr{} }

func infoless() relay.ConnInfo { return relay.ConnInfo{} }
