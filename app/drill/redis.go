package drill

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// freePort finds a port that nobody uses now.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr := ln.Addr().String()
	return addr, ln.Close()
}

// overRedis starts a node whose Redis is that of a second node, behind a valve.
func (s *stage) overRedis(ctx context.Context) (Node, *Valve, error) {
	addr, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	password := rand.Text()
	if _, err := s.Place.Node(ctx, "", "--node", "drill-redis", "--embedded-listen", addr, "--embedded-password", password); err != nil {
		return nil, nil, fmt.Errorf("start the node with the Redis: %w", err)
	}
	valve, err := NewValve(addr)
	if err != nil {
		return nil, nil, err
	}
	s.onEnd(valve.Close)
	config := filepath.Join(s.Scratch, "redis-pause.yaml")
	if err := os.WriteFile(config, []byte("channels:\n  - match: [\"drill/**\"]\n    keep_count: 100\n"), 0o600); err != nil {
		return nil, nil, fmt.Errorf("write the configuration: %w", err)
	}
	n, err := s.node(ctx, "", "--config", config, "--node", "drill-subject", "--redis", "redis://:"+password+"@"+valve.Addr())
	return n, valve, err
}

// redisPause stops the Redis of a node.
func redisPause(ctx context.Context, s *stage) error {
	n, valve, err := s.overRedis(ctx)
	if err != nil {
		return err
	}
	got, cuts := newTally(), atomic.Int64{}
	watch := func(c *client.Config) {
		c.OnState = func(st client.StateChange) {
			if st.Cause != nil {
				cuts.Add(1)
			}
		}
	}
	if _, err := s.dial(ctx, n, n.URL(), "b", func(c *client.Config) { watch(c); c.OnMessage = got.take }); err != nil {
		return err
	}
	a, err := s.dial(ctx, n, n.URL(), "a", watch)
	if err != nil {
		return err
	}
	if _, err := a.Publish(ctx, "drill/kept", client.RawJSON([]byte(`"before"`))); err != nil {
		return fmt.Errorf("publish before the fault: %w", err)
	}
	s.Say("Redis stops for %v", s.Span)
	valve.Pause()
	end := time.Now().Add(s.Span)
	published := 0
	for i := uint64(0); time.Now().Before(end) && ctx.Err() == nil; i++ {
		_ = got.try(i, func() error {
			one, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_, err := a.Send(one, "drill/b", wire.Payload{Data: number(i)})
			return err
		})
		if i%50 == 0 {
			if _, err := a.Publish(ctx, "drill/kept", wire.Payload{Data: number(i)}); err == nil {
				published++
			}
		}
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	valve.Resume()
	s.Say("Redis answers again")
	until(ctx, 5*time.Second, func() bool { _, missing, _ := got.count(); return missing == 0 })
	promised, missing, twice := got.count()
	s.check("messages between agents of the node", "all arrive, each once", promised > 0 && missing == 0 && twice == 0 && got.refused == 0,
		"%d sent, %s, %d missing, %d twice", promised, refusals(got.refusals()), missing, twice)
	s.check("how late they were (p99)", "below 1 s", got.quantile(0.99) < time.Second, "%v", got.quantile(0.99))
	s.check("connections that were cut", "none", cuts.Load() == 0, "%d", cuts.Load())
	took, ok := until(ctx, 60*time.Second, func() bool {
		ask, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if _, err := a.Publish(ask, "drill/kept", client.RawJSON([]byte(`"after"`))); err != nil {
			return false
		}
		list, _, err := a.History(ask, "drill/kept", nil, 100)
		return err == nil && len(list) > 1
	})
	s.check("history after the fault", "works again within 60 s", ok, "after %v", took.Round(time.Millisecond))
	s.fact("publications accepted meanwhile", "%d", published)
	return nil
}
