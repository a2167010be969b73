package client

import "hash/maphash"

// A window remembers which numbers of a rising sequence were met. Numbers may
// come out of order (a more urgent frame overtakes) within limit; a hole that
// falls further behind is given up.
type window struct {
	base  uint64 // every number up to it was met or given up
	max   uint64 // the highest number met
	above map[uint64]struct{}
	limit uint64
}

func newWindow(base uint64, limit int) window {
	return window{base: base, max: base, limit: uint64(limit), above: map[uint64]struct{}{}}
}

// add notes n and says whether it had not been met before.
func (w *window) add(n uint64) bool {
	if w.has(n) {
		return false
	}
	w.max = max(w.max, n)
	if n == w.base+1 {
		w.base = n
	} else {
		w.above[n] = struct{}{}
	}
	if n > w.limit && n-w.limit > w.base {
		w.base = n - w.limit
		for m := range w.above {
			if m <= w.base {
				delete(w.above, m)
			}
		}
	}
	w.absorb()
	return true
}

func (w *window) has(n uint64) bool {
	if n <= w.base {
		return true
	}
	_, ok := w.above[n]
	return ok
}

// absorb moves base over the numbers right above it.
func (w *window) absorb() {
	for len(w.above) > 0 {
		if _, ok := w.above[w.base+1]; !ok {
			return
		}
		delete(w.above, w.base+1)
		w.base++
	}
}

// holes calls f for each number below max that was not met.
func (w *window) holes(f func(n uint64)) {
	for n := w.base + 1; n < w.max; n++ {
		if _, ok := w.above[n]; !ok {
			f(n)
		}
	}
}

// recent remembers the last ids, so that a message that is delivered again is
// told apart. It keeps 64-bit hashes under a random seed, not the ids.
type recent struct {
	seed maphash.Seed
	ring []uint64
	next int
	size int
	set  map[uint64]struct{}
}

func newRecent(size int) recent {
	return recent{seed: maphash.MakeSeed(), size: size, set: map[uint64]struct{}{}}
}

// add notes id and says whether it is new. An empty id is always new.
func (r *recent) add(id string) bool {
	if id == "" {
		return true
	}
	h := maphash.String(r.seed, id)
	if _, ok := r.set[h]; ok {
		return false
	}
	if len(r.ring) < r.size {
		r.ring = append(r.ring, h)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = h
		r.next = (r.next + 1) % r.size
	}
	r.set[h] = struct{}{}
	return true
}
