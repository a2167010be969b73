package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/store"

	"github.com/gofiber/fiber/v2"
)

const goodPassword = "four words and more"

// A guarded is a site with accounts in a real database: vic the viewer, otto the
// operator and anna the admin.
type guarded struct {
	*site
	people *account.Service
	store  *store.Store
}

func newGuarded(t *testing.T, change ...func(*Config)) *guarded {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	people, err := account.New(account.Config{Rows: db, Node: "n1", Cost: account.Cost{Memory: 64, Time: 1, Lanes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]account.Role{"vic": account.Viewer, "otto": account.Operator, "anna": account.Admin} {
		if _, err := people.Create(t.Context(), account.Spec{Name: name, Role: role, Password: goodPassword}); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, append([]func(*Config){func(c *Config) { c.Access = &account.Desk{Service: people, AuditLog: db} }}, change...)...)
	return &guarded{s, people, db}
}

// A browser keeps cookies and sends what browsers send.
type browser struct {
	g       *guarded
	cookies map[string]*http.Cookie
	headers []string
	base    string
}

func (g *guarded) browser(headers ...string) *browser {
	return &browser{g: g, cookies: map[string]*http.Cookie{}, headers: append([]string{"Accept", "text/html", "Sec-Fetch-Site", "same-origin"}, headers...)}
}

func (b *browser) do(method, path string, form url.Values, headers ...string) (*http.Response, string) {
	b.g.t.Helper()
	all := append([]string{}, b.headers...)
	body := ""
	if form != nil {
		all, body = append(all, "Content-Type", "application/x-www-form-urlencoded"), form.Encode()
	}
	for i := 0; i < len(headers); i += 2 { // a later header stands for an earlier one
		for j := 0; j < len(all); j += 2 {
			if all[j] == headers[i] {
				all = append(all[:j:j], all[j+2:]...)
				break
			}
		}
		if headers[i+1] != "" {
			all = append(all, headers[i], headers[i+1])
		}
	}
	jar := []string{}
	for _, c := range b.cookies {
		jar = append(jar, c.Name+"="+c.Value)
	}
	if len(jar) > 0 {
		all = append(all, "Cookie", strings.Join(jar, "; "))
	}
	resp, text := b.g.do(method, b.base+path, body, all...)
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 || !c.Expires.IsZero() && c.Expires.Before(time.Now()) {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c
		}
	}
	return resp, text
}

var formField = regexp.MustCompile(`name="form" value="([^"]+)"`)

// send loads a page and sends a form of it.
func (b *browser) send(page, path string, form url.Values, headers ...string) (*http.Response, string) {
	b.g.t.Helper()
	_, text := b.do("GET", page, nil)
	found := formField.FindStringSubmatch(text)
	if found == nil {
		b.g.t.Fatalf("%s has no form: %.300s", page, text)
	}
	form.Set("form", found[1])
	return b.do("POST", path, form, headers...)
}

func (b *browser) signIn(name, password string) (*http.Response, string) {
	b.g.t.Helper()
	return b.send("/login", "/login", url.Values{"name": {name}, "password": {password}})
}

// in fails the test unless name is signed in.
func (b *browser) in(name string) *browser {
	b.g.t.Helper()
	resp, text := b.do("GET", "/account", nil)
	if resp.StatusCode != 200 || !strings.Contains(text, "<h1>"+name+"</h1>") {
		b.g.t.Fatalf("%s is not signed in: got %d to %q", name, resp.StatusCode, resp.Header.Get("Location"))
	}
	return b
}

func (b *browser) out() {
	b.g.t.Helper()
	if resp, _ := b.do("GET", "/account", nil); resp.StatusCode != 303 || !strings.HasPrefix(resp.Header.Get("Location"), b.base+"/login") {
		b.g.t.Errorf("got %d to %q, want to be led to the sign-in", resp.StatusCode, resp.Header.Get("Location"))
	}
}

func (g *guarded) actions(f account.AuditFilter) (out []string) {
	g.t.Helper()
	list, err := g.store.Audit(context.Background(), f)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.Action+" "+e.Target+" "+e.Outcome)
	}
	return out
}

func TestEveryRouteSaysWhoMayUseIt(t *testing.T) {
	g := newGuarded(t, func(c *Config) { c.Socket = func(c *fiber.Ctx) error { return c.SendStatus(418) } })
	if missing := g.server.undeclared(); len(missing) > 0 {
		t.Errorf("routes without a declared access: %q", missing)
	}
	g.do("GET", "/healthz", "") // the server has begun to serve: it reads its routes no more
	g.server.app.Get("/forgotten", func(c *fiber.Ctx) error { return nil })
	if missing := g.server.undeclared(); len(missing) != 2 {
		t.Errorf("got %q, want the forgotten route with GET and HEAD", missing)
	}
	for _, r := range g.server.Routes() {
		if r.Change && r.Page && r.Access != "public" && !strings.HasPrefix(r.Path, "/account") && r.Access == "viewer" {
			t.Errorf("%s %s changes something for viewers", r.Method, r.Path)
		}
	}
}

func TestSignInAndOut(t *testing.T) {
	g := newGuarded(t)
	b := g.browser()
	b.out()
	resp, _ := b.signIn("Anna ", goodPassword) // as phones write it
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/" {
		t.Fatalf("got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	b.in("anna")
	if _, page := b.do("GET", "/", nil); !strings.Contains(page, "77,321") {
		t.Error("the first page shows no numbers to somebody who is signed in")
	}
	if _, page := g.browser().do("GET", "/", nil); strings.Contains(page, "77,321") {
		t.Error("the first page shows numbers to strangers")
	}
	session := b.cookies["agentnet"].Value
	b.send("/account", "/logout", url.Values{})
	b.out()
	b.cookies["agentnet"] = &http.Cookie{Name: "agentnet", Value: session} // kept by a thief
	b.out()
	if got := g.actions(account.AuditFilter{}); fmt.Sprint(got) != "[sign_out anna done sign_in anna done]" {
		t.Errorf("got %q in the audit log", got)
	}
}

func TestSignInWithoutOurFormIsRefused(t *testing.T) {
	g := newGuarded(t)
	good := url.Values{"name": {"anna"}, "password": {goodPassword}}
	for name, try := range map[string]func(b *browser) *http.Response{
		"no cookie and no token": func(b *browser) *http.Response { r, _ := b.do("POST", "/login", good); return r },
		"a wrong token": func(b *browser) *http.Response {
			b.do("GET", "/login", nil)
			r, _ := b.do("POST", "/login", url.Values{"name": good["name"], "password": good["password"], "form": {"AAAAAAAAAAAAAAAAAAAAAAAA"}})
			return r
		},
		"an empty token": func(b *browser) *http.Response {
			b.do("GET", "/login", nil)
			r, _ := b.do("POST", "/login", url.Values{"name": good["name"], "password": good["password"], "form": {""}})
			return r
		},
		"another site, by Sec-Fetch-Site": func(b *browser) *http.Response {
			r, _ := b.send("/login", "/login", url.Values{"name": good["name"], "password": good["password"]}, "Sec-Fetch-Site", "cross-site")
			return r
		},
		"a neighbour, by Sec-Fetch-Site": func(b *browser) *http.Response {
			r, _ := b.send("/login", "/login", url.Values{"name": good["name"], "password": good["password"]}, "Sec-Fetch-Site", "same-site")
			return r
		},
		"another site, by Origin": func(b *browser) *http.Response {
			r, _ := b.send("/login", "/login", url.Values{"name": good["name"], "password": good["password"]}, "Sec-Fetch-Site", "", "Origin", "https://evil.example")
			return r
		},
		"a hidden origin": func(b *browser) *http.Response {
			r, _ := b.send("/login", "/login", url.Values{"name": good["name"], "password": good["password"]}, "Sec-Fetch-Site", "", "Origin", "null")
			return r
		},
		"another port": func(b *browser) *http.Response {
			r, _ := b.send("/login", "/login", url.Values{"name": good["name"], "password": good["password"]}, "Sec-Fetch-Site", "", "Origin", "http://127.0.0.1:1")
			return r
		},
	} {
		b := g.browser()
		if resp := try(b); resp.StatusCode != 403 || b.cookies["agentnet"] != nil {
			t.Errorf("%s: got %d, want 403 and no session", name, resp.StatusCode)
		}
	}
	own := g.browser()
	if resp, _ := own.send("/login", "/login", good, "Sec-Fetch-Site", "", "Origin", "http://"+g.addr); resp.StatusCode != 303 {
		t.Errorf("an old browser on our page: got %d, want 303", resp.StatusCode)
	}
}

func TestForeignFormsChangeNothing(t *testing.T) {
	g := newGuarded(t)
	b := g.browser()
	b.signIn("anna", goodPassword)
	stolen := g.browser()
	stolen.signIn("vic", goodPassword)
	_, text := stolen.do("GET", "/account", nil)
	others := formField.FindStringSubmatch(text)[1]
	for name, headers := range map[string][]string{
		"cross-site": {"Sec-Fetch-Site", "cross-site"}, "same-site": {"Sec-Fetch-Site", "same-site"},
		"foreign origin": {"Sec-Fetch-Site", "", "Origin", "http://evil.example"}, "origin with our name as a part": {"Sec-Fetch-Site", "", "Origin", "http://127.0.0.1.evil.example"},
	} {
		if resp, _ := b.send("/account", "/logout", url.Values{}, headers...); resp.StatusCode != 403 {
			t.Errorf("%s: got %d, want 403", name, resp.StatusCode)
		}
	}
	for name, token := range map[string]string{"none": "", "that of another session": others, "nonsense": "x"} {
		if resp, _ := b.do("POST", "/account/sessions", url.Values{"form": {token}}); resp.StatusCode != 403 {
			t.Errorf("token %s: got %d, want 403", name, resp.StatusCode)
		}
		resp, body := b.do("DELETE", "/v1/sessions/none", nil, "X-Agentnet-Form", token)
		if resp.StatusCode != 403 || !strings.Contains(body, "forbidden") {
			t.Errorf("api, token %s: got %d %s, want 403", name, resp.StatusCode, body)
		}
	}
	if resp, _ := b.do("DELETE", "/v1/sessions/none", nil, "X-Agentnet-Form", account.FormToken(b.cookies["agentnet"].Value)); resp.StatusCode != 404 {
		t.Errorf("api with the right token: got %d, want 404", resp.StatusCode)
	}
	if resp, _ := b.do("GET", "/logout", nil); resp.StatusCode != 405 {
		t.Errorf("GET of a change: got %d, want 405", resp.StatusCode)
	}
	b.in("anna")
}

func TestSessionsCannotBePlanted(t *testing.T) {
	g := newGuarded(t)
	thief := g.browser()
	thief.signIn("vic", goodPassword)
	planted := thief.cookies["agentnet"].Value
	victim := g.browser()
	victim.cookies["agentnet"] = &http.Cookie{Name: "agentnet", Value: planted}
	victim.send("/account", "/logout", url.Values{})
	victim.cookies["agentnet"] = &http.Cookie{Name: "agentnet", Value: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
	victim.signIn("anna", goodPassword)
	if got := victim.cookies["agentnet"].Value; got == planted || strings.HasPrefix(got, "AAAAAA") {
		t.Error("the session of before the sign-in is that of after it")
	}
	victim.in("anna")

	second := g.browser() // somebody signs in where another is signed in
	second.signIn("vic", goodPassword)
	before := second.cookies["agentnet"].Value
	_, text := second.do("GET", "/account", nil)
	second.do("POST", "/login", url.Values{"name": {"otto"}, "password": {goodPassword}, "form": {formField.FindStringSubmatch(text)[1]}})
	second.in("otto")
	old := g.browser()
	old.cookies["agentnet"] = &http.Cookie{Name: "agentnet", Value: before}
	old.out()
}

func TestRevocationIsAtOnce(t *testing.T) {
	g := newGuarded(t)
	sign := func() *browser {
		b := g.browser()
		b.signIn("otto", goodPassword)
		return b.in("otto")
	}
	for name, revoke := range map[string]func(b *browser) error{
		"disabled": func(*browser) error { return g.people.SetDisabled(t.Context(), "otto", true) },
		"reset":    func(*browser) error { _, err := g.people.ResetLink(t.Context(), "otto"); return err },
		"ended": func(*browser) error {
			_, err := g.people.EndSessions(t.Context(), account.SessionFilter{Account: "otto"})
			return err
		},
		"deleted": func(*browser) error { return g.people.Delete(t.Context(), "otto") },
	} {
		b := sign()
		if err := revoke(b); err != nil {
			t.Fatal(err)
		}
		b.out()
		if resp, _ := b.do("GET", "/v1/stats", nil); resp.StatusCode != 401 {
			t.Errorf("%s: got %d from the api, want 401", name, resp.StatusCode)
		}
		_ = g.people.Delete(t.Context(), "otto")
		if _, err := g.people.Create(t.Context(), account.Spec{Name: "otto", Role: account.Operator, Password: goodPassword}); err != nil {
			t.Fatal(err)
		}
		b.out() // also when somebody of that name comes back
	}
	here, there := sign(), sign()
	resp, text := here.send("/account", "/account/password", url.Values{"old": {goodPassword}, "password": {"another four words"}, "again": {"another four words"}})
	if resp.StatusCode != 200 || !strings.Contains(text, "Your password is changed") {
		t.Fatalf("got %d %s", resp.StatusCode, text)
	}
	here.in("otto")
	there.out()
}

func TestARoleCountsAtOnce(t *testing.T) {
	g := newGuarded(t)
	b := g.browser()
	b.signIn("otto", goodPassword)
	if resp, _ := b.do("GET", "/v1/accounts", nil); resp.StatusCode != 403 {
		t.Errorf("operator: got %d, want 403", resp.StatusCode)
	}
	if _, err := g.people.SetRole(t.Context(), "otto", account.Admin); err != nil {
		t.Fatal(err)
	}
	if resp, _ := b.do("GET", "/v1/accounts", nil); resp.StatusCode != 200 {
		t.Errorf("made admin: got %d, want 200", resp.StatusCode)
	}
}
