package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/redis"
	"agentnet/app/relay"
)

func TestPresence(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		check := func(agent string, want ...string) {
			t.Helper()
			if got, err := b.Hosts(within(t), agent); err != nil || !slices.Equal(got, want) {
				t.Errorf("Hosts(%s) = %v, %v, want %v", agent, got, err, want)
			}
		}
		announce := func(node string, came, left []string) {
			t.Helper()
			if err := b.Announce(within(t), node, came, left, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		check("alice")
		var many []string
		for i := range 1500 {
			many = append(many, fmt.Sprint("many/", i))
		}
		announce("n1", []string{"alice", "bob"}, nil)
		announce("n2", append(many, "alice"), nil)
		check("alice", "n1", "n2")
		check("bob", "n1")
		check("many/1499", "n2")
		announce("n1", []string{"carol"}, []string{"alice"})
		announce("n1", nil, nil)
		check("alice", "n2")
		check("carol", "n1")
		check(aliveMember)

		// Another process under the same name replaces what the first one left.
		again := connect(t, s.config)
		if err := again.Announce(within(t), "n2", []string{"dave"}, nil, 400*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		check("many/0")
		check("dave", "n2")
		eventually(t, 5*time.Second, func() bool {
			hosts, err := b.Hosts(within(t), "dave")
			return err == nil && len(hosts) == 0
		})
		check("bob", "n1")
	})
}

func TestCount(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 10 {
					if _, err := b.Count(within(t), "logins", 2, time.Minute); err != nil {
						t.Errorf("Count: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if n, err := b.Count(within(t), "logins", -100, time.Minute); err != nil || n != 300 {
			t.Errorf("Count = %d, %v, want 300", n, err)
		}
		start := time.Now()
		for n := int64(1); ; n++ {
			got, err := b.Count(within(t), "short", 1, 600*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if got != n { // it began anew, although it was added to all the time
				if since := time.Since(start); got != 1 || since < 600*time.Millisecond {
					t.Errorf("after %v the counter went from %d to %d", since, n-1, got)
				}
				break
			}
			if time.Since(start) > 5*time.Second {
				t.Fatal("the counter was not forgotten within 5 s")
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// TestDeadline uses a Redis that takes connections and commands and says nothing.
func TestDeadline(t *testing.T) {
	s := startEmbedded(t)
	silent := make(chan struct{})
	dial := s.config.Dial
	s.config.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &silencedConn{Conn: c, silent: silent, closed: make(chan struct{})}, nil
	}
	b := connect(t, s.config)
	mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
	close(silent)
	var wg sync.WaitGroup
	for range 3 * inFlight {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := b.Count(ctx, "x", 1, time.Minute)
			if took := time.Since(start); err == nil || took > 2*time.Second {
				t.Errorf("Count: %v after %v, want an error after 200 ms", err, took)
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err == nil {
		t.Error("Close says that all is stored, want an error")
	}
	if _, err := b.Count(within(t), "x", 1, time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("Count after Close: %v, want %v", err, ErrClosed)
	}
}

// A silencedConn reads nothing more once silent is closed.
type silencedConn struct {
	net.Conn
	silent, closed chan struct{}
	once           sync.Once
}

func (c *silencedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.silent:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *silencedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestConfigFaults(t *testing.T) {
	s := startEmbedded(t)
	tests := []struct {
		name string
		cfg  BrokerConfig
		want string
	}{
		{"neither", BrokerConfig{}, "redis URL"},
		{"both", BrokerConfig{URL: "redis://x", Dial: s.config.Dial}, "not both"},
		{"scheme", BrokerConfig{URL: "http://localhost"}, "redis://"},
		{"host", BrokerConfig{URL: "redis://"}, "host"},
		{"port", BrokerConfig{URL: "redis://h:99999"}, "port"},
		{"database", BrokerConfig{URL: "redis://h/x"}, "database"},
		{"query", BrokerConfig{URL: "redis://h?db=1"}, "?"},
		{"unreadable", BrokerConfig{URL: "redis://u:sec%ret@h"}, "%XX"},
		{"refused", BrokerConfig{URL: "redis://u:secret@127.0.0.1:1"}, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := OpenBroker(within(t), tt.cfg)
			if err == nil {
				b.Close()
				t.Fatal("New succeeded, want an error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ret@") || strings.Contains(err.Error(), "secret") {
				t.Errorf("New: %v, want it to name %q and no secret", err, tt.want)
			}
		})
	}
}

func TestParseURL(t *testing.T) {
	opt, err := parseURL("rediss://user:p%40ss@[::1]:7000/3", redis.TLS{})
	if err != nil || opt.InitAddress[0] != "[::1]:7000" || opt.Username != "user" || opt.Password != "p@ss" || opt.SelectDB != 3 || opt.TLSConfig == nil {
		t.Errorf("got %+v, %v", opt, err)
	}
	opt, err = parseURL("redis://redis.example", redis.TLS{})
	if err != nil || opt.InitAddress[0] != "redis.example:6379" || opt.TLSConfig != nil || opt.SelectDB != 0 {
		t.Errorf("got %+v, %v", opt, err)
	}
}
