package drill

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// behind puts a valve before a node and returns the address that leads through it.
func (s *stage) behind(n Node) (*Valve, string, error) {
	u, err := url.Parse(n.URL())
	if err != nil || u.Scheme != "http" {
		return nil, "", fmt.Errorf("%w: the way to %s cannot be cut; only http works for drills", ErrNotHere, n.URL())
	}
	v, err := NewValve(u.Host)
	if err != nil {
		return nil, "", err
	}
	s.onEnd(v.Close)
	u.Host = v.Addr()
	return v, u.String(), nil
}

// A crowd is clients that get numbered messages.
type crowd struct {
	clients []*client.Client
	tallies []*tally
	back    atomic.Int64 // times that a connection came back
	resumed atomic.Int64 // of these, with the former session
}

// gather connects n clients, a few at a time.
func (s *stage) gather(ctx context.Context, n Node, url string, size int) (*crowd, error) {
	c := &crowd{clients: make([]*client.Client, size), tallies: make([]*tally, size)}
	slots, errs := make(chan struct{}, 16), make(chan error, size)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards stage.ends
	for i := range size {
		c.tallies[i] = newTally()
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			first := true
			cfg := client.Config{URL: url, Token: n.Token(), Agent: fmt.Sprintf("drill/crowd%d", i), OnMessage: c.tallies[i].take, CloseTimeout: time.Second,
				Backoff: client.Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second},
				OnState: func(st client.StateChange) {
					if st.State == client.Connected {
						if !first {
							c.back.Add(1)
							if st.Resumed {
								c.resumed.Add(1)
							}
						}
						first = false
					}
				}}
			dial, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			one, err := client.Dial(dial, cfg)
			if err != nil {
				errs <- fmt.Errorf("connect client %d: %w", i, err)
				return
			}
			c.clients[i] = one
			mu.Lock()
			s.onEnd(func() { _ = one.Close() })
			mu.Unlock()
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return c, nil
	}
}

// totals adds the tallies up.
func (c *crowd) totals() (promised, missing, twice, refused int) {
	for _, t := range c.tallies {
		p, m, w := t.count()
		promised, missing, twice = promised+p, missing+m, twice+w
		re, _ := t.refusals()
		refused += re
	}
	return promised, missing, twice, refused
}

// connectionStorm cuts a crowd of clients while messages go to all of them.
func connectionStorm(ctx context.Context, s *stage) error {
	n, err := s.node(ctx, "")
	if err != nil {
		return err
	}
	valve, url, err := s.behind(n)
	if err != nil {
		return err
	}
	c, err := s.gather(ctx, n, url, s.Crowd)
	if err != nil {
		return err
	}
	sender, err := s.dial(ctx, n, n.URL(), "sender", nil)
	if err != nil {
		return err
	}
	talk, quiet := context.WithCancel(ctx)
	defer quiet()
	var talking sync.WaitGroup
	talking.Go(func() {
		for i := uint64(0); talk.Err() == nil; i++ {
			k := int(i) % s.Crowd
			_ = c.tallies[k].try(i, func() error {
				_, err := sender.Send(ctx, fmt.Sprintf("drill/crowd%d", k), wire.Payload{Data: number(i)}, client.TTL(5*time.Minute))
				return err
			})
			_ = rest(talk, 2*time.Millisecond)
		}
	})
	if err := rest(ctx, s.Span/5); err != nil {
		return err
	}
	cut := valve.Cut()
	began := time.Now()
	s.Say("%d connections were cut", cut)
	took, ok := until(ctx, 60*time.Second, func() bool { return int(c.back.Load()) >= s.Crowd })
	s.check("clients that are back", fmt.Sprintf("all %d within 60 s", s.Crowd), ok, "%d after %v", c.back.Load(), took.Round(time.Millisecond))
	if err := rest(ctx, s.Span/5); err != nil {
		return err
	}
	quiet()
	talking.Wait()
	until(ctx, 20*time.Second, func() bool { _, missing, _, _ := c.totals(); return missing == 0 })
	promised, missing, twice, refused := c.totals()
	s.check("messages that were accepted", "all arrive, each once", promised > 0 && missing == 0 && twice == 0, "%d accepted, %d missing, %d twice", promised, missing, twice)
	s.check("messages that were refused", "none: a client that is away can still resume", refused == 0, "%d", refused)
	s.fact("sessions that were resumed", "%d of %d", c.resumed.Load(), c.back.Load())
	s.fact("from the cut to the last message", "%v", time.Since(began).Round(time.Millisecond))
	return nil
}
