package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

const (
	issuerURL = "https://securetoken.example/project-1"
	keysURL   = "https://keys.example/v1/jwk/project@system.example"
)

// signKey is a private key as an issuer holds it.
type signKey struct {
	kid  string
	alg  string
	priv any
}

var testRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newKey(t testing.TB, kid, alg string) *signKey {
	t.Helper()
	var priv any
	var err error
	switch alg {
	case RS256:
		priv, err = testRSA() // one for all tests: making it takes long
	case ES256:
		priv, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, priv, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &signKey{kid, alg, priv}
}

func (k *signKey) public() crypto.PublicKey { return k.priv.(crypto.Signer).Public() }

// jwk is the public half as an issuer publishes it.
func (k *signKey) jwk() map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	out := map[string]any{"kid": k.kid, "alg": k.alg, "use": "sig"}
	switch p := k.public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", b64(p.N.Bytes()), b64(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		raw, err := p.Bytes()
		if err != nil {
			panic(err)
		}
		out["kty"], out["crv"], out["x"], out["y"] = "EC", "P-256", b64(raw[1:33]), b64(raw[33:])
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", b64(p)
	}
	return out
}

func (k *signKey) pem(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// sign makes a token; header fields in more replace the usual ones.
func sign(t testing.TB, alg string, priv any, header, claims map[string]any) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(claims))
	for name, v := range header {
		tok.Header[name] = v
		if v == nil {
			delete(tok.Header, name)
		}
	}
	text, err := tok.SignedString(priv)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (k *signKey) sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	return sign(t, k.alg, k.priv, map[string]any{"kid": k.kid}, claims)
}

// fakeIssuer answers as an OpenID issuer of Firebase's shape does: its
// configuration at the issuer's URL, its keys on another host.
type fakeIssuer struct {
	mu          sync.Mutex
	keys        []*signKey
	extra       []any // more entries of the key set
	down        bool
	body        []byte // instead of the key set
	config      []byte // instead of the configuration
	cache       string // Cache-Control
	keyFetches  int
	confFetches int
	others      []string // anything else that was asked for
	hold        chan struct{}
}

func (f *fakeIssuer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeIssuer) fetches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keyFetches
}

func (f *fakeIssuer) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var body []byte
	switch req.URL.String() {
	case issuerURL + "/.well-known/openid-configuration":
		f.confFetches++
		body, _ = json.Marshal(map[string]any{"issuer": issuerURL, "jwks_uri": keysURL, "response_types_supported": []string{"id_token"}})
		if f.config != nil {
			body = f.config
		}
	case keysURL:
		f.keyFetches++
		list := append([]any{}, f.extra...)
		for _, k := range f.keys {
			list = append(list, k.jwk())
		}
		body, _ = json.Marshal(map[string]any{"keys": list})
		if f.body != nil {
			body = f.body
		}
	default:
		f.others = append(f.others, req.URL.String())
		return nil, fmt.Errorf("no such host %s", req.URL.Host)
	}
	if f.down {
		return nil, fmt.Errorf("dial: connection refused")
	}
	h := http.Header{}
	if f.cache != "" {
		h.Set("Cache-Control", f.cache)
	}
	return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(bytes.NewReader(body)), Request: req}, nil
}

func claimsAt(clk *clock) map[string]any {
	now := clk.now().Unix()
	return map[string]any{"iss": issuerURL, "aud": "project-1", "sub": "uid-1", "iat": now, "exp": now + 3600}
}

func with(claims map[string]any, pairs ...any) map[string]any {
	out := map[string]any{}
	for k, v := range claims {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
		if pairs[i+1] == nil {
			delete(out, pairs[i].(string))
		}
	}
	return out
}

func TestBadIssuersAreRefusedAtTheStart(t *testing.T) {
	rsaKey, es := newKey(t, "", RS256), newKey(t, "", ES256)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	der384, _ := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	private, _ := x509.MarshalPKCS8PrivateKey(es.priv)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	secret := bytes.Repeat([]byte("s"), 32)
	aud := []string{"x"}
	for name, c := range map[string][]Issuer{
		"nothing":             {{}},
		"short secret":        {{Secret: []byte("hunter2")}},
		"two sources":         {{Secret: secret, PublicKeys: es.pem(t)}},
		"secret and url":      {{Secret: secret, JWKSURL: keysURL, Issuer: issuerURL, Audience: aud}},
		"no audience":         {{Issuer: issuerURL}},
		"empty audience":      {{Issuer: issuerURL, Audience: []string{""}}},
		"url without issuer":  {{JWKSURL: keysURL, Audience: aud}},
		"plain http":          {{Issuer: "http://issuer.example", Audience: aud}},
		"http keys":           {{Issuer: issuerURL, JWKSURL: "http://keys.example/", Audience: aud}},
		"http looks local":    {{Issuer: issuerURL, JWKSURL: "http://127.0.0.1.example/", Audience: aud}},
		"http user is local":  {{Issuer: issuerURL, JWKSURL: "http://localhost@keys.example/", Audience: aud}},
		"file":                {{Issuer: issuerURL, JWKSURL: "file:///etc/passwd", Audience: aud}},
		"no url":              {{Issuer: "my issuer", Audience: aud}},
		"leeway":              {{Secret: secret, Leeway: 61e9}},
		"template":            {{Secret: secret, Template: &Grants{Agents: []string{"{sub}//"}}}},
		"template role":       {{Secret: secret, Template: &Grants{Roles: []string{"god"}}}},
		"no pem":              {{PublicKeys: []byte("ssh-ed25519 AAAA")}},
		"small rsa":           {{PublicKeys: block("PUBLIC KEY", small)}},
		"wrong curve":         {{PublicKeys: block("PUBLIC KEY", der384)}},
		"private key":         {{PublicKeys: block("PRIVATE KEY", private)}},
		"damaged key":         {{PublicKeys: block("PUBLIC KEY", der384[:40])}},
		"more than pem":       {{PublicKeys: append(rsaKey.pem(t), "rest"...)}},
		"nine keys":           {{PublicKeys: bytes.Repeat(es.pem(t), 9)}},
		"two without a name":  {{Secret: secret}, {PublicKeys: es.pem(t)}},
		"one issuer twice":    {{Secret: secret, Issuer: "a"}, {PublicKeys: es.pem(t), Issuer: "a"}},
		"negative leeway":     {{Secret: secret, Leeway: -1}},
		"keys with a user in": {{Issuer: issuerURL, JWKSURL: "https://u:p@keys.example/", Audience: aud}},
	} {
		_, err := New(Config{Issuers: c})
		if err == nil {
			t.Errorf("%s: was taken", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
	for name, c := range map[string][]Issuer{
		"secret":            {{Secret: secret}},
		"pem":               {{PublicKeys: append(rsaKey.pem(t), es.pem(t)...)}},
		"discovery":         {{Issuer: issuerURL, Audience: aud}},
		"local":             {{Issuer: "http://127.0.0.1:9/x", Audience: aud}, {Issuer: "http://[::1]:9", Audience: aud}, {Issuer: "http://localhost:9", Audience: aud}},
		"named and without": {{Secret: secret, Issuer: "a"}, {PublicKeys: es.pem(t)}},
	} {
		if _, err := New(Config{Issuers: c}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
