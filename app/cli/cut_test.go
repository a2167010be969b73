package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/wire"
)

// A cutter is a TCP proxy that cuts its connections.
type cutter struct {
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	cuts  int
}

func newCutter(t *testing.T, target string) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{target: target, ln: ln, conns: map[net.Conn]struct{}{}}
	c.wg.Go(c.accept)
	t.Cleanup(func() { _ = ln.Close(); c.cut(); c.wg.Wait() })
	return c
}

func (c *cutter) accept() {
	for {
		near, err := c.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		c.mu.Lock()
		c.conns[near], c.conns[far] = struct{}{}, struct{}{}
		c.mu.Unlock()
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			c.wg.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_, _ = way[0].Close(), way[1].Close()
			})
		}
	}
}

// cut ends all connections; what was on its way is lost.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	clear(c.conns)
	c.cuts++
}

// startNode runs a real node and returns its address and a token for everything.
func startNode(t *testing.T) (addr, token string) {
	cfg := app.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Drain.Window = t.TempDir(), "127.0.0.1:0", 0
	node, err := app.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	<-node.Ready()
	all := []string{"**"}
	token, err = node.CreateToken(t.Context(), auth.TokenSpec{Grants: auth.Grants{Agents: all, Send: all, Subscribe: all, Publish: all}})
	if err != nil {
		t.Fatal(err)
	}
	return node.Addr(), token
}

// ledger notes what a handler got.
type ledger struct {
	mu  sync.Mutex
	got []string
}

func (l *ledger) put(_ context.Context, m *client.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, string(m.Payload.Data))
}

func (l *ledger) await(t *testing.T, what string, want []string) {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		got := slices.Clone(l.got)
		l.mu.Unlock()
		if len(got) >= len(want) || time.Now().After(deadline) {
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %d, want %d, each once and in order; the first difference is at %d", what, len(got), len(want), firstDifference(got, want))
			}
			return
		}
	}
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestNothingLostOverACutConnection sends, publishes and asks through a proxy that
// cuts all connections again and again, on both sides, against a real node.
func TestNothingLostOverACutConnection(t *testing.T) {
	for name, enc := range map[string]wire.Encoding{"json": wire.JSON, "protobuf": wire.Protobuf} {
		t.Run(name, func(t *testing.T) {
			addr, token := startNode(t)
			proxy := newCutter(t, addr)
			var direct, news ledger
			dial := func(agent string) *client.Client {
				c, err := client.Dial(t.Context(), client.Config{
					URL: "http://" + proxy.ln.Addr().String(), Token: token, Agent: agent, Encoding: enc, Patient: true,
					Backoff: client.Backoff{Min: 5 * time.Millisecond, Max: 30 * time.Millisecond}, OnMessage: direct.put,
					OnGap:     func(g client.Gap) { t.Errorf("%s: gap %+v", agent, g) },
					OnRequest: func(_ context.Context, r *client.Request) (wire.Payload, error) { return r.Payload, nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			bob := dial("bob")
			defer bob.Close()
			alice := dial("alice")
			defer alice.Close()
			if _, err := bob.Subscribe(t.Context(), "news", client.SubscribeOptions{}, news.put); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			var cutting sync.WaitGroup
			cutting.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Duration(20+rand.N(60)) * time.Millisecond):
						proxy.cut()
					}
				}
			})
			want := talk(t, alice)
			close(done)
			cutting.Wait()
			direct.await(t, "direct messages", want)
			news.await(t, "channel messages", want)
			if proxy.cuts < 10 {
				t.Errorf("only %d cuts: the test proves nothing", proxy.cuts)
			}
		})
	}
}

// talk sends and publishes numbers for a while and asks in between. It returns the
// numbers.
func talk(t *testing.T, alice *client.Client) (want []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var sent, published []*client.Pending
	for begin := time.Now(); time.Since(begin) < 2500*time.Millisecond; {
		text := fmt.Sprint(len(want))
		p, err := alice.SendAsync(ctx, "bob", client.RawJSON([]byte(text)), client.TTL(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		q, err := alice.PublishAsync(ctx, "news", client.RawJSON([]byte(text)))
		if err != nil {
			t.Fatal(err)
		}
		want, sent, published = append(want, text), append(sent, p), append(published, q)
		time.Sleep(500 * time.Microsecond)
	}
	for i := range sent {
		if _, err := sent[i].Sent(ctx); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
		if _, err := published[i].Published(ctx); err != nil {
			t.Fatalf("publication %d: %v", i, err)
		}
	}
	return want
}
