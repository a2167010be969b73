package queue

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"agentnet/app/wire"
)

// checker is a naive account of what went into a queue. The messages of each run
// (source and class) are numbered as they are pushed; an item carries the number of
// its first message and the number of its arrival.
type checker struct {
	t        *testing.T
	q        Queue
	limits   Limits
	sources  []*channel
	arrivals uint64
	messages int                          // accepted, and neither evicted nor out yet
	pushed   map[run]uint64               // next number to give
	left     map[run]uint64               // next number that must leave
	waiting  [wire.Classes]map[uint64]int // arrivals of the items that wait, with their bytes
	missed   int
	dst      []Item
}

func newChecker(t *testing.T, l Limits, sources int) *checker {
	c := &checker{t: t, limits: l, pushed: map[run]uint64{}, left: map[run]uint64{}, dst: make([]Item, 7)}
	for range sources {
		c.sources = append(c.sources, &channel{})
	}
	for i := range c.waiting {
		c.waiting[i] = map[uint64]int{}
	}
	return c
}

// push offers an item. source is an index, negative for a direct one.
func (c *checker) push(source int, class wire.Class, messages, size int, p Policy) {
	it := Item{Class: class, Messages: messages, Sealed: make([]byte, 16+size)}
	if source >= 0 {
		it.Source = c.sources[source]
	}
	k := run{it.Source, class}
	binary.LittleEndian.PutUint64(it.Sealed, c.pushed[k])
	binary.LittleEndian.PutUint64(it.Sealed[8:], c.arrivals)
	wouldFit := c.q.Len() < c.limits.Items && c.q.Bytes()+len(it.Sealed) <= c.limits.Bytes
	before, bytes := c.q.Len(), c.q.Bytes()
	r := c.q.Push(c.limits, it, p)
	c.missed += r.Missed
	switch r.Outcome {
	case Queued:
		c.pushed[k] += uint64(messages)
		c.messages += messages - r.Missed
		c.waiting[class][c.arrivals] = len(it.Sealed)
		c.arrivals++
		if r.Evicted > 0 && (wouldFit || p != DropOldest) {
			c.t.Fatalf("evicted %d, fits %v, policy %d", r.Evicted, wouldFit, p)
		}
		if c.q.Len() != before+1-r.Evicted {
			c.t.Fatalf("items: got %d, want %d+1-%d", c.q.Len(), before, r.Evicted)
		}
	case Dropped:
		c.pushed[k] += uint64(messages)
		if source < 0 || p == Refuse || wouldFit || r.Missed != messages {
			c.t.Fatalf("dropped: source %d, policy %d, fits %v, result %+v", source, p, wouldFit, r)
		}
	case Full:
		if r.Missed != 0 || c.q.Len() != before || c.q.Bytes() != bytes {
			c.t.Fatalf("full, but changed: %+v", r)
		}
	}
	c.bounds()
	if source >= 0 && r.Outcome == Queued && (c.q.Len() > c.limits.Items || c.q.Bytes() > c.limits.Bytes) {
		c.t.Fatalf("a channel item used the reserve: %d items, %d bytes, limits %+v", c.q.Len(), c.q.Bytes(), c.limits)
	}
}

// bounds checks what holds after each push: not even direct items go over the
// reserve, and markers are bounded too.
func (c *checker) bounds() {
	items, bytes := c.limits.Items, c.limits.Bytes
	if c.q.Len() > items+(items+3)/4 || c.q.Bytes() > bytes+(bytes+3)/4 {
		c.t.Fatalf("over the reserve: %d items of %d, %d bytes of %d", c.q.Len(), items, c.q.Bytes(), bytes)
	}
	if c.q.Messages() != c.messages {
		c.t.Fatalf("messages: got %d, want %d", c.q.Messages(), c.messages)
	}
	if n := c.q.Len() + c.q.Gaps(); n > 2*(items+(items+3)/4) {
		c.t.Fatalf("%d items and markers wait", n)
	}
}

// next takes some out and compares with the account.
func (c *checker) next(room, maxBytes int) {
	n := c.q.Next(c.dst[:room], maxBytes)
	sum := 0
	for i, it := range c.dst[:n] {
		k := run{it.Source, it.Class}
		sum += len(it.Sealed)
		if i > 0 && it.Class < c.dst[i-1].Class {
			c.t.Fatalf("class %d left after %d", it.Class, c.dst[i-1].Class)
		}
		if it.Missed > 0 {
			if it.Source == nil || it.Sealed != nil || it.Messages != 0 {
				c.t.Fatalf("odd marker %+v", it)
			}
			c.left[k] += uint64(it.Missed)
			c.missed -= it.Missed
			continue
		}
		c.item(it, k)
	}
	if n > 1 && sum > maxBytes {
		c.t.Fatalf("%d items of %d bytes left, want at most %d bytes", n, sum, maxBytes)
	}
	if n == 0 && room > 0 && !c.q.Empty() {
		c.t.Fatalf("nothing left a queue of %d", c.q.Len())
	}
}

func (c *checker) item(it Item, k run) {
	number, arrival := binary.LittleEndian.Uint64(it.Sealed), binary.LittleEndian.Uint64(it.Sealed[8:])
	if number != c.left[k] {
		c.t.Fatalf("message %d of a run left, want %d: lost, doubled or out of order", number, c.left[k])
	}
	c.left[k] += uint64(it.Messages)
	c.messages -= it.Messages
	if _, ok := c.waiting[it.Class][arrival]; !ok {
		c.t.Fatalf("arrival %d left twice", arrival)
	}
	delete(c.waiting[it.Class], arrival)
	for class := range it.Class {
		for other := range c.waiting[class] {
			if c.alive(class, other) {
				c.t.Fatalf("class %d left while class %d waits", it.Class, class)
			}
		}
	}
	// Whatever arrived earlier in this class was evicted: it may not come any more.
	for other := range c.waiting[it.Class] {
		if other < arrival {
			delete(c.waiting[it.Class], other)
		}
	}
}

// alive says whether an arrival still waits, by looking into the queue.
func (c *checker) alive(class wire.Class, arrival uint64) bool {
	if c.q.table == nil {
		return false
	}
	t := c.q.table
	for i := t.lists[class].first; i != none; i = t.nodes[i].next {
		if it := &t.nodes[i].item; it.Missed == 0 && binary.LittleEndian.Uint64(it.Sealed[8:]) == arrival {
			return true
		}
	}
	return false
}

// finish drains the queue: everything that was accepted or dropped has left, once.
func (c *checker) finish() {
	for !c.q.Empty() {
		c.next(len(c.dst), 1<<20)
	}
	for k, want := range c.pushed {
		if got := c.left[k]; got != want {
			c.t.Fatalf("class %d: %d messages accounted, want %d", k.class, got, want)
		}
	}
	if c.missed != 0 {
		c.t.Fatalf("missed messages without a marker: %d", c.missed)
	}
	if c.q.Len() != 0 || c.q.Bytes() != 0 || c.q.Messages() != 0 || c.q.Gaps() != 0 || c.q.table != nil {
		c.t.Fatalf("after draining: %+v", c.q)
	}
}

func TestNothingIsLostDoubledOrReordered(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		l := Limits{Items: 1 + r.IntN(60), Bytes: 64 + r.IntN(4000)}
		c := newChecker(t, l, 1+r.IntN(12))
		pace := 1 + r.IntN(20) // how many pushes for each Next
		for range 600 {
			if r.IntN(pace+1) == 0 {
				c.next(r.IntN(len(c.dst)+1), r.IntN(400))
				continue
			}
			c.push(r.IntN(len(c.sources)+2)-2, wire.Class(r.IntN(wire.Classes)), 1+r.IntN(4), r.IntN(60), Policy(r.IntN(3)))
		}
		c.finish()
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{4, 40, 1, 2, 3, 0xff, 9, 8, 7, 200, 100, 0, 1, 5, 250})
	f.Add([]byte("\x02\x08aaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbzzzz\xf0\xf1\xf2"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 2 {
			return
		}
		c := newChecker(t, Limits{Items: 1 + int(ops[0]%32), Bytes: 32 + int(ops[1])*8}, 4)
		for _, op := range ops[2:] {
			if op >= 240 {
				c.next(int(op-240)%8, 100)
				continue
			}
			c.push(int(op%5)-1, wire.Class(op/5%4), 1+int(op/120), int(op)/4, Policy(op/20%3))
		}
		c.finish()
	})
}
