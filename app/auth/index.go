package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay"
)

// forgetExpired is how long after its end an expired token is still told apart
// from an unknown one.
const forgetExpired = 24 * time.Hour

// verdict is what the index says of a token.
type verdict int

const (
	unknown verdict = iota // no such id, or another secret: the two are not told apart
	valid
	expired
)

type entry struct {
	id   *relay.Identity // its Expires is fixed; nil never
	hash [32]byte
	used atomic.Int64 // hour of the last use, since 1970
	save atomic.Bool  // used is not in the database yet
}

// An index holds the opaque tokens that are not revoked.
type index struct {
	max int

	mu      sync.RWMutex
	tokens  map[tokenID]*entry
	rev     uint64 // everything up to it is in tokens
	loaded  bool
	dropped int // rows that found no room
}

func newIndex(max int) *index { return &index{max: max, tokens: map[tokenID]*entry{}} }

// look judges a token that is well formed. It takes as long for an unknown id as
// for a wrong secret.
func (x *index) look(id tokenID, token []byte, now time.Time) (*relay.Identity, verdict) {
	hash := sha256.Sum256(token)
	var want [32]byte
	x.mu.RLock()
	e := x.tokens[id]
	x.mu.RUnlock()
	if e != nil {
		want = e.hash
	}
	if subtle.ConstantTimeCompare(hash[:], want[:]) != 1 || e == nil {
		return nil, unknown
	}
	if !e.id.Expires.IsZero() && !now.Before(e.id.Expires) {
		return nil, expired
	}
	if hour := now.Unix() / 3600; e.used.Load() < hour {
		e.used.Store(hour)
		e.save.Store(true)
	}
	return e.id, valid
}

// apply takes changed rows in and returns the ids that are revoked now, and the
// ids of rows that cannot be used and why.
func (x *index) apply(rows []Token, now time.Time) (revoked []string, bad map[string]error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, row := range rows {
		if row.Rev > x.rev {
			x.rev = row.Rev
		}
		var id tokenID
		if len(row.ID) != idLen {
			continue // not made by this package, no token can name it
		}
		copy(id[:], row.ID)
		if !row.Revoked.IsZero() {
			delete(x.tokens, id)
			revoked = append(revoked, row.ID)
			continue
		}
		if !row.Expires.IsZero() && now.Sub(row.Expires) > forgetExpired {
			continue
		}
		if _, known := x.tokens[id]; !known && len(x.tokens) >= x.max {
			x.dropped++
			continue
		}
		e, err := newEntry(row)
		if err != nil {
			if bad == nil {
				bad = map[string]error{}
			}
			bad[row.ID] = err
			delete(x.tokens, id)
			continue
		}
		x.tokens[id] = e
	}
	return revoked, bad
}

func newEntry(row Token) (*entry, error) {
	identity, err := Grants{row.Agents, row.Send, row.Subscribe, row.Publish, row.Roles}.identity()
	if err != nil {
		return nil, err
	}
	identity.Token, identity.Subject, identity.Expires = row.ID, row.Name, row.Expires
	e := &entry{id: identity, hash: row.Hash}
	if !row.Used.IsZero() {
		e.used.Store(row.Used.Unix() / 3600)
	}
	return e, nil
}

// forget drops tokens that expired long ago.
func (x *index) forget(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, e := range x.tokens {
		if exp := e.id.Expires; !exp.IsZero() && now.Sub(exp) > forgetExpired {
			delete(x.tokens, id)
		}
	}
}

// takeUsed returns up to limit uses that are not in the database yet and counts
// them as saved; giveBack undoes that.
func (x *index) takeUsed(limit int) map[string]time.Time {
	out := map[string]time.Time{}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for id, e := range x.tokens {
		if len(out) == limit {
			break
		}
		if e.save.Swap(false) {
			out[string(id[:])] = time.Unix(e.used.Load()*3600, 0).UTC()
		}
	}
	return out
}

func (x *index) giveBack(used map[string]time.Time) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for id := range used {
		if e := x.tokens[tokenID([]byte(id))]; e != nil {
			e.save.Store(true)
		}
	}
}

func (x *index) position() (rev uint64, loaded bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.rev, x.loaded
}

func (x *index) setLoaded() {
	x.mu.Lock()
	x.loaded = true
	x.mu.Unlock()
}

func (x *index) size() (tokens, dropped int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.tokens), x.dropped
}
