package drill

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// slowCount is how many clients stop reading.
const slowCount = 5

// slowReaders stalls some subscribers of a channel while it is busy.
func slowReaders(ctx context.Context, s *stage) error {
	const queue = 256 << 10
	n, err := s.node(ctx, "", "--queue-bytes", strconv.Itoa(queue), "--queue-slow-after", "2s")
	if err != nil {
		return err
	}
	valve, url, err := s.behind(n)
	if err != nil {
		return err
	}
	var reached atomic.Int64
	last := []byte(`"the last"`)
	if err := s.subscribeSlow(ctx, n, url, last, &reached); err != nil {
		return err
	}
	got := newTally()
	fast, err := s.dial(ctx, n, n.URL(), "fast", nil)
	if err != nil {
		return err
	}
	if _, err := fast.Subscribe(ctx, "drill/busy", client.SubscribeOptions{}, got.take); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	pub, err := s.dial(ctx, n, n.URL(), "publisher", nil)
	if err != nil {
		return err
	}
	before, err := closedSlow(ctx, n)
	if err != nil {
		return err
	}
	valve.Stall()
	s.Say("%d clients stop reading", slowCount)
	most := s.keepBusy(ctx, n, pub, got)
	until(ctx, 5*time.Second, func() bool { _, missing, _ := got.count(); return missing == 0 })
	promised, missing, twice := got.count()
	s.check("the client that reads", "gets everything, each once", promised > 100 && missing == 0 && twice == 0, "%d published, %d missing, %d twice", promised, missing, twice)
	s.check("how late it was (p99)", "below 1 s", got.quantile(0.99) < time.Second, "%v", got.quantile(0.99))
	bound := int64(slowCount * queue * 5 / 4)
	s.check("bytes that wait for the slow", fmt.Sprintf("at most %d KiB", bound>>10), most <= bound, "%d KiB", most>>10)
	after, err := closedSlow(ctx, n)
	if err != nil {
		return err
	}
	s.check("slow clients that were closed with 4002", fmt.Sprintf("all %d", slowCount), after-before >= slowCount, "%d", after-before)
	valve.Resume()
	valve.Cut() // their sockets hold an end that they have not read
	s.Say("they read again")
	took, ok := until(ctx, 30*time.Second, func() bool {
		_, err := pub.Publish(ctx, "drill/busy", client.RawJSON(last))
		return err == nil && reached.Load() >= slowCount
	})
	s.check("the slow, when they read again", "are back and get what comes next, within 30 s", ok, "after %v", took.Round(time.Millisecond))
	return nil
}

// subscribeSlow connects the clients that will stop reading; reached counts those
// that got the last message.
func (s *stage) subscribeSlow(ctx context.Context, n Node, url string, last []byte, reached *atomic.Int64) error {
	for i := range slowCount {
		c, err := s.dial(ctx, n, url, fmt.Sprintf("slow%d", i), nil)
		if err != nil {
			return err
		}
		if _, err := c.Subscribe(ctx, "drill/busy", client.SubscribeOptions{}, func(_ context.Context, m *client.Message) {
			if bytes.Equal(m.Payload.Data, last) {
				reached.Add(1)
			}
		}); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	return nil
}

// keepBusy publishes for the span of the fault and returns the most bytes that
// waited in the node's queues.
func (s *stage) keepBusy(ctx context.Context, n Node, pub *client.Client, got *tally) (most int64) {
	end := time.Now().Add(s.Span)
	for i := uint64(0); time.Now().Before(end) && ctx.Err() == nil; i++ {
		_ = got.try(i, func() error {
			_, err := pub.Publish(ctx, "drill/busy", wire.Payload{Data: padded(i, 16<<10)})
			return err
		})
		if i%20 == 0 {
			var st stats
			if _, err := ask(ctx, n, "/v1/stats", &st); err == nil {
				most = max(most, st.Gauges.QueueBytes)
			}
		}
		_ = rest(ctx, 4*time.Millisecond)
	}
	return most
}

// closedSlow is how many connections the node has closed as too slow.
func closedSlow(ctx context.Context, n Node) (uint64, error) {
	var st stats
	if _, err := ask(ctx, n, "/v1/stats", &st); err != nil {
		return 0, err
	}
	return st.Counters.Closed[strconv.Itoa(int(wire.CloseSlowConsumer))], nil
}
