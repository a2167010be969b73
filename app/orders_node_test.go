package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/ask"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/wire"
)

// pair starts two nodes that share the embedded Redis of the first.
func pair(t *testing.T) (one, two *apptest.Node) {
	t.Helper()
	port := freePort(t)
	one = apptest.Start(t, func(c *app.Config) {
		c.Node, c.Embedded.Listen, c.Embedded.Password = "one", "127.0.0.1:"+port, "s3cret"
		c.Drain.Timeout = app.Duration(3 * time.Second)
	})
	two = apptest.Start(t, func(c *app.Config) {
		c.Node, c.Redis = "two", "redis://:s3cret@127.0.0.1:"+port
		c.Drain.Timeout = app.Duration(3 * time.Second)
	})
	soon(t, "the nodes know each other", func() bool {
		return len(one.App.Cluster().Least("local", 2)) == 1 && len(two.App.Cluster().Least("local", 2)) == 1
	})
	return one, two
}

// localhost is where clients of tests come from.
var localhost = netip.MustParseAddr("127.0.0.1")

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// answers says that a node knows a token.
func answers(url, token string) bool {
	status, _ := fetch(url+"/v1/agents", token, nil)
	return status == http.StatusOK
}

// fetch reads a page with a token or a cookie; status 0: it did not come.
func fetch(url, token string, cookie *http.Cookie) (status int, body string) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, err.Error()
	}
	if cookie != nil {
		req.AddCookie(cookie)
	} else {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// postForm sends a form as a page of the node does, and answers where it leads.
func postForm(t *testing.T, address string, cookie *http.Cookie, fields url.Values) (status int, to string) {
	t.Helper()
	req, err := http.NewRequest("POST", address, strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.AddCookie(cookie)
	c := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location")
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// order posts to the API and answers with the status, the answer and the text.
func order(t *testing.T, url, token, body string) (status int, done ask.Done, text string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, bytes.NewReader([]byte(body)))
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
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, &done); err != nil {
			t.Fatalf("%s: %v in %s", url, err, raw)
		}
	}
	return resp.StatusCode, done, string(raw)
}

// stateOf is what one node says of another.
func stateOf(n *apptest.Node, name string) string {
	for _, m := range n.App.Cluster().Members() {
		if m.Name == name {
			return m.State.String()
		}
	}
	return "unknown"
}

// TestOrdersForAnotherNode: an operator at one node empties, fills and evens out the
// other, and ends the session of an agent there; each is told, audited and logged.
func TestOrdersForAnotherNode(t *testing.T) {
	one, two := pair(t)
	token := one.Token("boss", func(s *auth.TokenSpec) { s.Roles = []string{"operator"} })
	agent := two.Token("lab/*")
	soon(t, "the token is on both nodes", func() bool { return answers(two.URL, token) && answers(one.URL, agent) })
	c, err := client.Dial(t.Context(), client.Config{URL: two.URL, Token: agent, Agent: "lab/a"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	t.Run("roster", func(t *testing.T) {
		var status int
		var body string
		soon(t, "the session is on the other node's roster", func() bool { // its client may know of it first
			status, body = fetch(one.URL+"/v1/agents/roster?q=node:two", token, nil)
			return strings.Contains(body, `"matched":1`)
		})
		if status != 200 || !strings.Contains(body, `"agent":"lab/a","node":"two"`) || !strings.Contains(body, `"matched":1`) {
			t.Errorf("got %d %s, want lab/a on two", status, body)
		}
		if _, body = fetch(one.URL+"/v1/agents/roster?format=csv", token, nil); !strings.Contains(body, "lab/a,two,local,available") {
			t.Errorf("got %s, want lab/a as CSV", body)
		}
		if status, body = fetch(one.URL+"/v1/agents/roster?q=nosuch:1", token, nil); status != 400 {
			t.Errorf("a wrong filter: got %d %s, want 400", status, body)
		}
		if status, body = fetch(one.URL+"/v1/agents/roster", agent, nil); status != 403 {
			t.Errorf("an agent's token: got %d %s, want 403", status, body)
		}
		cookie := one.SignIn(account.Viewer)
		if _, body = fetch(one.URL+"/agents?agent=lab/a&sort=node", "", cookie); !strings.Contains(body, "Session 1 on two") || strings.Contains(body, "Disconnect") {
			t.Error("the page lacks the session on the other node, or offers a viewer to end it")
		}
		if _, body = fetch(one.URL+"/agents.csv", "", cookie); !strings.Contains(body, "lab/a,two,local,available") {
			t.Errorf("got %s, want lab/a as CSV", body)
		}
	})
	t.Run("disconnect", func(t *testing.T) {
		status, done, text := order(t, one.URL+"/v1/agents/lab%2Fa/disconnect", token, `{"reason":"too loud"}`)
		if status != 200 || done.Sessions != 1 || strings.Join(done.Nodes, " ") != "two" {
			t.Fatalf("got %d %s, want one session of two", status, text)
		}
		if status, _, text = order(t, one.URL+"/v1/agents/lab%2Fnobody/disconnect", token, `{}`); status != 404 {
			t.Errorf("an agent that is nowhere: got %d %s, want 404", status, text)
		}
		if status, _, text = order(t, one.URL+"/v1/agents/x/disconnect", token, `{"reason":"`+strings.Repeat("x", 201)+`"}`); status != 400 {
			t.Errorf("a long reason: got %d %s, want 400", status, text)
		}
	})
	t.Run("drain", func(t *testing.T) {
		status, done, text := order(t, one.URL+"/v1/nodes/two/drain", token, `{"reason":"new disk"}`)
		if status != 200 || done.Node != "two" || done.State != "draining" {
			t.Fatalf("got %d %s, want two draining", status, text)
		}
		soon(t, "one sees it", func() bool { return stateOf(one, "two") == "draining" && two.App.Hub().Stats().Draining })
		soon(t, "the clients are gone", func() bool { return two.App.Hub().Stats().Connections == 0 })
		if e := two.App.Hub().Admit(localhost); e == nil || e.Code != wire.Unavailable {
			t.Errorf("a new client: got %v, want unavailable", e)
		}
		if status, _, text := order(t, two.URL+"/v1/nodes/one/drain", token, `{}`); status != 409 {
			t.Errorf("the last ready node: got %d %s, want 409", status, text)
		}
		if status, done, text = order(t, one.URL+"/v1/nodes/two/drain", token, `{}`); status != 200 || !strings.Contains(done.Message, "already") {
			t.Errorf("again: got %d %s, want that it drains already", status, text)
		}
	})
	t.Run("undrain", func(t *testing.T) {
		status, done, text := order(t, one.URL+"/v1/nodes/two/undrain", token, `{}`)
		if status != 200 || done.State != "ready" {
			t.Fatalf("got %d %s, want two ready", status, text)
		}
		soon(t, "one sees it", func() bool { return stateOf(one, "two") == "ready" && !two.App.Hub().Stats().Draining })
		d, err := client.Dial(t.Context(), client.Config{URL: two.URL, Token: agent, Agent: "lab/b"})
		if err != nil {
			t.Fatalf("a client after undrain: %v", err)
		}
		defer d.Close()
		boss, err := client.Dial(t.Context(), client.Config{URL: one.URL, Token: token, Agent: "boss"})
		if err != nil {
			t.Fatal(err)
		}
		defer boss.Close()
		soon(t, "a message gets there", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := boss.Send(ctx, "lab/b", client.RawJSON([]byte(`1`)))
			return err == nil
		})
		if status, _, text := order(t, one.URL+"/v1/nodes/two/undrain", token, `{}`); status != 409 {
			t.Errorf("again: got %d %s, want 409", status, text)
		}
		status, done, text = order(t, one.URL+"/v1/nodes/two/rebalance", token, `{"clients":1}`)
		if status != 200 || done.Clients != 1 {
			t.Errorf("rebalance: got %d %s, want one client", status, text)
		}
		if status, _, text := order(t, one.URL+"/v1/nodes/two/rebalance", token, `{"clients":0}`); status != 400 {
			t.Errorf("no clients: got %d %s, want 400", status, text)
		}
		if status, _, text := order(t, one.URL+"/v1/nodes/three/drain", token, `{}`); status != 404 {
			t.Errorf("no such node: got %d %s, want 404", status, text)
		}
	})
	t.Run("written down", func(t *testing.T) {
		admin := one.Token("root", func(s *auth.TokenSpec) { s.Roles = []string{"admin"} })
		for path, want := range map[string]string{"/v1/audit?action=node.drain": "new disk", "/v1/audit?action=agent.disconnect": "too loud", "/v1/scaling/log?match=drain+of+two": "new disk"} {
			if status, body := fetch(one.URL+path, admin, nil); status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s: got %d %.500s, want %q in it", path, status, body, want)
			}
		}
	})
}

// TestOrdersFromThePage: the buttons of the page reach the other node, with a token of
// the form and the role of an operator only.
func TestOrdersFromThePage(t *testing.T) {
	one, _ := pair(t)
	for _, c := range []struct {
		role   account.Role
		fields url.Values
		want   int
		said   string
	}{
		{account.Viewer, url.Values{"node": {"two"}}, 403, ""},
		{account.Operator, url.Values{"node": {"none"}}, 303, "no node"},
		{account.Operator, url.Values{}, 303, "no node was named"},
		{account.Operator, url.Values{"node": {"two"}}, 303, "two takes no new clients"},
	} {
		cookie := one.SignIn(c.role)
		for _, stolen := range []bool{true, false} {
			c.fields.Set("form", account.FormToken(cookie.Value))
			want := c.want
			if stolen {
				c.fields.Set("form", "x")
				want = 403
			}
			status, to := postForm(t, one.URL+"/nodes/drain", cookie, c.fields)
			if status != want || !stolen && !strings.Contains(to, url.QueryEscape(c.said)) {
				t.Errorf("%s, %v, foreign form %v: got %d to %s, want %d and %q", c.role, c.fields, stolen, status, to, want, c.said)
			}
		}
	}
	soon(t, "two drains", func() bool { return stateOf(one, "two") == "draining" })
	cookie := one.SignIn(account.Operator)
	_, text := fetch(one.URL+"/nodes", "", cookie)
	if !strings.Contains(text, `aria-label="Undrain two"`) || !strings.Contains(text, `aria-label="Drain one"`) || !strings.Contains(text, "agentnet-form") {
		t.Errorf("the page lacks the buttons of both nodes:\n%.2000s", text)
	}
}
