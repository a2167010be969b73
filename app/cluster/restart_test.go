package cluster

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"agentnet/app/relay"
)

// TestLostContent restarts Redis without its content: the connection comes back by
// itself and channels get new epochs.
func TestLostContent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E1", relay.Position{Epoch: "E1"})
		mustAppend(t, b, "c", "E1", hour, publications(1, 5, time.Now()))
		if err := b.Announce(within(t), "n1", []string{"alice", "bob"}, nil, time.Minute); err != nil {
			t.Fatal(err)
		}
		s.restart(t, false)
		eventually(t, 10*time.Second, func() bool {
			_, err := b.readRunID(within(t))
			return err == nil
		})
		wantRead(t, b, "c", "E1", 3, 10, nil, false)
		if err := b.Announce(within(t), "n1", nil, []string{"bob"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		if hosts, err := b.Hosts(within(t), "alice"); err != nil || !slices.Equal(hosts, []string{"n1"}) {
			t.Errorf("Hosts(alice) = %v, %v, want n1: it is announced again by itself", hosts, err)
		}
		if hosts, err := b.Hosts(within(t), "bob"); err != nil || len(hosts) != 0 {
			t.Errorf("Hosts(bob) = %v, %v, want none", hosts, err)
		}
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E2"})
	})
}

// TestRunOfRedis shows what a restart means: a clean one of the embedded store keeps
// epochs; one of a real Redis, even with its content, does not, since the last
// seconds may be missing.
func TestRunOfRedis(t *testing.T) {
	want := map[string]relay.Position{"embedded": {Epoch: "E1", Offset: 5}, "redis": {Epoch: "E2"}}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			b, err := OpenBroker(within(t), s.config)
			if err != nil {
				t.Fatal(err)
			}
			mustOpen(t, b, "c", "E1", relay.Position{Epoch: "E1"})
			mustAppend(t, b, "c", "E1", hour, publications(1, 5, time.Now()))
			b.Close()
			s.restart(t, true)
			b = connect(t, s.config)
			mustOpen(t, b, "c", "E2", want[k.name])
			wantRead(t, b, "c", want[k.name].Epoch, want[k.name].Offset, 10, nil, true)
		})
	}
}

// TestWriterDied shows that a node which ended without closing its Broker may have
// told more than it stored: the next one begins a new epoch. One that was closed
// leaves a whole history.
func TestWriterDied(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		first, err := OpenBroker(within(t), s.config)
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, first, "c", "E1", relay.Position{Epoch: "E1"})
		mustAppend(t, first, "c", "E1", hour, publications(1, 5, time.Now()))
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := OpenBroker(within(t), s.config)
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, second, "c", "E2", relay.Position{Epoch: "E1", Offset: 5})
		mustAppend(t, second, "c", "E1", hour, publications(6, 6, time.Now()))
		second.client.Close() // as if killed
		third := connect(t, s.config)
		mustOpen(t, third, "c", "E3", relay.Position{Epoch: "E3"})
		wantRead(t, third, "c", "E3", 0, 10, nil, true)
	})
}

// TestFailedAppend shows that after an Append that failed the channel is not taken
// for whole, and after one that worked again it is.
func TestFailedAppend(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		over, cancel := context.WithCancel(context.Background())
		cancel()
		mustOpen(t, b, "c", "E1", relay.Position{Epoch: "E1"})
		mustAppend(t, b, "c", "E1", hour, publications(1, 5, time.Now()))
		if err := b.Append(over, "c", "E1", hour, publications(6, 6, time.Now())); !errors.Is(err, context.Canceled) {
			t.Errorf("Append: %v, want %v", err, context.Canceled)
		}
		mustAppend(t, b, "c", "E1", hour, publications(6, 6, time.Now()))
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E1", Offset: 6})
		b.Append(over, "c", "E1", hour, publications(7, 7, time.Now()))
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E2"})
		mustAppend(t, b, "c", "E2", hour, publications(1, 1, time.Now()))
		mustOpen(t, b, "c", "E3", relay.Position{Epoch: "E2", Offset: 1})
		if err := b.Forget(within(t), "c"); err != nil {
			t.Errorf("Forget: %v", err)
		}
		mustOpen(t, b, "c", "E3", relay.Position{Epoch: "E3"})
	})
}
