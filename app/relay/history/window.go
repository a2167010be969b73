// Package history holds the recent messages of one channel: a window over a
// sequence of offsets that go up by one.
//
// A Window is bounded by count, bytes and age, and it says whether what a reader
// missed is whole: it never skips silently. It knows no epochs (another epoch is
// another Window, or a Reset), keeps no clock and has no lock: its owner
// serialises all calls. It holds no memory while it is empty after Expire or Reset.
package history

import (
	"iter"
	"time"
)

// firstRing is the least capacity of a ring: most channels are quiet.
const firstRing = 4

// Limits bound a Window.
type Limits struct {
	Count int           // values; <= 0: nothing is kept, only the last offset
	Bytes int           // sum of the sizes given to Append; <= 0: no bound
	Age   time.Duration // applied by Expire, in milliseconds; <= 0: no bound
}

// A Window holds the last values of a sequence. Its zero value keeps nothing but
// the last offset. It may be embedded and moved, but not used in two copies.
type Window[T any] struct {
	limits Limits
	ring   []entry[T]
	head   int // index in ring of the oldest
	n      int
	bytes  int
	last   uint64 // offset of the newest, also of one that is not kept
}

type entry[T any] struct {
	value  T
	timeMS int64
	bytes  int
}

// New returns an empty Window whose first offset will be 1.
func New[T any](l Limits) Window[T] { return Window[T]{limits: l} }

// Reset empties the window and sets the last offset, for a sequence that was begun
// elsewhere: the next Append has last+1.
func (w *Window[T]) Reset(last uint64) {
	*w = Window[T]{limits: w.limits, last: last}
}

// Append adds the value with the given offset, drops the oldest that go above the
// limits, and v itself if it alone is above them. An offset that is not above Last
// is ignored. One that leaves a hole drops everything before it, so that the hole
// is seen as a loss.
func (w *Window[T]) Append(offset uint64, bytes int, timeMS int64, v T) {
	if offset <= w.last {
		return
	}
	if offset != w.last+1 {
		w.drop(w.n)
	}
	w.last = offset
	bytes = max(bytes, 0)
	if w.limits.Count <= 0 || w.limits.Bytes > 0 && bytes > w.limits.Bytes {
		w.drop(w.n)
		return
	}
	for w.n >= w.limits.Count || w.limits.Bytes > 0 && w.bytes+bytes > w.limits.Bytes {
		w.drop(1)
	}
	if w.n == len(w.ring) {
		w.grow()
	}
	w.ring[w.index(w.n)] = entry[T]{v, timeMS, bytes}
	w.n++
	w.bytes += bytes
}

// Bound changes the limits. What is above the new ones goes, the oldest first, and
// a ring that is far too large for them is given back.
func (w *Window[T]) Bound(l Limits) {
	if w.limits == l {
		return
	}
	w.limits = l
	for w.n > 0 && (w.n > max(l.Count, 0) || l.Bytes > 0 && w.bytes > l.Bytes) {
		w.drop(1)
	}
	if room := max(min(max(firstRing, 2*w.n), l.Count), 0); len(w.ring) > max(l.Count, 0) || len(w.ring) > 2*room {
		ring := make([]entry[T], room)
		for i := range w.n {
			ring[i] = w.ring[w.index(i)]
		}
		w.ring, w.head = ring, 0
	}
}

// Expire drops what is older than the age limit at nowMS and returns how many that
// were. Time is the wall clock's and may be set back, so only the oldest are looked
// at, up to the first that is young enough.
func (w *Window[T]) Expire(nowMS int64) (dropped int) {
	if w.limits.Age > 0 {
		oldest := nowMS - w.limits.Age.Milliseconds()
		for dropped < w.n && w.ring[w.index(dropped)].timeMS < oldest {
			dropped++
		}
		w.drop(dropped)
	}
	if w.n == 0 {
		w.ring, w.head = nil, 0
	}
	return dropped
}

// Since returns the index (for At) of the first value after offset; it is Len when
// there is none yet. ok is false when something after offset is gone, or when
// offset is above Last.
func (w *Window[T]) Since(offset uint64) (first int, ok bool) {
	if offset > w.last || w.last-offset > uint64(w.n) {
		return 0, false
	}
	return w.n - int(w.last-offset), true
}

// At returns the value of index i, counted from the oldest, and its offset. It
// panics, like a slice, unless 0 <= i < Len.
func (w *Window[T]) At(i int) (offset uint64, v T) {
	if uint(i) >= uint(w.n) {
		panic("history: index outside the window")
	}
	return w.First() + uint64(i), w.ring[w.index(i)].value
}

// After yields what is held after offset, oldest first, whether or not something
// before it is gone; Since tells. The window must not be changed meanwhile.
func (w *Window[T]) After(offset uint64) iter.Seq2[uint64, T] {
	return func(yield func(uint64, T) bool) {
		if offset >= w.last {
			return
		}
		for i := w.n - int(min(w.last-offset, uint64(w.n))); i < w.n; i++ {
			if !yield(w.At(i)) {
				return
			}
		}
	}
}

// Len is the number of values held.
func (w *Window[T]) Len() int { return w.n }

// Bytes is the sum of their sizes.
func (w *Window[T]) Bytes() int { return w.bytes }

// First is the offset of the oldest value held; Last+1 when there is none.
func (w *Window[T]) First() uint64 { return w.last - uint64(w.n) + 1 }

// Last is the offset of the newest value, held or not; 0 before the first.
func (w *Window[T]) Last() uint64 { return w.last }

// index returns where in the ring the i-th value is, for 0 <= i <= len(ring).
func (w *Window[T]) index(i int) int {
	if i += w.head; i >= len(w.ring) {
		i -= len(w.ring)
	}
	return i
}

// drop forgets the n oldest values and clears their places for the collector.
func (w *Window[T]) drop(n int) {
	for range n {
		e := &w.ring[w.head]
		w.bytes -= e.bytes
		*e = entry[T]{}
		w.head = w.index(1)
	}
	w.n -= n
}

func (w *Window[T]) grow() {
	ring := make([]entry[T], min(max(firstRing, 2*len(w.ring)), w.limits.Count))
	k := copy(ring, w.ring[w.head:])
	copy(ring[k:], w.ring[:w.head])
	w.ring, w.head = ring, 0
}
