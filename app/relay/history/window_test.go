package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// naive is a Window without a ring: everything that is held, in a slice.
type naive struct {
	limits Limits
	held   []held
	last   uint64
}

type held struct {
	offset uint64
	bytes  int
	timeMS int64
}

func (n *naive) bytes() (sum int) {
	for _, h := range n.held {
		sum += h.bytes
	}
	return sum
}

func (n *naive) append(h held) {
	if h.offset <= n.last {
		return
	}
	if h.offset != n.last+1 {
		n.held = nil
	}
	n.last = h.offset
	n.held = append(n.held, h)
	n.trim()
}

func (n *naive) trim() {
	for len(n.held) > 0 && (len(n.held) > max(n.limits.Count, 0) || n.limits.Bytes > 0 && n.bytes() > n.limits.Bytes) {
		n.held = n.held[1:]
	}
}

func (n *naive) expire(nowMS int64) (dropped int) {
	for n.limits.Age > 0 && len(n.held) > 0 && n.held[0].timeMS < nowMS-n.limits.Age.Milliseconds() {
		n.held = n.held[1:]
		dropped++
	}
	return dropped
}

func (n *naive) since(offset uint64) (values []uint64, ok bool) {
	if offset > n.last {
		return nil, false
	}
	for want := offset + 1; want <= n.last; want++ {
		if !slices.ContainsFunc(n.held, func(h held) bool { return h.offset == want }) {
			return nil, false
		}
		values = append(values, want)
	}
	return values, true
}

// compare checks everything that a Window tells against the naive one. Its values
// are their own offsets times ten.
func compare(t *testing.T, w *Window[uint64], n *naive) {
	t.Helper()
	if w.Len() != len(n.held) || w.Bytes() != n.bytes() || w.Last() != n.last {
		t.Fatalf("len, bytes, last: got %d, %d, %d, want %d, %d, %d", w.Len(), w.Bytes(), w.Last(), len(n.held), n.bytes(), n.last)
	}
	if want := n.last + 1 - uint64(len(n.held)); w.First() != want {
		t.Fatalf("first: got %d, want %d", w.First(), want)
	}
	if len(w.ring) > max(n.limits.Count, 0) {
		t.Fatalf("ring: got %d places, want at most %d", len(w.ring), n.limits.Count)
	}
	from := n.last - min(n.last, uint64(len(n.held)+3))
	for offset := from; offset <= n.last+2; offset++ {
		want, wantOK := n.since(offset)
		first, ok := w.Since(offset)
		if ok != wantOK {
			t.Fatalf("since %d: got %v, want %v", offset, ok, wantOK)
		}
		var got []uint64
		for i := first; ok && i < w.Len(); i++ {
			o, v := w.At(i)
			if v != o*10 {
				t.Fatalf("value of %d: got %d", o, v)
			}
			got = append(got, o)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("since %d: got %v, want %v", offset, got, want)
		}
		if !ok {
			continue
		}
		got = got[:0]
		for o, v := range w.After(offset) {
			if v != o*10 {
				t.Fatalf("value of %d: got %d", o, v)
			}
			got = append(got, o)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %d: got %v, want %v", offset, got, want)
		}
	}
}

func TestWindowIsLikeTheNaiveOne(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := Limits{Count: r.IntN(40) - 1, Bytes: r.IntN(3) * 150, Age: time.Duration(r.IntN(2)) * 80 * time.Millisecond}
		w, n := New[uint64](l), &naive{limits: l}
		now := int64(1e12)
		for range 300 {
			now += r.Int64N(8)
			switch r.IntN(12) {
			case 0:
				if got, want := w.Expire(now), n.expire(now); got != want {
					t.Fatalf("seed %d: expired %d, want %d", seed, got, want)
				}
			case 1:
				if r.IntN(10) == 0 {
					last := uint64(r.IntN(1000))
					w.Reset(last)
					n.held, n.last = nil, last
				}
			case 3:
				if r.IntN(5) == 0 {
					n.limits = Limits{Count: r.IntN(40) - 1, Bytes: r.IntN(3) * 150, Age: n.limits.Age}
					w.Bound(n.limits)
					n.trim()
				}
			case 2: // a hole, or an offset that was there
				h := held{max(n.last+uint64(r.IntN(5)), 2) - 1, r.IntN(60), now}
				w.Append(h.offset, h.bytes, h.timeMS, h.offset*10)
				n.append(h)
			default:
				h := held{n.last + 1, r.IntN(60), now - r.Int64N(3)}
				w.Append(h.offset, h.bytes, h.timeMS, h.offset*10)
				n.append(h)
			}
			compare(t, &w, n)
		}
	}
}

func TestSince(t *testing.T) {
	full := New[string](Limits{Count: 3})
	for i := range uint64(5) {
		full.Append(i+1, 1, 0, "v")
	}
	fresh := New[string](Limits{Count: 3})
	restored := New[string](Limits{Count: 3})
	restored.Reset(500)
	var zero Window[string]
	zero.Append(1, 1, 0, "not kept")

	for name, tt := range map[string]struct {
		w      *Window[string]
		offset uint64
		first  int
		ok     bool
	}{
		"all that is held":           {&full, 2, 0, true},
		"one before is gone":         {&full, 1, 0, false},
		"the newest":                 {&full, 4, 2, true},
		"nothing missed":             {&full, 5, 3, true},
		"from the future":            {&full, 6, 0, false},
		"far future":                 {&full, 1<<64 - 1, 0, false},
		"fresh channel":              {&fresh, 0, 0, true},
		"fresh channel, odd reader":  {&fresh, 1, 0, false},
		"restored, nothing missed":   {&restored, 500, 0, true},
		"restored, something missed": {&restored, 499, 0, false},
		"keeps nothing, all missed":  {&zero, 0, 0, false},
		"keeps nothing, none missed": {&zero, 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if first, ok := tt.w.Since(tt.offset); first != tt.first || ok != tt.ok {
				t.Errorf("since %d: got %d, %v, want %d, %v", tt.offset, first, ok, tt.first, tt.ok)
			}
		})
	}
}

func TestAfterWithALossYieldsTheRest(t *testing.T) {
	w := New[int](Limits{Count: 2})
	for i := range 5 {
		w.Append(uint64(i+1), 1, 0, i)
	}
	var got []uint64
	for offset := range w.After(1) {
		got = append(got, offset)
	}
	if want := []uint64{4, 5}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for offset := range w.After(0) {
		if offset != 4 {
			t.Errorf("went on to %d after break", offset)
		}
		break
	}
}

func TestEmptyWindowHoldsNoMemory(t *testing.T) {
	w := New[*int](Limits{Count: 1000, Age: time.Second})
	for i := range 500 {
		w.Append(uint64(i+1), 10, 0, new(int))
	}
	if len(w.ring) != 512 {
		t.Errorf("ring: got %d places, want 512: it doubles", len(w.ring))
	}
	if got := w.Expire(1001); got != 500 {
		t.Errorf("expired: got %d, want 500", got)
	}
	if w.ring != nil {
		t.Errorf("ring: got %d places, want none", len(w.ring))
	}
	if _, ok := w.Since(500); !ok {
		t.Error("position lost by expiry")
	}
}

// What was dropped must not be kept alive by the ring.
func TestDroppedValuesAreCleared(t *testing.T) {
	w := New[*int](Limits{Count: 8, Bytes: 80})
	for i := range 100 {
		w.Append(uint64(i+1), 10+i%20, 0, new(int))
	}
	kept := 0
	for _, e := range w.ring {
		if e.value != nil {
			kept++
		}
	}
	if kept != w.Len() {
		t.Errorf("ring keeps %d values alive, want %d", kept, w.Len())
	}
}

func TestAtOutsidePanics(t *testing.T) {
	w := New[int](Limits{Count: 2})
	w.Append(1, 1, 0, 1)
	for _, i := range []int{-1, 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("at %d: got no panic", i)
				}
			}()
			w.At(i)
		}()
	}
}

func TestSteadyWindowDoesNotAllocate(t *testing.T) {
	w := New[*int](Limits{Count: 100, Bytes: 4000, Age: time.Hour})
	v, offset := new(int), uint64(0)
	work := func() {
		offset++
		w.Append(offset, 50, int64(offset), v)
		w.Expire(int64(offset))
		if first, ok := w.Since(offset - 1); ok {
			w.At(first)
		}
		for range w.After(offset - min(offset, 20)) {
		}
	}
	for range 200 {
		work()
	}
	if got := testing.AllocsPerRun(1000, work); got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	w := New[*int](Limits{Count: 256, Bytes: 1 << 20})
	v, offset := new(int), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		offset++
		w.Append(offset, 128, 0, v)
	}
}

func BenchmarkAfter100(b *testing.B) {
	w := New[*int](Limits{Count: 256})
	for i := range uint64(1000) {
		w.Append(i+1, 128, 0, nil)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for range w.After(900) {
			n++
		}
	}
	if n != b.N*100 {
		b.Errorf("got %d, want %d", n, b.N*100)
	}
}
