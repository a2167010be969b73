package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"agentnet/app/relay"
)

// The tests in this file are the table of what must be refused although the
// issuer and its keys are known, with what must be taken beside it.

type jwtCase struct {
	name, token string
	want        error
	reason      string // the counter that a refusal adds to
}

// judge presents each token. None of them may make the service ask the issuer
// for anything but its keys, once.
func judge(t *testing.T, s *Service, f *fakeIssuer, cases []jwtCase) {
	t.Helper()
	for _, c := range cases {
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

// unsigned makes a token of raw parts.
func unsigned(header, claims string, sig []byte) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(header)) + "." + b64([]byte(claims)) + "." + b64(sig)
}

func TestJWTClaims(t *testing.T) {
	clk := newClock()
	es, ed := newKey(t, "es", ES256), newKey(t, "ed", EdDSA)
	s, f := firebase(t, clk, es, ed)
	good, now := claimsAt(clk), clk.now().Unix()
	header := func(k *signKey, pairs ...any) string {
		return sign(t, k.alg, k.priv, with(map[string]any{"kid": k.kid}, pairs...), good)
	}
	thief := newKey(t, "es", ES256)
	judge(t, s, f, []jwtCase{
		{"good", es.sign(t, good), nil, ""},
		{"good at+jwt", header(ed, "typ", "at+JWT"), nil, ""},
		{"no typ", header(ed, "typ", nil), nil, ""},
		{"expired within the leeway", es.sign(t, with(good, "exp", now-29)), nil, ""},
		{"not before within the leeway", es.sign(t, with(good, "nbf", now+29)), nil, ""},
		{"several audiences", es.sign(t, with(good, "aud", []string{"a", "project-1"})), nil, ""},
		{"no kid, one key of the kind", header(ed, "kid", nil), nil, ""},

		{"expired", es.sign(t, with(good, "exp", now-31)), relay.ErrTokenExpired, "expired"},
		{"expired for somebody else", es.sign(t, with(good, "exp", now-31, "aud", "x")), relay.ErrUnauthorized, "claims"},
		{"expired and forged", thief.sign(t, with(good, "exp", now-31)), relay.ErrUnauthorized, "signature"},
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
	})
}

func TestJWTSignatures(t *testing.T) {
	clk := newClock()
	rs, es, ed := newKey(t, "rs", RS256), newKey(t, "es", ES256), newKey(t, "ed", EdDSA)
	s, f := firebase(t, clk, rs, es, ed)
	good := claimsAt(clk)
	if _, err := authorize(t, s, rs.sign(t, good)); err != nil {
		t.Fatal(err)
	}
	body := strings.Split(rs.sign(t, good), ".")[1]
	hsWith := func(secret []byte) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"rs"}`)) + "." + body
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	header := func(k *signKey, pairs ...any) string {
		return sign(t, k.alg, k.priv, with(map[string]any{"kid": k.kid}, pairs...), good)
	}
	der, err := x509.MarshalPKIXPublicKey(rs.public())
	if err != nil {
		t.Fatal(err)
	}
	thief := newKey(t, "thief", ES256)
	parts := strings.Split(es.sign(t, good), ".")
	other := strings.Split(es.sign(t, with(good, "sub", "admin")), ".")
	judge(t, s, f, []jwtCase{
		{"alg none", unsigned(`{"alg":"none","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "key"},
		{"alg None", unsigned(`{"alg":"None","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"alg empty", unsigned(`{"alg":"","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"alg missing", unsigned(`{"kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"alg twice", unsigned(`{"alg":"RS256","alg":"none","kid":"rs"}`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "key"},
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
	})
}

func TestJWTShapes(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, f := firebase(t, clk, es)
	good := claimsAt(clk)
	signed := es.sign(t, good)
	parts := strings.Split(signed, ".")
	judge(t, s, f, []jwtCase{
		{"good", signed, nil, ""},
		{"padding", signed + "=", relay.ErrUnauthorized, "malformed"},
		{"line end inside", signed[:len(signed)-4] + "\n" + signed[len(signed)-4:], relay.ErrUnauthorized, "malformed"},
		{"space at the end", signed + " ", relay.ErrUnauthorized, "malformed"},
		{"Bearer before", "Bearer " + signed, relay.ErrUnauthorized, "malformed"},
		{"encrypted (five parts)", "a.b.c.d.e", relay.ErrUnauthorized, "malformed"},
		{"two parts", parts[0] + "." + parts[1], relay.ErrUnauthorized, "malformed"},
		{"dots", "..", relay.ErrUnauthorized, "malformed"},
		{"empty", "", relay.ErrUnauthorized, "malformed"},
		{"NUL", "\x00.\x00.\x00", relay.ErrUnauthorized, "malformed"},
		{"claims are a list", unsigned(`{"alg":"RS256","kid":"rs"}`, `[1]`, nil), relay.ErrUnauthorized, "malformed"},
		{"claims are deep", unsigned(`{"alg":"RS256","kid":"rs"}`, strings.Repeat(`[`, 5000), nil), relay.ErrUnauthorized, "malformed"},
		{"claims are null", unsigned(`{"alg":"RS256","kid":"rs"}`, `null`, nil), relay.ErrUnauthorized, "issuer"},
		{"header is null", unsigned(`null`, claimsJSON(t, good), nil), relay.ErrUnauthorized, "malformed"},
		{"8 KiB and a byte", strings.Repeat("x", maxJWT+1), relay.ErrUnauthorized, "too_large"},
		{"a mebibyte", strings.Repeat("x.", 1<<19), relay.ErrUnauthorized, "too_large"},
		{"an opaque token where none are taken", "agn_0123456789ab_x", relay.ErrUnauthorized, "malformed"},
	})
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
