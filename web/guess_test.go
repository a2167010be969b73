package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"agentnet/app/account"
)

func TestBruteForce(t *testing.T) {
	g := newGuarded(t)
	known := g.browser()
	known.signIn("anna", goodPassword)
	device := known.cookies["agentnet_device"]

	thief := g.browser()
	statuses := map[int]int{}
	for range 25 {
		resp, text := thief.signIn("anna", "wrong wrong wrong")
		statuses[resp.StatusCode]++
		if resp.StatusCode == 429 && (resp.Header.Get("Retry-After") == "" || !strings.Contains(text, "Too many attempts")) {
			t.Errorf("got 429 without saying when to come back: %s", text)
		}
	}
	if statuses[401] < 5 || statuses[401] > 10 || statuses[429] < 15 {
		t.Errorf("got %v, want some 10 answers and then 429", statuses)
	}
	if resp, _ := thief.signIn("anna", goodPassword); resp.StatusCode != 429 {
		t.Errorf("the right guess while throttled: got %d, want 429", resp.StatusCode)
	}
	// A browser that was in before has its own measure: nobody locks it out.
	admin := g.browser()
	admin.cookies["agentnet_device"] = device
	if resp, _ := admin.signIn("anna", goodPassword); resp.StatusCode != 303 {
		t.Errorf("the admin's own browser: got %d, want 303", resp.StatusCode)
	}
	forged := g.browser()
	forged.cookies["agentnet_device"] = &http.Cookie{Name: "agentnet_device", Value: device.Value[:len(device.Value)-2] + "AA"}
	if resp, _ := forged.signIn("anna", goodPassword); resp.StatusCode != 429 {
		t.Errorf("a forged mark: got %d, want 429", resp.StatusCode)
	}
	other := g.browser() // the mark of one account opens no other
	other.cookies["agentnet_device"] = device
	if resp, _ := other.signIn("vic", "wrong wrong wrong"); resp.StatusCode != 429 {
		t.Errorf("the mark with another name: got %d, want 429", resp.StatusCode)
	}
}

const secretName = "hunter2-my-password"

func TestNamesCannotBeGuessed(t *testing.T) {
	g := newGuarded(t)
	if err := g.people.SetDisabled(t.Context(), "otto", true); err != nil {
		t.Fatal(err)
	}
	var answers []string
	for _, try := range [][2]string{{"anna", "wrong wrong wrong"}, {"nobody", "wrong wrong wrong"}, {"otto", goodPassword}, {"<script>", "x"}} {
		resp, text := g.browser().signIn(try[0], try[1])
		text = strings.NewReplacer(try[0], "NAME", "&lt;script&gt;", "NAME").Replace(formField.ReplaceAllString(text, ""))
		answers = append(answers, fmt.Sprint(resp.StatusCode, text))
	}
	for i, a := range answers[1:] {
		if a != answers[0] {
			t.Errorf("answer %d differs:\n%s\n%s", i+1, a, answers[0])
		}
	}
	g.browser().signIn(secretName, goodPassword) // a password in the wrong field
	if got := fmt.Sprint(g.actions(account.AuditFilter{})); strings.Contains(got, secretName) || strings.Contains(g.log.String(), secretName) {
		t.Errorf("what was typed as a name is written down: %s", got)
	}
	if strings.Contains(g.log.String(), "wrong wrong") || strings.Contains(g.log.String(), goodPassword) {
		t.Error("the log has a password")
	}
}

func TestSpoofedForwardingHeaders(t *testing.T) {
	proxies, err := ParseProxies([]string{"127.0.0.1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	// Without trusted proxies a header changes nothing: neither the measure of an
	// address nor what the audit log says, nor whether a cookie is secure.
	g := newGuarded(t)
	last := 0
	for i := range 15 {
		b := g.browser("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i), "X-Real-Ip", "203.0.113.9", "Forwarded", "for=203.0.113.8", "X-Forwarded-Proto", "https")
		resp, _ := b.signIn(fmt.Sprintf("user%d", i), "wrong wrong wrong")
		last = resp.StatusCode
		if b.cookies["agentnet_form"] == nil || b.cookies["agentnet_form"].Secure {
			t.Error("a header made a cookie secure")
		}
	}
	if last != 429 {
		t.Errorf("15 attempts with forged addresses: got %d, want 429", last)
	}
	list, _ := g.store.Audit(t.Context(), account.AuditFilter{Limit: 50})
	for _, e := range list {
		if e.Address != "127.0.0.1" {
			t.Errorf("got address %s in the audit log, want 127.0.0.1", e.Address)
		}
	}
	// With them, the last hop that is not one of them counts.
	g = newGuarded(t, func(c *Config) { c.Proxies = proxies })
	b := g.browser("X-Forwarded-For", "198.51.100.7, 203.0.113.5", "X-Forwarded-Proto", "https")
	b.signIn("anna", goodPassword)
	if c := b.cookies["__Host-agentnet"]; c == nil || !c.Secure {
		t.Errorf("behind a trusted proxy with TLS: got cookies %v", b.cookies)
	}
	list, _ = g.store.Audit(t.Context(), account.AuditFilter{})
	if len(list) != 1 || list[0].Address != "203.0.113.5" {
		t.Errorf("got %+v, want the address that the proxy saw", list)
	}
}

func TestNoOpenRedirect(t *testing.T) {
	g := newGuarded(t)
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/\\/evil", "javascript:alert(1)", "/%0d%0aX: y", "http:evil", "/a//b", "/../x", "", "/ok\nX: y", "\t//evil.example"} {
		b := g.browser()
		page := "/login?next=" + url.QueryEscape(next)
		resp, _ := b.send(page, "/login", url.Values{"name": {"anna"}, "password": {goodPassword}, "next": {next}})
		to := resp.Header.Get("Location")
		if resp.StatusCode != 303 || to != "/" && to != "/%0d%0aX: y" || resp.Header.Get("X") != "" {
			t.Errorf("next %q: got %d to %q, want /", next, resp.StatusCode, to)
		}
	}
	b := g.browser()
	if resp, _ := b.send("/login?next=%2Faccount%3Fa%3Db", "/login", url.Values{"name": {"anna"}, "password": {goodPassword}, "next": {"/account?a=b"}}); resp.Header.Get("Location") != "/account?a=b" {
		t.Errorf("got %q, want our own page", resp.Header.Get("Location"))
	}
	if resp, _ := g.browser().do("GET", "/account?x=1", nil); resp.Header.Get("Location") != "/login?next=%2Faccount%3Fx%3D1" {
		t.Errorf("got %q", resp.Header.Get("Location"))
	}
}

func TestCookieFlags(t *testing.T) {
	for _, tt := range []struct {
		name, base, public string
		tls                bool
		cookie, path       string
		secure             bool
	}{
		{"plain http", "", "", false, "agentnet", "/", false},
		{"plain http below a path", "/relay", "", false, "agentnet", "/relay", false},
		{"TLS", "", "", true, "__Host-agentnet", "/", true},
		{"behind a proxy with TLS", "", "https://relay.example", false, "__Host-agentnet", "/", true},
		{"TLS below a path", "/relay", "https://relay.example/relay", false, "__Secure-agentnet", "/relay", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuarded(t, func(c *Config) { c.Base, c.PublicURL, c.TLS = tt.base, tt.public, tt.tls })
			b := g.browser()
			b.base = tt.base
			resp, _ := b.signIn("anna", goodPassword)
			var names []string
			for _, c := range resp.Cookies() {
				names = append(names, c.Name)
				if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != tt.secure || c.Path != tt.path || c.Domain != "" {
					t.Errorf("got %s, want HttpOnly, SameSite=Lax, Path=%s, Secure=%v", c.Raw, tt.path, tt.secure)
				}
			}
			if c := b.cookies[tt.cookie]; c == nil || c.MaxAge < 3600 {
				t.Errorf("got cookies %v, want %s that stays", names, tt.cookie)
			}
			b.in("anna")
		})
	}
}
