package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app"
)

func TestHostileTokens(t *testing.T) {
	var fetched atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	keys := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"keys":[{"kty":"RSA","kid":"k1","use":"sig","alg":"RS256","e":"AQAB","n":"`+strings.Repeat("sXch", 85)+`sX"}]}`)
	})}
	done := make(chan struct{})
	go func() { defer close(done); keys.Serve(ln) }()
	defer func() { keys.Close(); <-done }()
	n := hostileNode(t, func(c *app.Config) {
		c.Auth.JWT = append(c.Auth.JWT, app.Issuer{Issuer: "https://keys.test", Audience: []string{"a"}, JWKSURL: "http://" + ln.Addr().String() + "/jwks", Leeway: app.Duration(time.Second), Claim: "agentnet"})
	})
	now := time.Now().Unix()
	header := obj{"alg": "HS256", "typ": "JWT"}
	claims := func(change obj) obj {
		c := obj{"iss": testIssuer.Issuer, "sub": "x", "exp": now + 3600, "agentnet": obj{"agents": "tok/a", "send": "**"}}
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	good := jwtOf(header, claims(nil), testIssuer.Secret)
	signed := func(h, c obj) string { return jwtOf(h, c, testIssuer.Secret) }
	rsa := func(kid string) obj { return obj{"alg": "RS256", "typ": "JWT", "kid": kid} }
	opaque := n.Token("tok/a")
	// The issuer is asked about unknown keys once a minute: after that time the relay
	// cannot tell, which is 1011 here and 503 over HTTP, and lets nobody in either.
	unknownKey := map[int]bool{4000: true, 1011: true, 401: true, 503: true}
	cases := []struct {
		name, token string
		close       int // 0: it is good; 1011: a key that nobody knows
	}{
		{"good", good, 0},
		{"empty parts", "..", 4000},
		{"one letter", "a", 4000},
		{"opaque with a wrong last letter", opaque[:len(opaque)-1] + "!", 4000},
		{"opaque cut", opaque[:20], 4000},
		{"opaque with a blank", " " + opaque, 4000},
		{"opaque that was never made", "agn_AAAAAAAAAAAA_" + strings.Repeat("A", 49), 4000},
		{"7 KB", strings.Repeat("x", 7000), 4000},
		{"NUL", "agn_\x00", 4000},
		{"expired", signed(header, claims(obj{"exp": now - 60})), 4001},
		{"no expiry", signed(header, claims(obj{"exp": nil})), 4000},
		{"expiry as text", signed(header, claims(obj{"exp": "tomorrow"})), 4000},
		{"not yet", signed(header, claims(obj{"nbf": now + 600})), 4000},
		{"alg none", strings.Join(append(strings.Split(signed(obj{"alg": "none", "typ": "JWT"}, claims(nil)), ".")[:2], ""), "."), 4000},
		{"alg None with a signature", signed(obj{"alg": "None"}, claims(nil)), 4000},
		{"alg HS384", signed(obj{"alg": "HS384"}, claims(nil)), 4000},
		{"HS256 for an RSA issuer", signed(obj{"alg": "HS256", "kid": "k1"}, claims(obj{"iss": "https://keys.test", "aud": "a"})), 4000},
		{"RS256 for an HS issuer", signed(rsa("k1"), claims(nil)), 4000},
		{"wrong secret", jwtOf(header, claims(nil), "another-secret-of-32-bytes-length"), 4000},
		{"no signature", strings.TrimSuffix(good, strings.Split(good, ".")[2]), 4000},
		{"another issuer", signed(header, claims(obj{"iss": "https://evil.test"})), 4000},
		{"no issuer", signed(header, claims(obj{"iss": nil})), 4000},
		{"kid ../../", signed(rsa("../../../etc/passwd"), claims(obj{"iss": "https://keys.test", "aud": "a"})), 1011},
		{"jku", signed(obj{"alg": "RS256", "kid": "k1", "jku": "http://evil.test/k"}, claims(obj{"iss": "https://keys.test", "aud": "a"})), 4000},
		{"crit", signed(obj{"alg": "HS256", "crit": []string{"x"}, "x": 1}, claims(nil)), 4000},
		{"grants that are no object", signed(header, claims(obj{"agentnet": "all"})), 4000},
		{"grants with a bad glob", signed(header, claims(obj{"agentnet": obj{"agents": "a//*"}})), 4000},
		{"no grants left", signed(header, claims(obj{"agentnet": obj{}})), 4000},
		{"no JSON", unsignedJWT("{", "{"), 4000},
		{"deep claims", signed(header, obj{"iss": testIssuer.Issuer, "exp": now + 60, "x": raw(strings.Repeat("[", 2000) + strings.Repeat("]", 2000))}), 4000},
	}
	bothWays(t, func(t *testing.T, d dialect) {
		unharmed(t, n, func(t *testing.T) {
			texts := map[string]bool{}
			for _, c := range cases {
				s := dialRaw(t, n.URL, d)
				got := s.ask(obj{"connect": obj{"token": c.token, "agent": "tok/a"}})
				switch {
				case c.close == 1011:
					if s.end(); got.kind() != "error" || !unknownKey[s.ended.code] {
						t.Errorf("%s: got %v and %v", c.name, got, s.ended)
					}
				case c.close == 0 && got.kind() != "connected":
					t.Errorf("%s: got %v", c.name, got)
				case c.close != 0 && (got.code() != "unauthorized" || s.end().code != c.close):
					t.Errorf("%s: got %v and %v, want unauthorized and %d", c.name, got, s.ended, c.close)
				case c.close == 4000:
					texts[got.GetError().Message] = true
				}
				s.nc.Close()
				if c.close == 0 || strings.ContainsAny(c.token, "\x00 ") {
					continue
				}
				// The same at the two other doors.
				res := knock(t, n.URL, "Sec-WebSocket-Protocol: "+d.subprotocol, "Authorization: Bearer "+c.token).answer()
				if res.StatusCode != 401 && !(c.close == 1011 && unknownKey[res.StatusCode]) && !(len(c.token) > 4000 && res.StatusCode == 431) {
					t.Errorf("%s in the header: got %s", c.name, res.Status)
				}
				res, body := request(t, "GET", n.URL+"/v1/agents", c.token, nil)
				if res.StatusCode != 401 && !(c.close == 1011 && unknownKey[res.StatusCode]) && !(len(c.token) > 4000 && res.StatusCode == 431) || len(c.token) > 4 && strings.Contains(string(body), c.token) {
					t.Errorf("%s over HTTP: got %s %s", c.name, res.Status, body)
				}
			}
			if len(texts) != 1 {
				t.Errorf("refusals tell what is wrong with a token: %v", texts)
			}
		})
	})
	t.Run("flood of unknown keys", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) {
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range 50 {
						token := signed(rsa(fmt.Sprint("kid-", w, "-", i)), claims(obj{"iss": "https://keys.test", "aud": "a"}))
						req, _ := http.NewRequest("GET", n.URL+"/v1/agents", nil)
						req.Header.Set("Authorization", "Bearer "+token)
						req.Close = true
						res, err := http.DefaultTransport.RoundTrip(req)
						if err != nil || res.StatusCode != 401 && res.StatusCode != 503 {
							t.Errorf("got %v %v", res, err)
							return
						}
						res.Body.Close()
					}
				})
			}
			wg.Wait()
			if got := fetched.Load(); got > 5 {
				t.Errorf("the keys were fetched %d times", got)
			}
		})
	})
}

func unsignedJWT(header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(testIssuer.Secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestHostileGuesses: an address that guesses tokens is shut out for a while, at
// all doors, and told when it may come back.
func TestHostileGuesses(t *testing.T) {
	n := hostileNode(t, func(c *app.Config) { c.Limits.AuthFailuresPerS, c.Limits.AuthFailuresBurst = 0.001, 5 })
	for range 5 {
		s := dialRaw(t, n.URL, inJSON)
		s.refused("unauthorized", obj{"connect": obj{"token": "agn_guess", "agent": "x"}})
		s.wantClose(4000)
	}
	good := jwt(t, time.Hour, obj{"agents": "x"})
	res := knock(t, n.URL, "Sec-WebSocket-Protocol: agentnet.v1.json").answer()
	if wantProblem(t, res, 429, "rate_limited"); res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	problem(t, n, "GET", "/v1/agents", good, nil, 429, "rate_limited")
	if res, _ := call(t, n, "GET", "/healthz", "", nil); res.StatusCode != 200 {
		t.Errorf("health: got %s", res.Status)
	}
}
