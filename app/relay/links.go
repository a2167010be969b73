package relay

import (
	"sync"
	"sync/atomic"
)

// linkSet holds every connection, for notices, drains and lists.
type linkSet struct {
	n     atomic.Int64
	next  atomic.Uint32
	shard [shards]struct {
		mu sync.Mutex
		m  map[*link]struct{}
	}
}

func (ls *linkSet) init() {
	for i := range ls.shard {
		ls.shard[i].m = make(map[*link]struct{})
	}
}

// shardOf spreads connections evenly, in the order that they come.
func (ls *linkSet) shardOf(*link) uint8 { return uint8(ls.next.Add(1) % shards) }

func (ls *linkSet) add(l *link) {
	l.shard = ls.shardOf(l)
	sh := &ls.shard[l.shard]
	sh.mu.Lock()
	sh.m[l] = struct{}{}
	sh.mu.Unlock()
	ls.n.Add(1)
}

func (ls *linkSet) remove(l *link) {
	sh := &ls.shard[l.shard]
	sh.mu.Lock()
	delete(sh.m, l)
	sh.mu.Unlock()
	ls.n.Add(-1)
}

// each calls f for every connection, without a lock held.
func (ls *linkSet) each(f func(*link)) {
	var some []*link
	for i := range ls.shard {
		sh := &ls.shard[i]
		some = some[:0]
		sh.mu.Lock()
		for l := range sh.m {
			some = append(some, l)
		}
		sh.mu.Unlock()
		for _, l := range some {
			f(l)
		}
	}
}
