package limit

import (
	"net/netip"
	"sync"
	"testing"
	"time"
)

func TestChangedLimitsHoldForThoseWhoComeNext(t *testing.T) {
	g := NewGate(GateLimits{Connections: 2})
	for range 2 {
		if _, _, ok := g.Enter(0); !ok {
			t.Fatal("the gate is full too early")
		}
	}
	g.Change(GateLimits{Connections: 3})
	if _, _, ok := g.Enter(0); !ok {
		t.Error("a raised limit is not in force")
	}
	g.Change(GateLimits{Connections: 1})
	if n, _ := g.Counts(); n != 3 {
		t.Errorf("got %d connections, want those who are there to stay", n)
	}
	if _, reason, ok := g.Enter(0); ok || reason != ReasonConnections {
		t.Errorf("got ok %v, reason %q, want a refusal for connections", ok, reason)
	}
	g.Change(GateLimits{PerSecond: 1, Burst: 1})
	g.Enter(0)
	if _, reason, ok := g.Enter(1); ok || reason != ReasonRate {
		t.Errorf("got ok %v, reason %q, want a refusal for the rate", ok, reason)
	}

	addr := netip.MustParseAddr("192.0.2.1")
	a := NewAddresses(AddressLimits{Concurrent: 1})
	a.Enter(0, addr)
	if _, ok := a.Enter(0, addr); ok {
		t.Error("a second connection was let in")
	}
	a.Change(AddressLimits{Concurrent: 2, FailPerSecond: 1, FailBurst: 1})
	if _, ok := a.Enter(0, addr); !ok {
		t.Error("a raised limit is not in force")
	}
	a.Fail(0, addr)
	a.Fail(0, addr)
	if a.Blocked(0, addr) == 0 {
		t.Error("failures are not counted after the change")
	}
	a.Change(AddressLimits{})
	if wait := a.Blocked(0, addr); wait != 0 {
		t.Errorf("got a wait of %v without a limit, want none", wait)
	}
}

func TestLimitsChangeWhileTheyAreUsed(t *testing.T) {
	g, a := NewGate(GateLimits{Connections: 10}), NewAddresses(AddressLimits{Concurrent: 5})
	addr := netip.MustParseAddr("192.0.2.1")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 2000 {
				if i == 0 {
					g.Change(GateLimits{Connections: 1 + n%20, PerSecond: float64(n % 3)})
					a.Change(AddressLimits{Concurrent: 1 + n%7, PerSecond: float64(n % 3)})
					continue
				}
				if _, _, ok := g.Enter(int64(n) * int64(time.Millisecond)); ok {
					g.Leave(false)
				}
				if _, ok := a.Enter(int64(n)*int64(time.Millisecond), addr); ok {
					a.Leave(addr)
				}
			}
		})
	}
	all.Wait()
	if c, p := g.Counts(); c != 0 || p != 0 {
		t.Errorf("got %d connections, %d pending, want none", c, p)
	}
}
