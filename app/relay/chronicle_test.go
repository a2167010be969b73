package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// chronicle is a Broker in memory that can be made to fail.
type chronicle struct {
	mu    sync.Mutex
	pubs  map[string][]Publication
	at    map[string]Position
	fail  bool
	here  map[string]bool
	calls int
}

var errBroker = errors.New("the broker is away")

func newChronicle() *chronicle {
	return &chronicle{pubs: map[string][]Publication{}, at: map[string]Position{}, here: map[string]bool{}}
}

func (b *chronicle) Open(_ context.Context, channel, epoch string) (Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail {
		return Position{}, errBroker
	}
	if _, ok := b.at[channel]; !ok {
		b.at[channel] = Position{Epoch: epoch}
	}
	return b.at[channel], nil
}

func (b *chronicle) Append(_ context.Context, channel, epoch string, keep Keep, pubs []Publication) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if b.fail {
		return errBroker
	}
	b.pubs[channel] = append(b.pubs[channel], slices.Clone(pubs)...)
	b.at[channel] = Position{Epoch: epoch, Offset: pubs[len(pubs)-1].Offset}
	return nil
}

func (b *chronicle) Read(_ context.Context, channel, epoch string, after uint64, limit int) (out []Publication, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail {
		return nil, false, errBroker
	}
	for _, p := range b.pubs[channel] {
		if p.Offset > after && len(out) < limit {
			out = append(out, p)
		}
	}
	return out, b.at[channel].Epoch == epoch, nil
}

func (b *chronicle) Forget(_ context.Context, channel string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pubs, channel)
	delete(b.at, channel)
	return nil
}

func (b *chronicle) Announce(_ context.Context, _ string, came, left []string, _ time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range came {
		b.here[n] = true
	}
	for _, n := range left {
		delete(b.here, n)
	}
	return nil
}
func (b *chronicle) Hosts(context.Context, string) ([]string, error) { return nil, nil }
func (b *chronicle) Count(context.Context, string, int64, time.Duration) (int64, error) {
	return 0, nil
}
func (b *chronicle) Close() error { return nil }

func withBroker(b func() Broker) func(*Config) {
	return func(c *Config) {
		all, _ := wire.ParseGlobs([]string{"**"})
		c.Broker = b()
		c.Channels = []ChannelRule{{Match: all, Recent: RecentLimits{Count: 3}, Keep: Keep{Count: 1000, Age: time.Hour}}}
	}
}

func TestStoredHistoryMeetsTheWindow(t *testing.T) {
	inWorld(t, withBroker(func() Broker { return newChronicle() }), func(w *world) {
		alice := w.join("alice")
		var want []string
		var epoch string
		for i := range 600 {
			epoch = alice.ok(publish("c", fmt.Sprint(i))).Epoch
			want = append(want, fmt.Sprintf("%q", fmt.Sprint(i)))
		}
		sub := subscribe("c")
		sub.HasSince, sub.Since = true, wire.Since{Epoch: epoch}
		bob := w.join("bob")
		if ok := bob.ok(sub); !ok.Recovered || ok.Offset != 600 {
			t.Fatalf("got %+v, want all recovered", ok)
		}
		if got := datas(bob.take()); !slices.Equal(got, want) {
			t.Errorf("recovered %d messages, want %d in order", len(got), len(want))
		}
		h := bob.ok(&wire.Command{Kind: wire.KindHistory, Channel: []byte("c"), HasSince: true, Since: wire.Since{Epoch: epoch, Offset: 100}, Limit: 5})
		if len(h.Messages) != 5 || h.Messages[0].Offset != 101 {
			t.Errorf("history: got %+v", h)
		}
		time.Sleep(3 * time.Second)
		b := w.hub.cfg.Broker.(*chronicle)
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.here["alice"] || !b.here["bob"] {
			t.Errorf("announced %v", b.here)
		}
	})
}

func TestChannelGoesOnFromStoredPosition(t *testing.T) {
	b := newChronicle()
	b.at["c"] = Position{Epoch: "old", Offset: 41}
	inWorld(t, withBroker(func() Broker { b.at["c"] = Position{Epoch: "old", Offset: 41}; return b }), func(w *world) {
		if ok := w.join("alice").ok(publish("c", "x")); ok.Epoch != "old" || ok.Offset != 42 {
			t.Errorf("got %+v, want offset 42 of the old epoch", ok)
		}
	})
}

func TestBrokerAwayDoesNotHurt(t *testing.T) {
	b := func() Broker { b := newChronicle(); b.fail = true; return b }
	inWorld(t, withBroker(b), func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		alice.start(publish("c", "waits for the history to open"))
		bob.start(subscribe("c"))
		if ok := alice.ok(send("bob", "direct")); ok.Outcome != wire.Delivered {
			t.Errorf("a direct message while the broker is away: got %+v", ok)
		}
		time.Sleep(15 * time.Second)
		if got := only(alice.take(), wire.KindOK); len(got) != 1 || got[0].OK.Offset != 1 {
			t.Errorf("the publication was answered %+v", got)
		}
		alice.ok(publish("c", "second"))
		if got := only(bob.take(), wire.KindMessage); len(got) < 2 {
			t.Errorf("bob got %+v", got)
		}
	})
}
