package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestTokenIsReadBackAsItWasStored(t *testing.T) {
	s := open(t, Config{})
	want := token(1)
	want.Expires = day0.Add(time.Hour)
	rev, err := s.CreateToken(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	want.Rev = rev
	got, err := s.Token(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if _, err := s.CreateToken(t.Context(), want); !errors.Is(err, ErrExists) {
		t.Errorf("second create: got %v, want ErrExists", err)
	}
	if _, err := s.Token(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown id: got %v, want ErrNotFound", err)
	}
	none := token(2)
	none.Agents, none.Roles = nil, nil
	mustCreate(t, s, none)
	if got, _ := s.Token(t.Context(), none.ID); len(got.Agents) != 0 || got.Name != none.Name {
		t.Errorf("token without lists: got %+v", got)
	}
}

func TestCreateTokenRefusesWhatIsIncomplete(t *testing.T) {
	s := open(t, Config{})
	for name, spoil := range map[string]func(*Token){
		"no id":   func(t *Token) { t.ID = "" },
		"no hash": func(t *Token) { t.Hash = [32]byte{} },
		"no time": func(t *Token) { t.Created = time.Time{} },
	} {
		tok := token(1)
		spoil(&tok)
		if _, err := s.CreateToken(t.Context(), tok); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestTokensPagesAndFilters(t *testing.T) {
	s := open(t, Config{})
	for i := range 25 {
		mustCreate(t, s, token(i))
	}
	same := token(99) // as old as token 3: the id decides
	same.Created = token(3).Created
	expired := token(50)
	expired.Expires = day0.Add(time.Minute)
	odd := token(51)
	odd.Name = `100%_\ sure`
	mustCreate(t, s, same, expired, odd)
	if err := s.RevokeToken(t.Context(), "id000007", day0); err != nil {
		t.Fatal(err)
	}
	var walked []string
	f := TokenFilter{Limit: 7, Now: day0.Add(time.Hour)}
	for {
		page, err := s.Tokens(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range page {
			walked = append(walked, tok.ID)
		}
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].ID
	}
	if len(walked) != 28 || len(slices.Compact(slices.Sorted(slices.Values(walked)))) != 28 {
		t.Errorf("paging met %d tokens, some twice or not at all: %v", len(walked), walked)
	}
	if walked[0] != "id000051" || walked[27] != "id000000" {
		t.Errorf("order: got %s first and %s last", walked[0], walked[27])
	}
	for _, c := range []struct {
		filter TokenFilter
		want   int
	}{
		{TokenFilter{State: TokensActive}, 26},
		{TokenFilter{State: TokensExpired}, 1},
		{TokenFilter{State: TokensRevoked}, 1},
		{TokenFilter{Match: "TOKEN 1"}, 11},
		{TokenFilter{Match: "user24/"}, 1},
		{TokenFilter{Match: `%_\`}, 1},
		{TokenFilter{Match: `_`}, 1},
		{TokenFilter{Match: `' OR 1=1 --`}, 0},
	} {
		c.filter.Now = day0.Add(time.Hour)
		got, err := s.Tokens(t.Context(), c.filter)
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: got %d tokens, %v, want %d", c.filter, len(got), err, c.want)
		}
	}
	for _, f := range []TokenFilter{{Limit: -1}, {Limit: 1001}, {State: "odd"}, {After: "gone"}} {
		if got, err := s.Tokens(t.Context(), f); err == nil {
			t.Errorf("%+v: got %d tokens and no error", f, len(got))
		}
	}
}

func TestChangesAreNumberedInTheOrderInWhichTheyAreSeen(t *testing.T) {
	dir := t.TempDir()
	server, cli := open(t, Config{Dir: dir}), open(t, Config{Dir: dir})
	const each = 60
	var wg sync.WaitGroup
	for i, s := range []*Store{server, cli, server, cli} {
		wg.Go(func() {
			for n := range each {
				if _, err := s.CreateToken(context.Background(), token(i*1000+n)); err != nil {
					t.Errorf("create: %v", err)
				}
			}
		})
	}
	// A follower that asks while they write must not miss one: a number below the
	// last seen never turns up later.
	seen, last := map[string]bool{}, uint64(0)
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	for over := false; !over; {
		select {
		case <-written:
			over = true
		default:
		}
		list, err := server.TokensSince(t.Context(), last, 50)
		for err == nil && len(list) > 0 {
			for _, tok := range list {
				if tok.Rev <= last {
					t.Fatalf("rev %d after %d", tok.Rev, last)
				}
				last, seen[tok.ID] = tok.Rev, true
			}
			list, err = server.TokensSince(t.Context(), last, 50)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 4*each || last != 4*each {
		t.Errorf("saw %d tokens up to rev %d, want %d of each", len(seen), last, 4*each)
	}
}

func TestRevokeIsAChangeAndHappensOnce(t *testing.T) {
	s := open(t, Config{})
	mustCreate(t, s, token(1), token(2))
	if err := s.RevokeToken(t.Context(), "id000001", day0.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeToken(t.Context(), "id000001", day0.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	list, err := s.TokensSince(t.Context(), 2, 10)
	if err != nil || len(list) != 1 || list[0].Rev != 3 || !list[0].Revoked.Equal(day0.Add(time.Hour)) {
		t.Errorf("changes: got %+v, %v, want token 1 revoked at the first time with rev 3", list, err)
	}
	if err := s.RevokeToken(t.Context(), "none", day0); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown id: got %v, want ErrNotFound", err)
	}
}

func TestUseIsNotedButIsNoChange(t *testing.T) {
	s := open(t, Config{})
	mustCreate(t, s, token(1))
	hour := day0.Add(3 * time.Hour)
	for _, at := range []time.Time{hour, hour.Add(-time.Hour)} { // it never goes back
		if err := s.TokensUsed(t.Context(), map[string]time.Time{"id000001": at, "gone": at}); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := s.Token(t.Context(), "id000001")
	if !got.Used.Equal(hour) || got.Rev != 1 {
		t.Errorf("got used %v rev %d, want %v and 1", got.Used, got.Rev, hour)
	}
}

func TestDeleteEndedTokensKeepsTheLiving(t *testing.T) {
	s := open(t, Config{})
	old, soon, living, revoked := token(1), token(2), token(3), token(4)
	old.Expires, soon.Expires = day0.Add(time.Hour), day0.Add(100*time.Hour)
	mustCreate(t, s, old, soon, living, revoked)
	if err := s.RevokeToken(t.Context(), revoked.ID, day0.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	n, err := s.DeleteEndedTokens(t.Context(), day0.Add(2*time.Hour))
	if err != nil || n != 2 {
		t.Fatalf("got %d deleted, %v, want 2", n, err)
	}
	list, _ := s.Tokens(t.Context(), TokenFilter{})
	if len(list) != 2 || list[0].ID != living.ID || list[1].ID != soon.ID {
		t.Errorf("left: %+v", list)
	}
}

func TestSettings(t *testing.T) {
	s := open(t, Config{})
	if _, _, err := s.Setting(t.Context(), "colour"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	for i, v := range []string{"red", "blue"} {
		if err := s.PutSetting(t.Context(), "colour", v, day0.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	v, at, err := s.Setting(t.Context(), "colour")
	if v != "blue" || !at.Equal(day0.Add(time.Minute)) || err != nil {
		t.Errorf("got %q %v %v", v, at, err)
	}
	if err := s.PutSetting(t.Context(), "big", fmt.Sprintf("%*d", maxSetting+1, 1), day0); err == nil {
		t.Error("an oversized setting was taken")
	}
}

func BenchmarkCreateToken(b *testing.B) {
	s := open(b, Config{})
	n := 0
	for b.Loop() {
		n++
		mustCreate(b, s, token(n))
	}
}
