package relay

import (
	"sync"
	"time"
)

// tick is how exact timers are: a deadline is met up to one tick late.
const tick = 50 * time.Millisecond

// wheelSlots times tick is one turn of a wheel, 102 s. A timer further away
// stays in its slot for more turns.
const wheelSlots = 2048

// wheelShards keeps two loops that start requests from meeting on one lock.
const wheelShards = 8

// A timer is part of what it times, so that arming allocates nothing. What it
// times is told by owner.expire, from the hub's clock goroutine, without any
// lock of the wheel held; it may be told late of a timer that was just stopped,
// and checks its own state.
type timer struct {
	owner      expirer
	next, prev *timer
	when       int64 // ns since the hub's start; 0: not armed
	slot       uint16
	shard      uint8
}

type expirer interface {
	expire(t *Turn, tm *timer)
}

// wheels hold every timer of a hub.
type wheels struct {
	shard [wheelShards]wheel
}

type wheel struct {
	mu   sync.Mutex
	last int64 // the tick that was handled last
	slot [wheelSlots]*timer
}

// arm sets tm to expire at when, and moves it if it was armed. The caller makes
// sure that two goroutines do not arm one timer at the same time.
func (w *wheels) arm(tm *timer, when int64) {
	sh := &w.shard[tm.shard%wheelShards]
	sh.mu.Lock()
	if tm.when != 0 {
		sh.unlink(tm)
	}
	tm.when = max(when, 1)
	i := max(when/int64(tick), sh.last+1) % wheelSlots
	tm.slot = uint16(i)
	head := sh.slot[i]
	tm.next, tm.prev = head, nil
	if head != nil {
		head.prev = tm
	}
	sh.slot[i] = tm
	sh.mu.Unlock()
}

// stop disarms tm. It may already be on its way to expire.
func (w *wheels) stop(tm *timer) {
	sh := &w.shard[tm.shard%wheelShards]
	sh.mu.Lock()
	if tm.when != 0 {
		sh.unlink(tm)
		tm.when = 0
	}
	sh.mu.Unlock()
}

// unlink takes tm out of its list. w.mu must be held.
func (w *wheel) unlink(tm *timer) {
	if tm.prev != nil {
		tm.prev.next = tm.next
	} else {
		w.slot[tm.slot] = tm.next
	}
	if tm.next != nil {
		tm.next.prev = tm.prev
	}
	tm.next, tm.prev = nil, nil
}

// advance expires everything due at now.
func (w *wheels) advance(t *Turn, now int64, due []*timer) []*timer {
	for i := range w.shard {
		due = w.shard[i].take(now, due[:0])
		for _, tm := range due {
			tm.owner.expire(t, tm)
		}
		clear(due)
	}
	return due
}

// take unlinks and returns the timers that are due.
func (w *wheel) take(now int64, due []*timer) []*timer {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := now / int64(tick)
	from := max(w.last+1, end-wheelSlots+1)
	for s := from; s <= end; s++ {
		for tm := w.slot[s%wheelSlots]; tm != nil; {
			next := tm.next
			if tm.when <= now {
				if tm.prev != nil {
					tm.prev.next = next
				} else {
					w.slot[s%wheelSlots] = next
				}
				if next != nil {
					next.prev = tm.prev
				}
				tm.next, tm.prev, tm.when = nil, nil, 0
				due = append(due, tm)
			}
			tm = next
		}
	}
	// The slot of the running tick may hold timers of its later part: it is
	// looked at again.
	w.last = max(w.last, end-1)
	return due
}
