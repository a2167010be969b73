package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
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

// TestJWTMatrix is the table of what must be refused although a key is known.
func TestJWTMatrix(t *testing.T) {
	clk := newClock()
	rs, es, ed := newKey(t, "rs", RS256), newKey(t, "es", ES256), newKey(t, "ed", EdDSA)
	s, f := firebase(t, clk, rs, es, ed)
	good := claimsAt(clk)
	now := clk.now().Unix()
	if _, err := authorize(t, s, rs.sign(t, good)); err != nil {
		t.Fatal(err)
	}
	raw := func(header, claims string, sig []byte) string {
		b64 := base64.RawURLEncoding.EncodeToString
		return b64([]byte(header)) + "." + b64([]byte(claims)) + "." + b64(sig)
	}
	unsigned := strings.SplitAfter(rs.sign(t, good), ".")[1]
	hsWith := func(secret []byte) string {
		body := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"rs"}`)) + "." + strings.TrimSuffix(unsigned, ".")
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(body))
		return body + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	header := func(k *signKey, pairs ...any) string {
		return sign(t, k.alg, k.priv, with(map[string]any{"kid": k.kid}, pairs...), good)
	}
	der, err := x509.MarshalPKIXPublicKey(rs.public())
	if err != nil {
		t.Fatal(err)
	}
	thief := newKey(t, "thief", ES256)
	signed := es.sign(t, good)
	parts := strings.Split(signed, ".")
	other := strings.Split(es.sign(t, with(good, "sub", "admin")), ".")

	for _, c := range []struct {
		name, token string
		want        error
		reason      string
	}{
		{"good", es.sign(t, good), nil, ""},
		{"good at+jwt", header(ed, "typ", "at+JWT"), nil, ""},
		{"no typ", header(ed, "typ", nil), nil, ""},
		{"expired within the leeway", es.sign(t, with(good, "exp", now-29)), nil, ""},
		{"not before within the leeway", es.sign(t, with(good, "nbf", now+29)), nil, ""},
		{"several audiences", es.sign(t, with(good, "aud", []string{"a", "project-1"})), nil, ""},
		{"no kid, one key of the kind", header(ed, "kid", nil), nil, ""},

		{"expired", es.sign(t, with(good, "exp", now-31)), relay.ErrTokenExpired, "expired"},
		{"expired for somebody else", es.sign(t, with(good, "exp", now-31, "aud", "x")), relay.ErrUnauthorized, "claims"},
		{"expired and forged", thief.sign(t, with(good, "exp", now-31))[:20], relay.ErrUnauthorized, "malformed"},
		{"no expiry", es.sign(t, with(good, "exp", nil)), relay.ErrUnauthorized, "claims"},
		{"expiry is text", es.sign(t, with(good, "exp", "tomorrow")), relay.ErrUnauthorized, "claims"},
		{"expiry without end", es.sign(t, with(good, "exp", 1e300)), relay.ErrUnauthorized, "claims"},
		{"expiry in the year 9000", es.sign(t, with(good, "exp", 221845392000)), relay.ErrUnauthorized, "claims"},
		{"not before tomorrow", es.sign(t, with(good, "nbf", now+31)), relay.ErrUnauthorized, "claims"},
		{"other audience", es.sign(t, with(good, "aud", "project-2")), relay.ErrUnauthorized, "claims"},
		{"audience that only begins so", es.sign(t, with(good, "aud", "project-11")), relay.ErrUnauthorized, "claims"},
		{"no audience", es.sign(t, with(good, "aud", nil)), relay.ErrUnauthorized, "claims"},
		{"other issuer", es.sign(t, with(good, "iss", issuerURL+"/")), relay.ErrUnauthorized, "issuer"},
		{"no issuer", es.sign(t, with(good, "iss", nil)), relay.ErrUnauthorized, "issuer"},
		{"issuer is a number", es.sign(t, with(good, "iss", 7)), relay.ErrUnauthorized, "issuer"},
		{"no subject", es.sign(t, with(good, "sub", nil)), relay.ErrUnauthorized, "claims"},
		{"subject is a number", es.sign(t, with(good, "sub", 7)), relay.ErrUnauthorized, "claims"},
		{"long subject", es.sign(t, with(good, "sub", strings.Repeat("s", 101))), relay.ErrUnauthorized, "claims"},

		{"alg none", raw(`{"alg":"none","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "key"},
		{"alg None", raw(`{"alg":"None","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"alg empty", raw(`{"alg":"","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"alg missing", raw(`{"kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"alg twice", raw(`{"alg":"RS256","alg":"none","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "key"},
		{"no signature", parts[0] + "." + parts[1] + ".", relay.ErrUnauthorized, "signature"},
		{"HS256 with the public key (PEM)", hsWith(rs.pem(t)), relay.ErrUnauthorized, "key"},
		{"HS256 with the public key (DER)", hsWith(der), relay.ErrUnauthorized, "key"},
		{"HS256 with no secret", hsWith(nil), relay.ErrUnauthorized, "key"},
		{"RS512 with the right key", sign(t, "RS512", rs.priv, map[string]any{"kid": "rs"}, good), relay.ErrUnauthorized, "key"},
		{"PS256 with the right key", sign(t, "PS256", rs.priv, map[string]any{"kid": "rs"}, good), relay.ErrUnauthorized, "key"},
		{"EC signature under an RSA name", sign(t, ES256, es.priv, map[string]any{"kid": "rs"}, good), relay.ErrUnauthorized, "key"},
		{"another's key under a known name", sign(t, ES256, thief.priv, map[string]any{"kid": "es"}, good), relay.ErrUnauthorized, "signature"},
		{"another's key without a name", sign(t, ES256, thief.priv, map[string]any{"kid": nil}, good), relay.ErrUnauthorized, "signature"},
		{"claims exchanged", parts[0] + "." + other[1] + "." + parts[2], relay.ErrUnauthorized, "signature"},
		{"zero EC signature", parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), relay.ErrUnauthorized, "signature"},

		{"jwk in the header", sign(t, ES256, thief.priv, map[string]any{"kid": "es", "jwk": thief.jwk()}, good), relay.ErrUnauthorized, "signature"},
		{"jku in the header", sign(t, ES256, thief.priv, map[string]any{"kid": "es", "jku": "https://thief.example/keys"}, good), relay.ErrUnauthorized, "signature"},
		{"x5u in the header", sign(t, ES256, thief.priv, map[string]any{"kid": "es", "x5u": "https://thief.example/cert"}, good), relay.ErrUnauthorized, "signature"},
		{"critical extension", header(es, "crit", []string{"exp"}), relay.ErrUnauthorized, "malformed"},
		{"b64 false", header(es, "b64", false, "crit", []string{"b64"}), relay.ErrUnauthorized, "malformed"},
		{"kid is a number", header(es, "kid", 7), relay.ErrUnauthorized, "malformed"},
		{"kid is an object", header(es, "kid", map[string]any{"a": 1}), relay.ErrUnauthorized, "malformed"},
		{"long kid", header(es, "kid", strings.Repeat("k", 257)), relay.ErrUnauthorized, "malformed"},
		{"made for logging out", header(es, "typ", "logout+jwt"), relay.ErrUnauthorized, "malformed"},
		{"typ is a number", header(es, "typ", 1), relay.ErrUnauthorized, "malformed"},

		{"padding", signed + "=", relay.ErrUnauthorized, "malformed"},
		{"line end inside", signed[:len(signed)-4] + "\n" + signed[len(signed)-4:], relay.ErrUnauthorized, "malformed"},
		{"space at the end", signed + " ", relay.ErrUnauthorized, "malformed"},
		{"Bearer before", "Bearer " + signed, relay.ErrUnauthorized, "malformed"},
		{"encrypted (five parts)", "a.b.c.d.e", relay.ErrUnauthorized, "malformed"},
		{"two parts", parts[0] + "." + parts[1], relay.ErrUnauthorized, "malformed"},
		{"dots", "..", relay.ErrUnauthorized, "malformed"},
		{"empty", "", relay.ErrUnauthorized, "malformed"},
		{"NUL", "\x00.\x00.\x00", relay.ErrUnauthorized, "malformed"},
		{"claims are a list", raw(`{"alg":"RS256","kid":"rs"}`, `[1]`, nil), relay.ErrUnauthorized, "malformed"},
		{"claims are deep", raw(`{"alg":"RS256","kid":"rs"}`, strings.Repeat(`[`, 5000), nil), relay.ErrUnauthorized, "malformed"},
		{"claims are null", raw(`{"alg":"RS256","kid":"rs"}`, `null`, nil), relay.ErrUnauthorized, "issuer"},
		{"header is null", raw(`null`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"8 KiB and a byte", strings.Repeat("x", maxJWT+1), relay.ErrUnauthorized, "too_large"},
		{"a mebibyte", strings.Repeat("x.", 1<<19), relay.ErrUnauthorized, "too_large"},
		{"an opaque token where none are taken", "agn_0123456789ab_x", relay.ErrUnauthorized, "malformed"},
	} {
		before := s.Stats().Refused
		id, err := authorize(t, s, c.token)
		bare(t, c.name, err, c.want)
		if _, found := s.Cached([]byte(c.token)); (id != nil) != (c.want == nil) || found != (c.want == nil) {
			t.Errorf("%s: got identity %v, in memory afterwards %v", c.name, id, found)
		}
		if c.reason != "" && s.Stats().Refused[c.reason] != before[c.reason]+1 {
			t.Errorf("%s: not counted as %s: %v", c.name, c.reason, s.Stats().Refused)
		}
	}
	if f.keyFetches != 1 || f.confFetches != 1 || len(f.others) != 0 {
		t.Errorf("keys were fetched %d times, the configuration %d, and %v", f.keyFetches, f.confFetches, f.others)
	}
}

func claimsJSON(t testing.TB, claims map[string]any) string {
	t.Helper()
	text := sign(t, HS256, []byte("x"), nil, claims)
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
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
			s.jwts.cache.mu.Lock()
			_, ok := s.jwts.cache.m[sha256.Sum256([]byte(tok))]
			s.jwts.cache.mu.Unlock()
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
