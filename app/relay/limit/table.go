package limit

// none is the index of no entry.
const none int32 = -1

// An addressEntry is what is known of one address. Links are indexes, so that the
// collector has no pointers to follow in a table of many thousands.
type addressEntry struct {
	key         addressKey
	rate, fail  level
	hash        uint32
	connections int32
	chain       int32 // next entry of the same hash chain
	prev, next  int32 // neighbours in its list
}

// addressTable is a hash table of at most max entries that are also listed by the
// time of their last use, those with connections apart from the idle ones. It
// grows by doubling and never above max. (A Go map would do for the lookups, but
// promises nothing about its size under ceaseless insertion and deletion.)
type addressTable struct {
	max     int
	used    int // entries in use; they are the first of the slice, for none is ever freed
	entries []addressEntry
	chains  []int32     // first entry of each chain; a power of two of them
	idle    addressList // without connections
	busy    addressList
}

// An addressList has the entry used last first. first and last mean nothing while
// size is 0.
type addressList struct {
	first, last int32
	size        int
}

func (t *addressTable) lookup(k addressKey, h uint64) int32 {
	if len(t.chains) == 0 {
		return none
	}
	i := *t.chain(uint32(h))
	for i != none && t.entries[i].key != k {
		i = t.entries[i].chain
	}
	return i
}

// obtain returns the entry of k, a new one if there is none, in the place of the
// least needed if the table is full.
func (t *addressTable) obtain(k addressKey, h uint64) int32 {
	if i := t.lookup(k, h); i != none {
		return i
	}
	var i int32
	switch {
	case t.used == t.max && t.idle.size > 0:
		i = t.idle.last
		t.forget(i)
	case t.used == t.max:
		i = t.busy.last
		t.forget(i)
	default:
		if t.used == len(t.entries) {
			t.grow()
		}
		i = int32(t.used)
		t.used++
	}
	head := t.chain(uint32(h))
	e := &t.entries[i]
	*e = addressEntry{key: k, hash: uint32(h), chain: *head}
	*head = i
	t.list(i)
	return i
}

func (t *addressTable) chain(hash uint32) *int32 {
	return &t.chains[hash&uint32(len(t.chains)-1)]
}

// forget takes entry i out of its chain and its list.
func (t *addressTable) forget(i int32) {
	t.unlist(i)
	at := t.chain(t.entries[i].hash)
	for *at != i {
		at = &t.entries[*at].chain
	}
	*at = t.entries[i].chain
}

func (t *addressTable) grow() {
	size := min(max(16, 2*len(t.entries)), t.max)
	entries := make([]addressEntry, size)
	copy(entries, t.entries)
	t.entries = entries

	chains := 16
	for chains < size {
		chains *= 2
	}
	t.chains = make([]int32, chains)
	for i := range t.chains {
		t.chains[i] = none
	}
	for i := range t.used {
		e := &t.entries[i]
		head := t.chain(e.hash)
		e.chain, *head = *head, int32(i)
	}
}

func (t *addressTable) listOf(i int32) *addressList {
	if t.entries[i].connections > 0 {
		return &t.busy
	}
	return &t.idle
}

// list puts entry i first in the list that its connections say.
func (t *addressTable) list(i int32) {
	l, e := t.listOf(i), &t.entries[i]
	e.prev, e.next = none, none
	if l.size == 0 {
		l.last = i
	} else {
		e.next = l.first
		t.entries[l.first].prev = i
	}
	l.first = i
	l.size++
}

func (t *addressTable) unlist(i int32) {
	l, e := t.listOf(i), &t.entries[i]
	if e.prev == none {
		l.first = e.next
	} else {
		t.entries[e.prev].next = e.next
	}
	if e.next == none {
		l.last = e.prev
	} else {
		t.entries[e.next].prev = e.prev
	}
	l.size--
}

// touch makes entry i the one used last.
func (t *addressTable) touch(i int32) {
	if t.listOf(i).first != i {
		t.unlist(i)
		t.list(i)
	}
}
