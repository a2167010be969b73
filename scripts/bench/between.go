package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"
)

// between is what joins the nodes of one server; empty for a single node.
type between struct {
	server string
	redis  string   // address
	routes []string // of nats nodes
}

// between starts a Redis for nodes that share one. NATS has routes of its own, and
// is measured with them: its users would not put a Redis between.
func (s *stage) between(ctx context.Context, server string, nodes int, r *running, started *[]*exec.Cmd) (*between, error) {
	b := &between{server: server}
	if nodes < 2 {
		return b, nil
	}
	if server == "nats" {
		for range nodes {
			addr, err := freeAddress("127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			b.routes = append(b.routes, addr.String())
		}
		return b, nil
	}
	addr, err := freeAddress("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	cmd := s.command(ctx, "0", "redis-server", "--bind", "127.0.0.1", "--port", fmt.Sprint(addr.Port), "--save", "", "--appendonly", "no", "--loglevel", "warning")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	*started = append(*started, cmd)
	r.with = append(r.with, cmd.Process.Pid)
	b.redis = addr.String()
	return b, waitUntil(ctx, "redis-server answers", func(context.Context) bool {
		c, err := net.DialTimeout("tcp", b.redis, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// arguments are what node i is started with.
func (b *between) arguments(i int) []string {
	switch {
	case b.redis != "" && b.server == "agentnet":
		return []string{"--redis", "redis://" + b.redis, "--node", fmt.Sprintf("n%d", i+1)}
	case b.redis != "":
		return []string{"--redis", b.redis}
	case len(b.routes) > 0 && i > 0:
		return []string{"--routes", b.routes[i] + "," + b.routes[0]}
	case len(b.routes) > 0:
		return []string{"--routes", b.routes[0]}
	}
	return nil
}

// settle waits until the nodes know each other. Of the relay every node tells so
// itself; the others get a moment.
func (b *between) settle(ctx context.Context, r *running) error {
	if b.redis == "" && b.routes == nil {
		return nil
	}
	if b.server == "agentnet" {
		for _, url := range r.urls {
			if err := waitUntil(ctx, url+" is ready", func(ctx context.Context) bool { return answers(ctx, url+"/readyz") }); err != nil {
				return err
			}
		}
	}
	select {
	case <-time.After(3 * time.Second): // what the first node knows (its token) is everywhere
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answers says whether the page is answered with 200.
func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// waitUntil asks again and again, for a bounded time.
func waitUntil(ctx context.Context, what string, holds func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-ctx.Done():
			return errors.New("it took too long until " + what)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
