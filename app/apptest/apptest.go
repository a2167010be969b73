// Package apptest starts whole nodes for tests, as httptest starts servers: on a
// free loopback port, with a data directory of the test, stopped with it.
package apptest

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/wire"
)

// startTime bounds how long a node may take to accept connections.
const startTime = 20 * time.Second

// A Node is one running node.
type Node struct {
	App *app.App
	URL string // http://127.0.0.1:PORT
	Dir string

	t    testing.TB
	log  *logBuffer
	stop context.CancelFunc
	done chan error
}

// Start runs a node until the test ends. change may alter its configuration.
func Start(t testing.TB, change func(*app.Config), options ...app.Option) *Node {
	t.Helper()
	cfg := app.DefaultConfig()
	cfg.Data = t.TempDir()
	cfg.Drain.Window = app.Duration(100 * time.Millisecond)
	if change != nil {
		change(&cfg)
	}
	cfg.Listen = "127.0.0.1:0"
	return start(t, cfg, options...)
}

// Restart stops the node and starts one on the same data directory and port.
func (n *Node) Restart(change func(*app.Config)) *Node {
	n.t.Helper()
	n.Stop()
	cfg := app.DefaultConfig()
	cfg.Drain.Window = app.Duration(100 * time.Millisecond)
	if change != nil {
		change(&cfg)
	}
	cfg.Data, cfg.Listen = n.Dir, strings.TrimPrefix(n.URL, "http://")
	return start(n.t, cfg)
}

func start(t testing.TB, cfg app.Config, options ...app.Option) *Node {
	t.Helper()
	n := &Node{t: t, Dir: cfg.Data, log: &logBuffer{}, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	a, err := app.New(ctx, cfg, slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})), options...)
	if err != nil {
		stop()
		t.Fatalf("start a node: %v", err)
	}
	n.App = a
	go func() { n.done <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case err := <-n.done:
		n.done <- err
		t.Fatalf("run a node: %v\n%s", err, n.Log())
	case <-time.After(startTime):
		t.Fatalf("the node did not listen in %v\n%s", startTime, n.Log())
	}
	n.URL = "http://" + a.Addr()
	t.Cleanup(n.Stop)
	return n
}

// Stop stops the node in order and fails the test when that fails. Only the first
// call counts.
func (n *Node) Stop() {
	n.t.Helper()
	n.stop()
	select {
	case err, ok := <-n.done:
		if ok && err != nil {
			n.t.Errorf("the node ended with: %v\n%s", err, n.Log())
		}
		if ok {
			close(n.done)
		}
	case <-time.After(time.Minute):
		n.t.Errorf("the node did not stop in a minute\n%s", n.Log())
	}
}

// Log is all that the node has logged.
func (n *Node) Log() string { return n.log.String() }

// Token makes a token for the agents that match and returns it. Without further
// grants it may do everything as them.
func (n *Node) Token(agents string, change ...func(*auth.TokenSpec)) string {
	n.t.Helper()
	all := []string{"**"}
	spec := auth.TokenSpec{Grants: auth.Grants{Agents: []string{agents}, Send: all, Subscribe: all, Publish: all}}
	for _, f := range change {
		f(&spec)
	}
	token, err := n.App.CreateToken(context.Background(), spec)
	if err != nil {
		n.t.Fatalf("make a token: %v", err)
	}
	return token
}

// Dial connects a client as agent until the test ends.
func (n *Node) Dial(agent string, enc wire.Encoding, change ...func(*client.Config)) *client.Client {
	n.t.Helper()
	cfg := client.Config{URL: n.URL, Token: n.Token(agent), Agent: agent, Encoding: enc}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		n.t.Fatalf("connect %s: %v\n%s", agent, err, n.Log())
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

// logBuffer keeps the last megabyte of a log.
type logBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *logBuffer) Write(p []byte) (int, error) {
	const limit = 1 << 20
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if over := len(b.buf) - limit; over > 0 {
		b.buf = append(b.buf[:0], b.buf[over:]...)
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf)
}
