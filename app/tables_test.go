package app_test

import (
	"encoding/csv"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/wire"
)

var (
	tableTag = regexp.MustCompile(`(?s)<table([^>]*)>(.*?)</table>`)
	rowsAttr = regexp.MustCompile(`data-rows="([^"]+)"`)
	hrefs    = regexp.MustCompile(`href="([^"]+)"`)
)

// TestEveryTableIsCSVAndJSON walks all pages, with what opens further tables, and
// wants of each table that the page links to its rows in both forms, that they can be
// had, and that they hold rows where the page shows some. The same tables are behind
// /v1 for programs.
func TestEveryTableIsCSVAndJSON(t *testing.T) {
	n := apptest.Start(t, nil)
	n.Dial("alice", wire.JSON)
	cookie := n.SignIn(account.Admin)
	client := &http.Client{Timeout: 40 * time.Second}
	get := func(path string, bearer string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, n.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html,*/*")
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
			req.Header.Del("Accept")
		} else {
			req.AddCookie(cookie)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return resp.StatusCode, string(body)
	}
	trace(t, n)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, body := get("/capacity", ""); strings.Contains(body, `data-rows="/what-if"`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the engine did not look at the fleet")
		}
	}
	pages := []string{"/capacity?agents=2&connections=5000", "/simulator?scenario=spike&connections=900&hours=1", "/settings?examine=1", "/agents?agent=alice", "/alerts?new=1", "/log?range=30d"}
	tables := map[string]bool{}
	for _, r := range n.App.Routes() {
		if !r.Page || r.Method != http.MethodGet || strings.ContainsAny(r.Path, ":") || r.Path == "/live" || strings.Contains(r.Path, "/static") {
			continue
		}
		switch {
		case strings.HasSuffix(r.Path, ".csv"):
			tables[strings.TrimSuffix(r.Path, ".csv")] = true
		case !strings.HasSuffix(r.Path, ".json") && !strings.Contains(r.Path, "logout"):
			pages = append(pages, r.Path)
		}
	}
	seen := map[string]bool{}
	for _, page := range pages {
		_, body := get(page, "")
		var links []string
		for _, m := range hrefs.FindAllStringSubmatch(body, -1) {
			links = append(links, html.UnescapeString(m[1]))
		}
		for _, m := range tableTag.FindAllStringSubmatch(body, -1) {
			attr := rowsAttr.FindStringSubmatch(m[1])
			if attr == nil {
				t.Errorf("%s: got a table that says nothing of its rows: %.300s", page, m[0])
				continue
			}
			name, shown := attr[1], strings.Count(m[2], "<tr")-1
			seen[name] = true
			for _, ending := range []string{".csv", ".json"} {
				i := slices.IndexFunc(links, func(l string) bool { return l == name+ending || strings.HasPrefix(l, name+ending+"?") })
				if i < 0 {
					t.Errorf("%s: got no link to %s%s beside its table", page, name, ending)
					continue
				}
				status, text := get(links[i], "")
				if rows := countRows(t, ending, text); status != 200 || rows == 0 && shown > 0 {
					t.Errorf("%s: %s: got %d and %d rows, the page shows %d: %.300s", page, links[i], status, rows, shown, text)
				}
			}
		}
	}
	for _, must := range []string{"/agents", "/agents/trace", "/capacity", "/what-if", "/plan", "/rules", "/regions", "/doctor", "/settings", "/privacy", "/log", "/audit", "/access", "/access/accounts", "/access/sessions", "/account/sessions"} {
		if !seen[must] {
			t.Errorf("got no page that shows the table %s: the walk does not reach it", must)
		}
	}
	admin := n.Token("boss", func(s *auth.TokenSpec) { s.Roles = []string{"admin"} })
	for name := range tables {
		if name == "/account/sessions" || name == "/agents/trace" { // one's own; has a route of its own
			continue
		}
		if name == "/simulator" {
			name += "?scenario=spike&connections=900&hours=1"
		}
		if status, text := get("/v1/tables"+name, admin); status != 200 || countRows(t, ".json", text) < 0 {
			t.Errorf("/v1/tables%s: got %d %.300s", name, status, text)
		}
	}
	if len(tables) < 20 || len(seen) < 16 {
		t.Errorf("got %d tables, %d of them on pages: the walk is not whole", len(tables), len(seen))
	}
}

// countRows reads a table in one of its forms.
func countRows(t *testing.T, ending, text string) int {
	t.Helper()
	if ending == ".csv" {
		rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(rows) == 0 {
			t.Errorf("got no CSV (%v): %.200s", err, text)
			return 0
		}
		return len(rows) - 1
	}
	var got struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Rows == nil {
		t.Errorf("got no rows in JSON (%v): %.200s", err, text)
	}
	return len(got.Rows)
}

// trace has the envelopes of alice noted, one message pass, and an alert silenced.
func trace(t *testing.T, n *apptest.Node) {
	t.Helper()
	operator := n.Token("bob", func(s *auth.TokenSpec) { s.Roles = []string{"operator"} })
	for _, c := range []struct{ path, body string }{{"/v1/agents/alice/trace", `{"seconds":60}`}, {"/v1/send", `{"to":"alice","data":"x"}`},
		{"/v1/alerts/silence", `{"rule":"memory","for":"1h","reason":"a test"}`}} {
		req, err := http.NewRequest(http.MethodPost, n.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+operator)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("%s: got %d %s", c.path, resp.StatusCode, body)
		}
	}
}

// TestWhatIsAdvisedCanBeAnswered walks advice over HTTP: list, snooze, dismiss, show
// again, in both forms, and what is refused.
func TestWhatIsAdvisedCanBeAnswered(t *testing.T) {
	n := apptest.Start(t, nil)
	operator := n.Token("boss", func(s *auth.TokenSpec) { s.Roles = []string{"operator"} })
	viewer := n.Token("eve", func(s *auth.TokenSpec) { s.Roles = []string{"viewer"} })
	ask := func(token, method, path, body string) (int, string) {
		req, err := http.NewRequest(method, n.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	var reply struct {
		Advice []struct{ Advice, Weight, State, Title string }
	}
	status, text := ask(viewer, "GET", "/v1/scaling/advice", "")
	if err := json.Unmarshal([]byte(text), &reply); status != 200 || err != nil || reply.Advice == nil {
		t.Fatalf("got %d %s %v, want a list", status, text, err)
	}
	for _, c := range []struct {
		token, method, path, body string
		want                      int
		holds                     string
	}{
		{viewer, "GET", "/v1/scaling/advice?format=csv", "", 200, "advice,weight,urgency"},
		{viewer, "GET", "/v1/scaling/advice?state=never", "", 400, "open, snoozed or dismissed"},
		{viewer, "POST", "/v1/scaling/advice/apply", `{"advice":"nodes"}`, 403, "operator"},
		{operator, "POST", "/v1/scaling/advice/apply", `{"advice":"` + url.QueryEscape("none@x") + `"}`, 404, "not advised"},
		{operator, "POST", "/v1/scaling/advice/answers", `{"advice":"none","verdict":"dismiss"}`, 400, "say why"},
	} {
		if status, text := ask(c.token, c.method, c.path, c.body); status != c.want || !strings.Contains(text, c.holds) {
			t.Errorf("%s %s %s: got %d %.200s, want %d and %q", c.method, c.path, c.body, status, text, c.want, c.holds)
		}
	}
}
