package queue

import (
	"sync"

	"agentnet/app/wire"
)

const (
	// none is the index of no node.
	none int32 = -1

	// smallest is the size of the least table: a burst that a socket did not take.
	smallest = 8

	// pooledSizes is how many sizes are kept, each twice the one before: up to 2048
	// nodes. Larger limits than that are rare enough for the allocator.
	pooledSizes = 9
)

// tables keeps the tables of queues that became empty, by size, for all sessions
// of the process. It holds nothing that outlives a collection.
var tables [pooledSizes]sync.Pool

// A table holds the nodes of one queue, linked into one list for each class by
// index: items are taken out of the middle when they are evicted.
type table struct {
	size  int // len(nodes) is smallest << size
	nodes []node
	used  int32 // nodes ever used; the rest was never linked
	free  int32 // first of the nodes given back, linked by next
	lists [wire.Classes]list

	// marks finds the markers of a source that may still grow. It is nil until
	// something is dropped, and has no entries while there are no markers.
	marks map[run]marks
	peak  int // most entries that marks ever had
}

type node struct {
	item       Item
	prev, next int32
}

// A list holds the nodes of one class, oldest first.
type list struct {
	first, last int32

	// seen is the last node known to have no channel item at or before it, so that
	// the search for the oldest one never looks at a node twice.
	seen int32

	items, bytes int // of channels, without markers
}

// A run is what keeps its order: the items of one source and class.
type run struct {
	source any
	class  wire.Class
}

// marks are the markers of a run that grow when another of its items is dropped.
type marks struct {
	head int32 // before all its items, in the part that was seen; counts evicted ones
	tail int32 // behind all its items; counts new ones that were not let in
}

// borrow returns an empty table.
func borrow(size int) *table {
	if size < pooledSizes {
		if t, ok := tables[size].Get().(*table); ok {
			return t
		}
	}
	t := &table{size: size, nodes: make([]node, smallest<<size), free: none}
	for i := range t.lists {
		t.lists[i] = list{first: none, last: none, seen: none}
	}
	return t
}

// giveBack takes an empty table back. Its nodes were cleared one by one.
func giveBack(t *table) {
	if t.size >= pooledSizes {
		return
	}
	if t.peak > len(t.nodes) {
		t.marks, t.peak = nil, 0 // a small table must not carry the map of a large one
	}
	t.used, t.free = 0, none
	tables[t.size].Put(t)
}

func (t *table) full() bool { return t.free == none && int(t.used) == len(t.nodes) }

// enlarge moves everything into a table of twice the size. Indexes stay.
func (t *table) enlarge() *table {
	big := borrow(t.size + 1)
	copy(big.nodes, t.nodes)
	big.used, big.free = t.used, t.free
	// The maps change places, since an empty one may wait in the larger table.
	big.lists, t.lists = t.lists, big.lists
	big.marks, t.marks = t.marks, big.marks
	big.peak, t.peak = t.peak, big.peak
	clear(t.nodes)
	giveBack(t)
	return big
}

// append links a node for it at the end of its class. There must be room.
func (t *table) append(it Item) int32 {
	i := t.free
	if i == none {
		i = t.used
		t.used++
	} else {
		t.free = t.nodes[i].next
	}
	l := &t.lists[it.Class]
	t.nodes[i] = node{item: it, prev: l.last, next: none}
	if l.last == none {
		l.first = i
	} else {
		t.nodes[l.last].next = i
	}
	l.last = i
	l.count(&it, 1)
	return i
}

// count adds or takes away a channel item.
func (l *list) count(it *Item, sign int) {
	if it.Source != nil && it.Missed == 0 {
		l.items += sign
		l.bytes += sign * len(it.Sealed)
	}
}

// unlink takes node i out of its list and frees it.
func (t *table) unlink(i int32) {
	n := &t.nodes[i]
	l := &t.lists[n.item.Class]
	if n.prev == none {
		l.first = n.next
	} else {
		t.nodes[n.prev].next = n.next
	}
	if n.next == none {
		l.last = n.prev
	} else {
		t.nodes[n.next].prev = n.prev
	}
	if l.seen == i {
		l.seen = n.prev
	}
	*n = node{next: t.free}
	t.free = i
}

// pop takes out node i, the first of its list.
func (t *table) pop(i int32) Item {
	it := t.nodes[i].item
	t.lists[it.Class].count(&it, -1)
	if it.Missed > 0 {
		t.setMarks(it.Source, it.Class, func(m marks) marks {
			if m.head == i {
				m.head = none
			}
			if m.tail == i {
				m.tail = none
			}
			return m
		})
	}
	t.unlink(i)
	return it
}

// oldest returns the oldest channel item of a class. On the way it makes the
// markers it passes the heads of their runs, and merges those that have a head
// already: no item of the run is left between. There must be an item.
func (t *table) oldest(c wire.Class) (i int32, merged int) {
	l := &t.lists[c]
	i = l.first
	if l.seen != none {
		i = t.nodes[l.seen].next
	}
	for {
		n := &t.nodes[i]
		next := n.next
		switch {
		case n.item.Missed > 0:
			if t.passMarker(i) {
				merged++
				i = next
				continue
			}
		case n.item.Source != nil:
			return i, merged
		}
		l.seen = i
		i = next
	}
}

// passMarker makes marker i the head of its run or merges it into the head.
func (t *table) passMarker(i int32) (merged bool) {
	it := &t.nodes[i].item
	t.setMarks(it.Source, it.Class, func(m marks) marks {
		switch m.head {
		case none, i:
			m.head = i
		default:
			merged = true
			t.nodes[m.head].item.Missed += it.Missed
			if m.tail == i {
				m.tail = m.head
			}
		}
		return m
	})
	if merged {
		t.unlink(i)
	}
	return merged
}

// toMarker drops channel item i, the oldest of its class, into the head of its run;
// where the run has none, its node becomes the head.
func (t *table) toMarker(i int32) (added bool) {
	it := &t.nodes[i].item
	t.lists[it.Class].count(it, -1)
	t.setMarks(it.Source, it.Class, func(m marks) marks {
		if m.head != none {
			t.nodes[m.head].item.Missed += it.Messages
			return m
		}
		*it = Item{Source: it.Source, Class: it.Class, Missed: it.Messages}
		m.head, added = i, true
		return m
	})
	if !added {
		t.unlink(i)
	}
	return added
}

// extendRun counts a new item that is not let in, in the marker at the end of its
// run. merged is false when that marker had to be added.
func (t *table) extendRun(it Item) (merged bool) {
	t.setMarks(it.Source, it.Class, func(m marks) marks {
		if m.tail != none {
			t.nodes[m.tail].item.Missed += it.Messages
			merged = true
			return m
		}
		m.tail = t.append(Item{Source: it.Source, Class: it.Class, Missed: it.Messages})
		return m
	})
	return merged
}

// endRun says that an item was added behind the marker at the end of its run.
func (t *table) endRun(source any, c wire.Class) {
	if len(t.marks) == 0 || source == nil {
		return
	}
	t.setMarks(source, c, func(m marks) marks {
		m.tail = none
		return m
	})
}

// setMarks changes the marks of a run, of which there may be none.
func (t *table) setMarks(source any, c wire.Class, change func(marks) marks) {
	k := run{source, c}
	old, ok := t.marks[k]
	if !ok {
		old = marks{none, none}
	}
	m := change(old)
	switch {
	case m == old:
	case m == marks{none, none}:
		delete(t.marks, k)
	default:
		if t.marks == nil {
			t.marks = make(map[run]marks)
		}
		t.marks[k] = m
		t.peak = max(t.peak, len(t.marks))
	}
}
