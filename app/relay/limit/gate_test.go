package limit

import (
	"container/heap"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	g := NewGate(GateLimits{Connections: 3, Pending: 2})
	enter := func(want string) {
		t.Helper()
		wait, reason, ok := g.Enter(0)
		if reason != want || ok != (want == "") || ok != (wait == 0) {
			t.Errorf("enter: got %v, %q, %v, want reason %q", wait, reason, ok, want)
		}
	}
	counts := func(connections, pending int) {
		t.Helper()
		if c, p := g.Counts(); c != connections || p != pending {
			t.Errorf("counts: got %d, %d, want %d, %d", c, p, connections, pending)
		}
	}
	enter("")
	enter("")
	enter(ReasonPending)
	counts(2, 2)
	g.Authenticated()
	enter("")
	counts(3, 2)
	enter(ReasonConnections)
	g.Leave(true)
	counts(2, 2)
	g.Leave(false)
	counts(1, 1)
	for range 3 { // more often than it should be
		g.Leave(false)
		g.Authenticated()
	}
	counts(0, 0)
	enter("")
}

func TestGateRate(t *testing.T) {
	g := NewGate(GateLimits{PerSecond: 100, Burst: 5})
	for i := range 5 {
		if _, _, ok := g.Enter(0); !ok {
			t.Fatalf("connection %d of the burst: refused", i)
		}
	}
	if wait, reason, ok := g.Enter(0); ok || reason != ReasonRate || wait < 10*time.Millisecond || wait > 30*time.Millisecond {
		t.Errorf("above the burst: got %v, %q, %v, want some 20 ms, rate", wait, reason, ok)
	}
	if c, p := g.Counts(); c != 5 || p != 5 {
		t.Errorf("counts: got %d, %d, want 5, 5", c, p)
	}
	if _, _, ok := g.Enter(int64(10 * time.Millisecond)); !ok {
		t.Error("after 10 ms: refused")
	}
}

func TestZeroGateLetsAllIn(t *testing.T) {
	g := NewGate(GateLimits{})
	for i := range 100_000 {
		if _, reason, ok := g.Enter(0); !ok {
			t.Fatalf("connection %d: refused: %s", i, reason)
		}
	}
}

// Those refused at one moment get waits that spread over the seconds which they
// need, and no two alike.
func TestRefusedAreSpread(t *testing.T) {
	g := NewGate(GateLimits{PerSecond: 1000, Burst: 1})
	g.Enter(0)
	waits := make([]time.Duration, 0, 15000)
	for range 15000 {
		wait, _, ok := g.Enter(0)
		if ok {
			t.Fatal("let in above the rate")
		}
		waits = append(waits, wait)
	}
	slices.Sort(waits)
	if got := len(slices.Compact(slices.Clone(waits))); got != len(waits) {
		t.Errorf("different waits: got %d, want %d", got, len(waits))
	}
	if first, last := waits[0], waits[len(waits)-1]; first > 10*time.Millisecond || last < 14*time.Second || last > 18*time.Second {
		t.Errorf("waits from %v to %v, want from some ms to 15 to 17 s", first, last)
	}
	for from := time.Duration(0); from < 15*time.Second; from += 100 * time.Millisecond {
		a, _ := slices.BinarySearch(waits, from)
		b, _ := slices.BinarySearch(waits, from+100*time.Millisecond)
		if b-a > 110 {
			t.Errorf("return within 100 ms from %v: got %d, want at most 110", from, b-a)
		}
	}
	// When the storm is over, waits are short again.
	if wait := g.Refuse(60*second, 0); wait > 10*time.Millisecond {
		t.Errorf("one minute later: got %v, want some ms", wait)
	}
}

// A wait is up to an eighth longer than the place in the line says, evenly spread.
func TestJitterIsEven(t *testing.T) {
	g := NewGate(GateLimits{PerSecond: 100, Burst: 1})
	var eighths [8]int
	for i := range 800 {
		// One second apart, so that each finds the line empty: 5 s and one spacing.
		wait := g.Refuse(int64(i)*second, 5*time.Second)
		least := 5*time.Second + 10*time.Millisecond
		part := int((wait - least) * 64 / least)
		if part < 0 || part > 7 {
			t.Fatalf("got %v, want %v and up to an eighth more", wait, least)
		}
		eighths[part]++
	}
	for part, n := range eighths {
		if n < 95 || n > 105 {
			t.Errorf("part %d of the range: got %d of 800, want some 100", part, n)
		}
	}
}

func TestWaitsAreBounded(t *testing.T) {
	g := NewGate(GateLimits{PerSecond: 1, Burst: 1, MaxWait: 8 * time.Second})
	var late []time.Duration
	for range 1000 {
		if wait, _, ok := g.Enter(0); !ok {
			late = append(late, wait)
		}
	}
	slices.Sort(late)
	if last := late[len(late)-1]; last > 10*time.Second+200*time.Millisecond {
		t.Errorf("longest wait: got %v, want at most 9 s and the rate's 1 s", last)
	}
	// Above the bound they are strewn over its second half, not heaped upon it.
	a, _ := slices.BinarySearch(late, 6*time.Second)
	b, _ := slices.BinarySearch(late, 7*time.Second)
	if n := b - a; n < 100 || n > 400 {
		t.Errorf("waits from 6 to 7 s: got %d, want some 200 of 1000", n)
	}
}

type arrivals []int64

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i] < a[j] }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(int64)) }
func (a *arrivals) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// A storm of 15,000 that all come within 100 ms and obey what they are told is in
// after little more than the time that the rate needs, by few attempts.
func TestStorm(t *testing.T) {
	for name, tt := range map[string]struct {
		limits   GateLimits
		rounding time.Duration // Retry-After has whole seconds
		within   time.Duration
		attempts int
	}{
		"exact waits":         {GateLimits{PerSecond: 1000, Burst: 200}, 1, 20 * time.Second, 32000},
		"whole seconds":       {GateLimits{PerSecond: 1000, Burst: 1000}, time.Second, 24 * time.Second, 45000},
		"longer than MaxWait": {GateLimits{PerSecond: 100, Burst: 100}, 1, 200 * time.Second, 120000},
		"pending bounds it":   {GateLimits{PerSecond: 1000, Burst: 1000, Pending: 300}, 1, 60 * time.Second, 60000},
	} {
		t.Run(name, func(t *testing.T) {
			const clients = 15000
			g := NewGate(tt.limits)
			var coming arrivals
			for i := range int64(clients) {
				coming = append(coming, i*int64(100*time.Millisecond)/clients)
			}
			heap.Init(&coming)
			var inside []int64 // when each was let in
			attempts, now := 0, int64(0)
			for authenticated := 0; len(coming) > 0; attempts++ {
				now = heap.Pop(&coming).(int64)
				// Each takes 50 ms to authenticate.
				for authenticated < len(inside) && inside[authenticated] < now-int64(50*time.Millisecond) {
					g.Authenticated()
					authenticated++
				}
				wait, _, ok := g.Enter(now)
				if ok {
					inside = append(inside, now)
					continue
				}
				told := int64(wait+tt.rounding-1) / int64(tt.rounding) * int64(tt.rounding)
				heap.Push(&coming, now+told)
			}
			t.Logf("all in after %v by %d attempts", time.Duration(now), attempts)
			if len(inside) != clients || time.Duration(now) > tt.within || attempts > tt.attempts {
				t.Errorf("got %d in %v by %d attempts, want %d in %v by at most %d", len(inside), time.Duration(now), attempts, clients, tt.within, tt.attempts)
			}
			for i, most := 0, int(tt.limits.PerSecond+tt.limits.Burst)+1; i+most < len(inside); i++ {
				if inside[i+most]-inside[i] < second {
					t.Fatalf("more than %d let in within a second", most)
				}
			}
		})
	}
}

func TestGateConcurrently(t *testing.T) {
	g := NewGate(GateLimits{Connections: 50, Pending: 20})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 5000 {
				_, _, ok := g.Enter(int64(i))
				if c, p := g.Counts(); c > 50 || p > 20 || p > c {
					t.Errorf("counts: %d connections, %d pending", c, p)
				}
				if !ok {
					continue
				}
				if i%2 == 0 {
					g.Authenticated()
				}
				g.Leave(i%2 == 0)
			}
		})
	}
	wg.Wait()
	if c, p := g.Counts(); c != 0 || p != 0 {
		t.Errorf("at the end: %d connections, %d pending, want none", c, p)
	}
}

func TestGateDoesNotAllocate(t *testing.T) {
	g := NewGate(GateLimits{Connections: 10, PerSecond: 1e6, Burst: 1})
	now := int64(0)
	if got := testing.AllocsPerRun(1000, func() {
		now += 700
		if _, _, ok := g.Enter(now); ok {
			g.Authenticated()
			g.Leave(true)
		}
	}); got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(GateLimits{Connections: 1000, Pending: 100, PerSecond: 1e6, Burst: 100})
	now := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 500 // every other one is refused
		if _, _, ok := g.Enter(now); ok {
			g.Authenticated()
			g.Leave(true)
		}
	}
}
