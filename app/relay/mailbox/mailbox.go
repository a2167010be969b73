// Package mailbox is the index, in memory, of messages that wait for agents
// which are away.
//
// Messages of one agent leave by class, then by the Order that their caller gave
// them, in whatever order they came. A Box is bounded in count and bytes, for each agent and in total, and says which bound
// refused an entry. It keeps nothing on disk (that is the Journal's work), starts
// no goroutine and has no clock: the caller tells it what time it is. All methods
// may be called concurrently; entries are handed out as they were put in and must
// not be changed while they are inside.
package mailbox

import (
	"container/heap"
	"errors"
	"sync"

	"agentnet/app/wire"
)

// Errors of Add.
var (
	// ErrFull says that the Box holds all that it may hold in total.
	ErrFull = errors.New("all mailboxes together are full")
	// ErrAgentFull says that this agent's mailbox holds all that it may hold.
	ErrAgentFull = errors.New("the agent's mailbox is full")
	// ErrDuplicate says that a message of this id waits already.
	ErrDuplicate = errors.New("a message of this id is parked already")
)

// entryOverhead is what one entry costs besides its own bytes: the Entry, its map
// slot and its place in the heap. It counts towards the limits, so that a flood of
// empty messages is bounded in memory as well.
const entryOverhead = 256

// Limits bound a Box. A value of 0 or less means the default.
type Limits struct {
	Count      int   // messages in total, default 100,000
	Bytes      int64 // bytes in total, each message counted with an overhead of 256, default 128 MiB
	AgentCount int   // messages of one agent, default 1,000
	AgentBytes int64 // bytes of one agent, default 8 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Count <= 0 {
		l.Count = 100_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 128 << 20
	}
	if l.AgentCount <= 0 {
		l.AgentCount = 1_000
	}
	if l.AgentBytes <= 0 {
		l.AgentBytes = 8 << 20
	}
	return l
}

// An Entry is one parked message. Value is the caller's own.
type Entry[T any] struct {
	MessageID string
	To        string     // the agent that it waits for
	Class     wire.Class // a value beyond wire.Low counts as wire.Low
	Order     string     // its place among those of its class, before all that are greater; empty: behind all
	Bytes     int        // size that counts towards the limits; below 0 counts as 0
	ExpiresMS int64      // wall clock; Expire takes it out from then on
	Value     T

	// Guarded by Box.mu.
	box        *agentBox[T]
	prev, next *Entry[T]
	place      int // index in Box.order
}

func (e *Entry[T]) class() wire.Class { return min(e.Class, wire.Low) }

func (e *Entry[T]) cost() int64 { return int64(max(e.Bytes, 0)) + entryOverhead }

// An agentBox holds one agent's entries, a list for each class.
type agentBox[T any] struct {
	first, last [wire.Classes]*Entry[T]
	count       int
	bytes       int64
}

// A Box holds the parked messages of all agents.
type Box[T any] struct {
	limits Limits

	mu     sync.Mutex
	agents map[string]*agentBox[T]
	ids    map[string]*Entry[T]
	order  expiryOrder[T]
	bytes  int64
}

// New returns an empty Box.
func New[T any](l Limits) *Box[T] {
	return &Box[T]{
		limits: l.withDefaults(),
		agents: map[string]*agentBox[T]{},
		ids:    map[string]*Entry[T]{},
	}
}

// Add puts e in its place among the entries of its agent and class. That costs as
// many steps as there are entries that belong behind it: none when they come in
// order. After an error the Box is as it was.
func (b *Box[T]) Add(e *Entry[T]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.ids[e.MessageID]; ok {
		return ErrDuplicate
	}
	if len(b.ids) >= b.limits.Count || b.bytes+e.cost() > b.limits.Bytes {
		return ErrFull
	}
	a := b.agents[e.To]
	if a == nil {
		a = &agentBox[T]{}
	}
	if a.count >= b.limits.AgentCount || a.bytes+e.cost() > b.limits.AgentBytes {
		return ErrAgentFull
	}
	b.agents[e.To] = a
	a.insert(e)
	b.ids[e.MessageID] = e
	heap.Push(&b.order, e)
	b.bytes += e.cost()
	return nil
}

// Waiting returns what waits for agent, in the order of delivery. It stays in the
// Box until Remove.
func (b *Box[T]) Waiting(agent string) []*Entry[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.agents[agent]
	if a == nil {
		return nil
	}
	out := make([]*Entry[T], 0, a.count)
	for _, e := range a.first {
		for ; e != nil; e = e.next {
			out = append(out, e)
		}
	}
	return out
}

// Remove takes out the message of this id. ok is false when it is not there.
func (b *Box[T]) Remove(messageID string) (e *Entry[T], ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok = b.ids[messageID]; ok {
		b.removeLocked(e)
	}
	return e, ok
}

// Expire takes out up to limit messages whose ExpiresMS is nowMS or earlier, the
// oldest first. A full batch means that there may be more.
func (b *Box[T]) Expire(nowMS int64, limit int) []*Entry[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*Entry[T]
	for len(out) < limit && len(b.order) > 0 && b.order[0].ExpiresMS <= nowMS {
		e := b.order[0]
		b.removeLocked(e)
		out = append(out, e)
	}
	return out
}

// NextExpiry returns the earliest ExpiresMS. ok is false when the Box is empty.
func (b *Box[T]) NextExpiry() (ms int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.order) == 0 {
		return 0, false
	}
	return b.order[0].ExpiresMS, true
}

// Len returns how many messages wait for agent.
func (b *Box[T]) Len(agent string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.agents[agent]; a != nil {
		return a.count
	}
	return 0
}

// Get returns the message of this id; nil when it is not there.
func (b *Box[T]) Get(messageID string) *Entry[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ids[messageID]
}

// Agents returns those that something waits for, in no order.
func (b *Box[T]) Agents() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]string, 0, len(b.agents))
	for name := range b.agents {
		out = append(out, name)
	}
	return out
}

// Count returns how many messages wait in total.
func (b *Box[T]) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ids)
}

// Bytes returns the bytes of all that waits, with the overhead of each entry.
func (b *Box[T]) Bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// removeLocked takes e out of all three indexes. b.mu must be held.
func (b *Box[T]) removeLocked(e *Entry[T]) {
	delete(b.ids, e.MessageID)
	heap.Remove(&b.order, e.place)
	b.bytes -= e.cost()
	a := e.box
	a.unlink(e)
	if a.count == 0 {
		delete(b.agents, e.To)
	}
}

func (a *agentBox[T]) insert(e *Entry[T]) {
	c := e.class()
	before, behind := a.last[c], (*Entry[T])(nil)
	for e.Order != "" && before != nil && before.Order > e.Order {
		before, behind = before.prev, before
	}
	e.box, e.prev, e.next = a, before, behind
	if before == nil {
		a.first[c] = e
	} else {
		before.next = e
	}
	if behind == nil {
		a.last[c] = e
	} else {
		behind.prev = e
	}
	a.count++
	a.bytes += e.cost()
}

func (a *agentBox[T]) unlink(e *Entry[T]) {
	c := e.class()
	if e.prev == nil {
		a.first[c] = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		a.last[c] = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.box, e.prev, e.next = nil, nil, nil
	a.count--
	a.bytes -= e.cost()
}

// expiryOrder is a heap of entries, the earliest ExpiresMS on top.
type expiryOrder[T any] []*Entry[T]

func (h expiryOrder[T]) Len() int           { return len(h) }
func (h expiryOrder[T]) Less(i, j int) bool { return h[i].ExpiresMS < h[j].ExpiresMS }
func (h expiryOrder[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for container/heap.
func (h *expiryOrder[T]) Push(x any) {
	e := x.(*Entry[T])
	e.place = len(*h)
	*h = append(*h, e)
}

// Pop is for container/heap.
func (h *expiryOrder[T]) Pop() any {
	old := *h
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*h = old[:last]
	return e
}
