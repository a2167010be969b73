package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
)

func TestAFloodOfUnknownKeyNamesCostsTheIssuerOneFetchAMinute(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, f := firebase(t, clk, es)
	if _, err := authorize(t, s, es.sign(t, claimsAt(clk))); err != nil {
		t.Fatal(err)
	}
	thief := newKey(t, "", ES256)
	names := []string{"../../", "../../../../etc/passwd", "https://thief.example/keys", "es' OR 1=1 --", "es\x00", "ES", "{sub}", strings.Repeat("k", maxKid)}
	for minute := range 3 {
		clk.advance(askKeysEvery)
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				for i := range 30 {
					kid := fmt.Sprint("junk", n, i)
					if i < len(names) {
						kid = names[i]
					}
					token := sign(t, ES256, thief.priv, map[string]any{"kid": kid}, claimsAt(clk))
					if id, err := s.Authorize(t.Context(), token); id != nil || (err != relay.ErrUnauthorized && err != relay.ErrAuthUnavailable) {
						t.Errorf("kid %.20q: got %v, %v", kid, id, err)
					}
				}
			})
		}
		wg.Wait()
		if got, want := f.fetches(), minute+2; got != want {
			t.Errorf("minute %d: the keys were fetched %d times, want %d", minute, got, want)
		}
		if _, err := authorize(t, s, es.sign(t, claimsAt(clk))); err != nil {
			t.Errorf("a good token during the flood: %v", err)
		}
	}
	if len(f.others) != 0 {
		t.Errorf("a token made us ask for %v", f.others)
	}
}

func TestTokensThatNoKeyCouldVerifyCostNoFetch(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, f := firebase(t, clk, es)
	if _, err := authorize(t, s, es.sign(t, claimsAt(clk))); err != nil {
		t.Fatal(err)
	}
	clk.advance(2 * askKeysEvery)
	for name, token := range map[string]string{
		"HS256 without a key name":          sign(t, HS256, []byte("x"), map[string]any{"kid": nil}, claimsAt(clk)),
		"HS256 with an unknown one":         sign(t, HS256, []byte("x"), map[string]any{"kid": "new"}, claimsAt(clk)),
		"a known key, not of that kind":     sign(t, EdDSA, newKey(t, "", EdDSA).priv, map[string]any{"kid": "es"}, claimsAt(clk)),
		"an algorithm that nobody here has": sign(t, "HS512", []byte("x"), map[string]any{"kid": "new"}, claimsAt(clk)),
	} {
		_, err := authorize(t, s, token)
		bare(t, name, err, relay.ErrUnauthorized)
	}
	if n := f.fetches(); n != 1 {
		t.Errorf("the keys were fetched %d times, want once", n)
	}
}

func TestStaleKeysDoNotCountEvenWhenNobodySwept(t *testing.T) {
	clk := newClock()
	es := newKey(t, "es", ES256)
	s, f := firebase(t, clk, es)
	if _, err := authorize(t, s, es.sign(t, claimsAt(clk))); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.down = true })
	clk.advance(keepStale + time.Second)
	_, err := authorize(t, s, es.sign(t, claimsAt(clk)))
	bare(t, "a day without an answer", err, relay.ErrAuthUnavailable)
}

func TestRotation(t *testing.T) {
	clk := newClock()
	a, b := newKey(t, "a", ES256), newKey(t, "b", ES256)
	s, f := firebase(t, clk, a)
	old := a.sign(t, with(claimsAt(clk), "exp", clk.now().Add(24*time.Hour).Unix()))
	if _, err := authorize(t, s, old); err != nil {
		t.Fatal(err)
	}
	clk.advance(askKeysEvery)
	f.set(func() { f.keys = []*signKey{b} }) // a is withdrawn at once
	fresh := b.sign(t, claimsAt(clk))
	if _, err := authorize(t, s, fresh); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := authorize(t, s, a.sign(t, claimsAt(clk))); err != nil {
		t.Errorf("the old key just after: %v", err)
	}
	clk.advance(keepAbsent)
	s.jwts.Load().remotes()[0].sweep() // run does it when the time has come
	if _, found := s.Cached([]byte(old)); found {
		t.Error("a token of the withdrawn key is still known")
	}
	_, err := authorize(t, s, old)
	bare(t, "the old key later", err, relay.ErrUnauthorized)
	if _, found := s.Cached([]byte(fresh)); !found {
		t.Error("a token of the new key was forgotten")
	}

	// Another key under the same name: the one before ends at once.
	clk.advance(askKeysEvery)
	b2 := newKey(t, "b", ES256)
	f.set(func() { f.keys = []*signKey{b2} })
	if f := s.jwts.Load().remotes()[0].join(true); f != nil {
		<-f.done
	}
	if _, found := s.Cached([]byte(fresh)); found {
		t.Error("a token of an exchanged key is still known")
	}
	_, err = authorize(t, s, fresh)
	bare(t, "exchanged key", err, relay.ErrUnauthorized)
	if _, err := authorize(t, s, b2.sign(t, claimsAt(clk))); err != nil {
		t.Errorf("the key that took its name: %v", err)
	}
}

func TestAKeyNewerThanTheLastFetchIsNotCalledInvalid(t *testing.T) {
	clk := newClock()
	a, b := newKey(t, "a", ES256), newKey(t, "b", ES256)
	s, f := firebase(t, clk, a)
	thief := newKey(t, "junk", ES256)
	_, err := authorize(t, s, thief.sign(t, claimsAt(clk))) // takes this minute's fetch
	bare(t, "unknown, asked for", err, relay.ErrUnauthorized)
	f.set(func() { f.keys = append(f.keys, b) })
	token := b.sign(t, claimsAt(clk))
	_, err = authorize(t, s, token)
	bare(t, "unknown, not to be asked for now", err, relay.ErrAuthUnavailable) // the client tries again
	clk.advance(askKeysEvery)
	if _, err := authorize(t, s, token); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestIssuerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		es := newKey(t, "es", ES256)
		f := &fakeIssuer{keys: []*signKey{es}, down: true}
		book := &logBook{}
		s := newService(t, Config{Issuers: []Issuer{{Issuer: issuerURL, Audience: []string{"project-1"}}}, Transport: f, Logger: book.logger()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		token := func() string {
			now := time.Now().Unix()
			return es.sign(t, map[string]any{"iss": issuerURL, "aud": "project-1", "sub": "u", "exp": now + 3600})
		}
		time.Sleep(time.Second)
		_, err := s.Authorize(t.Context(), token())
		bare(t, "down from the start", err, relay.ErrAuthUnavailable)
		if st := s.Stats().Issuers; len(st) != 1 || st[0].Err == nil || st[0].Keys != 0 {
			t.Errorf("status: got %+v", st)
		}
		f.set(func() { f.down = false })
		time.Sleep(30 * time.Second) // it is tried again by itself
		if _, err := s.Authorize(t.Context(), token()); err != nil {
			t.Errorf("after it came: %v", err)
		}
		f.set(func() { f.down = true })
		time.Sleep(23 * time.Hour)
		if _, err := s.Authorize(t.Context(), token()); err != nil {
			t.Errorf("down for 23 hours: %v", err)
		}
		last := token()
		if _, err := s.Authorize(t.Context(), last); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		_, err = s.Authorize(t.Context(), token())
		bare(t, "down for 25 hours", err, relay.ErrAuthUnavailable)
		// One try in 5 minutes at most, once it is known to be down.
		if n := s.Stats().Fetches; n > 25*60/2 || n < 25*60/5/2 {
			t.Errorf("%d fetches in 25 hours", n)
		}
		f.set(func() { f.down = false })
		time.Sleep(maxRetry)
		if _, err := s.Authorize(t.Context(), token()); err != nil {
			t.Errorf("after it came back: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if strings.Contains(book.String(), last) {
			t.Error("the log holds a token")
		}
	})
}

func TestKeysAreFetchedAgainWhenTheIssuerSays(t *testing.T) {
	for cache, every := range map[string]time.Duration{
		"": usualKeep, "public, max-age=1200, must-revalidate": 20 * time.Minute, "max-age=0": minKeep, "max-age=99999999": maxKeep, "max-age=junk": usualKeep, "MAX-AGE=\"600\"": 10 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeIssuer{keys: []*signKey{newKey(t, "es", ES256)}, cache: cache}
			s := newService(t, Config{Issuers: []Issuer{{Issuer: issuerURL, Audience: []string{"project-1"}}}, Transport: f})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			time.Sleep(3*every + every/2)
			if got := f.fetches(); got != 4 {
				t.Errorf("Cache-Control %q: got %d fetches in 3.5 times %v, want 4", cache, got, every)
			}
			cancel()
			<-done
		})
	}
}

func TestWithdrawnKeysEndWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newKey(t, "a", ES256), newKey(t, "b", ES256)
		f := &fakeIssuer{keys: []*signKey{a, b}, cache: "max-age=3600"}
		s := newService(t, Config{Issuers: []Issuer{{Issuer: issuerURL, Audience: []string{"project-1"}}}, Transport: f})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		token := a.sign(t, map[string]any{"iss": issuerURL, "aud": "project-1", "sub": "u", "exp": time.Now().Unix() + 100_000})
		if _, err := s.Authorize(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.keys = f.keys[1:] })
		time.Sleep(time.Hour + keepAbsent/2)
		if _, found := s.Cached([]byte(token)); !found {
			t.Error("ended before its time")
		}
		time.Sleep(keepAbsent)
		if _, found := s.Cached([]byte(token)); found {
			t.Error("still valid although its key was withdrawn")
		}
		cancel()
		<-done
	})
}

func TestWhatAnIssuerMayAnswer(t *testing.T) {
	es := newKey(t, "es", ES256)
	set := func(keys ...any) []byte {
		b, _ := json.Marshal(map[string]any{"keys": keys})
		return b
	}
	many := make([]any, maxKeys+1)
	for i := range many {
		many[i] = es.jwk()
	}
	for _, c := range []struct {
		name         string
		keys, config []byte
		ok           bool
	}{
		{"usual", nil, nil, true},
		{"with strange entries", set(1, nil, "x", map[string]any{}, map[string]any{"kty": "oct", "kid": "es", "k": "c2VjcmV0"},
			map[string]any{"kty": "RSA", "kid": "r", "n": "", "e": ""}, map[string]any{"kty": "RSA", "n": "!!", "e": "AQAB"},
			map[string]any{"kty": "EC", "crv": "P-256", "kid": "x", "x": "AA", "y": "AA"}, es.jwk()), nil, true},
		{"no point of the curve", set(with(es.jwk(), "y", strings.Repeat("A", 43))), nil, false},
		{"for encryption", set(with(es.jwk(), "use", "enc")), nil, false},
		{"for wrapping", set(with(es.jwk(), "key_ops", []string{"wrapKey"})), nil, false},
		{"for verifying", set(with(es.jwk(), "key_ops", []string{"verify"}, "use", nil)), nil, true},
		{"another algorithm", set(with(es.jwk(), "alg", "ES512")), nil, false},
		{"no algorithm", set(with(es.jwk(), "alg", nil)), nil, true},
		{"only a secret", set(map[string]any{"kty": "oct", "kid": "es", "alg": "ES256", "k": "c2VjcmV0"}), nil, false},
		{"small RSA", set(map[string]any{"kty": "RSA", "kid": "es", "n": strings.Repeat("_", 170), "e": "AQAB"}), nil, false},
		{"large RSA", set(map[string]any{"kty": "RSA", "kid": "es", "n": strings.Repeat("_", 1400), "e": "AQAB"}), nil, false},
		{"RSA with exponent 1", set(map[string]any{"kty": "RSA", "kid": "es", "n": strings.Repeat("_", 342), "e": "AQ"}), nil, false},
		{"empty set", set(), nil, false},
		{"too many", set(many...), nil, false},
		{"no JSON", []byte("<html>"), nil, false},
		{"a list", []byte("[]"), nil, false},
		{"larger than a mebibyte", []byte(`{"keys":[` + strings.Repeat(" ", maxDocument) + `]}`), nil, false},
		{"configuration of another", nil, []byte(`{"issuer":"https://thief.example","jwks_uri":"` + keysURL + `"}`), false},
		{"keys over http", nil, []byte(`{"issuer":"` + issuerURL + `","jwks_uri":"http://keys.example/"}`), false},
		{"keys in a file", nil, []byte(`{"issuer":"` + issuerURL + `","jwks_uri":"file:///etc/passwd"}`), false},
		{"no place", nil, []byte(`{"issuer":"` + issuerURL + `"}`), false},
	} {
		clk := newClock()
		s, f := firebase(t, clk, es)
		f.body, f.config = c.keys, c.config
		_, err := authorize(t, s, es.sign(t, claimsAt(clk)))
		want := error(nil)
		if !c.ok {
			want = relay.ErrAuthUnavailable
		}
		bare(t, c.name, err, want)
		if len(f.others) > 0 {
			t.Errorf("%s: asked for %v", c.name, f.others)
		}
		secret := sign(t, HS256, []byte("secret"), map[string]any{"kid": "es"}, claimsAt(clk))
		if id, _ := authorize(t, s, secret); id != nil {
			t.Errorf("%s: a secret out of a key set was used", c.name)
		}
	}
	// What was good once is kept when the answer is bad.
	clk := newClock()
	s, f := firebase(t, clk, es)
	if _, err := authorize(t, s, es.sign(t, claimsAt(clk))); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.body = set() })
	if fl := s.jwts.Load().remotes()[0].join(true); fl != nil {
		<-fl.done
	}
	if _, err := authorize(t, s, es.sign(t, with(claimsAt(clk), "n", 2))); err != nil {
		t.Errorf("after an empty key set: %v", err)
	}
}

func TestCallersDoNotWaitForASlowIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		es := newKey(t, "es", ES256)
		f := &fakeIssuer{keys: []*signKey{es}, hold: make(chan struct{})}
		s := newService(t, Config{Issuers: []Issuer{{Issuer: issuerURL, Audience: []string{"project-1"}}}, Transport: f})
		token := es.sign(t, map[string]any{"iss": issuerURL, "aud": "project-1", "sub": "u", "exp": time.Now().Unix() + 60})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.Authorize(ctx, token)
		bare(t, "slow issuer", err, relay.ErrAuthUnavailable)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("waited %v, want 2 s", took)
		}
		_, err = s.Authorize(t.Context(), token) // joins the fetch that runs, which ends by itself
		bare(t, "slow issuer", err, relay.ErrAuthUnavailable)
		if took := time.Since(start); took > fetchTimeout {
			t.Errorf("the fetch lasted %v, want %v at most", took, fetchTimeout)
		}
		s.jwts.Load().remotes()[0].await()
	})
}

// TestRealHTTP runs the client that is used outside of tests against a server.
func TestRealHTTP(t *testing.T) {
	es := newKey(t, "es", ES256)
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	var otherHit sync.Once
	hit := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { otherHit.Do(func() { hit = true }) }))
	defer other.Close()
	keys := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.URL.RawQuery != "" {
			t.Error("the issuer was told more than it needs")
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": []any{es.jwk()}})
	}
	config := func(issuer, jwksURI string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": jwksURI})
		}
	}
	mux.HandleFunc("/keys", keys)
	mux.HandleFunc("/good/.well-known/openid-configuration", config(srv.URL+"/good", srv.URL+"/keys"))
	mux.HandleFunc("/slash/.well-known/openid-configuration", config(srv.URL+"/slash/", srv.URL+"/keys"))
	mux.HandleFunc("/moved/.well-known/openid-configuration", http.RedirectHandler("/good-moved", http.StatusFound).ServeHTTP)
	mux.HandleFunc("/good-moved", config(srv.URL+"/moved", srv.URL+"/keys"))
	mux.HandleFunc("/away/.well-known/openid-configuration", http.RedirectHandler(other.URL, http.StatusFound).ServeHTTP)
	mux.HandleFunc("/loop/.well-known/openid-configuration", http.RedirectHandler("/loop/.well-known/openid-configuration", http.StatusFound).ServeHTTP)
	mux.HandleFunc("/endless/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		for n := 0; n < 64 && r.Context().Err() == nil; n++ {
			w.Write(make([]byte, 64<<10))
		}
	})
	for path, ok := range map[string]bool{"/good": true, "/slash/": true, "/moved": true, "/away": false, "/loop": false, "/endless": false, "/missing": false} {
		s := newService(t, Config{Issuers: []Issuer{{Issuer: srv.URL + path, Audience: []string{"project-1"}}}})
		token := es.sign(t, map[string]any{"iss": srv.URL + path, "aud": "project-1", "sub": "u", "exp": time.Now().Unix() + 60})
		_, err := authorize(t, s, token)
		if (err == nil) != ok || (err != nil && !errors.Is(err, relay.ErrAuthUnavailable)) {
			t.Errorf("%s: got %v, want it to work: %v", path, err, ok)
		}
		s.jwts.Load().remotes()[0].client.CloseIdleConnections()
	}
	if hit {
		t.Error("a redirect to another host was followed")
	}
}
