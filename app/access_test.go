package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
)

// An apiCaller asks the API of a node as somebody.
type apiCaller struct {
	t      *testing.T
	url    string
	bearer string
	cookie *http.Cookie
}

func (c apiCaller) call(method, path string, body any, headers ...string) (status int, reply map[string]any, text string) {
	c.t.Helper()
	var raw []byte
	if body != nil {
		raw, _ = json.Marshal(body)
	}
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(raw))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	if c.cookie != nil {
		req.AddCookie(c.cookie)
		req.Header.Set("X-Agentnet-Form", account.FormToken(c.cookie.Value))
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(all, &reply)
	return resp.StatusCode, reply, string(all)
}

func (c apiCaller) want(status int, method, path string, body any) map[string]any {
	c.t.Helper()
	got, reply, text := c.call(method, path, body)
	if got != status {
		c.t.Fatalf("%s %s: got %d %s, want %d", method, path, got, text, status)
	}
	return reply
}

func TestAccessOverTheAPI(t *testing.T) {
	n := apptest.Start(t, nil)
	admin := n.Token("root", func(s *auth.TokenSpec) { s.Roles, s.Name = []string{"admin"}, "automation" })
	for name, c := range map[string]apiCaller{"token": {t, n.URL, admin, nil}, "session": {t, n.URL, "", n.SignIn(account.Admin)}} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			me := c.want(200, "GET", "/v1/me", nil)
			if me["kind"] != map[string]string{"token": "token", "session": "account"}[name] {
				t.Errorf("got %v", me)
			}

			// A token that is made works at once, and not any more when it is revoked.
			made := c.want(200, "POST", "/v1/tokens", map[string]any{"name": "kitchen " + name, "agents": []string{"alice"}, "roles": []string{"viewer"}, "lifetime_s": 3600})
			token, _ := made["token"].(string)
			viewer := apiCaller{t, n.URL, token, nil}
			viewer.want(200, "GET", "/v1/stats", nil)
			viewer.want(403, "GET", "/v1/tokens", nil)
			status, _, csv := c.call("GET", "/v1/tokens?match=kitchen+"+name, nil, "Accept", "text/csv")
			if status != 200 || !strings.HasPrefix(csv, "id,name,state") || !strings.Contains(csv, "kitchen "+name) || strings.Contains(csv, token) {
				t.Errorf("got %d %s", status, csv)
			}
			c.want(200, "DELETE", "/v1/tokens/"+made["id"].(string), nil)
			viewer.want(401, "GET", "/v1/stats", nil)
			c.want(404, "DELETE", "/v1/tokens/AAAAAAAAAAAA", nil)
			c.want(400, "POST", "/v1/tokens", map[string]any{"agents": []string{"a b"}})
			c.want(400, "POST", "/v1/tokens", map[string]any{"agents": []string{"a"}, "unknown": 1})
			c.want(415, "POST", "/v1/tokens", nil)

			// Accounts.
			who := "vic-" + name
			link := c.want(200, "POST", "/v1/accounts", map[string]any{"name": who, "role": "viewer"})["link"].(string)
			if !strings.HasPrefix(link, "/setup/") {
				t.Errorf("got link %q", link)
			}
			c.want(409, "POST", "/v1/accounts", map[string]any{"name": who, "role": "viewer"})
			c.want(400, "POST", "/v1/accounts", map[string]any{"name": "eve", "role": "root"})
			c.want(400, "POST", "/v1/accounts", map[string]any{"name": "eve", "role": "viewer", "password": "short"})
			if got := c.want(200, "PATCH", "/v1/accounts/"+who, map[string]any{"role": "operator", "disabled": true}); got["role"] != "operator" || got["disabled"] != true {
				t.Errorf("got %v", got)
			}
			c.want(400, "PATCH", "/v1/accounts/"+who, map[string]any{})
			c.want(404, "PATCH", "/v1/accounts/nobody", map[string]any{"disabled": true})
			c.want(200, "POST", "/v1/accounts/"+who+"/reset", nil)
			c.want(200, "DELETE", "/v1/accounts/"+who, nil)
			c.want(404, "POST", "/v1/accounts/"+who+"/reset", nil)
			c.want(200, "GET", "/v1/accounts?limit=1", nil)
			c.want(400, "GET", "/v1/accounts?limit=0", nil)
		})
	}
	c := apiCaller{t, n.URL, admin, nil}
	if status, _, text := c.call("DELETE", "/v1/accounts/admin", nil); status != 409 || !strings.Contains(text, "last admin") {
		t.Errorf("the last admin: got %d %s, want 409", status, text)
	}

	// Sessions end at once.
	cookie := n.SignIn(account.Viewer)
	browser := apiCaller{t, n.URL, "", cookie}
	browser.want(200, "GET", "/v1/stats", nil)
	list := c.want(200, "GET", "/v1/sessions?account=viewer", nil)["sessions"].([]any)
	c.want(200, "DELETE", "/v1/sessions/"+list[0].(map[string]any)["id"].(string), nil)
	browser.want(401, "GET", "/v1/stats", nil)

	// All of it is in the audit log, with who did it and no secret.
	_, _, text := c.call("GET", "/v1/audit?limit=1000", nil)
	for _, want := range []string{`"actor":"token:`, `"actor":"admin"`, `"action":"token.create"`, `"action":"token.revoke"`, `"action":"account.create","target":"vic-session","outcome":"done"`,
		`"action":"account.change","target":"vic-token","outcome":"done","detail":"role viewer to operator; disabled"`, `"action":"account.delete","target":"admin","outcome":"refused"`, `"action":"session.end"`, `"via":"api","address":"127.0.0.1"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit log lacks %s:\n%s", want, text)
		}
	}
	for _, secret := range []string{"agn_", "/setup/", "argon2", admin, cookie.Value, apptest.Password} {
		if strings.Contains(text, secret) {
			t.Errorf("the audit log has a secret: %q", secret)
		}
	}
	verified := c.want(200, "GET", "/v1/audit/verify", nil)
	if verified["ok"] != true {
		t.Errorf("got %v", verified)
	}
	c.want(200, "GET", "/v1/audit/verify?head="+verified["head"].(string), nil)
	if got := c.want(200, "GET", "/v1/audit/verify?head=9999:"+strings.Repeat("0", 64), nil); got["ok"] != false {
		t.Errorf("an end that was never reached: got %v", got)
	}
	for _, query := range []string{"before=x", "limit=1001", "from=yesterday"} {
		c.want(400, "GET", "/v1/audit?"+query, nil)
	}
	for _, secret := range []string{cookie.Value, apptest.Password, admin} {
		if strings.Contains(n.Log(), secret) {
			t.Error("the log has a secret")
		}
	}
}

// TestRestartKeepsPeopleIn restarts a node under somebody who is signed in.
func TestRestartKeepsPeopleIn(t *testing.T) {
	n := apptest.Start(t, nil)
	c := apiCaller{t, n.URL, "", n.SignIn(account.Operator)}
	c.want(200, "GET", "/v1/me", nil)
	old := n.App.SetupPath()
	n.Account("anna", account.Admin)
	n = n.Restart(nil)
	if n.App.SetupPath() != "" || old == "" {
		t.Error("a server with an admin made a setup link, or one without did not")
	}
	if me := c.want(200, "GET", "/v1/me", nil); me["name"] != "operator" {
		t.Errorf("got %v after the restart", me)
	}
}
