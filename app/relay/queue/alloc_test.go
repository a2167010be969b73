//go:build !race

package queue

import "testing"

// Under the race detector a sync.Pool loses things on purpose, so these
// expectations hold without it only.

func TestPushAndNextDoNotAllocate(t *testing.T) {
	a, b := &channel{"a"}, &channel{"b"}
	sealed := make([]byte, 100)
	dst := make([]Item, 64)
	for name, tt := range map[string]struct {
		items, pushes int
		policy        Policy
	}{
		"a few":       {1024, 4, Refuse},
		"growing":     {1024, 900, Refuse},
		"drop oldest": {64, 200, DropOldest},
		"drop newest": {64, 200, DropNewest},
	} {
		t.Run(name, func(t *testing.T) {
			var q Queue
			l := Limits{Items: tt.items}
			work := func() {
				for i := range tt.pushes {
					it := Item{Sealed: sealed, Source: a}
					if i%3 == 0 {
						it.Source = b
					}
					q.Push(l, it, tt.policy)
				}
				for q.Next(dst, 1<<16) > 0 {
				}
			}
			if got := testing.AllocsPerRun(200, work); got != 0 {
				t.Errorf("allocations: got %v, want 0", got)
			}
		})
	}
}

// Eviction in a queue that is never read must not allocate either, however long.
func TestEvictionDoesNotAllocate(t *testing.T) {
	var q Queue
	sources := make([]*channel, 100)
	for i := range sources {
		sources[i] = &channel{}
	}
	l, sealed, n := Limits{Items: 256}, make([]byte, 100), 0
	push := func() {
		q.Push(l, Item{Sealed: sealed, Source: sources[n%len(sources)]}, DropOldest)
		n++
	}
	for range 10000 {
		push()
	}
	if got := testing.AllocsPerRun(10000, push); got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}
