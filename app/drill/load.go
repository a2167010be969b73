package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

const (
	floodPublishers  = 4
	floodSubscribers = 20
)

// A pour counts what became of publications.
type pour struct{ sent, accepted, refused, hinted, lost atomic.Int64 }

// overload publishes twice as much as the node took before, to many subscribers.
func overload(ctx context.Context, s *stage) error {
	// The generator shares the machine with the node and cannot ask much more of it
	// than it can do. So the test node sheds load early: what is rehearsed is that.
	n, err := s.node(ctx, "", "--overload-lag-elevated", "1ms", "--overload-lag-degraded", "2ms", "--overload-lag-critical", "5s", "--overload-up-hold", "100ms")
	if err != nil {
		return err
	}
	pubs, err := s.floodClients(ctx, n)
	if err != nil {
		return err
	}
	got := newTally()
	if _, err := s.dial(ctx, n, n.URL(), "urgent", func(c *client.Config) { c.OnMessage = got.take }); err != nil {
		return err
	}
	sender, err := s.dial(ctx, n, n.URL(), "caller", nil)
	if err != nil {
		return err
	}
	var calm pour
	measure := max(s.Span/5, time.Second)
	flood(ctx, pubs, measure, 0, &calm)
	rate := float64(calm.accepted.Load()) / measure.Seconds()
	s.fact("publications a second that it takes", "%.0f, each to %d subscribers", rate, floodSubscribers)

	var hot pour
	var level atomic.Value
	level.Store("normal")
	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { flood(ctx, pubs, s.Span/2, 2*rate, &hot); stop() })
	wg.Go(func() {
		for work.Err() == nil {
			var st stats
			if _, err := ask(work, n, "/v1/stats", &st); err == nil && st.Level != "normal" {
				level.Store(st.Level)
			}
			_ = rest(work, 200*time.Millisecond)
		}
	})
	for i := uint64(0); work.Err() == nil; i++ {
		_ = got.try(i, func() error {
			_, err := sender.Send(ctx, "drill/urgent", wire.Payload{Data: number(i)}, client.Priority(wire.Critical))
			return err
		})
		_ = rest(work, 20*time.Millisecond)
	}
	wg.Wait()
	until(ctx, 10*time.Second, func() bool { _, missing, _ := got.count(); return missing == 0 })
	promised, missing, twice := got.count()
	s.check("direct critical messages", "none is refused, all arrive, each once", promised > 0 && got.refused == 0 && missing == 0 && twice == 0,
		"%d sent, %s, %d missing, %d twice", promised, refusals(got.refusals()), missing, twice)
	s.check("how late they were (p99)", "below 1 s", got.quantile(0.99) < time.Second, "%v", got.quantile(0.99))
	s.check("publications without an answer", "none", hot.lost.Load() == 0, "%d of %d", hot.lost.Load(), hot.sent.Load())
	s.check("refusals that say when to come back", "all", hot.hinted.Load() == hot.refused.Load(), "%d of %d", hot.hinted.Load(), hot.refused.Load())
	took, ok := until(ctx, 60*time.Second, func() bool {
		var st stats
		_, err := ask(ctx, n, "/v1/stats", &st)
		return err == nil && st.Level == "normal"
	})
	s.check("load level afterwards", "normal within 60 s", ok, "after %v", took.Round(time.Millisecond))
	s.fact("highest level that was seen", "%v", level.Load())
	s.fact("publications at twice the rate", "%d sent (%.1f times what it took before), %d accepted, %d refused", hot.sent.Load(),
		float64(hot.sent.Load())/max(rate*(s.Span/2).Seconds(), 1), hot.accepted.Load(), hot.refused.Load())
	if s.Against == nil {
		s.check("load shedding", "begins: the test node sheds from 1 ms of lag on", level.Load() != "normal", "%v", level.Load())
	}
	return nil
}

// floodClients connects the subscribers of the flood, and returns its publishers.
func (s *stage) floodClients(ctx context.Context, n Node) (pubs []*client.Client, err error) {
	fast := func(c *client.Config) { c.Encoding = wire.Protobuf }
	for i := range floodSubscribers {
		c, err := s.dial(ctx, n, n.URL(), fmt.Sprintf("heard%d", i), fast)
		if err != nil {
			return nil, err
		}
		if _, err := c.Subscribe(ctx, "drill/flood", client.SubscribeOptions{}, func(context.Context, *client.Message) {}); err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
	}
	for i := range floodPublishers {
		c, err := s.dial(ctx, n, n.URL(), fmt.Sprintf("pours%d", i), fast)
		if err != nil {
			return nil, err
		}
		pubs = append(pubs, c)
	}
	return pubs, nil
}

// flood publishes for a span, at a rate in all, or as fast as answers come when the
// rate is 0.
func flood(ctx context.Context, pubs []*client.Client, span time.Duration, rate float64, p *pour) {
	var wg sync.WaitGroup
	end := time.Now().Add(span)
	for _, c := range pubs {
		wg.Go(func() {
			var answers sync.WaitGroup
			slots := make(chan struct{}, 512)
			if rate == 0 {
				slots = make(chan struct{}, 8)
			}
			began, sent := time.Now(), 0
			for time.Now().Before(end) && ctx.Err() == nil {
				if rate > 0 {
					due := int(time.Since(began).Seconds() * rate / float64(len(pubs)))
					if sent >= due {
						_ = rest(ctx, time.Millisecond)
						continue
					}
				}
				slots <- struct{}{}
				sent++
				p.sent.Add(1)
				pending, err := c.PublishAsync(ctx, "drill/flood", client.RawJSON([]byte(`"0123456789012345678901234567890123456789"`)))
				if err != nil {
					<-slots
					p.settle(err)
					continue
				}
				answers.Go(func() {
					defer func() { <-slots }()
					wait, cancel := context.WithTimeout(ctx, 20*time.Second)
					defer cancel()
					_, err := pending.Published(wait)
					p.settle(err)
				})
			}
			answers.Wait()
		})
	}
	wg.Wait()
}

// settle counts one answer.
func (p *pour) settle(err error) {
	e, refused := errors.AsType[*wire.Error](err)
	switch {
	case err == nil:
		p.accepted.Add(1)
	case refused:
		p.refused.Add(1)
		if e.RetryAfterMS > 0 {
			p.hinted.Add(1)
		}
	default:
		p.lost.Add(1)
	}
}
