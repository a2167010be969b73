package api

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// bodies are good bodies for the routes that take one.
var bodies = map[string]string{
	"/v1/send":    `{"to":"bob","data":1}`,
	"/v1/request": `{"to":"bob","data":1}`,
	"/v1/publish": `{"channel":"a/b","data":1}`,
}

func TestEveryRouteAsksForTheRightToken(t *testing.T) {
	n := newNode(t, func(c *Config, _ *node) { c.MetricsToken = metricsToken })
	tokens := []struct {
		name, token string
		// status by Access; 0 is 200.
		public, any, viewer, scrape, admin int
	}{
		{"none", "", 0, 401, 401, 401, 401},
		{"unknown", "agn_unknown" + canary, 0, 401, 401, 401, 401},
		{"expired", expiredToken, 0, 401, 401, 401, 401},
		{"expired by its identity", lateToken, 0, 401, 401, 401, 401},
		{"cannot be checked", brokenToken, 0, 503, 503, 503, 503},
		{"without a role", goodToken, 0, 0, 403, 403, 403},
		{"known only to Authorize", slowToken, 0, 0, 403, 403, 403},
		{"viewer", viewerToken, 0, 0, 0, 0, 403},
		{"metrics role", metricsRole, 0, 0, 0, 0, 403},
		{"metrics token", metricsToken, 0, 401, 401, 0, 401},
		{"admin", adminToken, 0, 0, 0, 0, 0},
	}
	for _, route := range n.api.Routes() {
		for _, tt := range tokens {
			t.Run(route.Name+" "+tt.name, func(t *testing.T) {
				want := []int{Public: tt.public, AnyToken: tt.any, Viewer: tt.viewer, Scrape: tt.scrape, Admin: tt.admin}[route.Access]
				if want == 0 {
					want = 200
				}
				got := n.do(route.Method, route.Path, tt.token, bodies[route.Path])
				if got.status != want {
					t.Fatalf("got %d %s, want %d", got.status, got.body, want)
				}
				if got.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got Cache-Control %q, want no-store", got.header.Get("Cache-Control"))
				}
				if want == 200 {
					return
				}
				p := got.problem(t)
				if want == 401 && (p.Code != wire.Unauthorized || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer")) {
					t.Errorf("got code %s and WWW-Authenticate %q", p.Code, got.header.Get("WWW-Authenticate"))
				}
				if want == 503 && got.header.Get("Retry-After") == "" {
					t.Error("got no Retry-After, want one")
				}
			})
		}
	}
	if strings.Contains(n.log.String(), canary) {
		t.Errorf("a token is in the log:\n%s", n.log)
	}
}

func TestAuthorizationHeader(t *testing.T) {
	n := newNode(t)
	tests := []struct {
		name    string
		headers []string
		want    int
	}{
		{"bearer", []string{"Authorization", "Bearer " + goodToken}, 200},
		{"lower case scheme", []string{"Authorization", "bearer " + goodToken}, 200},
		{"two spaces", []string{"Authorization", "Bearer   " + goodToken}, 200},
		{"two headers", []string{"Authorization", "Bearer " + goodToken, "Authorization", "Bearer " + goodToken}, 401},
		{"other header first", []string{"Authorization", "Basic eDp5", "Authorization", "Bearer " + goodToken}, 401},
		{"basic", []string{"Authorization", "Basic " + goodToken}, 401},
		{"no scheme", []string{"Authorization", goodToken}, 401},
		{"two tokens", []string{"Authorization", "Bearer " + goodToken + " x"}, 401},
		{"joined by a comma", []string{"Authorization", "Bearer " + goodToken + ",Bearer x"}, 401},
		{"empty", []string{"Authorization", "Bearer "}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := n.do("GET", "/v1/agents", "", "", tt.headers...)
			if got.status != tt.want {
				t.Errorf("got %d %s, want %d", got.status, got.body, tt.want)
			}
			if strings.Contains(got.body, canary) && tt.want != 200 {
				t.Errorf("the answer repeats the token: %s", got.body)
			}
		})
	}
	for _, query := range []string{"token=", "access_token=", "authorization="} {
		if got := n.do("GET", "/v1/agents?"+query+goodToken, "", ""); got.status != 401 || strings.Contains(got.body, canary) {
			t.Errorf("%s in the query: got %d %s, want 401", query, got.status, got.body)
		}
	}
}

type fakeGuard struct {
	blocked *wire.Error
	failed  []netip.Addr
}

func (g *fakeGuard) Blocked(netip.Addr) *wire.Error { return g.blocked }
func (g *fakeGuard) Failed(addr netip.Addr)         { g.failed = append(g.failed, addr) }

func TestGuardCountsWrongTokensOnly(t *testing.T) {
	guard := &fakeGuard{}
	n := newNode(t, func(c *Config, _ *node) { c.Guard = guard })
	for _, token := range []string{"", goodToken, brokenToken, "agn_wrong", expiredToken} {
		n.do("GET", "/v1/agents", token, "")
	}
	if len(guard.failed) != 2 || guard.failed[0] != netip.MustParseAddr("203.0.113.9") {
		t.Errorf("got failures %v, want two of 203.0.113.9", guard.failed)
	}
	guard.blocked = &wire.Error{Code: wire.RateLimited, Message: "too many wrong tokens", RetryAfterMS: 2500}
	got := n.do("GET", "/v1/agents", goodToken, "")
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "3" {
		t.Errorf("got %d with Retry-After %q, want 429 with 3", got.status, got.header.Get("Retry-After"))
	}
}

func TestMetricsAccess(t *testing.T) {
	public := newNode(t, func(c *Config, _ *node) { c.MetricsPublic = true })
	if got := public.do("GET", "/metrics", "", ""); got.status != 200 {
		t.Errorf("public: got %d, want 200", got.status)
	}
	n := newNode(t)
	n.local = true
	if got := n.do("GET", "/metrics", "", ""); got.status != 200 {
		t.Errorf("local: got %d, want 200", got.status)
	}
	if got := n.do("GET", "/v1/stats", "", ""); got.status != 401 {
		t.Errorf("stats, local, no token: got %d, want 401", got.status)
	}
}

func TestReadinessTellsTextsToThoseWhoMayKnow(t *testing.T) {
	n := newNode(t)
	n.relay.reasons = []relay.Reason{{Check: "hub", OK: true, Message: "fine"}, {Check: "journal", Message: "open /var/lib/secret: no space"}}
	stranger := n.do("GET", "/readyz", "", "")
	viewer := n.do("GET", "/readyz", viewerToken, "")
	plain := n.do("GET", "/readyz", goodToken, "")
	n.local = true
	local := n.do("GET", "/readyz", "", "")
	for name, got := range map[string]exchange{"stranger": stranger, "viewer": viewer, "plain": plain, "local": local} {
		if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, `{"check":"journal","ok":false`) {
			t.Errorf("%s: got %d %s, want 503 that names the check", name, got.status, got.body)
		}
		knows := strings.Contains(got.body, "/var/lib/secret")
		if want := name == "viewer" || name == "local"; knows != want {
			t.Errorf("%s: got text told = %v, want %v", name, knows, want)
		}
	}
	if strings.Index(local.body, "journal") > strings.Index(local.body, "hub") {
		t.Errorf("got %s, want the bad check first", local.body)
	}
	n.relay.reasons[1].OK = true
	if got := n.do("GET", "/readyz", "", ""); got.status != 200 || !strings.Contains(got.body, `"ready":true`) {
		t.Errorf("got %d %s, want 200", got.status, got.body)
	}
}
