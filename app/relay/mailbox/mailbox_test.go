package mailbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"agentnet/app/wire"
)

func entry(id, to string, class wire.Class, bytes int, expires int64) *Entry[int] {
	return &Entry[int]{MessageID: id, To: to, Class: class, Bytes: bytes, ExpiresMS: expires}
}

func ids(es []*Entry[int]) (out []string) {
	for _, e := range es {
		out = append(out, e.MessageID)
	}
	return out
}

func TestDeliveryOrder(t *testing.T) {
	b := New[int](Limits{})
	for _, e := range []*Entry[int]{
		entry("n1", "bob", wire.Normal, 1, 9), entry("l1", "bob", wire.Low, 1, 9), entry("x", "eve", wire.Critical, 1, 9),
		entry("c1", "bob", wire.Critical, 1, 9), entry("n2", "bob", wire.Normal, 1, 1), entry("c2", "bob", wire.Critical, 1, 1),
		entry("h1", "bob", wire.High, 1, 9), entry("odd", "bob", wire.Class(200), 1, 9),
	} {
		if err := b.Add(e); err != nil {
			t.Fatalf("Add(%s) = %v", e.MessageID, err)
		}
	}
	want := []string{"c1", "c2", "h1", "n1", "n2", "l1", "odd"}
	if got := ids(b.Waiting("bob")); !slices.Equal(got, want) {
		t.Errorf("Waiting(bob) = %v, want %v", got, want)
	}
	if got := ids(b.Waiting("nobody")); got != nil {
		t.Errorf("Waiting(nobody) = %v, want none", got)
	}
}

// TestOrderOfAcceptance: entries leave by Order, whatever order they came in; those
// without one stay behind what was there.
func TestOrderOfAcceptance(t *testing.T) {
	b := New[int](Limits{})
	for i, order := range []string{"05", "03", "", "04", "09", "01", "08", "08/b"} {
		e := entry(fmt.Sprint(i, "=", order), "bob", wire.Normal, 1, 9)
		e.Order = order
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"1=03", "0=05", "2=", "5=01", "3=04", "6=08", "7=08/b", "4=09"}
	if got := ids(b.Waiting("bob")); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for len(want) > 0 { // the list holds together
		b.Remove(want[len(want)/2])
		want = slices.Delete(want, len(want)/2, len(want)/2+1)
		if got := ids(b.Waiting("bob")); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	one := int64(entryOverhead + 10)
	tests := []struct {
		name   string
		limits Limits
		ok     int // entries of agent a that fit
		want   error
	}{
		{"agent count", Limits{AgentCount: 3}, 3, ErrAgentFull},
		{"agent bytes", Limits{AgentBytes: 4*one + 1}, 4, ErrAgentFull},
		{"total count", Limits{Count: 2}, 2, ErrFull},
		{"total bytes", Limits{Bytes: 5 * one}, 5, ErrFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New[int](tt.limits)
			for i := range tt.ok {
				if err := b.Add(entry(fmt.Sprint(i), "a", wire.Normal, 10, 1)); err != nil {
					t.Fatalf("Add %d = %v", i, err)
				}
			}
			if err := b.Add(entry("more", "a", wire.Normal, 10, 1)); !errors.Is(err, tt.want) {
				t.Errorf("Add over the limit = %v, want %v", err, tt.want)
			}
			if got := b.Count(); got != tt.ok {
				t.Errorf("Count() = %d, want %d", got, tt.ok)
			}
			if _, ok := b.Remove("0"); !ok {
				t.Fatal("Remove(0) found nothing")
			}
			if err := b.Add(entry("more", "a", wire.Normal, 10, 1)); err != nil {
				t.Errorf("Add after Remove = %v, want nil", err)
			}
		})
	}
}

// TestLimitOfOneAgentLeavesOthers shows that a refused agent leaves no trace and
// takes no room from others.
func TestLimitOfOneAgentLeavesOthers(t *testing.T) {
	b := New[int](Limits{AgentBytes: entryOverhead})
	if err := b.Add(entry("1", "a", wire.Normal, 1, 1)); !errors.Is(err, ErrAgentFull) {
		t.Fatalf("Add = %v, want %v", err, ErrAgentFull)
	}
	if len(b.agents) != 0 || b.Bytes() != 0 {
		t.Errorf("after a refusal: %d agents, %d bytes, want none", len(b.agents), b.Bytes())
	}
	if err := b.Add(entry("1", "b", wire.Normal, -5, 1)); err != nil {
		t.Errorf("Add = %v", err)
	}
	if err := b.Add(entry("1", "c", wire.Normal, 0, 1)); !errors.Is(err, ErrDuplicate) {
		t.Errorf("Add = %v, want %v", err, ErrDuplicate)
	}
}

// model is the plainest thing that does the same: one slice in order of arrival.
type model struct {
	limits  Limits
	entries []*Entry[int]
}

func (m *model) sums(agent string) (count, agentCount int, bytes, agentBytes int64) {
	for _, e := range m.entries {
		count, bytes = count+1, bytes+e.cost()
		if e.To == agent {
			agentCount, agentBytes = agentCount+1, agentBytes+e.cost()
		}
	}
	return count, agentCount, bytes, agentBytes
}

func (m *model) add(e *Entry[int]) error {
	if slices.ContainsFunc(m.entries, func(o *Entry[int]) bool { return o.MessageID == e.MessageID }) {
		return ErrDuplicate
	}
	count, agentCount, bytes, agentBytes := m.sums(e.To)
	switch {
	case count+1 > m.limits.Count || bytes+e.cost() > m.limits.Bytes:
		return ErrFull
	case agentCount+1 > m.limits.AgentCount || agentBytes+e.cost() > m.limits.AgentBytes:
		return ErrAgentFull
	}
	m.entries = append(m.entries, e)
	return nil
}

func (m *model) waiting(agent string) (out []*Entry[int]) {
	for c := range wire.Class(wire.Classes) {
		for _, e := range m.entries {
			if e.To == agent && e.Class == c {
				out = append(out, e)
			}
		}
	}
	return out
}

func (m *model) take(gone func(*Entry[int]) bool) (out []*Entry[int]) {
	for _, e := range m.entries {
		if gone(e) {
			out = append(out, e)
		}
	}
	m.entries = slices.DeleteFunc(m.entries, gone)
	return out
}

// TestAgainstModel drives a Box and the model with the same random calls.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		limits := Limits{Count: 60, Bytes: 60 * 300, AgentCount: 20, AgentBytes: 20 * 290}
		b, m := New[int](limits), &model{limits: limits}
		now := int64(0)
		for step := range 3000 {
			agent := fmt.Sprint("agent", r.IntN(5))
			id := fmt.Sprint(r.IntN(400))
			switch op := r.IntN(10); {
			case op < 6:
				class, bytes, expires := wire.Class(r.IntN(wire.Classes)), r.IntN(100), now+int64(r.IntN(500))
				got, want := b.Add(entry(id, agent, class, bytes, expires)), m.add(entry(id, agent, class, bytes, expires))
				if !errors.Is(got, want) {
					t.Fatalf("seed %d step %d: Add = %v, want %v", seed, step, got, want)
				}
			case op < 9:
				e, ok := b.Remove(id)
				want := m.take(func(o *Entry[int]) bool { return o.MessageID == id })
				if ok != (len(want) == 1) || ok && e.MessageID != id {
					t.Fatalf("seed %d step %d: Remove(%s) = %v, want %v", seed, step, id, ok, ids(want))
				}
			default:
				now += int64(r.IntN(60))
				checkExpire(t, b, m, now)
			}
			checkSame(t, b, m, agent)
		}
	}
}

func checkExpire(t *testing.T, b *Box[int], m *model, now int64) {
	t.Helper()
	var got []string
	for last := int64(-1); ; {
		batch := b.Expire(now, 3)
		for _, e := range batch {
			if e.ExpiresMS < last {
				t.Fatalf("Expire gave %d after %d", e.ExpiresMS, last)
			}
			last = e.ExpiresMS
		}
		got = append(got, ids(batch)...)
		if len(batch) < 3 {
			break
		}
	}
	want := ids(m.take(func(e *Entry[int]) bool { return e.ExpiresMS <= now }))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("Expire(%d) = %v, want %v", now, got, want)
	}
}

func checkSame(t *testing.T, b *Box[int], m *model, agent string) {
	t.Helper()
	if got, want := ids(b.Waiting(agent)), ids(m.waiting(agent)); !slices.Equal(got, want) {
		t.Fatalf("Waiting(%s) = %v, want %v", agent, got, want)
	}
	count, agentCount, bytes, _ := m.sums(agent)
	if b.Count() != count || b.Bytes() != bytes || b.Len(agent) != agentCount {
		t.Fatalf("count %d, bytes %d, of agent %d; want %d, %d, %d", b.Count(), b.Bytes(), b.Len(agent), count, bytes, agentCount)
	}
	next, ok := b.NextExpiry()
	if ok != (count > 0) {
		t.Fatalf("NextExpiry() ok = %v with %d entries", ok, count)
	}
	for _, e := range m.entries {
		if e.ExpiresMS < next {
			t.Fatalf("NextExpiry() = %d, want %d or less", next, e.ExpiresMS)
		}
	}
}

// TestConcurrent is for the race detector, and shows that nothing is left over.
func TestConcurrent(t *testing.T) {
	b := New[int](Limits{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				id := fmt.Sprint(g, "-", i)
				if err := b.Add(entry(id, fmt.Sprint(i%7), wire.Class(i%wire.Classes), 8, int64(i))); err != nil {
					t.Errorf("Add(%s) = %v", id, err)
				}
				b.Waiting(fmt.Sprint(i % 7))
				if i%2 == 0 {
					b.Remove(id)
				}
			}
		})
	}
	wg.Wait()
	if got := len(b.Expire(1<<40, 1<<20)); got != 8*250 {
		t.Errorf("Expire took %d, want %d", got, 8*250)
	}
	if b.Count() != 0 || b.Bytes() != 0 || len(b.agents) != 0 {
		t.Errorf("left over: %d entries, %d bytes, %d agents", b.Count(), b.Bytes(), len(b.agents))
	}
}
