package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
)

func TestOpaqueTokens(t *testing.T) {
	clk, rows := newClock(), newRows()
	s := newService(t, Config{Tokens: rows, Now: clk.now})
	good, goodID := create(t, s, "alice", "alice/*")
	other, _ := create(t, s, "bob")
	revoked, revokedID := create(t, s, "carol")
	if err := s.Revoke(t.Context(), revokedID); err != nil {
		t.Fatal(err)
	}
	short, _, err := s.CreateToken(t.Context(), TokenSpec{Grants: Grants{Roles: []string{RoleViewer}}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := authorize(t, s, short); err != nil || !slices.Equal(id.Roles, []string{RoleViewer}) || !id.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("before it expires: got %+v, %v", id, err)
	}
	clk.advance(time.Hour)

	stranger, _, _ := mint()
	wrongSecret := forge(good, other)
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"valid", good, nil},
		{"unknown id", stranger, relay.ErrUnauthorized},
		{"wrong secret", wrongSecret, relay.ErrUnauthorized},
		{"revoked", revoked, relay.ErrUnauthorized},
		{"expired", short, relay.ErrTokenExpired},
		{"mistyped", good[:30] + "!" + good[31:], relay.ErrUnauthorized},
		{"only the id", "agn_" + goodID, relay.ErrUnauthorized},
		{"empty", "", relay.ErrUnauthorized},
		{"a JWT where none are taken", "e30.e30.", relay.ErrUnauthorized},
		{"large", "agn_" + strings.Repeat("x", 1<<20), relay.ErrUnauthorized},
	} {
		id, err := authorize(t, s, c.token)
		bare(t, c.name, err, c.want)
		cached, found := s.Cached([]byte(c.token))
		if found != (c.want == nil) || (cached != nil) != found || (id != nil) != (c.want == nil) {
			t.Errorf("%s: got identity %v, cached %v, found %v", c.name, id, cached, found)
		}
	}
	id, _ := s.Cached([]byte(good))
	if id.Token != goodID || id.Subject != "test" || !id.Agents.Match("alice/x") || id.Agents.Match("bob") || !id.Send.Match("any/one") || id.Subscribe.Match("a") {
		t.Errorf("identity: got %+v", id)
	}
	want := map[string]uint64{"unknown": 3, "expired": 1, "malformed": 5, "unavailable": 0}
	for word, n := range want {
		if got := s.Stats().Refused[word]; got != n {
			t.Errorf("refused as %s: got %d, want %d", word, got, n)
		}
	}
}

// forge gives the id of one token the secret of another, with a right checksum.
func forge(id, secret string) string {
	at := len(tokenPrefix) + idLen
	b := []byte(id[:at] + secret[at:tokenLen-sumLen])
	return string(appendSum(b, crcOf(b)))
}

func TestATokenMadeByAnotherProcessIsFoundAtOnce(t *testing.T) {
	rows := newRows()
	server := newService(t, Config{Tokens: rows})
	if err := server.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	cli := newService(t, Config{Tokens: rows})
	token, id := create(t, cli, "alice")
	if _, found := server.Cached([]byte(token)); found {
		t.Error("found before the database was asked")
	}
	got, err := authorize(t, server, token)
	if err != nil || got.Token != id {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, found := server.Cached([]byte(token)); !found {
		t.Error("not found in memory afterwards")
	}
}

func TestRevocationEndsSessionsOnEveryWay(t *testing.T) {
	var mu sync.Mutex
	var ended []string
	rows := newRows()
	server := newService(t, Config{Tokens: rows, OnRevoke: func(id string) { mu.Lock(); ended = append(ended, id); mu.Unlock() }})
	_, old := create(t, server, "old")
	if err := server.Revoke(t.Context(), old); err != nil { // nothing is loaded: there are no sessions
		t.Fatal(err)
	}
	if err := server.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, idA := create(t, server, "a")
	b, idB := create(t, server, "b")
	if err := server.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Revoke(t.Context(), "agn_"+idA); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ended, []string{idA}) {
		t.Errorf("after Revoke: got %v, want %s", ended, idA)
	}
	cli := newService(t, Config{Tokens: rows})
	if err := cli.Revoke(t.Context(), idB); err != nil {
		t.Fatal(err)
	}
	if err := server.Load(t.Context()); err != nil { // what Run does after Changed
		t.Fatal(err)
	}
	if !slices.Equal(ended, []string{idA, idB}) {
		t.Errorf("after a revocation elsewhere: got %v, want %s too", ended, idB)
	}
	for _, token := range []string{a, b} {
		if _, found := server.Cached([]byte(token)); found {
			t.Error("a revoked token is still known")
		}
	}
	if err := server.Revoke(t.Context(), "nothing"); err == nil {
		t.Error("an id of another shape was taken")
	}
}

func TestAFloodOfUnknownTokensCostsTheDatabaseLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := newRows()
		s := newService(t, Config{Tokens: rows, AskEvery: 100 * time.Millisecond})
		if err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		before, start := rows.questions(), time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 40 {
					stranger, _, _ := mint()
					if _, err := s.Authorize(context.Background(), stranger); err != relay.ErrUnauthorized {
						t.Errorf("got %v", err)
					}
				}
			})
		}
		wg.Wait()
		took := time.Since(start)
		asked := rows.questions() - before
		if limit := int(took/(100*time.Millisecond)) + 2; asked > limit || asked < 10 {
			t.Errorf("2000 unknown tokens in %v caused %d questions, want at most %d", took, asked, limit)
		}
		if took > 10*time.Second {
			t.Errorf("40 in a row took %v: each must be answered by the next question", took)
		}
	})
}

func TestUnknownIDAndWrongSecretCostTheSame(t *testing.T) {
	rows := newRows()
	s := newService(t, Config{Tokens: rows})
	good, _ := create(t, s, "a")
	other, _ := create(t, s, "b")
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	stranger, _, _ := mint()
	asked := func(token string) int {
		before := rows.questions()
		_, err := authorize(t, s, token)
		bare(t, "refused", err, relay.ErrUnauthorized)
		return rows.questions() - before
	}
	if a, b := asked(stranger), asked(forge(good, other)); a != 1 || b != 1 {
		t.Errorf("an unknown id asks the database %d times, a wrong secret %d times, want 1 each", a, b)
	}
}

func TestDatabaseDown(t *testing.T) {
	book, rows := &logBook{}, newRows()
	s := newService(t, Config{Tokens: rows, Logger: book.logger()})
	good, id := create(t, s, "a")
	rows.breakWith(errors.New("disk on fire"))
	_, err := authorize(t, s, good)
	bare(t, "before the first load", err, relay.ErrAuthUnavailable)
	rows.breakWith(nil)
	if _, err := authorize(t, s, good); err != nil {
		t.Fatalf("after the database came: %v", err)
	}
	rows.breakWith(errors.New("disk on fire"))
	if _, err := authorize(t, s, good); err != nil {
		t.Errorf("a known token while the database is down: %v", err)
	}
	stranger, _, _ := mint()
	_, err = authorize(t, s, stranger)
	bare(t, "unknown while down", err, relay.ErrAuthUnavailable)
	if _, _, err := s.CreateToken(t.Context(), TokenSpec{Grants: Grants{Agents: []string{"a"}}}); err == nil {
		t.Error("a token was made that is stored nowhere")
	}
	if st := s.Stats(); st.RefreshFailures != 2 || !strings.Contains(book.String(), "disk on fire") {
		t.Errorf("got %d failures, log:\n%s", st.RefreshFailures, book)
	}
	rows.breakWith(nil)
	// It is revoked although the server cannot see it, and the caller is told so.
	rows.onAsk = func() { rows.fail = errors.New("disk on fire") }
	if err := s.Revoke(t.Context(), id); err == nil || !strings.Contains(err.Error(), "it is revoked") {
		t.Errorf("got %v, want that it is revoked but not seen yet", err)
	}
}

func TestCallersDoNotWaitLongerThanTheyWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := newRows()
		s := newService(t, Config{Tokens: rows, AskEvery: time.Hour}) // a question that will not be asked soon
		if err := s.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		stranger, _, _ := mint()
		start := time.Now()
		_, err := s.Authorize(ctx, stranger)
		bare(t, "deadline", err, relay.ErrAuthUnavailable)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("returned after %v, want 3 s", took)
		}
		s.opaque.refresh.await()
	})
}

func TestRowsThatCannotBeUsedAreLoggedAndPassedOver(t *testing.T) {
	book, rows := &logBook{}, newRows()
	s := newService(t, Config{Tokens: rows, Logger: book.logger()})
	bad, badID := create(t, s, "a")
	row := rows.rows[badID]
	row.Agents = []string{"not a glob\n"}
	rows.rows[badID] = row
	good, _ := create(t, s, "b")
	odd := row
	odd.ID, odd.Rev = "short", 7
	rows.rows["short"] = odd
	if _, err := authorize(t, s, good); err != nil {
		t.Fatal(err)
	}
	_, err := authorize(t, s, bad)
	bare(t, "bad row", err, relay.ErrUnauthorized)
	if !strings.Contains(book.String(), badID) {
		t.Errorf("the log does not name it:\n%s", book)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	clk, book, rows := newClock(), &logBook{}, newRows()
	writer := newService(t, Config{Tokens: rows, Now: clk.now})
	var tokens []string
	for i := range 5 {
		tok, _ := create(t, writer, fmt.Sprint("a", i))
		tokens = append(tokens, tok)
	}
	s := newService(t, Config{Tokens: rows, MaxTokens: 3, Logger: book.logger(), Now: clk.now})
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Tokens != 3 || !st.Full {
		t.Errorf("got %d tokens, full %v, want 3 and full", st.Tokens, st.Full)
	}
	_, err := authorize(t, s, tokens[4]) // it is valid, so that "not valid" would be a lie
	bare(t, "no room", err, relay.ErrAuthUnavailable)
	if _, _, err := s.CreateToken(t.Context(), TokenSpec{Grants: Grants{Agents: []string{"a"}}}); err == nil {
		t.Error("one more was made")
	}
	if !strings.Contains(book.String(), "more tokens than memory") {
		t.Errorf("nothing was logged:\n%s", book)
	}
}

func TestManyTokensLoadInPages(t *testing.T) {
	rows := newRows()
	s := newService(t, Config{Tokens: rows})
	var last string
	for range 2*refreshRows + 1 {
		last, _ = create(t, s, "a")
	}
	if _, err := authorize(t, s, last); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Tokens != 2*refreshRows+1 || rows.questions() != 3 {
		t.Errorf("got %d tokens in %d questions", st.Tokens, rows.questions())
	}
}

func TestRunFollowsChangesAndNotesUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := newRows()
		s := newService(t, Config{Tokens: rows})
		cli := newService(t, Config{Tokens: rows})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()

		token, id := create(t, cli, "a")
		s.Changed()
		time.Sleep(10 * time.Millisecond)
		if _, found := s.Cached([]byte(token)); !found {
			t.Error("not known 10 ms after Changed")
		}
		late, _ := create(t, cli, "b") // nobody says so
		time.Sleep(catchUpEvery + time.Second)
		if _, found := s.Cached([]byte(late)); !found {
			t.Error("not known after the regular question")
		}
		time.Sleep(saveEvery)
		hour := time.Now().Add(-saveEvery).Truncate(time.Hour)
		rows.mu.Lock()
		if !rows.saved[id].Equal(hour) {
			t.Errorf("last use: got %v, want %v", rows.saved[id], hour)
		}
		rows.saved = map[string]time.Time{}
		rows.mu.Unlock()
		time.Sleep(2 * time.Hour)
		s.Cached([]byte(token))
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if len(rows.saved) != 1 {
			t.Errorf("uses noted at the end: got %v, want one", rows.saved)
		}
	})
}

func TestUseThatCannotBeNotedIsNotedLater(t *testing.T) {
	rows := newRows()
	s := newService(t, Config{Tokens: rows})
	token, id := create(t, s, "a")
	if _, err := authorize(t, s, token); err != nil {
		t.Fatal(err)
	}
	rows.breakWith(errors.New("full"))
	s.tidy(t.Context())
	rows.breakWith(nil)
	s.tidy(t.Context())
	if rows.saved[id].IsZero() {
		t.Error("the use was forgotten")
	}
}

func TestLongExpiredTokensLeaveMemory(t *testing.T) {
	clk := newClock()
	s := newService(t, Config{Tokens: newRows(), Now: clk.now})
	token, _, err := s.CreateToken(t.Context(), TokenSpec{Grants: Grants{Agents: []string{"a"}}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authorize(t, s, token); err != nil {
		t.Fatal(err)
	}
	clk.advance(2 * time.Hour)
	_, err = authorize(t, s, token)
	bare(t, "just expired", err, relay.ErrTokenExpired)
	clk.advance(forgetExpired)
	s.tidy(t.Context())
	if n := s.Stats().Tokens; n != 0 {
		t.Errorf("got %d tokens, want none", n)
	}
}

func TestCreateTokenRefusesWhatMakesNoSense(t *testing.T) {
	s := newService(t, Config{Tokens: newRows()})
	ok := Grants{Agents: []string{"a"}}
	for name, spec := range map[string]TokenSpec{
		"nothing allowed":  {},
		"long name":        {Name: strings.Repeat("n", 129), Grants: ok},
		"line end in name": {Name: "a\nb", Grants: ok},
		"bad UTF-8":        {Name: "\xff", Grants: ok},
		"negative life":    {Grants: ok, Lifetime: -time.Hour},
		"bad glob":         {Grants: Grants{Agents: []string{"a//b"}}},
		"bad send":         {Grants: Grants{Agents: []string{"a"}, Send: []string{""}}},
		"unknown role":     {Grants: Grants{Roles: []string{"root"}}},
		"too many globs":   {Grants: Grants{Agents: slices.Repeat([]string{"a"}, 65)}},
		"too many roles":   {Grants: Grants{Roles: slices.Repeat([]string{"viewer"}, 4)}},
	} {
		if token, _, err := s.CreateToken(t.Context(), spec); err == nil || token != "" {
			t.Errorf("%s: was taken", name)
		}
	}
}
