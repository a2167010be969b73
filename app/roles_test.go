package app_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
)

// caller is somebody who tries every route.
type caller struct {
	name   string
	roles  []string // what they may do
	cookie bool     // as a browser that is signed in
	bearer string
}

// may says what the declaration of a route means for a caller.
func (c caller) may(access string, page bool) bool {
	ranks := []string{"viewer", "operator", "admin"}
	has := func(need string) bool {
		return slices.ContainsFunc(c.roles, func(r string) bool {
			return slices.Index(ranks, r) >= slices.Index(ranks, need) && slices.Contains(ranks, r)
		})
	}
	if page && !c.cookie { // a token opens no page
		return access == "public"
	}
	switch access {
	case "public":
		return true
	case "scrape": // the test comes from this machine
		return true
	case "any token":
		return c.cookie || c.bearer != ""
	case "viewer":
		return has("viewer") || slices.Contains(c.roles, "metrics") && !page
	default:
		return has(access)
	}
}

// TestRolesOnEveryRoute walks every route that the node has with every kind of
// caller and compares the answer with what the route declares.
func TestRolesOnEveryRoute(t *testing.T) {
	n := apptest.Start(t, nil)
	token := func(role string) string {
		return n.Token("alice", func(s *auth.TokenSpec) {
			if role != "" {
				s.Roles = []string{role}
			}
		})
	}
	callers := []caller{{name: "nobody"}, {name: "agent token", bearer: token("")}}
	for _, role := range []string{"viewer", "operator", "admin"} {
		callers = append(callers, caller{name: role + " token", roles: []string{role}, bearer: token(role)}, caller{name: role + " session", roles: []string{role}, cookie: true})
	}
	n.Account("spare", account.Admin) // so that no last admin gets in the way
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	routes := n.App.Routes()
	if len(routes) < 25 {
		t.Fatalf("got %d routes, want those of the API and the pages", len(routes))
	}
	tried := 0
	for _, c := range callers {
		var cookie *http.Cookie
		for _, r := range routes {
			if strings.HasSuffix(r.Path, "/ws") || strings.HasSuffix(r.Path, "/probe/stream") || strings.Contains(r.Path, "stream") {
				if c.may(r.Access, r.Page) {
					continue // holds the connection; the door has tests of its own
				}
			}
			if c.cookie && (cookie == nil || strings.HasSuffix(r.Path, "/logout") || strings.Contains(r.Path, "session")) {
				cookie = n.SignIn(account.Role(c.roles[0]))
			}
			tried++
			status, to, body := try(t, client, n.URL, r.Method, r.Path, r.Page, c, cookie)
			if strings.HasSuffix(r.Path, "/logout") {
				cookie = nil
			}
			refused := status == 401 || status == 403 && r.Access != "any token" || status == 303 && strings.HasPrefix(to, "/login") && !strings.HasPrefix(r.Path, "/login") && r.Path != "/logout"
			if r.Access == "public" && r.Page { // 401 is its word for a wrong password
				refused = status == 403
			}
			if may := c.may(r.Access, r.Page); refused == may {
				t.Errorf("%s %s (%s) by %s: got %d %s %.200s, want allowed = %v", r.Method, r.Path, r.Access, c.name, status, to, body, may)
			}
		}
	}
	t.Logf("%d routes, %d callers, %d requests", len(routes), len(callers), tried)
}

// try sends a request that changes nothing even where it is allowed.
func try(t *testing.T, client *http.Client, url, method, path string, page bool, c caller, cookie *http.Cookie) (status int, to, body string) {
	t.Helper()
	for _, parameter := range []string{":id", ":name", ":link", ":file", ":rule", ":seq", ":node", ":agent"} {
		path = strings.ReplaceAll(path, parameter, "none")
	}
	text, media := "!", "application/json"
	if page && method != "GET" {
		text, media = "nothing=1", "application/x-www-form-urlencoded"
	}
	req, err := http.NewRequest(method, url+path, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	switch {
	case cookie != nil:
		req.AddCookie(cookie)
		req.Header.Set("X-Agentnet-Form", account.FormToken(cookie.Value))
	case page && method != "GET": // a form of somebody who is signed out
		secret := strings.Repeat("f", 43)
		req.AddCookie(&http.Cookie{Name: "agentnet_form", Value: secret})
		req.Header.Set("X-Agentnet-Form", account.FormToken(secret))
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s by %s: %v", method, path, c.name, err)
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Header.Get("Location"), string(all)
}
