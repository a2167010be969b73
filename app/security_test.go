package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/wire"

	"golang.org/x/net/html"
)

// filled is the path of a route with something in the place of its parameters.
func filled(path, with string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") {
			parts[i] = with
		}
	}
	return strings.Join(parts, "/")
}

// holdsOn says that a route keeps its connection: a socket or a stream.
func holdsOn(path string) bool {
	return strings.HasSuffix(path, "/ws") || strings.HasSuffix(path, "/stream") || strings.HasSuffix(path, "/live")
}

// TestNoOtherSiteChangesAnything sends to every route that takes more than a GET,
// as the browser of an admin who is signed in, what other sites could make it send.
// The routes come from the node itself, so that none can be forgotten.
func TestNoOtherSiteChangesAnything(t *testing.T) {
	n := apptest.Start(t, nil)
	n.Account("spare", account.Admin)
	others := n.SignIn(account.Viewer)
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	const token = "X-Agentnet-Form"
	attacks := []struct {
		name  string
		set   []string
		token func(cookie *http.Cookie) string
	}{
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, func(c *http.Cookie) string { return account.FormToken(c.Value) }},
		{"a neighbour of the same site", []string{"Sec-Fetch-Site", "same-site"}, func(c *http.Cookie) string { return account.FormToken(c.Value) }},
		{"another origin", []string{"Origin", "https://evil.example"}, func(c *http.Cookie) string { return account.FormToken(c.Value) }},
		{"a hidden origin", []string{"Origin", "null"}, func(c *http.Cookie) string { return account.FormToken(c.Value) }},
		{"no token", []string{"Sec-Fetch-Site", "same-origin"}, func(*http.Cookie) string { return "" }},
		{"the token of another session", []string{"Sec-Fetch-Site", "same-origin"}, func(*http.Cookie) string { return account.FormToken(others.Value) }},
		{"a made-up token", []string{"Sec-Fetch-Site", "same-origin"}, func(*http.Cookie) string { return strings.Repeat("A", 43) }},
	}
	cookie := n.SignIn(account.Admin)
	send := func(method, path string, page bool, form string, headers ...string) int {
		t.Helper()
		text, media := "!", "application/json"
		if page {
			text, media = "nothing=1", "application/x-www-form-urlencoded"
		}
		req, err := http.NewRequestWithContext(t.Context(), method, n.URL+filled(path, "none"), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", media)
		req.AddCookie(cookie)
		if form != "" {
			req.Header.Set(token, form)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	tried := 0
	for _, r := range n.App.Routes() {
		if r.Method == http.MethodGet {
			continue
		}
		tried++
		for _, a := range attacks {
			if got := send(r.Method, r.Path, r.Page, a.token(cookie), a.set...); got != http.StatusForbidden {
				t.Errorf("%s %s from %s: got %d, want 403", r.Method, r.Path, a.name, got)
			}
		}
		if _, err := n.App.Desk().Visit(t.Context(), cookie.Value); err != nil {
			t.Fatalf("%s %s ended the session: %v", r.Method, r.Path, err)
		}
		// The same from our own page is not refused for where it came from.
		if got := send(r.Method, r.Path, r.Page, account.FormToken(cookie.Value), "Sec-Fetch-Site", "same-origin"); got == http.StatusForbidden {
			t.Errorf("%s %s from our own page: got 403", r.Method, r.Path)
		}
		if _, err := n.App.Desk().Visit(t.Context(), cookie.Value); err != nil { // it was /logout, or a login
			cookie = n.SignIn(account.Admin)
		}
	}
	if tried < 45 {
		t.Errorf("got %d routes that change something, want all of them", tried)
	}
	t.Logf("%d routes, %d attacks on each", tried, len(attacks))
}

// mark is what hostile texts make of a page that takes them for markup: an element
// and an attribute of this name.
const mark = "xssmark"

var hostile = []string{
	`"><` + mark + `></` + mark + `><img src=x ` + mark + `=1 onerror=alert(1)>`,
	`'><svg/onload=alert(1) ` + mark + `=1>`,
	`</script></style></title></textarea></option></select></table><` + mark + `>`,
	`" ` + mark + `=1 autofocus onfocus=alert(1) x="`,
	`javascript:alert("` + mark + `")`,
	`{{7*7}}${7*7}<!--` + mark + `--><` + mark + ` a=` + "`" + `>`,
}

// plant puts hostile texts wherever a client, a user or an admin can write some. note
// is the query of an entry of the scaling log that holds one.
func plant(t *testing.T, n *apptest.Node) (cookie *http.Cookie, note string) {
	t.Helper()
	desk := n.App.Desk()
	cookie = n.SignIn(account.Admin)
	c := apiCaller{t: t, url: n.URL, cookie: cookie}
	for i, text := range hostile {
		if _, _, err := desk.CreateToken(t.Context(), account.TokenSpec{Name: text, Agents: []string{"alice"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := desk.SignInVouched(t.Context(), account.Vouched{Key: text, Name: text, Role: account.Viewer, How: text}, account.Attempt{Address: text, Browser: text}); err != nil {
			t.Fatal(err)
		}
		if err := desk.Record(t.Context(), account.Entry{Actor: text, Role: account.Role(text), Via: text, Action: text, Target: text, Outcome: text, Detail: text, Address: text}); err != nil {
			t.Fatal(err)
		}
		entry := c.want(200, "POST", "/v1/scaling/log/notes", map[string]string{"text": text})
		note = fmt.Sprintf("?origin=%s&seq=%.0f", url.QueryEscape(entry["origin"].(string)), entry["seq"])
		c.want(200, "POST", "/v1/alerts/silence", map[string]string{"rule": "memory", "reason": text, "for": "1h"})
		card, _ := json.Marshal(map[string]any{"name": text, "description": text, "url": text, "skills": []map[string]string{{"id": text, "name": text}}})
		agent := n.Dial(fmt.Sprintf("evil/a%d", i), wire.JSON, func(c *client.Config) {
			c.Token, c.Name, c.Version = n.Token("evil/*", func(s *auth.TokenSpec) { s.Name = text }), text, text
		})
		if err := agent.Profile(t.Context(), wire.Profile{Card: card}); err != nil {
			t.Fatal(err)
		}
	}
	return cookie, note
}

// markup names what of a page came from a hostile text, and counts the texts that
// are shown as what they are.
func markup(page string) (found []string, shown int) {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return []string{err.Error()}, 0
	}
	for e := range root.Descendants() {
		if e.Type == html.TextNode && strings.Contains(e.Data, mark) {
			shown++
		}
		if e.Type == html.CommentNode && strings.Contains(e.Data, mark) {
			found = append(found, "a comment")
		}
		if e.Type != html.ElementNode {
			continue
		}
		if e.Data == mark {
			found = append(found, "<"+mark+">")
		}
		if e.Data == "script" && e.FirstChild != nil && strings.Contains(e.FirstChild.Data, mark) {
			found = append(found, "a script")
		}
		for _, a := range e.Attr {
			value := strings.ToLower(strings.TrimSpace(a.Val))
			switch {
			case a.Key == mark || strings.HasPrefix(a.Key, "on"):
				found = append(found, "<"+e.Data+" "+a.Key+">")
			case strings.HasPrefix(value, "javascript:") && (a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "formaction" || strings.HasPrefix(a.Key, "hx-")):
				found = append(found, "<"+e.Data+" "+a.Key+"=javascript:>")
			case strings.Contains(value, mark):
				shown++
			}
		}
	}
	return found, shown
}

// TestHostileTextsAreNeverMarkup reads every answer that a browser would show as a
// page, of every route of the node, with hostile texts in its rows, its parameters
// and its path.
func TestHostileTextsAreNeverMarkup(t *testing.T) {
	n := apptest.Start(t, nil)
	cookie, note := plant(t, n)
	client := &http.Client{Timeout: 20 * time.Second}
	const parameters = "q agent rule node said actor action outcome from to id entry account state origin kind scenario range before after next check by sort step tab window at region channel seq reason error code text cause name"
	pages, shownOn := 0, map[string]int{}
	for _, r := range n.App.Routes() {
		if r.Method != http.MethodGet || holdsOn(r.Path) {
			continue
		}
		queries := []string{"", note, "?agent=evil%2Fa0"}
		if r.Page || strings.Contains(r.Path, "/log/") {
			for _, text := range hostile {
				q := url.Values{}
				for name := range strings.FieldsSeq(parameters) {
					q.Set(name, text)
				}
				queries = append(queries, "?"+q.Encode(), "?q="+url.QueryEscape(text))
			}
		}
		with := []string{"none"}
		if strings.Contains(r.Path, ":") {
			with = append(with, url.PathEscape(hostile[0]), url.PathEscape(hostile[2]))
		}
		for _, w := range with {
			for _, query := range queries {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL+filled(r.Path, w)+query, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", "text/html")
				req.AddCookie(cookie)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatalf("%s: %v", r.Path, err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatalf("%s: %v", r.Path, err)
				}
				media := resp.Header.Get("Content-Type")
				if resp.StatusCode >= 500 && !strings.HasSuffix(r.Path, "/readyz") {
					t.Errorf("%s%s: got %d", r.Path, query, resp.StatusCode)
				}
				if !strings.HasPrefix(media, "text/html") {
					if resp.Header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(media, "svg") && strings.Contains(string(body), "<"+mark) {
						t.Errorf("%s (%s): a browser may take it for a page", r.Path, media)
					}
					continue
				}
				pages++
				found, shown := markup(string(body))
				if len(found) > 0 {
					t.Errorf("%s%.80s: a text became markup: %q", r.Path, query, found)
				}
				if query == "" || query == note {
					shownOn[r.Path] += shown
				}
				if !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
					t.Errorf("%s: got no content policy", r.Path)
				}
			}
		}
	}
	// The texts were there to be seen: a page that lost them would prove nothing.
	for _, path := range []string{"/access", "/access/accounts", "/access/sessions", "/audit", "/log", "/log/entry", "/alerts"} {
		if shownOn[path] == 0 {
			t.Errorf("%s shows none of the texts", path)
		}
	}
	if pages < 200 {
		t.Errorf("got %d pages, want every page with every text", pages)
	}
	t.Logf("%d pages; the texts are shown by %v", pages, shownOn)
}
