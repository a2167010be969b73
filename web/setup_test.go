package web

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/store"
)

func TestSetupLinkMakesOneAdmin(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	people, err := account.New(account.Config{Rows: db, Cost: account.Cost{Memory: 64, Time: 1, Lanes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := people.FirstLink(t.Context())
	if err != nil || secret == "" {
		t.Fatalf("got %q, %v", secret, err)
	}
	g := &guarded{newSite(t, func(c *Config) { c.Access = &account.Desk{Service: people, AuditLog: db} }), people, db}
	link := "/setup/" + secret
	for _, wrong := range []string{"/setup/x", "/setup/" + strings.Repeat("A", 43), link + "A"} {
		if resp, _ := g.browser().do("GET", wrong, nil); resp.StatusCode != 404 {
			t.Errorf("%s: got %d, want 404", wrong, resp.StatusCode)
		}
	}
	one, two := g.browser(), g.browser()
	form := func(name string) url.Values {
		return url.Values{"name": {name}, "password": {goodPassword}, "again": {goodPassword}}
	}
	for want, bad := range map[string]url.Values{
		"are not the same":                    {"name": {"anna"}, "password": {goodPassword}, "again": {"x"}},
		"10 characters or more":               {"name": {"anna"}, "password": {"short"}, "again": {"short"}},
		"with a letter or digit at both ends": {"name": {"<b>"}, "password": {goodPassword}, "again": {goodPassword}},
		"first that anybody would try":        {"name": {"anna"}, "password": {"password123"}, "again": {"password123"}},
	} {
		if resp, text := one.send(link, link, bad); resp.StatusCode != 422 || !strings.Contains(text, want) || strings.Contains(text, "<b>") {
			t.Errorf("%v: got %d %s, want %q", bad, resp.StatusCode, text, want)
		}
	}
	two.do("GET", link, nil)
	if resp, _ := one.send(link, link, form("anna")); resp.StatusCode != 303 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	one.in("anna")
	_, text := two.do("GET", "/login", nil)
	late := form("eve")
	late.Set("form", formField.FindStringSubmatch(text)[1])
	for _, method := range []string{"GET", "POST"} {
		if resp, _ := two.do(method, link, map[string]url.Values{"GET": nil, "POST": late}[method]); resp.StatusCode != 404 {
			t.Errorf("%s of the used link: got %d, want 404", method, resp.StatusCode)
		}
	}
	if list, _ := people.Accounts(t.Context(), "", 10); len(list) != 1 {
		t.Errorf("got %d accounts, want 1", len(list))
	}
	if secret, _ := people.FirstLink(t.Context()); secret != "" {
		t.Error("there is an admin, and a link for the first one was made all the same")
	}
}

func TestSecondFactorOnPages(t *testing.T) {
	g := newGuarded(t)
	b := g.browser()
	b.signIn("anna", goodPassword)
	_, page := b.do("GET", "/account", nil)
	secret := regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`).FindStringSubmatch(page)
	if secret == nil || !strings.Contains(page, `<svg class="qr"`) {
		t.Fatalf("no second factor is offered: %s", page)
	}
	now := time.Now()
	code, err := account.CodeNow(secret[1], now)
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := b.send("/account", "/account/second", url.Values{"secret": {secret[1]}, "code": {"000000"}}); resp.StatusCode != 422 && code != "000000" {
		t.Errorf("a wrong code: got %d, want 422", resp.StatusCode)
	}
	resp, page := b.send("/account", "/account/second", url.Values{"secret": {secret[1]}, "code": {code}})
	shown, _, _ := strings.Cut(page[strings.Index(page, "<pre"):], "</pre>")
	recovery := regexp.MustCompile(`[0-9a-z]{5}-[0-9a-z]{5}`).FindAllString(shown, -1)
	if resp.StatusCode != 200 || len(recovery) != 10 {
		t.Fatalf("got %d with %d recovery codes", resp.StatusCode, len(recovery))
	}
	later := g.browser()
	resp, _ = later.signIn("anna", goodPassword)
	if resp.Header.Get("Location") != "/login/code" {
		t.Fatalf("got %d to %q, want to be asked for a code", resp.StatusCode, resp.Header.Get("Location"))
	}
	later.out() // a password alone opens nothing
	if resp, _ := later.do("GET", "/v1/stats", nil); resp.StatusCode != 401 {
		t.Errorf("api between password and code: got %d, want 401", resp.StatusCode)
	}
	half := later.cookies["agentnet"].Value
	if resp, _ := later.send("/login/code", "/login/code", url.Values{"code": {code}}); resp.StatusCode != 401 {
		t.Errorf("a code that was used: got %d, want 401", resp.StatusCode)
	}
	if resp, _ := later.send("/login/code", "/login/code", url.Values{"code": {strings.ToUpper(recovery[3])}}); resp.StatusCode != 303 {
		t.Errorf("a recovery code: got %d, want 303", resp.StatusCode)
	}
	later.in("anna")
	if later.cookies["agentnet"].Value == half {
		t.Error("the session did not change with the second step")
	}
	again := g.browser()
	again.signIn("anna", goodPassword)
	if resp, _ := again.send("/login/code", "/login/code", url.Values{"code": {recovery[3]}}); resp.StatusCode != 401 {
		t.Errorf("a recovery code for the second time: got %d, want 401", resp.StatusCode)
	}
	for range 5 {
		resp, page = again.send("/login/code", "/login/code", url.Values{"code": {"000000"}})
		if resp.StatusCode == 401 && strings.Contains(page, "Begin again") && again.cookies["agentnet"] == nil {
			break
		}
	}
	if again.cookies["agentnet"] != nil {
		t.Error("wrong codes do not end the half session")
	}
	for _, e := range g.actions(account.AuditFilter{Action: "second_factor."}) {
		if !strings.HasPrefix(e, "second_factor.on anna") {
			t.Errorf("got %q", e)
		}
	}
}

func TestSignInPagesHaveNothingInline(t *testing.T) {
	g := newGuarded(t)
	b := g.browser()
	inline := regexp.MustCompile(`(?i)\sstyle=|<style|<script[^>]*>[^<]|\son[a-z]+=|javascript:`)
	check := func(path string) {
		resp, page := b.do("GET", path, nil)
		if got := resp.Header.Get("Content-Security-Policy"); got != contentPolicy {
			t.Errorf("%s: got policy %q", path, got)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
		if found := inline.FindString(page); found != "" || !strings.Contains(page, "<main") {
			t.Errorf("%s (%d) has %q inline, or is no page", path, resp.StatusCode, found)
		}
	}
	for _, path := range []string{"/login", "/login?next=%2Faccount", "/setup/none", "/setup/" + strings.Repeat("A", 43)} {
		check(path)
	}
	b.signIn("anna", goodPassword)
	check("/account")
}
