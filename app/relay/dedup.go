package relay

import (
	"hash/maphash"
	"sync"

	"agentnet/app/wire"
)

// waitersPerKey bounds how many repetitions of one key may wait for the first.
const waitersPerKey = 16

// A dedupKey is the keyed hash of agent and key: 128 bits under a seed that
// nobody outside knows.
type dedupKey [2]uint64

type dedupShard struct {
	mu    sync.Mutex
	m     map[dedupKey]*dedupEntry
	order []*dedupEntry // as they came; the window is the same for all, so also as they expire
	head  int
}

// A dedupEntry is a key that was seen. Its fields are guarded by the shard's
// lock.
type dedupEntry struct {
	key     dedupKey
	kind    wire.Kind
	expires int64
	done    bool
	answer  wire.OK
	waiters []*caller
}

func (h *Hub) dedupKey(agent string, key []byte) (k dedupKey) {
	for i := range k {
		var mh maphash.Hash
		mh.SetSeed(h.dedupSeed[i])
		mh.WriteString(agent)
		mh.WriteByte(0)
		mh.Write(key)
		k[i] = mh.Sum64()
	}
	return k
}

// once says whether a command is the first with its key. If not, its caller gets
// the first one's answer, now or when it is known.
func (h *Hub) once(t *Turn, agent string, c *wire.Command, by *caller) (entry *dedupEntry, first bool) {
	if len(c.Key) == 0 {
		return nil, true
	}
	k := h.dedupKey(agent, c.Key)
	now := t.clock()
	sh := &h.dedup[k[0]%shards]
	sh.mu.Lock()
	e := sh.m[k]
	if e == nil || e.expires <= now {
		e = &dedupEntry{key: k, kind: c.Kind, expires: now + int64(h.cfg.DedupWindow)}
		sh.add(e, h.cfg.DedupKeys/shards+1)
		sh.mu.Unlock()
		if h.fleet != nil {
			h.keepKey(agent, c.Key, e)
		}
		return e, true
	}
	switch {
	case e.kind != c.Kind:
		sh.mu.Unlock()
		by.fail(t, wire.Error{Code: wire.Conflict, Message: "the key was used for another kind of command"})
	case e.done:
		answer := e.answer
		sh.mu.Unlock()
		by.ok(t, &answer)
	case len(e.waiters) < waitersPerKey:
		e.waiters = append(e.waiters, by.keep())
		sh.mu.Unlock()
	default:
		sh.mu.Unlock()
		by.fail(t, wire.Error{Code: wire.Conflict, Message: "the first command with this key is still being carried out"})
	}
	return nil, false
}

// add puts e in, and the oldest out when there are limit keys. Keys that were
// undone still have their place in the order, and count. sh.mu must be held.
func (sh *dedupShard) add(e *dedupEntry, limit int) {
	if len(sh.order)-sh.head >= limit {
		sh.dropOldest()
	}
	sh.m[e.key] = e
	sh.order = append(sh.order, e)
}

// dropOldest forgets the entry that came first. sh.mu must be held.
func (sh *dedupShard) dropOldest() {
	if sh.head >= len(sh.order) {
		return
	}
	if e := sh.order[sh.head]; sh.m[e.key] == e {
		delete(sh.m, e.key)
	}
	sh.order[sh.head] = nil
	sh.head++
	if sh.head > len(sh.order)/2 {
		n := copy(sh.order, sh.order[sh.head:])
		clear(sh.order[n:])
		sh.order, sh.head = sh.order[:n], 0
	}
}

// settle stores the answer that repetitions get.
func (h *Hub) settle(t *Turn, e *dedupEntry, ok *wire.OK) {
	if e == nil {
		return
	}
	answer := *ok
	answer.MessageID = cloneString(ok.MessageID)
	sh := &h.dedup[e.key[0]%shards]
	sh.mu.Lock()
	e.answer, e.done = answer, true
	waiters := e.waiters
	e.waiters = nil
	sh.mu.Unlock()
	for _, by := range waiters {
		by.ok(t, &answer)
	}
}

// undo forgets a key whose command was refused, so that it can be tried again.
func (h *Hub) undo(t *Turn, e *dedupEntry, why *wire.Error) {
	if e == nil {
		return
	}
	sh := &h.dedup[e.key[0]%shards]
	sh.mu.Lock()
	if sh.m[e.key] == e {
		delete(sh.m, e.key)
	}
	waiters := e.waiters
	e.waiters = nil
	sh.mu.Unlock()
	for _, by := range waiters {
		by.fail(t, *why)
	}
}

// expireDedup forgets the keys whose window has ended.
func (h *Hub) expireDedup(now int64) {
	for i := range h.dedup {
		sh := &h.dedup[i]
		sh.mu.Lock()
		for sh.head < len(sh.order) {
			if e := sh.order[sh.head]; e.expires > now && sh.m[e.key] == e {
				break
			}
			sh.dropOldest()
		}
		if len(sh.order) == 0 {
			sh.order = nil
		}
		sh.mu.Unlock()
	}
}

// meet notes the key of a message that another node posted to this one alone, so that
// the sender may repeat it through any node, also when the first is gone: here it is
// known, as long as its receiver stays. had is the answer that it had when it came
// here before under another id; once is to be settled, or undone, else.
func (h *Hub) meet(t *Turn, m *letter, key []byte) (once *dedupEntry, had wire.OK) {
	k := h.dedupKey(m.from, key)
	now := t.clock()
	sh := &h.dedup[k[0]%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.m[k]
	if e == nil || e.expires <= now {
		e = &dedupEntry{key: k, kind: wire.KindSend, expires: now + int64(h.cfg.DedupWindow)}
		sh.add(e, h.cfg.DedupKeys/shards+1)
		return e, had
	}
	if e.done && e.kind == wire.KindSend && e.answer.MessageID != m.id {
		had = e.answer
	}
	return nil, had
}
