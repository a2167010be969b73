package limit

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const second = int64(time.Second)

func TestTake(t *testing.T) {
	type take struct {
		at   time.Duration
		n    int
		want time.Duration
	}
	ms := time.Millisecond
	for name, tt := range map[string]struct {
		rate  Rate
		takes []take
	}{
		"full at first, then as it fills": {NewRate(10, 3), []take{
			{0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 100 * ms}, {99 * ms, 1, ms}, {100 * ms, 1, 0}, {100 * ms, 1, 100 * ms}}},
		"several at once":            {NewRate(10, 5), []take{{0, 3, 0}, {0, 3, 100 * ms}, {0, 2, 0}, {0, 5, 500 * ms}, {500 * ms, 5, 0}}},
		"refusals take nothing":      {NewRate(1, 2), []take{{0, 2, 0}, {0, 2, 2000 * ms}, {0, 2, 2000 * ms}, {2000 * ms, 2, 0}}},
		"never more than the burst":  {NewRate(10, 2), []take{{time.Hour, 2, 0}, {time.Hour, 1, 100 * ms}}},
		"above the burst: when full": {NewRate(10, 2), []take{{0, 10, 0}, {0, 1, 900 * ms}, {900 * ms, 1, 0}, {900 * ms, 10, 200 * ms}}},
		"a third of a second":        {NewRate(3, 3), []take{{0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 333333332}}},
		"burst below one is one":     {NewRate(10, 0), []take{{0, 1, 0}, {0, 1, 100 * ms}}},
		"nothing asked":              {NewRate(10, 1), []take{{0, 1, 0}, {0, 0, 0}, {0, -5, 0}, {0, 1, 100 * ms}}},
		"unlimited":                  {NewRate(0, 1), []take{{0, 1 << 40, 0}, {0, 1 << 40, 0}}},
		"negative is unlimited":      {NewRate(-1, 1), []take{{0, 5, 0}, {0, 5, 0}}},
		"bytes":                      {NewRate(1e9, 1e6), []take{{0, 1e6, 0}, {0, 1000, 1000}, {500, 1000, 500}, {1000, 1000, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			var b Bucket
			for i, k := range tt.takes {
				if wait := b.Wait(int64(k.at), tt.rate, k.n); wait != k.want {
					t.Errorf("%d: wait for %d at %v: got %v, want %v", i, k.n, k.at, wait, k.want)
				}
				if wait := b.Take(int64(k.at), tt.rate, k.n); wait != k.want {
					t.Errorf("%d: take %d at %v: got %v, want %v", i, k.n, k.at, wait, k.want)
				}
			}
		})
	}
}

// A token bucket as it is explained to people: it holds tokens, they trickle in.
type naiveBucket struct {
	perSecond, burst, tokens float64
	at                       int64
}

func (b *naiveBucket) take(now int64, n int) bool {
	b.tokens = min(b.burst, b.tokens+float64(now-b.at)*b.perSecond/1e9)
	b.at = now
	if b.tokens < min(float64(n), b.burst) {
		return false
	}
	b.tokens -= float64(n)
	return true
}

func TestTakeIsLikeANaiveBucket(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		// Costs are whole numbers of nanoseconds, so that both count alike.
		perSecond, burst := 1e9/float64(1+r.IntN(1e7)), float64(1+r.IntN(50))
		rate, naive := NewRate(perSecond, burst), naiveBucket{perSecond, burst, burst, 0}
		var b Bucket
		now, differ := int64(0), 0
		for range 2000 {
			now += r.Int64N(int64(2e9 / perSecond))
			n := 1 + r.IntN(int(burst)+3)
			wait := b.Take(now, rate, n)
			if edge := math.Abs(naive.tokens+float64(now-naive.at)*perSecond/1e9-min(float64(n), burst)) < 1e-6*burst; edge {
				// Both are right when it is a matter of the last bit: follow the bucket.
				differ++
				naive.take(now, 0)
				if wait == 0 {
					naive.tokens -= float64(n)
				}
				continue
			}
			if took := naive.take(now, n); took != (wait == 0) {
				t.Fatalf("seed %d: take %d of %+v: naive %v, wait %v", seed, n, naive, took, wait)
			}
			if wait > 0 {
				if w := b.Wait(now+int64(wait)-1, rate, n); w != 1 {
					t.Fatalf("seed %d: one nanosecond early: got %v, want 1ns", seed, w)
				}
				if w := b.Wait(now+int64(wait), rate, n); w != 0 {
					t.Fatalf("seed %d: after the wait: got %v, want 0", seed, w)
				}
			}
		}
		if differ > 400 {
			t.Fatalf("seed %d: %d takes were too close to compare", seed, differ)
		}
	}
}

func TestConcurrentTakesNeverExceedTheRate(t *testing.T) {
	var b Bucket
	var now, took atomic.Int64
	rate := NewRate(1e6, 100)
	const end = second / 10 // 100,000 tokens
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				at := now.Add(300)
				if at > end {
					return
				}
				if b.Take(at, rate, 1) == 0 {
					took.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// A goroutine may come with a time that is a little old: that only takes less.
	if got, most := took.Load(), int64(100_000+100); got > most || got < most*9/10 {
		t.Errorf("taken: got %d, want up to %d and nearly so", got, most)
	}
}

func TestChargeOwesAtMostOneBurst(t *testing.T) {
	var b Bucket
	rate := NewRate(10, 5) // 500 ms worth
	for range 1000 {
		b.Charge(0, rate, 1)
	}
	if got, want := b.Wait(0, rate, 1), 600*time.Millisecond; got != want {
		t.Errorf("wait: got %v, want %v", got, want)
	}
	if got := b.Take(int64(600*time.Millisecond), rate, 1); got != 0 {
		t.Errorf("after it: got %v, want 0", got)
	}
	var other Bucket
	other.Charge(0, rate, 2)
	if got := other.Take(0, rate, 3); got != 0 {
		t.Errorf("three left of five: got wait %v, want 0", got)
	}
}

// Odd figures must not overflow into a free pass.
func TestExtremeRates(t *testing.T) {
	const now = int64(1795420800_000000000) // nanoseconds since 1970, larger than any monotonic clock
	for _, perSecond := range []float64{1e-300, 1e-12, 5e-324, 1, 1e18, math.MaxFloat64} {
		for _, burst := range []float64{-1, 1, 1e18, math.MaxFloat64, math.Inf(1), math.NaN()} {
			for _, n := range []int{1, 1 << 31, math.MaxInt} {
				var b Bucket
				rate := NewRate(perSecond, burst)
				if wait := b.Take(now, rate, n); wait != 0 {
					t.Fatalf("rate %g, burst %g: a full bucket refused %d: %v", perSecond, burst, n, wait)
				}
				for range 5 {
					if wait := b.Take(now, rate, math.MaxInt); wait < 0 {
						t.Fatalf("rate %g, burst %g: negative wait %v", perSecond, burst, wait)
					}
					b.Charge(now, rate, math.MaxInt)
				}
				if b.level.Load() < now {
					t.Fatalf("rate %g, burst %g: the time of being full overflowed to %d", perSecond, burst, b.level.Load())
				}
			}
		}
	}
	for _, perSecond := range []float64{math.NaN(), math.Inf(1), 0, -5} {
		if !NewRate(perSecond, 1).Unlimited() {
			t.Errorf("%g a second: want unlimited", perSecond)
		}
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	var b Bucket
	rate, now := NewRate(1000, 10), int64(0)
	if got := testing.AllocsPerRun(1000, func() {
		now += 1000
		b.Take(now, rate, 1)
		b.Charge(now, rate, 1)
	}); got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

func BenchmarkTake(b *testing.B) {
	var bucket Bucket
	rate, now := NewRate(1e6, 100), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += 1000
		bucket.Take(now, rate, 1)
	}
}
