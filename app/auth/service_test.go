package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"agentnet/app/relay"
)

// fill returns a service that knows n opaque tokens and one of them, and a
// verified JWT.
func fill(t testing.TB, n int) (s *Service, opaque, jwt []byte) {
	clk := newClock()
	secret := bytes.Repeat([]byte("a"), 32)
	s = newService(t, Config{Tokens: newRows(), Now: clk.now, Issuers: []Issuer{{Secret: secret}}})
	for range n {
		tok, _ := create(t, s, "alice", "alice/*")
		opaque = []byte(tok)
	}
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := sign(t, HS256, secret, nil, with(claimsAt(clk), "email", strings.Repeat("e", 400)))
	if _, err := authorize(t, s, text); err != nil {
		t.Fatal(err)
	}
	return s, opaque, []byte(text)
}

func TestCachedAllocatesNothing(t *testing.T) {
	s, opaque, jwt := fill(t, 100)
	stranger, _, _ := mint()
	for name, c := range map[string]struct {
		token []byte
		found bool
	}{
		"opaque": {opaque, true}, "jwt": {jwt, true}, "unknown": {[]byte(stranger), false},
		"mistyped": {append([]byte{}, opaque[:tokenLen-1]...), false}, "junk": {bytes.Repeat([]byte("x"), 9000), false},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if _, found := s.Cached(c.token); found != c.found {
				t.Errorf("%s: found %v, want %v", name, found, c.found)
			}
		}); n != 0 {
			t.Errorf("%s: got %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	s, opaque, jwt := fill(b, 10_000)
	stranger, _, _ := mint()
	for name, token := range map[string][]byte{"opaque": opaque, "jwt": jwt, "unknown": []byte(stranger)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Cached(token)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	clk := newClock()
	for _, alg := range []string{RS256, ES256, EdDSA} {
		k := newKey(b, "k", alg)
		s, _ := firebase(b, clk, k)
		token := k.sign(b, claimsAt(clk))
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if id, _, _ := s.jwts.Load().verify(context.Background(), token); id == nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// TestNothingSecretIsSaidOrStored drives every way to fail and to succeed with
// planted secrets and then looks for them.
func TestNothingSecretIsSaidOrStored(t *testing.T) {
	const canary = "CANARY"
	clk, book, rows := newClock(), &logBook{}, newRows()
	secret := []byte(canary + "-hs256-secret-" + canary + "-0123456789")
	es := newKey(t, "es", ES256)
	f := &fakeIssuer{keys: []*signKey{es}}
	s := newService(t, Config{Tokens: rows, Now: clk.now, Logger: book.logger(), Transport: f, Issuers: []Issuer{
		{Issuer: issuerURL, Audience: []string{"project-1"}}, {Secret: secret}}})
	said := &bytes.Buffer{}
	note := func(err error) { fmt.Fprintf(said, "%v %+v\n", err, err) }

	opaque, id := create(t, s, "alice")
	mark := with(claimsAt(clk), "email", canary, "sub", canary)
	tokens := []string{
		opaque, opaque[:40], opaque + canary, "agn_" + canary, canary, canary + "." + canary + "." + canary,
		es.sign(t, mark), es.sign(t, with(mark, "aud", canary)), es.sign(t, with(mark, "iss", canary, "exp", 1)), es.sign(t, with(mark, "exp", canary)),
		sign(t, ES256, es.priv, map[string]any{"kid": canary}, mark), sign(t, ES256, es.priv, map[string]any{"typ": canary, "kid": "es"}, mark),
		sign(t, HS256, secret, nil, with(mark, "iss", "x", "agentnet", map[string]any{"agents": canary + "//"})),
		sign(t, HS256, []byte(canary), nil, mark),
	}
	for _, broken := range []bool{false, true} {
		if broken {
			rows.breakWith(errors.New("database down"))
			f.set(func() { f.down = true })
			clk.advance(2 * askKeysEvery)
		}
		for _, token := range tokens {
			_, err := authorize(t, s, token)
			note(err)
			s.Cached([]byte(token))
			_, err = ParseToken(token)
			note(err)
			note(s.Revoke(t.Context(), token))
		}
	}
	rows.breakWith(nil)
	_, _, err := s.CreateToken(t.Context(), TokenSpec{Grants: Grants{Agents: []string{"a"}}, Name: "\n"})
	note(err)
	fmt.Fprintf(said, "%+v\n", s.Stats())
	note(func() error { _, err := New(Config{Issuers: []Issuer{{Secret: []byte(canary)}}}); return err }())

	stored := fmt.Sprintf("%+v", rows.rows)
	for _, place := range []struct{ name, text string }{{"errors and figures", said.String()}, {"the log", book.String()}, {"the database", stored}} {
		for _, needle := range []string{canary, opaque, opaque[len(tokenPrefix)+idLen+1:], opaque[20:40]} {
			if strings.Contains(place.text, needle) {
				t.Errorf("%s hold %.12s…:\n%s", place.name, needle, place.text)
			}
		}
	}
	if !strings.Contains(stored, id) || book.String() == "" {
		t.Error("the search looked at nothing")
	}
}

func TestServiceWithoutTokensOrIssuers(t *testing.T) {
	s := newService(t, Config{})
	for _, token := range []string{"", "agn_x", "a.b.c"} {
		_, err := authorize(t, s, token)
		bare(t, token, err, relay.ErrUnauthorized)
		if _, found := s.Cached([]byte(token)); found {
			t.Error("found")
		}
	}
	if _, _, err := s.CreateToken(t.Context(), TokenSpec{}); err == nil {
		t.Error("a token was made")
	}
	if err := s.Revoke(t.Context(), "x"); err == nil {
		t.Error("a token was revoked")
	}
	if err := s.Load(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	s.Stats()
}
