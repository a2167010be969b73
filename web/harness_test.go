package web

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

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

const canary = "CANARY7f3a"

type fakeAuth struct{}

func (fakeAuth) Cached(token []byte) (*relay.Identity, bool) {
	if string(token) == "good"+canary {
		return &relay.Identity{Roles: []string{"viewer"}}, true
	}
	return nil, false
}

func (fakeAuth) Authorize(context.Context, string) (*relay.Identity, error) {
	return nil, relay.ErrUnauthorized
}

// fakeRelay is a node with one agent, whose names are as hostile as a test likes.
type fakeRelay struct {
	stats relay.Stats
	asked chan struct{} // gets a value for each request that waits
	mu    sync.Mutex
	sends int
}

func (f *fakeRelay) Send(_ context.Context, _ *relay.Identity, a relay.SendArgs) (relay.Sent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends++
	if a.To == "panic" {
		panic("payload " + canary)
	}
	return relay.Sent{MessageID: "m1", Outcome: wire.Delivered, Sessions: 1}, nil
}

func (f *fakeRelay) Request(ctx context.Context, _ *relay.Identity, _ relay.RequestArgs, _ func(relay.Answer) error) error {
	f.asked <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeRelay) Publish(context.Context, *relay.Identity, relay.PublishArgs) (wire.Since, error) {
	return wire.Since{}, nil
}

func (f *fakeRelay) Agents(context.Context, *relay.Identity, string, string, int) ([]wire.AgentInfo, relay.Page, error) {
	return []wire.AgentInfo{{Agent: "alice"}}, relay.Page{}, nil
}

func (f *fakeRelay) Channels(context.Context, *relay.Identity, string, string, int) ([]relay.ChannelInfo, relay.Page, error) {
	return nil, relay.Page{}, nil
}

func (f *fakeRelay) Stats() relay.Stats { return f.stats }
func (f *fakeRelay) Ready() []relay.Reason {
	return []relay.Reason{{Check: "hub", OK: true, Message: "well"}}
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

// A site is a Server on a real socket.
type site struct {
	t      *testing.T
	addr   string
	server *Server
	relay  *fakeRelay
	log    *syncBuffer
	client *http.Client
}

func newSite(t *testing.T, change ...func(*Config)) *site {
	t.Helper()
	s := &site{t: t, log: &syncBuffer{}, relay: &fakeRelay{stats: relay.Stats{Node: "n1", Region: "home", Agents: 77321}, asked: make(chan struct{}, 8)}}
	cfg := Config{Relay: s.relay, Authorizer: fakeAuth{}, Version: "1.2.3",
		Logger: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if s.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.client = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ln) }()
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

// do sends one request and returns what came back, with the body read.
func (s *site) do(method, path, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

// raw writes bytes and returns the status codes of all answers until the server
// closes, or 5 s have passed, which is told as code 0.
func (s *site) raw(parts ...string) (statuses []int, text string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	for _, part := range parts {
		if _, err := io.WriteString(conn, part); err != nil {
			break // the server may have closed already; what it said is still to be read
		}
	}
	r := bufio.NewReader(conn)
	for {
		if _, err := r.Peek(1); err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				statuses = append(statuses, 0)
			}
			return statuses, text
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return append(statuses, -1), text
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			s.t.Errorf("answer %d has no security headers: %s", resp.StatusCode, body)
		}
		statuses, text = append(statuses, resp.StatusCode), text+string(body)
	}
}
