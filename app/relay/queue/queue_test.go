package queue

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"agentnet/app/wire"
)

// channel stands for what the relay gives as a Source.
type channel struct{ name string }

// said puts what leaves a queue into one line: the text of an item, or
// "name-missed" for a gap marker.
func said(items []Item) string {
	words := make([]string, 0, len(items))
	for _, it := range items {
		switch {
		case it.Missed > 0:
			words = append(words, fmt.Sprintf("%s-%d", it.Source.(*channel).name, it.Missed))
		default:
			words = append(words, string(it.Sealed))
		}
	}
	return strings.Join(words, " ")
}

func drain(q *Queue) []Item {
	dst := make([]Item, 4096)
	return dst[:q.Next(dst, 1<<40)]
}

// Each push is checked by its result, and all of them by what leaves in the end.
func TestPolicies(t *testing.T) {
	a, b := &channel{"a"}, &channel{"b"}
	type push struct {
		text   string
		source any // nil: direct
		class  wire.Class
		policy Policy
		n      int
		want   Result
	}
	queued := Result{}
	full := Result{Outcome: Full}
	old := func(evicted, missed int) Result { return Result{Queued, evicted, missed} }
	dropped := func(missed int) Result { return Result{Dropped, 0, missed} }
	direct := any(nil)
	for name, tt := range map[string]struct {
		limits Limits
		pushes []push
		want   string
	}{
		"classes leave first, order within": {Limits{8, 99}, []push{
			{"n1", a, wire.Normal, DropOldest, 1, queued},
			{"l1", a, wire.Low, DropOldest, 1, queued},
			{"c1", direct, wire.Critical, Refuse, 1, queued},
			{"n2", direct, wire.Normal, Refuse, 1, queued},
			{"h1", b, wire.High, DropNewest, 1, queued},
			{"n3", a, wire.Normal, DropOldest, 1, queued},
		}, "c1 h1 n1 n2 n3 l1"},
		"oldest: marker in the first victim's place": {Limits{3, 99}, []push{
			{"d1", direct, wire.Normal, Refuse, 1, queued},
			{"a1", a, wire.Normal, DropOldest, 1, queued},
			{"b1", b, wire.Normal, DropOldest, 1, queued},
			{"a2", a, wire.Normal, DropOldest, 1, old(1, 1)},
			{"a3", a, wire.Normal, DropOldest, 1, old(1, 1)},
			{"a4", a, wire.Normal, DropOldest, 1, old(1, 1)},
			{"d2", direct, wire.Normal, Refuse, 1, queued},
		}, "d1 a-2 b-1 a3 a4 d2"},
		"oldest: batches count their messages": {Limits{2, 99}, []push{
			{"a1", a, wire.Normal, DropOldest, 5, queued},
			{"a2", a, wire.Normal, DropOldest, 7, queued},
			{"a3", a, wire.Normal, DropOldest, 2, old(1, 5)},
			{"a4", a, wire.Normal, DropOldest, 2, old(1, 7)},
		}, "a-12 a3 a4"},
		"oldest: lowest class first, never a higher one": {Limits{3, 99}, []push{
			{"h1", a, wire.High, DropOldest, 1, queued},
			{"n1", a, wire.Normal, DropOldest, 1, queued},
			{"l1", a, wire.Low, DropOldest, 1, queued},
			{"n2", b, wire.Normal, DropOldest, 1, old(1, 1)},
			{"l2", b, wire.Low, DropOldest, 1, dropped(1)},
			{"l3", b, wire.Low, DropOldest, 1, dropped(1)},
		}, "h1 n1 n2 a-1 b-2"},
		"oldest: bytes evict as many as needed": {Limits{99, 10}, []push{
			{"a1xx", a, wire.Normal, DropOldest, 1, queued},
			{"b1xx", b, wire.Normal, DropOldest, 1, queued},
			{"a2xxxxxx", a, wire.Normal, DropOldest, 1, old(2, 2)},
		}, "a-1 b-1 a2xxxxxx"},
		"oldest: too large for the queue evicts nothing": {Limits{99, 10}, []push{
			{"a1xx", a, wire.Normal, DropOldest, 1, queued},
			{"a2xxxxxxxxxxxxxxx", a, wire.Normal, DropOldest, 3, dropped(3)},
			{"a3", a, wire.Normal, DropOldest, 1, queued},
		}, "a1xx a-3 a3"},
		"newest: trailing marker grows until its run goes on": {Limits{2, 99}, []push{
			{"a1", a, wire.Normal, DropNewest, 1, queued},
			{"b1", b, wire.Normal, DropNewest, 1, queued},
			{"a2", a, wire.Normal, DropNewest, 2, dropped(2)},
			{"b2", b, wire.Normal, DropNewest, 1, dropped(1)},
			{"a3", a, wire.Normal, DropNewest, 3, dropped(3)},
			{"d1", direct, wire.Critical, Refuse, 1, queued},
		}, "d1 a1 b1 a-5 b-1"},
		"oldest passes a trailing marker: one gap": {Limits{2, 99}, []push{
			{"a1", a, wire.Normal, DropNewest, 1, queued},
			{"a2", a, wire.Normal, DropNewest, 1, queued},
			{"a3", a, wire.Normal, DropNewest, 1, dropped(1)},
			{"b1", b, wire.Normal, DropOldest, 1, old(1, 1)},
			{"b2", b, wire.Normal, DropOldest, 1, old(1, 1)},
			{"b3", b, wire.Normal, DropOldest, 1, old(1, 1)},
			{"a4", a, wire.Normal, DropNewest, 1, dropped(1)},
		}, "a-4 b-1 b2 b3"},
		"refuse: channels at the limit, direct after the reserve": {Limits{4, 99}, []push{
			{"a1", a, wire.Normal, Refuse, 1, queued},
			{"a2", a, wire.Normal, Refuse, 1, queued},
			{"a3", a, wire.Normal, Refuse, 1, queued},
			{"a4", a, wire.Normal, Refuse, 1, queued},
			{"a5", a, wire.Normal, Refuse, 1, full},
			{"d1", direct, wire.Normal, DropNewest, 1, queued},
			{"d2", direct, wire.Normal, Refuse, 1, full},
			{"d3", direct, wire.Critical, DropOldest, 1, old(2, 2)},
		}, "d3 a-2 a3 a4 d1"},
	} {
		t.Run(name, func(t *testing.T) {
			var q Queue
			missed := 0
			for _, p := range tt.pushes {
				got := q.Push(tt.limits, Item{Sealed: []byte(p.text), Source: p.source, Class: p.class, Messages: p.n}, p.policy)
				if got != p.want {
					t.Errorf("push %s: got %+v, want %+v", p.text, got, p.want)
				}
				missed += got.Missed
			}
			if got := int(q.Missed()); got != missed {
				t.Errorf("missed: got %d, want %d", got, missed)
			}
			if got := said(drain(&q)); got != tt.want {
				t.Errorf("left: got %q, want %q", got, tt.want)
			}
			if !q.Empty() || q.Len() != 0 || q.Bytes() != 0 || q.Messages() != 0 || q.Gaps() != 0 {
				t.Errorf("after draining: %+v", q)
			}
		})
	}
}

func TestNextHonoursBytesAndRoom(t *testing.T) {
	var q Queue
	for _, text := range []string{"four", "four", "a long one", "x"} {
		q.Push(Limits{}, Item{Sealed: []byte(text)}, Refuse)
	}
	dst := make([]Item, 8)
	for _, tt := range []struct {
		room, bytes int
		want        string
	}{
		{0, 100, ""},
		{8, 7, "four"},
		{8, 0, "four"},         // the first in any case
		{1, 100, "a long one"}, // room for one
		{8, 100, "x"},
		{8, 100, ""},
	} {
		if got := said(dst[:q.Next(dst[:tt.room], tt.bytes)]); got != tt.want {
			t.Errorf("next %d items of %d bytes: got %q, want %q", tt.room, tt.bytes, got, tt.want)
		}
	}
}

func TestClearCountsMessages(t *testing.T) {
	var q Queue
	l := Limits{Items: 40}
	a := &channel{"a"}
	for range 40 {
		q.Push(l, Item{Sealed: []byte("m"), Source: a, Messages: 3}, DropNewest)
	}
	q.Push(l, Item{Sealed: []byte("m"), Source: a, Messages: 3}, DropNewest)
	if got := q.Clear(); got != 120 {
		t.Errorf("cleared: got %d messages, want 120", got)
	}
	if !q.Empty() {
		t.Errorf("not empty: %+v", q)
	}
}

// A client may subscribe, be dropped, unsubscribe and so on without ever reading:
// markers of ever new sources must not grow without end.
func TestMarkersAreBounded(t *testing.T) {
	for _, p := range []Policy{DropOldest, DropNewest} {
		var q Queue
		l := Limits{Items: 16}
		for i := range 10000 {
			q.Push(l, Item{Sealed: []byte("m"), Source: &channel{fmt.Sprint(i)}}, p)
			if q.Len()+q.Gaps() > 40 {
				t.Fatalf("policy %d, push %d: %d items and %d markers wait, want at most 40 together", p, i, q.Len(), q.Gaps())
			}
		}
		if got := q.Push(l, Item{Sealed: []byte("m"), Source: &channel{}}, p); got.Outcome != Full {
			t.Errorf("policy %d: got %+v, want Full", p, got)
		}
	}
}

// Tables go back to a pool that all sessions share: what they held must not stay
// alive there, and must not show up in another queue.
func TestReturnedTablesAreCleared(t *testing.T) {
	a := &channel{"a"}
	check := func(what string, left *table) {
		t.Helper()
		for i := range left.nodes {
			if it := &left.nodes[i].item; it.Sealed != nil || it.Source != nil || it.Missed != 0 {
				t.Errorf("%s: node %d still holds %+v", what, i, *it)
			}
		}
		for class, l := range left.lists {
			if l != (list{first: none, last: none, seen: none}) {
				t.Errorf("%s: list %d is not empty: %+v", what, class, l)
			}
		}
		if len(left.marks) != 0 {
			t.Errorf("%s: %d marks are left", what, len(left.marks))
		}
	}
	var q Queue
	for i := range 200 {
		before := q.table
		q.Push(Limits{Items: 50}, Item{Sealed: []byte("m"), Source: a, Class: wire.Class(i % 4)}, Policy(i%2))
		if before != nil && before != q.table {
			check("grown out of", before)
		}
	}
	last := q.table
	drain(&q)
	check("drained", last)
}

func TestIdleQueueIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(Queue{}); got > 64 {
		t.Errorf("size of an empty queue: got %d bytes, want at most 64", got)
	}
}

func TestForeignClassIsLow(t *testing.T) {
	var q Queue
	q.Push(Limits{}, Item{Sealed: []byte("odd"), Class: 200}, Refuse)
	q.Push(Limits{}, Item{Sealed: []byte("low"), Class: wire.Low}, Refuse)
	if got, want := said(drain(&q)), "odd low"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
