package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
)

// change sends a request with a body and answers with what came.
func change(t *testing.T, method, address, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, address, bytes.NewReader([]byte(body)))
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
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// ruleAt is the origin of a rule at a node, and whether it is disabled.
func ruleAt(n *apptest.Node, token, name string) string {
	_, body := fetch(n.URL+"/v1/alerts/rules", token, nil)
	var reply struct {
		Rules []struct {
			Name     string
			Disabled bool
		}
		Origins map[string]string
	}
	if json.Unmarshal([]byte(body), &reply) != nil {
		return "unreadable"
	}
	for _, r := range reply.Rules {
		if r.Name == name && r.Disabled {
			return reply.Origins[name] + " disabled"
		}
	}
	return reply.Origins[name]
}

// TestRulesOfTheFleet: a rule made, changed, disabled and taken back at one node is so
// at both, whichever leads.
func TestRulesOfTheFleet(t *testing.T) {
	one, two := pair(t)
	token := one.Token("boss", func(s *auth.TokenSpec) { s.Roles = []string{"operator"} })
	viewer := one.Token("eye", func(s *auth.TokenSpec) { s.Roles = []string{"viewer"} })
	soon(t, "the tokens are everywhere", func() bool { return answers(two.URL, token) && answers(two.URL, viewer) })
	soon(t, "somebody leads", func() bool {
		_, a := fetch(two.URL+"/v1/scaling/status", token, nil)
		return strings.Contains(a, `"leader":"`)
	})
	both := func(name, want string) {
		t.Helper()
		soon(t, name+" is "+want+" at both", func() bool { return ruleAt(one, token, name) == want && ruleAt(two, token, name) == want })
	}
	const many = `{"name":"many","class":"capacity","severity":"warning","signal":"connections","reduce":"sum","threshold":5,"clear":4,"for":1000000000,"keep_firing":0,"no_data":"hold","no_data_after":0}`
	for _, c := range []struct {
		what, method, rule, token, body string
		status                          int
	}{
		{"a viewer", "PUT", "many", viewer, many, 403}, {"a viewer", "DELETE", "many", viewer, "", 403},
		{"nobody", "PUT", "many", "none", many, 401},
		{"another name", "PUT", "few", token, many, 400}, {"no rule", "PUT", "many", token, `{"signal":"nosuch"}`, 400},
		{"a clear threshold on the bad side", "PUT", "many", token, strings.Replace(many, `"clear":4`, `"clear":6`, 1), 400},
		{"unknown", "DELETE", "nosuch", token, "", 404}, {"configured", "DELETE", "cpu_warning", token, "", 400},
		{"right", "PUT", "many", token, many, 200},
	} {
		if status, body := change(t, c.method, two.URL+"/v1/alerts/rules/"+c.rule, c.token, c.body); status != c.status {
			t.Errorf("%s: %s %s: got %d %s, want %d", c.what, c.method, c.rule, status, body, c.status)
		}
	}
	both("many", "stored")
	if status, body := change(t, "PUT", one.URL+"/v1/alerts/rules/many", token, strings.Replace(many, `"for"`, `"disabled":true,"for"`, 1)); status != 200 || !strings.Contains(body, "rule many disabled") {
		t.Errorf("disable: got %d %s", status, body)
	}
	both("many", "stored disabled")
	if _, csv := fetch(two.URL+"/v1/alerts/rules?format=csv", viewer, nil); !strings.Contains(csv, "many,stored,true,warning") {
		t.Errorf("got %.300s, want the rule as CSV", csv)
	}

	// The page: change a configured one, and take both back.
	cookie := two.SignIn(account.Operator)
	form := func(path string, fields ...string) string {
		t.Helper()
		v := url.Values{"form": {account.FormToken(cookie.Value)}}
		for i := 0; i < len(fields); i += 2 {
			v.Set(fields[i], fields[i+1])
		}
		status, to := postForm(t, two.URL+path, cookie, v)
		to, _ = url.QueryUnescape(to)
		if status != 303 {
			t.Fatalf("%s: got %d", path, status)
		}
		return to
	}
	if to := form("/alerts/rules", "rule", "cpu_warning", "threshold", "60", "clear", "50", "response", "look"); !strings.Contains(to, "in force") {
		t.Errorf("got %s", to)
	}
	both("cpu_warning", "changed")
	if to := form("/alerts/rules", "rule", "new one", "new", "1", "signal", "queue_frames"); !strings.Contains(to, "name: use") {
		t.Errorf("a name with a space: got %s", to)
	}
	if to := form("/alerts/rules", "rule", "fresh", "new", "1", "signal", "memory", "reduce", "highest", "threshold", "55", "clear", "50", "severity", "critical"); !strings.Contains(to, "in force") {
		t.Errorf("a new one: got %s", to)
	}
	both("fresh", "stored")
	if to := form("/alerts/rules/able", "rule", "fresh", "able", "no"); !strings.Contains(to, "not run") {
		t.Errorf("disable: got %s", to)
	}
	both("fresh", "stored disabled")
	_, page := fetch(two.URL+"/alerts?rule=fresh", "", cookie)
	for _, want := range []string{"Enable</button>", "Delete…", `option value="memory" selected`, `value="55"`, "made here", "changed here"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if _, page = fetch(two.URL+"/alerts?new=1&rule=another&test=1&signal=connections&threshold=3&clear=2", "", cookie); !strings.Contains(page, "Save as tried") {
		t.Error("a new rule that was tried cannot be saved")
	}
	for _, name := range []string{"fresh", "many", "cpu_warning"} {
		if to := form("/alerts/rules/drop", "rule", name); !strings.Contains(to, "Done") {
			t.Errorf("take %s back: got %s", name, to)
		}
	}
	both("fresh", "")
	both("many", "")
	both("cpu_warning", "configuration")
}

// TestAnswersToAdvice: what an operator says to advice at one node holds at both.
func TestAnswersToAdvice(t *testing.T) {
	one, two := pair(t)
	token := one.Token("boss", func(s *auth.TokenSpec) { s.Roles = []string{"operator"} })
	viewer := one.Token("eye", func(s *auth.TokenSpec) { s.Roles = []string{"viewer"} })
	soon(t, "the tokens are everywhere", func() bool { return answers(two.URL, token) && answers(two.URL, viewer) })
	soon(t, "somebody leads", func() bool {
		_, a := fetch(two.URL+"/v1/scaling/status", token, nil)
		return strings.Contains(a, `"leader":"`)
	})
	const path = "/v1/scaling/advice/answers"
	for _, c := range []struct {
		what, token, body string
		status            int
	}{
		{"a viewer", viewer, `{"advice":"memory@one","verdict":"dismiss","reason":"x"}`, 403},
		{"no reason", token, `{"advice":"memory@one","verdict":"dismiss"}`, 400}, {"no time", token, `{"advice":"memory@one","verdict":"snooze"}`, 400},
		{"too long", token, `{"advice":"memory@one","verdict":"snooze","for":"91d"}`, 400}, {"no verdict", token, `{"advice":"memory@one","verdict":"burn"}`, 400},
		{"no advice", token, `{"verdict":"dismiss","reason":"x"}`, 400},
		{"dismissed", token, `{"advice":"memory@one","verdict":"dismiss","reason":"test machine","weight":"warn 7"}`, 200},
		{"snoozed", token, `{"advice":"nodes","verdict":"snooze","for":"7d"}`, 200},
	} {
		if status, body := change(t, "POST", two.URL+path, c.token, c.body); status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.what, status, body, c.status)
		}
	}
	for _, n := range []*apptest.Node{one, two} {
		soon(t, "both nodes know", func() bool {
			_, body := fetch(n.URL+path, viewer, nil)
			return strings.Contains(body, "test machine") && strings.Contains(body, `"advice":"nodes"`)
		})
	}
	cookie := one.SignIn(account.Operator)
	status, to := postForm(t, one.URL+"/capacity/answer", cookie, url.Values{"form": {account.FormToken(cookie.Value)}, "advice": {"nosuch"}, "verdict": {"dismiss"}, "reason": {"x"}})
	if status != 303 || !strings.Contains(to, "not+advised+any+more") {
		t.Errorf("advice that nobody gave: got %d %s", status, to)
	}
	_, log := fetch(one.URL+"/log?q=dismissed&kind=notes", "", cookie)
	_, link, _ := strings.Cut(log, `href="/v1/scaling/log/export`)
	link, _, _ = strings.Cut(link, `"`)
	if status, body := fetch(one.URL+"/v1/scaling/log/export"+strings.ReplaceAll(link, "&amp;", "&"), "", cookie); status != 200 || !strings.Contains(body, "test machine") || strings.Contains(body, "snoozed") {
		t.Errorf("export of the filtered log by %q: got %d %.300s, want the dismissal alone", link, status, body)
	}
	if status, body := fetch(one.URL+"/advice.json", "", cookie); status != 200 {
		t.Errorf("advice as JSON: got %d %s", status, body)
	}
}
