package limit

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func v4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func TestWhatCountsAsOneAddress(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"0.0.0.0", "::", false},
		{"", "", true},
		{"", "0.0.0.0", false},
		{"", "::", false},
	} {
		a, _ := netip.ParseAddr(tt.a)
		b, _ := netip.ParseAddr(tt.b)
		if got := keyOf(a) == keyOf(b); got != tt.same {
			t.Errorf("%q and %q are the same: got %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
}

func TestEnter(t *testing.T) {
	a := NewAddresses(AddressLimits{PerSecond: 10, Burst: 4, Concurrent: 3})
	one, two := v4(1), v4(2)
	for i := range 3 {
		if wait, ok := a.Enter(0, one); !ok || wait != 0 {
			t.Fatalf("connection %d: got %v, %v", i, wait, ok)
		}
	}
	if wait, ok := a.Enter(0, one); ok || wait != concurrentWait {
		t.Errorf("one too many: got %v, %v, want %v", wait, ok, concurrentWait)
	}
	a.Leave(one)
	if _, ok := a.Enter(0, one); !ok {
		t.Error("after one left: refused")
	}
	a.Leave(one)
	if wait, ok := a.Enter(0, one); ok || wait != 100*time.Millisecond {
		t.Errorf("above the rate: got %v, %v, want 100ms", wait, ok)
	}
	if _, ok := a.Enter(0, two); !ok {
		t.Error("another address: refused")
	}
	if _, ok := a.Enter(int64(100*time.Millisecond), one); !ok {
		t.Error("after the wait: refused")
	}
}

func TestFailuresShutOut(t *testing.T) {
	a := NewAddresses(AddressLimits{FailPerSecond: 1, FailBurst: 3})
	bad, good := v4(1), v4(2)
	for range 2 {
		a.Fail(0, bad)
	}
	if got := a.Blocked(0, bad); got != 0 {
		t.Errorf("after two failures: got %v, want 0", got)
	}
	a.Fail(0, bad)
	if got := a.Blocked(0, bad); got != time.Second {
		t.Errorf("after three: got %v, want 1s", got)
	}
	if wait, ok := a.Enter(0, bad); ok || wait != time.Second {
		t.Errorf("enter: got %v, %v, want 1s", wait, ok)
	}
	for range 100 {
		a.Fail(0, bad)
	}
	if got := a.Blocked(0, bad); got != 4*time.Second {
		t.Errorf("after very many: got %v, want 4s, no more", got)
	}
	if _, ok := a.Enter(0, good); !ok {
		t.Error("another address: refused")
	}
	if _, ok := a.Enter(4*second, bad); !ok {
		t.Error("after the wait: refused")
	}
	if got := a.Blocked(0, v4(3)); got != 0 || a.Len() != 2 {
		t.Errorf("asking of a stranger: got %v and %d addresses, want 0 and 2", got, a.Len())
	}
}

func TestIdleIsForgottenFirst(t *testing.T) {
	a := NewAddresses(AddressLimits{Concurrent: 1, Max: 4})
	for n := range uint32(4) {
		a.Enter(0, v4(n))
	}
	a.Leave(v4(2))
	a.Leave(v4(1)) // idle: 1 was used after 2
	a.Enter(0, v4(10))
	for n, known := range map[uint32]bool{0: true, 1: true, 2: false, 3: true, 10: true} {
		s, k, h := a.find(v4(n))
		if got := s.table.lookup(k, h) != none; got != known {
			t.Errorf("address %d is known: got %v, want %v", n, got, known)
		}
	}
	a.Enter(0, v4(11)) // forgets 1
	a.Enter(0, v4(12)) // none is idle: forgets 0, the oldest
	if _, ok := a.Enter(0, v4(3)); ok {
		t.Error("3 was forgotten, though 0 connected before")
	}
	a.Leave(v4(0)) // of a forgotten one: nothing happens
	if got := a.Len(); got != 4 {
		t.Errorf("len: got %d, want 4", got)
	}
}

func TestAMillionAddressesDoNotGrowIt(t *testing.T) {
	a := NewAddresses(AddressLimits{PerSecond: 1, Burst: 1, Concurrent: 5, FailPerSecond: 1, FailBurst: 2, Max: 10000})
	for n := range uint32(1_000_000) {
		addr := v4(n * 2654435761)
		if _, ok := a.Enter(int64(n), addr); !ok {
			t.Fatalf("address %d, seen for the first time: refused", n)
		}
		if n%3 > 0 {
			a.Leave(addr)
		} else {
			a.Fail(int64(n), addr)
		}
	}
	places := 0
	for i := range a.shards {
		places += len(a.shards[i].table.entries)
	}
	if got := a.Len(); got > 10000 || got < 9900 || places > 10000 {
		t.Errorf("got %d addresses in %d places, want 10000", got, places)
	}
}

// naiveAddresses is the same in standard containers, with exact least-recent use.
type naiveAddresses struct {
	limits     AddressLimits
	rate, fail Rate
	known      map[netip.Addr]*naiveAddress
	order      *list.List // used last first
}

type naiveAddress struct {
	rate, fail  Bucket
	connections int
	at          *list.Element
}

func (a *naiveAddresses) obtain(addr netip.Addr) *naiveAddress {
	if e := a.known[addr]; e != nil {
		return e
	}
	if len(a.known) == a.limits.Max {
		victim := a.order.Back()
		for el := a.order.Back(); el != nil; el = el.Prev() {
			if a.known[el.Value.(netip.Addr)].connections == 0 {
				victim = el
				break
			}
		}
		delete(a.known, a.order.Remove(victim).(netip.Addr))
	}
	e := &naiveAddress{at: a.order.PushFront(addr)}
	a.known[addr] = e
	return e
}

func (a *naiveAddresses) enter(now int64, addr netip.Addr) bool {
	e := a.obtain(addr)
	a.order.MoveToFront(e.at)
	if e.fail.Wait(now, a.fail, 1) > 0 || e.connections >= a.limits.Concurrent || e.rate.Take(now, a.rate, 1) > 0 {
		return false
	}
	e.connections++
	return true
}

func (a *naiveAddresses) leave(addr netip.Addr) {
	if e := a.known[addr]; e != nil && e.connections > 0 {
		e.connections--
		a.order.MoveToFront(e.at)
	}
}

func TestAddressesAreLikeNaiveOnes(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 9))
		l := AddressLimits{PerSecond: 3, Burst: 2, Concurrent: 2, FailPerSecond: 1, FailBurst: 2, Max: 1 + r.IntN(40)}
		a := NewAddresses(l)
		n := &naiveAddresses{l, NewRate(3, 2), NewRate(1, 2), map[netip.Addr]*naiveAddress{}, list.New()}
		now, clients := int64(0), 1+r.IntN(2*l.Max+5)
		for step := range 3000 {
			now += r.Int64N(second / 5)
			addr := v4(uint32(r.IntN(clients)))
			switch r.IntN(5) {
			case 0, 1:
				_, got := a.Enter(now, addr)
				if want := n.enter(now, addr); got != want {
					t.Fatalf("seed %d, step %d: enter %v: got %v, want %v", seed, step, addr, got, want)
				}
			case 2, 3:
				a.Leave(addr)
				n.leave(addr)
			case 4:
				a.Fail(now, addr)
				e := n.obtain(addr)
				e.fail.Charge(now, n.fail, 1)
				n.order.MoveToFront(e.at)
			}
			var want time.Duration
			if e := n.known[addr]; e != nil {
				want = e.fail.Wait(now, n.fail, 1)
			}
			if got := a.Blocked(now, addr); got != want {
				t.Fatalf("seed %d, step %d: blocked: got %v, want %v", seed, step, got, want)
			}
			if got, want := a.Len(), len(n.known); got != want {
				t.Fatalf("seed %d, step %d: len: got %d, want %d", seed, step, got, want)
			}
		}
	}
}

func TestAddressesConcurrently(t *testing.T) {
	a := NewAddresses(AddressLimits{Concurrent: 3, Max: 2000})
	var wg sync.WaitGroup
	for g := range uint32(4) {
		wg.Go(func() {
			for i := range uint32(5000) {
				addr := v4((i*7 + g) % 500)
				if _, ok := a.Enter(int64(i), addr); ok {
					a.Leave(addr)
				}
			}
		})
	}
	wg.Wait()
	for i := range a.shards {
		if n := a.shards[i].table.busy.size; n != 0 {
			t.Errorf("shard %d: %d addresses are still busy, want 0", i, n)
		}
	}
}

func TestEnterDoesNotAllocate(t *testing.T) {
	for _, clients := range []uint32{1, 100_000} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			a := NewAddresses(AddressLimits{PerSecond: 10, Burst: 10, Concurrent: 10, FailPerSecond: 1, FailBurst: 1, Max: 1000})
			n := uint32(0)
			work := func() {
				n++
				addr := v4(n * 2654435761 % clients)
				if _, ok := a.Enter(int64(n), addr); ok {
					a.Fail(int64(n), addr)
					a.Leave(addr)
				}
				a.Blocked(int64(n), addr)
			}
			for range 20000 {
				work()
			}
			if got := testing.AllocsPerRun(5000, work); got != 0 {
				t.Errorf("allocations: got %v, want 0", got)
			}
		})
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	a := NewAddresses(AddressLimits{PerSecond: 1e9, Burst: 10, Concurrent: 10})
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		addr := v4(n * 2654435761)
		a.Enter(int64(n), addr)
		a.Leave(addr)
	}
}
