package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"agentnet/app/relay"
)

// firebase is a service that takes tokens of an issuer of Firebase's shape.
func firebase(t testing.TB, clk *clock, keys ...*signKey) (*Service, *fakeIssuer) {
	t.Helper()
	f := &fakeIssuer{keys: keys}
	return newService(t, Config{
		Issuers: []Issuer{{Issuer: issuerURL, Audience: []string{"project-1"}}}, Transport: f, Now: clk.now,
	}), f
}

func TestEveryAlgorithmFromEverySource(t *testing.T) {
	clk := newClock()
	secret := bytes.Repeat([]byte("0123456789abcdef"), 2)
	for _, alg := range []string{RS256, ES256, EdDSA} {
		k := newKey(t, "key-1", alg)
		s, f := firebase(t, clk, newKey(t, "key-0", ES256), k)
		token := k.sign(t, claimsAt(clk))
		id, err := authorize(t, s, token)
		if err != nil || !id.Agents.Match("uid-1") || !id.Agents.Match("uid-1/x") || id.Agents.Match("uid-2") || id.Subject != "uid-1" {
			t.Errorf("%s by discovery: got %+v, %v", alg, id, err)
		}
		if f.keyFetches != 1 || f.confFetches != 1 {
			t.Errorf("%s: fetched keys %d and configuration %d times, want 1", alg, f.keyFetches, f.confFetches)
		}
		if again, found := s.Cached([]byte(token)); !found || again != id {
			t.Errorf("%s: not in memory afterwards", alg)
		}
		if !strings.HasPrefix(id.Token, "jwt:") || len(id.Token) != 20 {
			t.Errorf("%s: public name %q", alg, id.Token)
		}
		pemmed := newService(t, Config{Now: clk.now, Issuers: []Issuer{{PublicKeys: append(newKey(t, "", ES256).pem(t), k.pem(t)...)}}})
		if _, err := authorize(t, pemmed, token); err != nil {
			t.Errorf("%s by PEM: %v", alg, err)
		}
	}
	hs := newService(t, Config{Now: clk.now, Issuers: []Issuer{{Issuer: issuerURL, Secret: secret}}})
	if _, err := authorize(t, hs, sign(t, HS256, secret, nil, claimsAt(clk))); err != nil {
		t.Errorf("HS256: %v", err)
	}
}

func TestSeveralIssuersAreKeptApart(t *testing.T) {
	clk := newClock()
	secret, other := bytes.Repeat([]byte("a"), 32), bytes.Repeat([]byte("b"), 32)
	es := newKey(t, "es", ES256)
	f := &fakeIssuer{keys: []*signKey{es}}
	s := newService(t, Config{Now: clk.now, Transport: f, Issuers: []Issuer{
		{Issuer: issuerURL, Audience: []string{"project-1"}},
		{Issuer: "ours", Secret: secret},
		{Secret: other},
	}})
	claims := claimsAt(clk)
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"fetched", es.sign(t, claims), nil},
		{"secret", sign(t, HS256, secret, nil, with(claims, "iss", "ours")), nil},
		{"without a name", sign(t, HS256, other, nil, with(claims, "iss", nil)), nil},
		{"any name", sign(t, HS256, other, nil, with(claims, "iss", "who")), nil},
		{"fetched key, our name", es.sign(t, with(claims, "iss", "ours")), relay.ErrUnauthorized},
		{"our secret, fetched name", sign(t, HS256, secret, map[string]any{"kid": "es"}, claims), relay.ErrUnauthorized},
		{"nameless secret, our name", sign(t, HS256, other, nil, with(claims, "iss", "ours")), relay.ErrUnauthorized},
	} {
		_, err := authorize(t, s, c.token)
		bare(t, c.name, err, c.want)
	}
}

func TestAJWTEndsWithItsLeeway(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, _ := firebase(t, clk, es)
	token := es.sign(t, claimsAt(clk))
	id, err := authorize(t, s, token)
	if err != nil || !id.Expires.Equal(noon.Add(time.Hour+usualLeeway)) {
		t.Fatalf("got %+v, %v, want the end at one hour and the leeway", id, err)
	}
	clk.advance(time.Hour + usualLeeway - time.Second)
	if _, found := s.Cached([]byte(token)); !found {
		t.Error("not valid a second before")
	}
	clk.advance(time.Second)
	if _, found := s.Cached([]byte(token)); found {
		t.Error("still in memory after its end")
	}
	_, err = authorize(t, s, token)
	bare(t, "after its end", err, relay.ErrTokenExpired)
	if n := s.Stats().JWTs; n != 0 {
		t.Errorf("%d tokens in memory", n)
	}
}

func TestOneTokenWithTwoSignaturesHasOneName(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, _ := firebase(t, clk, es)
	token := es.sign(t, claimsAt(clk))
	cut := strings.LastIndexByte(token, '.') + 1
	sig, _ := base64.RawURLEncoding.DecodeString(token[cut:])
	turned := new(big.Int).Sub(p256Order(), new(big.Int).SetBytes(sig[32:]))
	turned.FillBytes(sig[32:]) // (r, n-s) is valid whenever (r, s) is
	second := token[:cut] + base64.RawURLEncoding.EncodeToString(sig)
	a, errA := authorize(t, s, token)
	b, errB := authorize(t, s, second)
	if errA != nil || errB != nil || a.Token != b.Token {
		t.Errorf("got %v %v %v %v, want one name for both", a, errA, b, errB)
	}
}

func p256Order() *big.Int {
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	return n
}

func TestVerifiedJWTsAreBounded(t *testing.T) {
	clk := newClock()
	secret := bytes.Repeat([]byte("a"), 32)
	s := newService(t, Config{Now: clk.now, MaxJWTs: 3, Issuers: []Issuer{{Secret: secret}}})
	var tokens []string
	for i := range 5 {
		tokens = append(tokens, sign(t, HS256, secret, nil, with(claimsAt(clk), "n", i)))
	}
	known := func() (list []int) {
		for i, tok := range tokens {
			s.jwts.Load().cache.mu.Lock()
			_, ok := s.jwts.Load().cache.m[sha256.Sum256([]byte(tok))]
			s.jwts.Load().cache.mu.Unlock()
			if ok {
				list = append(list, i)
			}
		}
		return list
	}
	for i := range 3 {
		if _, err := authorize(t, s, tokens[i]); err != nil {
			t.Fatal(err)
		}
	}
	s.Cached([]byte(tokens[0])) // used last
	for i := 3; i < 5; i++ {
		if _, err := authorize(t, s, tokens[i]); err != nil {
			t.Fatal(err)
		}
	}
	if got := known(); !slices.Equal(got, []int{0, 3, 4}) {
		t.Errorf("in memory: got %v, want those used last", got)
	}
	clk.advance(2 * time.Hour)
	s.tidy(t.Context())
	if n := s.Stats().JWTs; n != 0 {
		t.Errorf("%d expired tokens stay in memory", n)
	}
}

func TestSignaturesWaitTheirTurn(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, _ := firebase(t, clk, es)
	token := es.sign(t, claimsAt(clk))
	for range cap(s.jwts.Load().slots) {
		s.jwts.Load().slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { _, err := s.Authorize(ctx, token); result <- err }()
	cancel()
	bare(t, "no turn before its deadline", <-result, relay.ErrAuthUnavailable)
	<-s.jwts.Load().slots
	for range 3 {
		if _, err := authorize(t, s, token); err != nil {
			t.Errorf("with a turn: %v", err)
		}
		s.jwts.Load().cache = newLRU(1)
	}
	if n := len(s.jwts.Load().slots); n != cap(s.jwts.Load().slots)-1 {
		t.Errorf("%d turns are taken, want those of the test", n)
	}
}

func FuzzJWT(f *testing.F) {
	clk := newClock()
	secret := bytes.Repeat([]byte("a"), 32)
	es := newKey(f, "es", ES256)
	is := &fakeIssuer{keys: []*signKey{es}}
	s, err := New(Config{Now: clk.now, Transport: http.RoundTripper(is), Issuers: []Issuer{
		{Issuer: issuerURL, Audience: []string{"project-1"}}, {Secret: secret}}})
	if err != nil {
		f.Fatal(err)
	}
	good := es.sign(f, claimsAt(clk))
	f.Add(good)
	f.Add(sign(f, HS256, secret, map[string]any{"kid": "../../"}, claimsAt(clk)))
	f.Add("e30.e30.")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		id, err := s.Authorize(t.Context(), token)
		if (id == nil) != (err != nil) {
			t.Fatalf("got %v and %v", id, err)
		}
		if err != nil && err != relay.ErrUnauthorized && err != relay.ErrTokenExpired && err != relay.ErrAuthUnavailable {
			t.Fatalf("an error of another kind: %v", err)
		}
		if id != nil && !signedByUs(token, secret, es) {
			t.Fatalf("a token was taken that nobody signed")
		}
		if n := is.fetches(); n > 1 {
			t.Fatalf("the keys were fetched %d times", n)
		}
	})
}

// signedByUs checks a signature without the code under test.
func signedByUs(token string, secret []byte, es *signKey) bool {
	for alg, k := range map[string]any{HS256: secret, ES256: es.public()} {
		_, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return k, nil }, jwt.WithValidMethods([]string{alg}), jwt.WithoutClaimsValidation())
		if err == nil {
			return true
		}
	}
	return false
}

// FuzzJWTHeader puts anything into a header and claims that are rightly signed:
// then only what they say decides.
func FuzzJWTHeader(f *testing.F) {
	clk := newClock()
	secret := bytes.Repeat([]byte("a"), 32)
	s, err := New(Config{Now: clk.now, Issuers: []Issuer{{Secret: secret}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"alg":"HS256"}`, `{"sub":"a","exp":99999999999}`)
	f.Add(`{"alg":"HS256","kid":"../../etc/passwd"}`, `{"exp":1795420900,"agentnet":{"agents":["*"],"roles":"admin"}}`)
	f.Add(`{"alg":"HS256","crit":[]}`, `{"exp":1e999}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		b64 := base64.RawURLEncoding.EncodeToString
		body := b64([]byte(header)) + "." + b64([]byte(claims))
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(body))
		id, err := s.Authorize(t.Context(), body+"."+b64(m.Sum(nil)))
		if (id == nil) != (err != nil) {
			t.Fatalf("got %v and %v", id, err)
		}
		if id != nil && (id.Expires.Before(noon) || id.Expires.Year() > 9999 || len(id.Agents)+len(id.Roles) == 0) {
			t.Fatalf("a token was taken as %+v", id)
		}
	})
}
