package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/doctor"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header and fiber's never end, one a process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"),
		// The pool's cleaner sees 10 s later that the server is gone.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// Tokens that fakeAuth knows. Each holds the canary, so that a leak of any is
// found by one search.
const (
	canary       = "CANARY7f3a"
	goodToken    = "agn_good" + canary
	viewerToken  = "agn_viewer" + canary
	adminToken   = "agn_admin" + canary
	metricsRole  = "agn_scraper" + canary
	expiredToken = "agn_expired" + canary
	lateToken    = "agn_late" + canary // expired by its identity, not by the authorizer
	brokenToken  = "agn_broken" + canary
	slowToken    = "agn_slow" + canary // known only to Authorize
	metricsToken = "scrape-me-" + canary
)

// The node that the API is made for is one that it can use.
var _ Relay = (*relay.Hub)(nil)

type fakeAuth struct{}

func (fakeAuth) Cached(token []byte) (*relay.Identity, bool) {
	switch string(token) {
	case goodToken:
		return &relay.Identity{Token: "t1"}, true
	case viewerToken:
		return &relay.Identity{Token: "t2", Roles: []string{"viewer"}}, true
	case adminToken:
		return &relay.Identity{Token: "t6", Roles: []string{"admin"}}, true
	case metricsRole:
		return &relay.Identity{Token: "t4", Roles: []string{"metrics"}}, true
	case lateToken:
		return &relay.Identity{Token: "t3", Expires: time.Now().Add(-time.Second)}, true
	}
	return nil, false
}

func (fakeAuth) Authorize(ctx context.Context, token string) (*relay.Identity, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		panic("Authorize without a deadline")
	}
	switch token {
	case expiredToken:
		return nil, relay.ErrTokenExpired
	case brokenToken:
		return nil, relay.ErrAuthUnavailable
	case slowToken:
		return &relay.Identity{Token: "t5"}, nil
	}
	return nil, relay.ErrUnauthorized
}

// fakeRelay records what it is asked and answers as its functions say.
type fakeRelay struct {
	mu        sync.Mutex
	sends     []relay.SendArgs
	publishes []relay.PublishArgs
	requests  []relay.RequestArgs
	lists     []string // match|after|limit

	page    relay.Page // of channels
	err     error      // of every operation, when not nil
	answer  func(ctx context.Context, each func(relay.Answer) error) error
	reasons []relay.Reason
	stats   relay.Stats
	reads   int
}

func (f *fakeRelay) Send(_ context.Context, _ *relay.Identity, a relay.SendArgs) (relay.Sent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends = append(f.sends, a)
	if f.err != nil {
		return relay.Sent{}, f.err
	}
	return relay.Sent{MessageID: "01J0000000000000000000000A", Outcome: wire.Delivered, Sessions: 2}, nil
}

func (f *fakeRelay) Publish(_ context.Context, _ *relay.Identity, a relay.PublishArgs) (wire.Since, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publishes = append(f.publishes, a)
	return wire.Since{Epoch: "e1", Offset: 7}, f.err
}

func (f *fakeRelay) Request(ctx context.Context, _ *relay.Identity, a relay.RequestArgs, each func(relay.Answer) error) error {
	f.mu.Lock()
	f.requests = append(f.requests, a)
	answer, err := f.answer, f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if answer != nil {
		return answer(ctx, each)
	}
	return each(relay.Answer{From: a.To, Payload: wire.Payload{Data: []byte(`{"ok":true}`)}})
}

func (f *fakeRelay) list(match, after string, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, _ := json.Marshal([]any{match, after, limit})
	f.lists = append(f.lists, string(b))
}

func (f *fakeRelay) Agents(_ context.Context, _ *relay.Identity, match, after string, limit int) ([]wire.AgentInfo, relay.Page, error) {
	f.list(match, after, limit)
	return []wire.AgentInfo{{Agent: "alice", State: wire.Busy, Sessions: 2, LastActiveMS: 5, Queue: 1, Card: []byte(`{"name":"A"}`)}, {Agent: "bob"}}, relay.Page{Next: "bob"}, f.err
}

func (f *fakeRelay) Channels(_ context.Context, _ *relay.Identity, match, after string, limit int) ([]relay.ChannelInfo, relay.Page, error) {
	f.list(match, after, limit)
	return nil, f.page, f.err
}

func (f *fakeRelay) Stats() relay.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return f.stats
}

func (f *fakeRelay) Ready() []relay.Reason { return f.reasons }

// aStats is a reading with something in every field.
func aStats() relay.Stats {
	s := relay.Stats{
		Node: "n1", Region: "home", Started: time.UnixMilli(1_795_000_000_000), Now: time.UnixMilli(1_795_000_060_000),
		Connections: 1, Sessions: 2, Resumable: 3, Agents: 4, Channels: 5, Subscriptions: 6, Requests: 7, QueueFrames: 8,
		QueueBytes: 9, MailboxCount: 10, MailboxBytes: 11, Level: "elevated",
		Accepted: 12, Refused: map[string]uint64{"address": 1}, Connects: map[string]uint64{"opened": 2, "unauthorized": 1},
		Closed:   map[wire.CloseCode]uint64{1000: 3, 4002: 1, 3777: 2, 4999: 1},
		FramesIn: map[wire.Kind]uint64{wire.KindSend: 5, wire.KindAck: 2}, BytesIn: 13, FramesOut: 14, BytesOut: 15,
		MessagesIn: 16, DeliveredOut: 17, Outcomes: map[wire.Outcome]uint64{wire.Delivered: 4, wire.Parked: 1},
		Errors: map[wire.Code]uint64{wire.Forbidden: 1}, Dropped: map[string]uint64{"queue_full": 2}, Gaps: 18,
		Parcels: 19, ParcelsOdd: 20, ParcelsLost: 21, Moving: 22,
	}
	for i := range s.Delivery.Counts {
		s.Delivery.Counts[i] = uint64(i % 7 * (i % 3)) // with holes, so that there are several spans
	}
	s.Delivery.Counts[0], s.Delivery.Sum = 3, 90*time.Second
	s.Reply.Counts[40], s.Reply.Sum = 6, 6*time.Millisecond
	return s
}

// A node is an API behind a real socket.
type node struct {
	t     *testing.T
	url   string
	relay *fakeRelay
	api   *API
	log   *syncBuffer
	local bool

	examined atomic.Int64
}

// examine stands in for the doctor.
func (n *node) examine(context.Context) []doctor.Finding {
	n.examined.Add(1)
	return []doctor.Finding{{Group: "data", Check: "disk_space", Title: "Disk space", Result: doctor.Warn, Evidence: "little", Fix: "free some"}}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newNode(t *testing.T, change ...func(*Config, *node)) *node {
	t.Helper()
	n := &node{t: t, relay: &fakeRelay{stats: aStats()}, log: &syncBuffer{}}
	cfg := Config{
		Relay: n.relay, Authorizer: fakeAuth{}, Version: "1.2.3", PublicURL: "https://example.org/x",
		ClientAddr: func(*fiber.Ctx) netip.Addr { return netip.MustParseAddr("203.0.113.9") },
		Local:      func(*fiber.Ctx) bool { return n.local },
		Doctor:     n.examine,
		Seen: func(*fiber.Ctx) doctor.Seen {
			return doctor.Seen{Client: "203.0.113.9", Peer: "10.9.8.7", Forwarded: true}
		},
		Logger: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg, n)
	}
	var err error
	if n.api, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true, Immutable: true, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second})
	n.api.Register(app)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	n.url = "http://" + ln.Addr().String()
	t.Cleanup(func() {
		n.api.Close()
		http.DefaultClient.CloseIdleConnections()
		if err := app.ShutdownWithTimeout(5 * time.Second); err != nil {
			t.Error(err)
		}
		<-served
	})
	return n
}

// An exchange is one request and what came back.
type exchange struct {
	status int
	header http.Header
	body   string
}

func (n *node) do(method, path, token, body string, headers ...string) exchange {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return exchange{resp.StatusCode, resp.Header, string(text)}
}

// problem reads a problem document and checks its form.
func (e exchange) problem(t *testing.T) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal([]byte(e.body), &p); err != nil {
		t.Fatalf("not a problem document: %v: %s", err, e.body)
	}
	if got := e.header.Get("Content-Type"); got != ProblemType {
		t.Errorf("got Content-Type %q, want %q", got, ProblemType)
	}
	if p.Type != "about:blank" || p.Status != e.status || p.Title != http.StatusText(e.status) || !p.Code.Valid() && e.status != 502 {
		t.Errorf("got %+v with status %d, want a complete problem of that status", p, e.status)
	}
	return p
}
