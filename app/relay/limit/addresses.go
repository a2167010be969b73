package limit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultAddresses bounds the table when nothing is said: about 4 MB.
	defaultAddresses = 65536

	// maxShards keeps accepting cores apart; minShard keeps the share of a shard
	// large enough that an uneven spread of addresses does not evict early.
	maxShards, minShard = 16, 256

	// concurrentWait is told to an address that has all the connections it may
	// have: when one of them ends is not known, so it is asked to try rarely.
	concurrentWait = 2 * time.Second
)

// AddressLimits bound what one client address may do. An IPv4 address stands for
// itself; an IPv6 address for its /64, since whoever has one address of it has all.
type AddressLimits struct {
	PerSecond  float64 // new connections a second; <= 0: unlimited
	Burst      float64 // new connections at once; below 1 counts as 1
	Concurrent int     // open connections; <= 0: unlimited

	// FailPerSecond and FailBurst bound failed authentications. Once the burst is
	// used up the address is shut out until its bucket holds one again; trying on
	// makes that longer. FailPerSecond <= 0: failures are not counted.
	FailPerSecond, FailBurst float64

	// Max bounds how many addresses are remembered. Above it the address that was
	// idle longest is forgotten, and only when none is idle, the one that connected
	// longest ago: its open connections are then not counted any more. Therefore
	// Max should be well above the number of connections. What is forgotten has its
	// failures forgiven too, which gains nothing for those who have so many
	// addresses that they can bring this about. Defaults to 65536.
	Max int
}

// Addresses counts connections and failures of each client address, in a table of
// bounded size. Its methods may be called concurrently. An invalid address (a Unix
// socket, say) is an address like any other, the same for all.
type Addresses struct {
	rules  atomic.Pointer[addressRules]
	seed   maphash.Seed // random, so that nobody can aim at one hash chain
	shards []addressShard
	mask   uint64
}

// addressRules are limits as they are used.
type addressRules struct {
	concurrent int
	rate, fail Rate
}

// NewAddresses returns an empty table. It grows with the addresses seen, up to Max.
func NewAddresses(l AddressLimits) *Addresses {
	if l.Max <= 0 {
		l.Max = defaultAddresses
	}
	shards := 1
	for shards < maxShards && l.Max/(2*shards) >= minShard {
		shards *= 2
	}
	a := &Addresses{
		seed:   maphash.MakeSeed(),
		shards: make([]addressShard, shards),
		mask:   uint64(shards - 1),
	}
	a.Change(l)
	for i := range a.shards {
		a.shards[i].table.max = l.Max / shards
	}
	return a
}

// Change puts other limits in force, except Max. What addresses have used up stays
// used up.
func (a *Addresses) Change(l AddressLimits) {
	a.rules.Store(&addressRules{concurrent: l.Concurrent, rate: NewRate(l.PerSecond, l.Burst), fail: NewRate(l.FailPerSecond, l.FailBurst)})
}

// Enter counts one connection of addr in and answers ok, or counts nothing and says
// after what wait it may be tried again. Each Enter that was ok needs one Leave.
func (a *Addresses) Enter(now int64, addr netip.Addr) (wait time.Duration, ok bool) {
	rules := a.rules.Load()
	s, k, h := a.find(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.table
	i := t.obtain(k, h)
	e := &t.entries[i]
	if _, wait := e.fail.take(now, rules.fail, 1); wait > 0 {
		t.touch(i)
		return wait, false
	}
	if rules.concurrent > 0 && int(e.connections) >= rules.concurrent {
		t.touch(i)
		return concurrentWait, false
	}
	after, wait := e.rate.take(now, rules.rate, 1)
	if wait > 0 {
		t.touch(i)
		return wait, false
	}
	e.rate = after
	t.unlist(i)
	e.connections++
	t.list(i)
	return 0, true
}

// Leave counts one connection of addr out. It does nothing for an address that was
// forgotten meanwhile.
func (a *Addresses) Leave(addr netip.Addr) {
	s, k, h := a.find(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.table
	i := t.lookup(k, h)
	if i == none || t.entries[i].connections == 0 {
		return
	}
	t.unlist(i)
	t.entries[i].connections--
	t.list(i)
}

// Fail counts a failed authentication against addr.
func (a *Addresses) Fail(now int64, addr netip.Addr) {
	rule := a.rules.Load().fail
	if rule.Unlimited() {
		return
	}
	s, k, h := a.find(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.table.obtain(k, h)
	e := &s.table.entries[i]
	e.fail = e.fail.charge(now, rule, 1)
	s.table.touch(i)
}

// Blocked returns how long addr is shut out for failed authentications, 0 when it
// is not.
func (a *Addresses) Blocked(now int64, addr netip.Addr) time.Duration {
	s, k, h := a.find(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.table.lookup(k, h)
	if i == none {
		return 0
	}
	_, wait := s.table.entries[i].fail.take(now, a.rules.Load().fail, 1)
	return wait
}

// Len returns how many addresses are remembered, never more than Max.
func (a *Addresses) Len() (n int) {
	for i := range a.shards {
		s := &a.shards[i]
		s.mu.Lock()
		n += s.table.used
		s.mu.Unlock()
	}
	return n
}

type addressShard struct {
	mu    sync.Mutex
	table addressTable // guarded by mu
	_     [64]byte     // neighbours do not share a cache line
}

func (a *Addresses) find(addr netip.Addr) (*addressShard, addressKey, uint64) {
	k := keyOf(addr)
	h := maphash.Comparable(a.seed, k)
	return &a.shards[h&a.mask], k, h >> 8 // other bits choose the chain
}

// addressKey is an IPv4 address or the first half of an IPv6 address.
type addressKey struct {
	high uint64
	kind uint64 // 4, 6, or 0 for an invalid address
}

func keyOf(addr netip.Addr) addressKey {
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		b := addr.As4()
		return addressKey{uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]), 4}
	case addr.Is6():
		b := addr.As16()
		var high uint64
		for _, x := range b[:8] {
			high = high<<8 | uint64(x)
		}
		return addressKey{high, 6}
	}
	return addressKey{}
}
