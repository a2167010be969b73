package oidc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/account"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An issuer is a small OpenID provider on a real socket: discovery, codes with
// PKCE, signed tokens, keys and userinfo.
type issuer struct {
	t      *testing.T
	server *httptest.Server
	key    *rsa.PrivateKey

	mu       sync.Mutex
	codes    map[string]url.Values // code -> what it was asked for with
	claims   map[string]any        // of the next id token, over the usual ones
	info     map[string]any        // userinfo; nil: there is no such place
	down     bool
	lookedUp int
	signWith *rsa.PrivateKey // nil: the right key
	alg      jwt.SigningMethod
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, codes: map[string]url.Values{}, alg: jwt.SigningMethodRS256}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("/auth", i.authorize)
	mux.HandleFunc("/token", i.token)
	mux.HandleFunc("/keys", i.keys)
	mux.HandleFunc("/userinfo", i.userinfo)
	i.server = httptest.NewServer(mux)
	t.Cleanup(i.server.Close)
	return i
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (i *issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lookedUp++
	if i.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	at := i.server.URL
	doc := map[string]any{"issuer": at, "authorization_endpoint": at + "/auth", "token_endpoint": at + "/token", "jwks_uri": at + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256"}}
	if i.info != nil {
		doc["userinfo_endpoint"] = at + "/userinfo"
	}
	answer(w, doc)
}

func (i *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	q := r.URL.Query()
	code := rand.Text()
	i.codes[code] = q
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "bad redirect", http.StatusBadRequest)
		return
	}
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.server.URL}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	code := r.FormValue("code")
	asked, ok := i.codes[code]
	delete(i.codes, code)
	id, secret, _ := r.BasicAuth()
	digest := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	switch {
	case !ok, id != "relay", secret != "s3cret", r.FormValue("redirect_uri") != asked.Get("redirect_uri"),
		asked.Get("code_challenge_method") != "S256", asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(digest[:]):
		w.WriteHeader(http.StatusBadRequest)
		answer(w, map[string]string{"error": "invalid_grant"})
		return
	}
	claims := jwt.MapClaims{"iss": i.server.URL, "aud": "relay", "sub": "u-1", "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"preferred_username": "Anna", "groups": []string{"relay-admins"}}
	for name, v := range i.claims {
		if v == nil {
			delete(claims, name)
		} else {
			claims[name] = v
		}
	}
	key := any(i.key)
	if i.signWith != nil {
		key = i.signWith
	}
	if i.alg == jwt.SigningMethodNone {
		key = jwt.UnsafeAllowNoneSignatureType
	}
	if i.alg == jwt.SigningMethodHS256 {
		key = []byte("s3cret")
	}
	signed := jwt.NewWithClaims(i.alg, claims)
	signed.Header["kid"] = "k1"
	raw, err := signed.SignedString(key)
	if err != nil {
		i.t.Error(err)
	}
	answer(w, map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": raw})
}

func (i *issuer) keys(w http.ResponseWriter, _ *http.Request) {
	b64 := base64.RawURLEncoding
	answer(w, map[string]any{"keys": []any{map[string]string{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1",
		"n": b64.EncodeToString(i.key.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(i.key.E)).Bytes())}}})
}

func (i *issuer) userinfo(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer access" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer(w, i.info)
}

// people remembers who was let in.
type people struct{ got []account.Vouched }

func (p *people) SignInVouched(_ context.Context, v account.Vouched, _ account.Attempt) (account.Ticket, error) {
	p.got = append(p.got, v)
	return account.Ticket{Session: "s", Name: v.Name, Role: v.Role}, nil
}

const back = "http://127.0.0.1:9/login/outside/back"

func newProvider(t *testing.T, i *issuer, change ...func(*Config)) (*Provider, *people) {
	t.Helper()
	who := &people{}
	cfg := Config{Issuer: i.server.URL, ClientID: "relay", ClientSecret: "s3cret", Scopes: []string{"profile"}, People: who,
		Groups: account.Groups{Admins: []string{"relay-admins"}, Operators: []string{"ops"}, Viewers: []string{"all"}}}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, who
}

// walk sends a browser to the provider and returns what it comes back with.
func walk(t *testing.T, to string) url.Values {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	came, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(came.String(), back) {
		t.Fatalf("the provider sent the browser to %q", resp.Header.Get("Location"))
	}
	return came.Query()
}

func TestSignIn(t *testing.T) {
	i := newIssuer(t)
	p, who := newProvider(t, i)
	to, remember, err := p.Begin(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	asked, _ := url.Parse(to)
	q := asked.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("state") == "" ||
		q.Get("scope") != "openid profile" || strings.Contains(to, strings.Split(remember, ".")[2]) {
		t.Errorf("got %v, want a code flow with state, nonce and a challenge", q)
	}
	came := walk(t, to)
	ticket, err := p.Finish(t.Context(), back, remember, came.Get, account.Attempt{})
	if err != nil || ticket.Session != "s" {
		t.Fatalf("got %+v, %v", ticket, err)
	}
	want := account.Vouched{Key: i.server.URL + " u-1", Name: "Anna", Role: account.Admin, How: "oidc"}
	if len(who.got) != 1 || who.got[0] != want {
		t.Errorf("got %+v, want %+v", who.got, want)
	}
	if _, err := p.Finish(t.Context(), back, remember, came.Get, account.Attempt{}); err == nil {
		t.Error("a code was good twice")
	}
}

func TestRefusals(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		issuer func(*issuer)
		came   func(q url.Values, remember *string)
		want   string
	}{
		{name: "another state", came: func(q url.Values, _ *string) { q.Set("state", "x") }, want: "not begun in this browser"},
		{name: "no state", came: func(q url.Values, _ *string) { q.Del("state") }, want: "not begun in this browser"},
		{name: "nothing remembered", came: func(_ url.Values, r *string) { *r = "" }, want: "not begun in this browser"},
		{name: "empty words remembered", came: func(q url.Values, r *string) { *r = ".."; q.Set("state", "") }, want: "not begun in this browser"},
		{name: "another verifier", came: func(_ url.Values, r *string) { *r += "x" }, want: "did not take the code"},
		{name: "a foreign code", came: func(q url.Values, _ *string) { q.Set("code", "x") }, want: "did not take the code"},
		{name: "no code", came: func(q url.Values, _ *string) { q.Del("code") }, want: "no code"},
		{name: "another issuer's answer", came: func(q url.Values, _ *string) { q.Set("iss", "https://evil.example") }, want: "another issuer"},
		{name: "the person said no", came: func(q url.Values, _ *string) { q.Set("error", "access_denied") }, want: "did not let you in"},
		{name: "the provider failed", came: func(q url.Values, _ *string) { q.Set("error", "server_error") }, want: "server_error"},
		{name: "nonce of another sign-in", issuer: func(i *issuer) { i.claims = map[string]any{"nonce": "x"} }, want: "another sign-in"},
		{name: "no nonce", issuer: func(i *issuer) { i.claims = map[string]any{"nonce": nil} }, want: "another sign-in"},
		{name: "another audience", issuer: func(i *issuer) { i.claims = map[string]any{"aud": "elsewhere"} }, want: "not valid"},
		{name: "token of another issuer", issuer: func(i *issuer) { i.claims = map[string]any{"iss": "https://evil.example"} }, want: "not valid"},
		{name: "expired", issuer: func(i *issuer) { i.claims = map[string]any{"exp": time.Now().Add(-time.Hour).Unix()} }, want: "not valid"},
		{name: "signed by somebody else", issuer: func(i *issuer) { i.signWith = other }, want: "not valid"},
		{name: "not signed", issuer: func(i *issuer) { i.alg = jwt.SigningMethodNone }, want: "not valid"},
		{name: "signed with the client's secret", issuer: func(i *issuer) { i.alg = jwt.SigningMethodHS256 }, want: "not valid"},
		{name: "no subject", issuer: func(i *issuer) { i.claims = map[string]any{"sub": ""} }, want: "no subject"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t)
			if tt.issuer != nil {
				tt.issuer(i)
			}
			p, who := newProvider(t, i)
			to, remember, err := p.Begin(t.Context(), back)
			if err != nil {
				t.Fatal(err)
			}
			came := walk(t, to)
			if tt.came != nil {
				tt.came(came, &remember)
			}
			_, err = p.Finish(t.Context(), back, remember, came.Get, account.Attempt{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(who.got) != 0 {
				t.Errorf("got %v and %v let in, want an error with %q", err, who.got, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "eyJ")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestGroupsAndNames(t *testing.T) {
	tests := []struct {
		name   string
		claims map[string]any
		info   map[string]any
		want   account.Vouched
	}{
		{"operator", map[string]any{"groups": []string{"all", "ops"}}, nil, account.Vouched{Name: "Anna", Role: account.Operator}},
		{"one group as a word", map[string]any{"groups": "all"}, nil, account.Vouched{Name: "Anna", Role: account.Viewer}},
		{"none", map[string]any{"groups": []string{"relay-admins-not"}}, nil, account.Vouched{Name: "Anna"}},
		{"nonsense", map[string]any{"groups": map[string]any{"relay-admins": true}}, nil, account.Vouched{Name: "Anna"}},
		{"no name", map[string]any{"preferred_username": nil}, nil, account.Vouched{Name: "u-1", Role: account.Admin}},
		{"groups by userinfo", map[string]any{"groups": nil}, map[string]any{"sub": "u-1", "groups": []string{"ops"}}, account.Vouched{Name: "Anna", Role: account.Operator}},
		{"userinfo of somebody else", map[string]any{"groups": nil}, map[string]any{"sub": "u-2", "groups": []string{"relay-admins"}}, account.Vouched{Name: "Anna"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims, i.info = tt.claims, tt.info
			p, who := newProvider(t, i)
			to, remember, err := p.Begin(t.Context(), back)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Finish(t.Context(), back, remember, walk(t, to).Get, account.Attempt{}); err != nil {
				t.Fatal(err)
			}
			tt.want.Key, tt.want.How = i.server.URL+" u-1", "oidc"
			if who.got[0] != tt.want {
				t.Errorf("got %+v, want %+v", who.got[0], tt.want)
			}
		})
	}
}

func TestAProviderThatIsDownIsAskedAgain(t *testing.T) {
	i := newIssuer(t)
	i.down = true
	now := time.Now()
	p, _ := newProvider(t, i, func(c *Config) { c.Now = func() time.Time { return now } })
	for range 5 {
		if _, _, err := p.Begin(t.Context(), back); err == nil {
			t.Fatal("a provider that is down began a sign-in")
		}
	}
	if i.lookedUp != 1 {
		t.Errorf("got %d look-ups at once, want 1", i.lookedUp)
	}
	i.down = false
	now = now.Add(restTime)
	if _, _, err := p.Begin(t.Context(), back); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

func TestIssuers(t *testing.T) {
	for address, good := range map[string]bool{
		"https://id.example": true, "https://id.example/realms/a": true, "http://127.0.0.1:9": true, "http://localhost:9": true, "http://[::1]:9": true,
		"http://id.example": false, "http://127.0.0.1.evil.example": false, "ftp://id.example": false, "": false, "https://": false, "https://u:p@id.example": false, "https://id.example?x=y": false,
	} {
		_, err := New(Config{Issuer: address, ClientID: "relay", People: &people{}})
		if (err == nil) != good {
			t.Errorf("issuer %q: got %v, want good = %v", address, err, good)
		}
	}
	if _, err := New(Config{Issuer: "https://id.example", People: &people{}}); err == nil {
		t.Error("a provider without a client id was taken")
	}
}
