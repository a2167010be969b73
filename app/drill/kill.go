package drill

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// killRestart kills the node while messages are parked and delivered, and starts
// it again on the same data.
func killRestart(ctx context.Context, s *stage) error {
	n, err := s.node(ctx, "")
	if err != nil {
		return err
	}
	parked, direct := newTally(), newTally()
	var back atomic.Int64
	watch := func(c *client.Config) {
		first := true
		c.OnState = func(st client.StateChange) {
			if st.State == client.Connected {
				if !first {
					back.Add(1)
				}
				first = false
			}
		}
	}
	if _, err := s.dial(ctx, n, n.URL(), "b", func(c *client.Config) { watch(c); c.OnMessage = direct.take }); err != nil {
		return err
	}
	a, err := s.dial(ctx, n, n.URL(), "a", watch)
	if err != nil {
		return err
	}
	next, err := s.talkUntilKilled(ctx, n, a, parked, direct)
	if err != nil {
		return fmt.Errorf("kill the node: %w", err)
	}
	s.Say("the node was killed")
	began := time.Now()
	if err := n.Start(ctx); err != nil {
		return fmt.Errorf("start the node again: %w", err)
	}
	s.fact("start after the kill", "%v", time.Since(began).Round(time.Millisecond))
	took, ok := until(ctx, 60*time.Second, func() bool { return back.Load() >= 2 })
	s.check("clients that are back by themselves", "both within 60 s", ok, "%d after %v", back.Load(), took.Round(time.Millisecond))
	if _, err := s.dial(ctx, n, n.URL(), "away", func(c *client.Config) { c.OnMessage = parked.take }); err != nil {
		return err
	}
	until(ctx, 30*time.Second, func() bool { _, missing, _ := parked.count(); return missing == 0 })
	promised, missing, twice := parked.count()
	s.check("parked messages that were acknowledged", "all arrive", promised > 0 && missing == 0, "%d acknowledged, %d missing", promised, missing)
	s.check("parked messages that came twice", "none", twice == 0, "%d", twice)
	promised, missing, twice = direct.count()
	s.check("delivered messages that were acknowledged", "all had arrived, each once", promised > 0 && missing == 0 && twice == 0, "%d acknowledged, %d missing, %d twice", promised, missing, twice)
	_, ok = until(ctx, 20*time.Second, func() bool {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := a.Send(one, "drill/b", wire.Payload{Data: number(next)})
		return err == nil
	})
	s.check("a message between the same agents", "goes again", ok, "%v", ok)
	return nil
}

// talkUntilKilled sends to an agent that is away and to one that is there, and
// kills the node in the middle of it. It returns the next number.
func (s *stage) talkUntilKilled(ctx context.Context, n Node, from *client.Client, parked, direct *tally) (next uint64, err error) {
	kill := time.Now().Add(s.Span / 3)
	killed := make(chan error, 1)
	time.AfterFunc(time.Until(kill), func() { killed <- n.Kill() })
	one, cancel := context.WithDeadline(ctx, kill)
	defer cancel()
	for ; one.Err() == nil; next++ {
		_ = parked.try(next, func() error {
			_, err := from.Send(one, "drill/away", wire.Payload{Data: number(next)}, client.TTL(10*time.Minute))
			return err
		})
		_ = direct.try(next, func() error {
			_, err := from.Send(one, "drill/b", wire.Payload{Data: number(next)})
			return err
		})
	}
	return next, <-killed
}
