// Package queue holds the sealed messages that wait for one session whose socket
// is full.
//
// Items leave by class, and within a class in the order they came. A Queue is
// bounded in items and bytes; what goes above the bound is dropped by the policy of
// the push, and each dropped message is counted in exactly one gap marker, which
// stands in the queue where the first of them stood. Direct messages are never
// dropped: the queue says that it is full, and the session is to be closed.
//
// An empty Queue is a few words and owns no memory, so that an idle session costs
// nothing; a waiting one borrows its table from a pool. The package has no lock (the
// session's serialises all calls), no clock and no goroutine.
package queue

import "agentnet/app/wire"

const (
	defaultItems = 1024
	defaultBytes = 1 << 20
)

// Item is one sealed message that waits, or a gap marker.
type Item struct {
	// Sealed is a whole sealed WebSocket message. It is shared with other sessions
	// and must not be changed. It is nil in a gap marker.
	Sealed []byte

	// Source is the channel that the message came by, as a pointer: only its
	// identity counts. It is nil for direct and control frames.
	Source any

	// Messages is how many messages Sealed holds; below 1 counts as 1.
	Messages int

	// Missed makes this a gap marker: that many messages of Source were dropped
	// here. It is 0 in an ordinary item, and ignored by Push.
	Missed int

	Class wire.Class
}

// Limits bound a Queue. What is 0 or less takes the default. Direct and control
// items may go a quarter above both, since only they close the session when they
// find no room. Gap markers hold no bytes and are bounded apart: markers and items
// together never number more than twice the items so allowed.
type Limits struct {
	Items int // ordinary items; default 1024
	Bytes int // sum of len(Sealed); default 1 MiB
}

// Policy is what a Push does when there is no room.
type Policy uint8

const (
	// DropOldest drops the oldest channel items of the lowest class, and of no class
	// above the new item's own. Where that would not make room, nothing is evicted,
	// and the new item is dropped as by DropNewest.
	DropOldest Policy = iota

	// DropNewest drops the new item.
	DropNewest

	// Refuse drops nothing: the queue is full and the session to be closed as a slow
	// consumer, from which it can resume. Items without a Source are never dropped
	// themselves, whatever the policy: at the end of the reserve they are refused.
	Refuse
)

// Outcome is what became of a pushed item.
type Outcome uint8

const (
	Queued  Outcome = iota // it waits
	Dropped                // it was dropped, and counted in a gap marker
	Full                   // nothing was changed: close the session
)

// Result is what a Push did.
type Result struct {
	Outcome Outcome
	Evicted int // items that were dropped from the queue to make room
	Missed  int // messages that were dropped, in the queue or with the new item
}

// A Queue holds what waits for one session. Its zero value is empty and ready; it
// must not be copied while it is not empty.
type Queue struct {
	table    *table // nil while empty
	bytes    int
	items    int
	messages int
	gaps     int
	missed   uint64
}

// Push adds it, or applies policy p where there is no room. The same l should be
// used for all pushes; smaller limits hold from the next push on.
func (q *Queue) Push(l Limits, it Item, p Policy) Result {
	l = l.withDefaults()
	it.Missed = 0
	it.Messages = max(it.Messages, 1)
	it.Class = min(it.Class, wire.Classes-1)
	size := len(it.Sealed)
	if q.items+q.gaps >= 2*reserved(l.Items) {
		return Result{Outcome: Full}
	}
	if q.items < l.Items && q.bytes+size <= l.Bytes {
		q.add(it)
		return Result{}
	}
	if p == DropOldest && q.evictable(l, it.Class, size) {
		r := Result{}
		for q.items >= l.Items || q.bytes+size > l.Bytes {
			r.Evicted++
			r.Missed += q.evict(it.Class)
		}
		q.missed += uint64(r.Missed)
		q.add(it)
		return r
	}
	if it.Source == nil {
		if q.items < reserved(l.Items) && q.bytes+size <= reserved(l.Bytes) {
			q.add(it)
			return Result{}
		}
		return Result{Outcome: Full}
	}
	if p == Refuse {
		return Result{Outcome: Full}
	}
	q.skip(it)
	q.missed += uint64(it.Messages)
	return Result{Outcome: Dropped, Missed: it.Messages}
}

func (l Limits) withDefaults() Limits {
	if l.Items <= 0 {
		l.Items = defaultItems
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	// So that no sum below can overflow.
	return Limits{min(l.Items, 1<<28), min(l.Bytes, 1<<40)}
}

// reserved is the bound for items without a Source.
func reserved(limit int) int { return limit + (limit+3)/4 }

// Next takes items out of the queue in the order of leaving and fills dst with them:
// the first in any case, more while their bytes together are not above maxBytes. It
// returns how many, 0 only when the queue is empty or dst has no length.
func (q *Queue) Next(dst []Item, maxBytes int) (n int) {
	if q.table == nil {
		return 0
	}
	t, sum := q.table, 0
	for class := 0; class < wire.Classes; {
		i := t.lists[class].first
		if i == none {
			class++
			continue
		}
		size := len(t.nodes[i].item.Sealed)
		if n == len(dst) || n > 0 && sum+size > maxBytes {
			return n
		}
		sum += size
		dst[n] = t.pop(i)
		q.leave(&dst[n])
		n++
	}
	q.release()
	return n
}

// Clear drops all that waits, without markers, and returns how many messages that
// were; those of gap markers, dropped before, are not among them.
func (q *Queue) Clear() (messages int) {
	var buf [16]Item
	for n := q.Next(buf[:], maxClear); n > 0; n = q.Next(buf[:], maxClear) {
		for i := range n {
			messages += buf[i].Messages
		}
	}
	return messages
}

const maxClear = 1 << 62

// Empty says that nothing waits, not even a gap marker.
func (q *Queue) Empty() bool { return q.table == nil }

// Len is how many items wait, without gap markers.
func (q *Queue) Len() int { return q.items }

// Messages is how many messages those items hold.
func (q *Queue) Messages() int { return q.messages }

// Gaps is how many gap markers wait.
func (q *Queue) Gaps() int { return q.gaps }

// Bytes is the sum of the sizes of what waits.
func (q *Queue) Bytes() int { return q.bytes }

// Missed is how many messages were ever dropped from this queue or on the way into
// it; Clear does not count.
func (q *Queue) Missed() uint64 { return q.missed }

func (q *Queue) leave(it *Item) {
	if it.Missed > 0 {
		q.gaps--
		return
	}
	q.items--
	q.messages -= it.Messages
	q.bytes -= len(it.Sealed)
}

// add puts an item last in its class.
func (q *Queue) add(it Item) {
	t := q.room()
	t.append(it)
	t.endRun(it.Source, it.Class)
	q.items++
	q.messages += it.Messages
	q.bytes += len(it.Sealed)
}

// evictable says whether dropping channel items of class c and below makes room for
// one more of the given size.
func (q *Queue) evictable(l Limits, c wire.Class, size int) bool {
	if q.table == nil {
		return false
	}
	items, bytes := 0, 0
	for i := c; i < wire.Classes; i++ {
		items += q.table.lists[i].items
		bytes += q.table.lists[i].bytes
	}
	return q.items-items < l.Items && q.bytes-bytes+size <= l.Bytes
}

// evict drops the oldest channel item of the lowest class, which evictable found to
// be there, and returns how many messages that were.
func (q *Queue) evict(c wire.Class) (messages int) {
	t := q.table
	lowest := wire.Class(wire.Classes - 1)
	for lowest > c && t.lists[lowest].items == 0 {
		lowest--
	}
	i, merged := t.oldest(lowest)
	q.gaps -= merged
	n := &t.nodes[i]
	messages = n.item.Messages
	q.items--
	q.messages -= messages
	q.bytes -= len(n.item.Sealed)
	if !t.toMarker(i) {
		return messages // counted in a marker that was there
	}
	q.gaps++
	return messages
}

// skip counts the messages of a new item that is not let in at the end of the queue.
func (q *Queue) skip(it Item) {
	t := q.room()
	if !t.extendRun(it) {
		q.gaps++
	}
}

// room returns the table with a free node.
func (q *Queue) room() *table {
	switch {
	case q.table == nil:
		q.table = borrow(0)
	case q.table.full():
		q.table = q.table.enlarge()
	}
	return q.table
}

// release gives the table of an empty queue back.
func (q *Queue) release() {
	giveBack(q.table)
	q.table = nil
}
