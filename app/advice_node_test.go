package app_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/wire"
)

// TestAdviceIsApplied: the engine wants three nodes and may only advise. An operator
// has it act; then the command really runs, and the log and the audit say who it was.
func TestAdviceIsApplied(t *testing.T) {
	dir := t.TempDir()
	script, acted := filepath.Join(dir, "act.sh"), filepath.Join(dir, "acted")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$AGENTNET_FROM to $AGENTNET_TO\" >> "+acted+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := apptest.Start(t, func(c *app.Config) {
		c.Scaling.Mode, c.Scaling.Min, c.Scaling.Max = "advise", 3, 5
		c.Actuate.Kind, c.Actuate.Command = "command", []string{script}
	})
	tokens := map[string]string{}
	for _, role := range []string{"viewer", "operator", "admin"} {
		tokens[role] = n.Token("by-"+role, func(s *auth.TokenSpec) { s.Roles, s.Name = []string{role}, "by-"+role })
	}
	const list, apply, body = "/v1/scaling/advice", "/v1/scaling/advice/apply", `{"advice":"nodes","reason":"the fair begins"}`
	soon(t, "three nodes are advised", func() bool {
		var reply struct {
			Advice []struct {
				Advice, State, Title string
				Applies              bool
			}
		}
		_, text := fetch(n.URL+list, tokens["viewer"], nil)
		if json.Unmarshal([]byte(text), &reply) != nil {
			return false
		}
		for _, a := range reply.Advice {
			if a.Advice == "nodes" && a.Applies && a.State == "open" && strings.Contains(a.Title, "1 → 3") {
				return true
			}
		}
		return false
	})
	mode := func() string {
		_, text := fetch(n.URL+"/v1/scaling/status", tokens["viewer"], nil)
		var st struct{ Mode string }
		_ = json.Unmarshal([]byte(text), &st)
		return st.Mode
	}
	for who, want := range map[string]int{"viewer": 403, "nobody": 401} {
		if status, text := change(t, "POST", n.URL+apply, tokens[who]+strings.Repeat("x", 1-min(1, len(tokens[who]))), body); status != want {
			t.Errorf("%s: got %d %s, want %d", who, status, text, want)
		}
	}
	if got := mode(); got != "advise" {
		t.Fatalf("got mode %q after refusals, want advise", got)
	}
	if _, err := os.Stat(acted); err == nil {
		t.Error("the command ran before anybody allowed it")
	}
	if status, text := change(t, "POST", n.URL+apply, tokens["operator"], body); status != 200 || !strings.Contains(text, "mode advise to act: advice was applied: the fair begins") {
		t.Fatalf("an operator: got %d %s", status, text)
	}
	if got := mode(); got != "act" {
		t.Errorf("got mode %q, want act", got)
	}
	soon(t, "the command has run", func() bool {
		text, _ := os.ReadFile(acted)
		return strings.HasSuffix(string(text), " to 3\n")
	})
	if status, text := change(t, "POST", n.URL+apply, tokens["operator"], body); status != 404 {
		t.Errorf("advice that was followed: got %d %s, want 404", status, text)
	}
	_, log := fetch(n.URL+"/v1/scaling/log?limit=100", tokens["viewer"], nil)
	if !strings.Contains(log, "advice was applied") || !strings.Contains(log, `"actor":"token:`) {
		t.Errorf("got %.2000s, want the change and who made it in the log", log)
	}
	audited(t, n, tokens["admin"], "scaling.advice.apply", `"role":"operator"`, "done", "policy")
	audited(t, n, tokens["admin"], "scaling.advice.apply", `"role":"viewer"`, "refused", "")
}

// audited waits until the audit log has an action by somebody with its outcome and,
// unless that is empty, what it was done to.
func audited(t *testing.T, n *apptest.Node, token, action, actor, outcome, target string) {
	t.Helper()
	soon(t, action+" by "+actor+" is in the audit log", func() bool {
		_, text := fetch(n.URL+"/v1/audit?limit=100", token, nil)
		var reply struct{ Entries []map[string]any }
		if json.Unmarshal([]byte(text), &reply) != nil {
			return false
		}
		for _, e := range reply.Entries {
			raw, _ := json.Marshal(e)
			if e["action"] == action && e["outcome"] == outcome && strings.Contains(string(raw), actor) && (target == "" || e["target"] == target) {
				return true
			}
		}
		return false
	})
}

// TestTracesAreAudited: who looks at the envelopes of an agent is in the audit log,
// by the API and by the page; so is who was refused.
func TestTracesAreAudited(t *testing.T) {
	n := apptest.Start(t, nil)
	n.Dial("alice", wire.JSON)
	tokens := map[string]string{}
	for _, role := range []string{"viewer", "operator", "admin"} {
		tokens[role] = n.Token("by-"+role, func(s *auth.TokenSpec) { s.Roles, s.Name = []string{role}, "by-"+role })
	}
	for role, want := range map[string]int{"viewer": 403, "operator": 200} {
		if status, text := change(t, "POST", n.URL+"/v1/agents/alice/trace", tokens[role], `{"seconds":30,"reason":"slow"}`); status != want {
			t.Errorf("%s: got %d %s, want %d", role, status, text, want)
		}
	}
	audited(t, n, tokens["admin"], "agent.trace.begin", `"role":"operator"`, "done", "alice")
	audited(t, n, tokens["admin"], "agent.trace.begin", `"role":"viewer"`, "refused", "")
	n.Account("olga", account.Operator)
	cookie := apptest.SignIn(t, n, "olga")
	if status, to := postForm(t, n.URL+"/agents/trace", cookie, url.Values{"form": {account.FormToken(cookie.Value)}, "agent": {"alice"}, "for": {"1 minute"}}); status != 303 || !strings.Contains(to, "noted") {
		t.Errorf("the page: got %d %s", status, to)
	}
	audited(t, n, tokens["admin"], "agent.trace.begin", `"actor":"olga"`, "done", "alice")
	if status, text := change(t, "DELETE", n.URL+"/v1/agents/alice/trace", tokens["operator"], ""); status != 200 {
		t.Errorf("end: got %d %s", status, text)
	}
	audited(t, n, tokens["admin"], "agent.trace.end", `"role":"operator"`, "done", "alice")
}
