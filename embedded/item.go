package embedded

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// Kinds of values, as they stand in a snapshot.
const (
	kindString = 1
	kindHash   = 2
	kindSet    = 3
	kindZSet   = 4
	kindStream = 5
)

// An item is one key with its value. fields holds, by kind: the one value of a
// string; names and values of a hash in turn; members of a set; members of a
// sorted set, with scores beside; and of a stream, for each entry its id, the
// number of strings in it, and these.
type item struct {
	key     string
	kind    byte
	expires time.Time // zero: never
	fields  []string
	scores  []float64
	entries []miniredis.StreamEntry
}

// cost estimates the memory that an item takes.
func (it *item) cost() int64 {
	n := int64(keyOverhead + 2*len(it.key))
	for _, f := range it.fields {
		n += int64(len(f)) + argOverhead
	}
	for _, e := range it.entries {
		n += int64(len(e.ID)) + 2*argOverhead
		for _, v := range e.Values {
			n += int64(len(v)) + argOverhead/2
		}
	}
	return n
}

// items yields a copy of each key, one after the other. Commands run in between,
// so that it is no picture of one moment unless nothing runs.
func (s *Server) items() iter.Seq[*item] {
	return func(yield func(*item) bool) {
		db := s.redis.DB(0)
		for _, key := range db.Keys() {
			if it := s.item(db, key); it != nil && !yield(it) {
				return
			}
		}
	}
}

// item copies one key, nil when it is gone or of a kind that no command here makes.
func (s *Server) item(db *miniredis.RedisDB, key string) *item {
	s.gate.Lock()
	defer s.gate.Unlock()
	it := &item{key: key}
	ok := true
	switch db.Type(key) {
	case "string":
		v, err := db.Get(key)
		it.kind, it.fields, ok = kindString, []string{v}, err == nil
	case "hash":
		names, err := db.HKeys(key)
		it.kind, ok = kindHash, err == nil
		for _, name := range names {
			it.fields = append(it.fields, name, db.HGet(key, name))
		}
	case "set":
		members, err := db.Members(key)
		it.kind, it.fields, ok = kindSet, members, err == nil
	case "zset":
		members, err := db.SortedSet(key)
		it.kind, ok = kindZSet, err == nil
		for m, score := range members {
			it.fields, it.scores = append(it.fields, m), append(it.scores, score)
		}
	case "stream":
		entries, err := db.Stream(key)
		it.kind, it.entries, ok = kindStream, slices.Clone(entries), err == nil
	default:
		return nil
	}
	if !ok {
		return nil
	}
	if ttl := db.TTL(key); ttl != 0 {
		it.expires = s.now().Add(ttl - s.clock.behind())
	}
	return it
}

var errItem = errors.New("value does not fit its kind")

// put makes the key in db as it was, unless its time is over.
func (it *item) put(db *miniredis.RedisDB, now time.Time) (err error) {
	if !it.expires.IsZero() && !it.expires.After(now) {
		return nil
	}
	if it.key == "" || len(it.fields)+len(it.entries) == 0 {
		return fmt.Errorf("put item of kind %d: %w", it.kind, errItem)
	}
	switch it.kind {
	case kindString:
		err = db.Set(it.key, it.fields[0])
	case kindHash:
		db.HSet(it.key, it.fields...)
	case kindSet:
		_, err = db.SetAdd(it.key, it.fields...)
	case kindZSet:
		for i, m := range it.fields {
			if _, err = db.ZAdd(it.key, it.scores[i], m); err != nil {
				break
			}
		}
	case kindStream:
		for _, e := range it.entries {
			if _, err = db.XAdd(it.key, e.ID, e.Values); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("put item of kind %d: %w", it.kind, err)
	}
	if !it.expires.IsZero() {
		db.SetTTL(it.key, it.expires.Sub(now))
	}
	return nil
}
