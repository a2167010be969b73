package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"agentnet/app/account"
)

func forwarding(proxies ...string) func(*Config) {
	return func(c *Config) {
		c.Proxies, _ = ParseProxies(proxies, "")
		c.Forward = &Forward{UserHeader: "Remote-User", GroupsHeader: "Remote-Groups", Groups: account.Groups{Admins: []string{"admins"}, Viewers: []string{"staff"}}}
	}
}

func TestForwardAuth(t *testing.T) {
	g := newGuarded(t, forwarding("127.0.0.1"))
	tests := []struct {
		name    string
		headers []string
		status  int
		in      string
	}{
		{"a viewer", []string{"Remote-User", "Zoë B", "Remote-Groups", "other, staff"}, 200, "zo--b"},
		{"an admin", []string{"Remote-User", "root@example.org", "Remote-Groups", "admins"}, 200, "root@example.org"},
		{"a name that is an account here", []string{"Remote-User", "anna", "Remote-Groups", "staff"}, 200, "anna-"},
		{"no group", []string{"Remote-User", "eve"}, 303, ""},
		{"no name", []string{"Remote-Groups", "admins"}, 303, ""},
		{"an empty name", []string{"Remote-User", "", "Remote-Groups", "admins"}, 303, ""},
		{"two names", []string{"Remote-User", "eve", "Remote-User", "root", "Remote-Groups", "admins"}, 303, ""},
		{"a long name", []string{"Remote-User", strings.Repeat("x", 300), "Remote-Groups", "admins"}, 303, ""},
	}
	for _, tt := range tests {
		resp, text := g.do("GET", "/account", "", append([]string{"Accept", "text/html"}, tt.headers...)...)
		if resp.StatusCode != tt.status || !strings.Contains(text, "<h1>"+tt.in) && tt.in != "" {
			t.Errorf("%s: got %d %.100s, want %d and %q", tt.name, resp.StatusCode, text[max(0, strings.Index(text, "<h1")):], tt.status, tt.in)
		}
	}
	if resp, _ := g.do("GET", "/v1/accounts", "", "Remote-User", "root@example.org", "Remote-Groups", "admins"); resp.StatusCode != 200 {
		t.Errorf("api by the proxy's admin: got %d, want 200", resp.StatusCode)
	}
	if resp, _ := g.do("DELETE", "/v1/accounts/vic", "", "Remote-User", "root@example.org", "Remote-Groups", "admins"); resp.StatusCode != 403 {
		t.Errorf("a change without a form token: got %d, want 403", resp.StatusCode)
	}
	b := g.browser("Remote-User", "root@example.org", "Remote-Groups", "admins")
	if resp, _ := b.send("/account", "/account/sessions", url.Values{}); resp.StatusCode != 200 {
		t.Errorf("a form through the proxy: got %d, want 200", resp.StatusCode)
	}
}

func TestForwardAuthOfStrangers(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"nobody is trusted":  forwarding(),
		"another is trusted": forwarding("192.0.2.1"),
		"switched off": func(c *Config) {
			c.Proxies, _ = ParseProxies([]string{"127.0.0.1"}, "")
		},
	} {
		g := newGuarded(t, change)
		for _, header := range []string{"Remote-User", "X-Forwarded-User", "X-Remote-User", "X-Webauth-User", "X-Auth-Request-User"} {
			resp, _ := g.do("GET", "/account", "", "Accept", "text/html", header, "anna", "Remote-Groups", "admins", "X-Forwarded-For", "127.0.0.1")
			if resp.StatusCode != 303 {
				t.Errorf("%s, %s: got %d, want to be led to the sign-in", name, header, resp.StatusCode)
			}
		}
	}
}

// outside is an OpenID provider that says what a test wants.
type outside struct {
	people *account.Service
	role   account.Role
	fail   error
}

func (*outside) Name() string { return "Example" }

func (o *outside) Begin(_ context.Context, back string) (string, string, error) {
	return "https://id.example/auth?back=" + url.QueryEscape(back), "remember", o.fail
}

func (o *outside) Finish(ctx context.Context, back, remember string, query func(string) string, from account.Attempt) (account.Ticket, error) {
	if remember != "remember" || query("code") != "c" || !strings.HasSuffix(back, "/login/outside/back") {
		return account.Ticket{}, &account.Invalid{Field: "state", Text: "this sign-in was not begun in this browser"}
	}
	return o.people.SignInVouched(ctx, account.Vouched{Key: "https://id.example 1", Name: "zoe", Role: o.role, How: "oidc"}, from)
}

func TestSignInAtAProvider(t *testing.T) {
	o := &outside{role: account.Operator}
	g := newGuarded(t, func(c *Config) { c.Outside, c.PublicURL = o, "http://relay.example" })
	o.people = g.people
	b := g.browser()
	if _, page := b.do("GET", "/login?next=%2Faccount", nil); !strings.Contains(page, "Sign in with Example") || !strings.Contains(page, `href="/login/outside?next=%2Faccount"`) {
		t.Errorf("the page does not offer the provider: %s", page)
	}
	resp, _ := b.do("GET", "/login/outside?next=%2Faccount", nil)
	if to := resp.Header.Get("Location"); resp.StatusCode != 303 || to != "https://id.example/auth?back="+url.QueryEscape("http://relay.example/login/outside/back") {
		t.Fatalf("got %d to %q", resp.StatusCode, to)
	}
	kept := b.cookies["agentnet_outside"]
	if kept == nil || !kept.HttpOnly || kept.SameSite != http.SameSiteLaxMode {
		t.Fatalf("got cookies %v", b.cookies)
	}
	if resp, _ := g.browser().do("GET", "/login/outside/back?code=c&state=s", nil); resp.StatusCode != 401 {
		t.Errorf("coming back to a browser that never left: got %d, want 401", resp.StatusCode)
	}
	resp, _ = b.do("GET", "/login/outside/back?code=c&state=s", nil, "Sec-Fetch-Site", "cross-site")
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/account" || b.cookies["agentnet_outside"] != nil {
		t.Fatalf("got %d to %q, cookies %v", resp.StatusCode, resp.Header.Get("Location"), b.cookies)
	}
	b.in("zoe")
	o.fail = errors.New("secret address of the provider")
	if resp, page := g.browser().do("GET", "/login/outside", nil); resp.StatusCode != 503 || strings.Contains(page, "secret address") {
		t.Errorf("a provider that is down: got %d %s", resp.StatusCode, page)
	}
}
