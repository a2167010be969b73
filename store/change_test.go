package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/replica"
)

// noteKind stands for control data that may be changed and made again.
const noteKind = "test_note"

// withNotes lets s take changes of notes, which it keeps as settings.
func withNotes(t testing.TB, s *Store) {
	t.Helper()
	s.appliers[noteKind] = func(tx *sql.Tx, c *Change) error {
		var text string
		if c.Rank == Deleted {
			_, err := tx.Exec(`DELETE FROM setting WHERE name = ?`, c.Key)
			return err
		}
		if err := json.Unmarshal(c.Body, &text); err != nil {
			return fmt.Errorf("%w: %v", ErrBadChange, err)
		}
		_, err := tx.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES (?1, ?2, 0) ON CONFLICT (name) DO UPDATE SET value = ?2`, c.Key, text)
		return err
	}
}

// note changes a note as a concern of this package would; an empty text deletes.
func note(t testing.TB, s *Store, key, text string) {
	t.Helper()
	err := s.writer.apply(context.Background(), func(tx *sql.Tx) error {
		var body any
		if text != "" {
			body = text
		}
		if err := s.recordChange(tx, noteKind, key, body, text == ""); err != nil {
			return err
		}
		c, err := currentChange(tx, noteKind, key)
		if err != nil {
			return err
		}
		return s.appliers[noteKind](tx, c)
	})
	if err != nil {
		t.Fatalf("note %s: %v", key, err)
	}
}

func notes(t testing.TB, s *Store) map[string]string {
	t.Helper()
	rows, err := s.read.Query(`SELECT name, value FROM setting`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			t.Fatal(err)
		}
		out[k] = v
	}
	return out
}

// pull brings to all that from has, in batches of the given bytes, up to most of
// them (0 is all), and says whether there is more.
func pull(t testing.TB, to, from *Store, bytes, most int) (more bool) {
	t.Helper()
	theirs, err := from.Changes().Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := to.Changes().Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, origin := range slices.Sorted(maps.Keys(theirs.Heads)) {
		for after := ours.Heads[origin]; after < theirs.Heads[origin]; {
			if n++; most > 0 && n > most {
				return true
			}
			b, err := from.Changes().Since(t.Context(), origin, after, bytes)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // once more does nothing
				if err := to.Changes().Apply(t.Context(), b); err != nil {
					t.Fatalf("apply %s %d to %d: %v", b.Origin, b.After, b.UpTo, err)
				}
			}
			after = b.UpTo
		}
	}
	return false
}

// level brings all to the same.
func level(t testing.TB, all ...*Store) {
	t.Helper()
	for range 2 {
		for _, to := range all {
			for _, from := range all {
				if to != from {
					pull(t, to, from, 1000, 0)
				}
			}
		}
	}
}

// comparable is a token as all nodes must have it.
func comparable(list []Token) map[string]Token {
	out := map[string]Token{}
	for _, t := range list {
		t.Rev, t.Used = 0, time.Time{}
		out[t.ID] = t
	}
	return out
}

func tokensOf(t testing.TB, s *Store) map[string]Token {
	t.Helper()
	list, err := s.Tokens(t.Context(), TokenFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return comparable(list)
}

func TestTokensReachAnotherStoreWholeAndInOrder(t *testing.T) {
	a, b := open(t, Config{}), open(t, Config{})
	first := token(1)
	first.Expires, first.Name = day0.Add(time.Hour), `quotes " and <tags> & ünï`
	mustCreate(t, a, first, token(2))
	pull(t, b, a, 1, 0)
	if got, want := tokensOf(t, b), tokensOf(t, a); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if err := a.RevokeToken(t.Context(), first.ID, day0.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	pull(t, b, a, 1, 0)
	list, err := b.TokensSince(t.Context(), 2, 10)
	if err != nil || len(list) != 1 || list[0].ID != first.ID || !list[0].Revoked.Equal(day0.Add(time.Minute)) {
		t.Errorf("news of b: got %+v, %v, want the revocation", list, err)
	}
}

func TestConflictsEndAlikeOnAllNodes(t *testing.T) {
	for name, c := range map[string]struct {
		a, b func(t *testing.T, a, b *Store) // what each does without having heard of the other
		want func(t *testing.T, s *Store)
	}{
		"the later update wins": {
			func(t *testing.T, a, _ *Store) { note(t, a, "k", "from a") },
			func(t *testing.T, _, b *Store) { note(t, b, "k", "earlier"); note(t, b, "k", "from b") },
			func(t *testing.T, s *Store) { wantNote(t, s, "k", "from b") }},
		"a deletion wins over a later update": {
			func(t *testing.T, a, _ *Store) { note(t, a, "both", "") },
			func(t *testing.T, _, b *Store) { note(t, b, "both", "not seen the deletion") },
			func(t *testing.T, s *Store) { wantNote(t, s, "both", "") }},
		"made again after its deletion, a key wins over updates of its first life": {
			func(t *testing.T, a, _ *Store) { note(t, a, "both", ""); note(t, a, "both", "second life") },
			func(t *testing.T, _, b *Store) { note(t, b, "both", "late update of the first life") },
			func(t *testing.T, s *Store) { wantNote(t, s, "both", "second life") }},
		"a revoked token never lives again": {
			func(t *testing.T, a, _ *Store) { mustRevoke(t, a, "id000001") },
			func(t *testing.T, _, b *Store) { rename(t, b, "id000001", "later name") },
			func(t *testing.T, s *Store) {
				if got, err := s.Token(t.Context(), "id000001"); err != nil || got.Revoked.IsZero() {
					t.Errorf("got %+v, %v, want it revoked", got, err)
				}
			}},
		"a token revoked on both is revoked": {
			func(t *testing.T, a, _ *Store) { mustRevoke(t, a, "id000001") },
			func(t *testing.T, _, b *Store) { mustRevoke(t, b, "id000001") },
			func(t *testing.T, s *Store) {
				if got, err := s.Token(t.Context(), "id000001"); err != nil || got.Revoked.IsZero() {
					t.Errorf("got %+v, %v, want it revoked", got, err)
				}
			}},
		"a token deleted after its revocation ends where the revocation was not heard of": {
			func(t *testing.T, a, _ *Store) {
				mustRevoke(t, a, "id000001")
				if n, err := a.DeleteEndedTokens(t.Context(), day0.Add(1000*time.Hour)); n != 1 || err != nil {
					t.Fatalf("deleted %d, %v", n, err)
				}
			},
			func(t *testing.T, _, b *Store) {},
			func(t *testing.T, s *Store) {
				if got, err := s.Token(t.Context(), "id000001"); err == nil && got.Revoked.IsZero() {
					t.Errorf("got %+v, want it gone or revoked", got)
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			a, b, third := open(t, Config{Now: clock}), open(t, Config{Now: clock}), open(t, Config{Now: clock})
			for _, s := range []*Store{a, b, third} {
				withNotes(t, s)
			}
			mustCreate(t, a, token(1))
			note(t, a, "both", "at first")
			level(t, a, b)
			c.a(t, a, b)
			c.b(t, a, b)
			// One hears of b first, the other of a first.
			pull(t, a, b, 1000, 0)
			pull(t, third, b, 1000, 0)
			pull(t, b, a, 1000, 0)
			pull(t, third, a, 1000, 0)
			for _, s := range []*Store{a, b, third} {
				c.want(t, s)
			}
			if !reflect.DeepEqual(notes(t, a), notes(t, b)) || !reflect.DeepEqual(notes(t, a), notes(t, third)) {
				t.Errorf("nodes differ: %v, %v, %v", notes(t, a), notes(t, b), notes(t, third))
			}
		})
	}
}

// newClock is one that goes on by a second with each look.
func newClock() func() time.Time {
	var n atomic.Int64
	return func() time.Time { return day0.Add(time.Duration(n.Add(1)) * time.Second) }
}

func mustRevoke(t testing.TB, s *Store, id string) {
	t.Helper()
	if err := s.RevokeToken(t.Context(), id, day0.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// rename is an update of a token, which the product does not have yet.
func rename(t testing.TB, s *Store, id, name string) {
	t.Helper()
	err := s.writer.apply(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`UPDATE token SET name = ? WHERE id = ?`, name, id); err != nil {
			return err
		}
		return s.recordToken(tx, id)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantNote(t testing.TB, s *Store, key, want string) {
	t.Helper()
	if got := notes(t, s)[key]; got != want {
		t.Errorf("note %s: got %q, want %q", key, got, want)
	}
}

func TestRandomChangesOnFourNodesEndAlike(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		clock := newClock()
		var all []*Store
		for i := range 4 {
			now := clock
			if i == 3 { // a clock that is wrong by hours
				now = func() time.Time { return clock().Add(7 * time.Hour) }
			}
			s := open(t, Config{Now: now})
			withNotes(t, s)
			all = append(all, s)
		}
		revoked := map[string]bool{}
		for n := range 150 {
			s := all[rng.IntN(len(all))]
			switch key := fmt.Sprintf("note%d", rng.IntN(6)); rng.IntN(8) {
			case 0, 1:
				note(t, s, key, fmt.Sprintf("text %d", n))
			case 2:
				note(t, s, key, "")
			case 3:
				mustCreate(t, s, token(int(seed)*1000+n))
			case 4:
				list, _ := s.Tokens(t.Context(), TokenFilter{})
				if len(list) > 0 {
					id := list[rng.IntN(len(list))].ID
					mustRevoke(t, s, id)
					revoked[id] = true
				}
			case 5:
				if rng.IntN(4) == 0 {
					if err := s.Changes().Renew(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			default:
				pull(t, s, all[rng.IntN(len(all))], rng.IntN(400), rng.IntN(4))
			}
		}
		level(t, all...)
		for i, s := range all[1:] {
			if got, want := notes(t, s), notes(t, all[0]); !maps.Equal(got, want) {
				t.Errorf("seed %d: notes of node %d: %v\nof node 0: %v", seed, i+1, got, want)
			}
			if got, want := tokensOf(t, s), tokensOf(t, all[0]); !reflect.DeepEqual(got, want) {
				t.Errorf("seed %d: tokens of node %d: %v\nof node 0: %v", seed, i+1, got, want)
			}
		}
		for id := range revoked {
			if tok := tokensOf(t, all[0])[id]; tok.Revoked.IsZero() {
				t.Errorf("seed %d: revoked token %s lives", seed, id)
			}
		}
		// What was overwritten may go: a node that comes anew gets the same.
		if err := all[1].Changes().Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		fresh := open(t, Config{Now: clock})
		withNotes(t, fresh)
		level(t, fresh, all[1])
		if !maps.Equal(notes(t, fresh), notes(t, all[0])) || !reflect.DeepEqual(tokensOf(t, fresh), tokensOf(t, all[0])) {
			t.Errorf("seed %d: a fresh node has %v, want %v", seed, notes(t, fresh), notes(t, all[0]))
		}
	}
}

func TestAClockFarAheadIsNotFollowedButOrderedAlike(t *testing.T) {
	now := func() time.Time { return day0 }
	a, b := open(t, Config{Now: func() time.Time { return day0.Add(48 * time.Hour) }}), open(t, Config{Now: now})
	withNotes(t, a)
	withNotes(t, b)
	note(t, a, "k", "from the future")
	note(t, b, "k", "from now")
	level(t, a, b)
	wantNote(t, a, "k", "from the future")
	wantNote(t, b, "k", "from the future")
	note(t, b, "other", "x")
	var stamp int64
	if err := b.read.QueryRow(`SELECT max(stamp) FROM change WHERE key = 'other'`).Scan(&stamp); err != nil {
		t.Fatal(err)
	}
	if at := stampTime(uint64(stamp)); at.After(day0.Add(maxAhead + time.Second)) {
		t.Errorf("b's clock went to %v, want at most 5 minutes after %v", at, day0)
	}
	note(t, b, "k", "after having seen it")
	level(t, a, b)
	wantNote(t, a, "k", "after having seen it")
	wantNote(t, b, "k", "after having seen it")
}

func TestRestoredFromAnOlderCopyNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, Config{Dir: dir}), open(t, Config{})
	mustCreate(t, a, token(1))
	copied := filepath.Join(t.TempDir(), FileName)
	if err := a.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, a, token(2), token(3))
	mustRevoke(t, a, "id000001")
	pull(t, b, a, 1000, 0)
	back := open(t, Config{Dir: filepath.Dir(copied)})
	mustCreate(t, back, token(9)) // under a number that the others know as another change
	if err := back.Changes().Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	level(t, back, b)
	got, want := tokensOf(t, back), tokensOf(t, b)
	if !reflect.DeepEqual(got, want) || len(got) != 4 || got["id000001"].Revoked.IsZero() {
		t.Errorf("restored node: %v\nthe other: %v", got, want)
	}
}

func TestHostileChangesAreRefusedOrPassedOver(t *testing.T) {
	s := open(t, Config{})
	withNotes(t, s)
	mustCreate(t, s, token(1))
	own, err := s.Changes().Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entry := func(text string) []replica.Entry { return []replica.Entry{{Number: 1, Body: []byte(text)}} }
	for name, b := range map[string]replica.Batch{
		"this node's own": {Origin: own.Own, After: own.Heads[own.Own], UpTo: 99, Entries: nil},
		"a gap":           {Origin: "x", After: 7, UpTo: 8},
		"no origin":       {UpTo: 1},
		"huge numbers":    {Origin: "x", UpTo: 1 << 63},
	} {
		if err := s.Changes().Apply(t.Context(), b); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	for i, text := range []string{``, `{`, `null`, `{"kind":"token"}`, `{"kind":"token","key":"t","stamp":18446744073709551615}`,
		`{"kind":"token","key":"t","stamp":1,"body":{}}`, `{"kind":"token","key":"t","stamp":1,"body":{"hash":"00"}}`,
		`{"kind":"token","key":"t","stamp":1,"rank":-1}`, `{"kind":"token","key":"t","stamp":1,"rank":9}`, `{"kind":"token","key":"t","stamp":1,"body":[]}`,
		`{"kind":"later version","key":"t","stamp":1,"body":{"x":1}}`, `{"kind":"test_note","key":"n","stamp":1,"body":7}`} {
		origin := fmt.Sprintf("hostile%d", i)
		if err := s.Changes().Apply(t.Context(), replica.Batch{Origin: origin, UpTo: 1, Entries: entry(text)}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		good, _ := json.Marshal(changeText{Stamp: 5, Kind: noteKind, Key: origin, Body: json.RawMessage(`"good"`)})
		if err := s.Changes().Apply(t.Context(), replica.Batch{Origin: origin, After: 1, UpTo: 2, Entries: []replica.Entry{{Number: 2, Body: good}}}); err != nil {
			t.Fatal(err)
		}
		wantNote(t, s, origin, "good") // what follows is not held up
	}
	if got := tokensOf(t, s); len(got) != 1 {
		t.Errorf("got tokens %v, want the one of before", got)
	}
}

func TestWhatALaterVersionWroteIsKeptAndAppliedByIt(t *testing.T) {
	dir := t.TempDir()
	newer, old := open(t, Config{}), open(t, Config{Dir: dir})
	withNotes(t, newer)
	note(t, newer, "k", "of a later version")
	pull(t, old, newer, 1000, 0)
	wantNote(t, old, "k", "")
	third := open(t, Config{}) // an old node passes it on
	withNotes(t, third)
	pull(t, third, old, 1000, 0)
	wantNote(t, third, "k", "of a later version")
	withNotes(t, old) // the program is upgraded
	if err := old.applyPending(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNote(t, old, "k", "of a later version")
}

func TestTokensOfBeforeTheChangesTravelToo(t *testing.T) {
	dir := t.TempDir()
	if _, err := openSteps(t.Context(), Config{Dir: dir}, migrations()[:1]); err == nil {
		t.Fatal("a program that reads changes opened a schema without them")
	}
	for i := range 3 {
		insertOld(t, dir, token(i+1), i == 1)
	}
	s := open(t, Config{Dir: dir})
	other := open(t, Config{})
	mustCreate(t, s, token(10))
	pull(t, other, s, 100, 0)
	got, want := tokensOf(t, other), tokensOf(t, s)
	if len(got) != 4 || !reflect.DeepEqual(got, want) || got["id000002"].Revoked.IsZero() {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// insertOld stores a token as the first version of the schema did.
func insertOld(t testing.TB, dir string, tok Token, revoked bool) {
	t.Helper()
	db := pool(dbPath(dir), writing, time.Second, 1)
	defer db.Close()
	lists, err := encodeLists(tok.Agents, tok.Send, tok.Subscribe, tok.Publish, tok.Roles)
	if err != nil {
		t.Fatal(err)
	}
	var at int64
	if revoked {
		at = toMS(tok.Created.Add(time.Hour))
	}
	hash := sha256.Sum256([]byte(tok.ID))
	_, err = db.Exec(`INSERT INTO token (`+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, (SELECT coalesce(max(rev), 0) + 1 FROM token))`,
		tok.ID, tok.Name, hash[:], lists[0], lists[1], lists[2], lists[3], lists[4], toMS(tok.Created), at)
	if err == nil {
		_, err = db.Exec(`UPDATE counter SET value = (SELECT max(rev) FROM token) WHERE name = 'token_rev'`)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOverwrittenChangesAreBounded(t *testing.T) {
	s := open(t, Config{})
	withNotes(t, s)
	for i := range 40 {
		note(t, s, "k", fmt.Sprint(i))
	}
	err := s.writer.apply(t.Context(), func(tx *sql.Tx) error { return dropOverwritten(tx, 10) })
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.read.QueryRow(`SELECT count(*) FROM change`).Scan(&n); err != nil || n != 11 {
		t.Errorf("got %d changes, %v, want the current one and 10", n, err)
	}
	other := open(t, Config{})
	withNotes(t, other)
	pull(t, other, s, 1, 0)
	wantNote(t, other, "k", "39")
}

func TestRecordingWhatCannotBeIsAnError(t *testing.T) {
	s := open(t, Config{})
	withNotes(t, s)
	record := func(kind, key string, body any) error {
		return s.writer.apply(t.Context(), func(tx *sql.Tx) error { return s.recordChange(tx, kind, key, body, false) })
	}
	for name, err := range map[string]error{
		"no applier": record("unknown", "k", 1),
		"no key":     record(noteKind, "", 1),
		"too large":  record(noteKind, "k", string(make([]byte, maxChangeBody+1))),
		"no JSON":    record(noteKind, "k", func() {}),
	} {
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	final := func(tx *sql.Tx) error { return s.recordFinal(tx, noteKind, "ended", "x") }
	if err := s.writer.apply(t.Context(), final); err != nil {
		t.Fatal(err)
	}
	if err := record(noteKind, "ended", "again"); !errors.Is(err, ErrExists) {
		t.Errorf("an update of what was ended for good: got %v, want ErrExists", err)
	}
}

func BenchmarkApplyTokens(b *testing.B) {
	from := open(b, Config{})
	for i := range 300 {
		mustCreate(b, from, token(i))
	}
	pos, err := from.Changes().Position(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	batch, err := from.Changes().Since(b.Context(), pos.Own, 0, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		to := open(b, Config{})
		if err := to.Changes().Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(batch.Entries)), "changes/op")
}

func TestACopyOfADataDirectoryDiffersFromItsOriginal(t *testing.T) {
	a, other := open(t, Config{}), open(t, Config{})
	mustCreate(t, a, token(1))
	copied := filepath.Join(t.TempDir(), FileName)
	if err := a.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	b := open(t, Config{Dir: filepath.Dir(copied)})
	mustCreate(t, a, token(2))
	mustCreate(t, b, token(3)) // under the same number
	pull(t, other, a, 1000, 0)
	if err := b.Changes().Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	level(t, a, b, other) // a hears from b that it must take a new origin too
	for name, s := range map[string]*Store{"original": a, "copy": b, "another": other} {
		if got := tokensOf(t, s); len(got) != 3 {
			t.Errorf("%s has %v, want 3 tokens", name, got)
		}
	}
}
