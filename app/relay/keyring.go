package relay

import (
	"slices"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// keyringMax bounds the dedup keys of one agent that go with its sessions.
const keyringMax = 1024

// A keyring is the dedup keys of an agent, oldest first.
type keyring struct{ keys []ringKey }

// A ringKey is a dedup key of an agent, for when it moves.
type ringKey struct {
	key   []byte
	entry *dedupEntry
}

// keepKey notes a key on its agent's ring. It costs nothing on a lone node.
func (h *Hub) keepKey(agent string, key []byte, e *dedupEntry) {
	a := h.agent(bytesOf(agent))
	if a == nil {
		return // without a session it does not move
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ring == nil {
		a.ring = new(keyring)
	}
	r := a.ring
	if len(r.keys) >= keyringMax {
		r.keys = slices.Delete(r.keys, 0, keyringMax/4)
	}
	r.keys = append(r.keys, ringKey{slices.Clone(key), e})
}

// keysOf are the keys of an agent that are still remembered, with their answers.
func (h *Hub) keysOf(a *agent, now int64) (out []parcel.Key) {
	var ring []ringKey
	a.mu.Lock()
	if a.ring != nil {
		ring = slices.Clone(a.ring.keys)
	}
	a.mu.Unlock()
	for _, k := range ring {
		e := k.entry
		sh := &h.dedup[e.key[0]%shards]
		sh.mu.Lock()
		if e.done && e.expires > now && sh.m[e.key] == e {
			out = append(out, parcel.Key{Key: k.key, Kind: e.kind, LeftMS: (e.expires - now) / 1e6, MessageID: e.answer.MessageID, Outcome: e.answer.Outcome,
				Sessions: e.answer.Sessions, Epoch: e.answer.Epoch, Offset: e.answer.Offset})
		}
		sh.mu.Unlock()
	}
	return out
}

// learnKeys remembers the keys that an agent used elsewhere.
func (h *Hub) learnKeys(a *agent, keys []parcel.Key, now int64) {
	for i := range keys {
		k := &keys[i]
		e := &dedupEntry{key: h.dedupKey(a.name, k.Key), kind: k.Kind, expires: now + min(k.LeftMS, h.cfg.DedupWindow.Milliseconds())*1e6, done: true,
			answer: wire.OK{For: k.Kind, MessageID: cloneString(k.MessageID), Outcome: wire.Outcome(cloneString(string(k.Outcome))), Sessions: k.Sessions,
				Epoch: cloneString(k.Epoch), Offset: k.Offset}}
		sh := &h.dedup[e.key[0]%shards]
		sh.mu.Lock()
		if old := sh.m[e.key]; old == nil || old.expires <= now {
			sh.add(e, h.cfg.DedupKeys/shards+1)
			sh.mu.Unlock()
			h.keepKey(a.name, k.Key, e)
			continue
		}
		sh.mu.Unlock()
	}
}
