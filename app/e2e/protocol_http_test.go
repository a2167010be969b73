package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app"
)

// request does one HTTP request and returns the answer and its body.
func request(t testing.TB, method, url, token string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return res, text
}

// call does one request of the HTTP API and decodes the JSON answer.
func call(t testing.TB, n *fleet, method, path, token string, body obj, header ...string) (*http.Response, map[string]any) {
	t.Helper()
	var text []byte
	if body != nil {
		text = appendJSON(nil, body)
	}
	res, out := request(t, method, n.next().URL+path, token, text, header...)
	var fields map[string]any
	if err := json.Unmarshal(out, &fields); err != nil {
		t.Fatalf("%s %s: got %s %.300q", method, path, res.Status, out)
	}
	return res, fields
}

// problem is call for what must be refused.
func problem(t testing.TB, n *fleet, method, path, token string, body obj, status int, code string) {
	t.Helper()
	res, p := call(t, n, method, path, token, body)
	if res.StatusCode != status || p["code"] != code || res.Header.Get("Content-Type") != "application/problem+json" || p["detail"] == "" {
		t.Errorf("%s %s %v: got %s %v, want %d %s", method, path, body, res.Status, p, status, code)
	}
}

func TestProtocolHTTPMessages(t *testing.T) { protocolHTTPMessages(t, alone) }

func protocolHTTPMessages(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	token := n.Token("web/*")
	bothWays(t, func(t *testing.T, d dialect) {
		you := "web/b-" + d.name
		b := join(t, n, d, you)
		b.ok(obj{"subscribe": obj{"channel": you}})
		res, got := call(t, n, "POST", "/v1/send", token, obj{"agent": "web/a", "to": you, "data": raw(`{"x": 1}`), "priority": "high", "headers": obj{"h": "v"}})
		m := b.next("message").GetMessage()
		if res.StatusCode != 200 || got["outcome"] != "delivered" || got["id"] != m.Id || got["sessions"] != 1.0 || m.From != "web/a" || string(m.GetData()) != `{"x": 1}` || m.Priority.String() != "high" || m.Headers["h"] != "v" {
			t.Errorf("send: got %s %v and %v", res.Status, got, m)
		}
		_, got = call(t, n, "POST", "/v1/send", token, obj{"agent": "web/a", "to": "web/away-" + d.name, "ttl_ms": 60000, "bytes": []byte{0xff}})
		away := join(t, n, d, "web/away-"+d.name)
		if m := away.next("message").GetMessage(); got["outcome"] != "parked" || m.Id != got["id"] || string(m.GetBytes()) != "\xff" {
			t.Errorf("parked: got %v and %v", got, m)
		}
		_, got = call(t, n, "POST", "/v1/publish", token, obj{"agent": "web/a", "channel": you, "data": raw(`2`)})
		if m := b.next("message").GetMessage(); got["offset"] != 1.0 || m.Offset != 1 || got["epoch"] == "" || m.From != "web/a" {
			t.Errorf("publish: got %v and %v", got, m)
		}
		// request waits for the reply; what came before the last is in earlier.
		type answer struct {
			res  *http.Response
			body map[string]any
		}
		ask := func(fields obj) chan answer {
			fields["agent"], fields["to"] = "web/a", you
			ch := make(chan answer, 1)
			go func() {
				res, body := call(t, n, "POST", "/v1/request", token, fields)
				ch <- answer{res, body}
			}()
			return ch
		}
		ch := ask(obj{"method": "m", "data": raw(`1`), "timeout_ms": 10000})
		q := b.next("request").GetRequest()
		b.tell(obj{"reply": obj{"request": q.Request, "data": raw(`"one"`), "more": true}}, obj{"reply": obj{"request": q.Request, "data": raw(`{"two":2}`)}})
		if a := <-ch; q.Method != "m" || q.From != "web/a" || a.res.StatusCode != 200 || a.body["from"] != you || len(a.body["earlier"].([]any)) != 1 || a.body["data"].(map[string]any)["two"] != 2.0 {
			t.Errorf("request: got %v", a)
		}
		ch = ask(obj{})
		q = b.next("request").GetRequest()
		b.tell(obj{"reply": obj{"request": q.Request, "error": obj{"code": "sold_out", "message": "none left"}}})
		if a := <-ch; a.res.StatusCode != 502 || a.body["code"] != "sold_out" || a.body["from"] != you {
			t.Errorf("a refusal: got %v", a)
		}
		ch = ask(obj{"timeout_ms": 50})
		b.next("request")
		if a := <-ch; a.res.StatusCode != 504 || a.body["code"] != "timeout" {
			t.Errorf("a timeout: got %v", a)
		}
		b.next("cancel")
		b.quiet()
	})
	narrow := jwt(t, time.Hour, obj{"agents": "web/n", "send": "x"})
	for path, body := range map[string]obj{"/v1/send": {"to": "y"}, "/v1/request": {"to": "y"}, "/v1/publish": {"channel": "y"}} {
		problem(t, n, "POST", path, narrow, body, 403, "forbidden")
		problem(t, n, "POST", path, "", body, 401, "unauthorized")
		problem(t, n, "POST", path, "agn_wrong", body, 401, "unauthorized")
		problem(t, n, "POST", path, jwt(t, -time.Hour, obj{"agents": "web/n"}), body, 401, "unauthorized")
		problem(t, n, "POST", path, token, body, 400, "bad_frame") // which agent?
		problem(t, n, "POST", path, narrow, obj{"to": "a//b", "channel": "a//b"}, 400, "bad_frame")
		problem(t, n, "POST", path, narrow, obj{"to": "x", "channel": "x", "data": raw(`"` + strings.Repeat("x", 66000) + `"`)}, 413, "too_large")
		problem(t, n, "GET", path, narrow, nil, 405, "bad_frame")
	}
	problem(t, n, "POST", "/v1/send", narrow, obj{"to": "x"}, 409, "agent_offline")
	problem(t, n, "POST", "/v1/request", narrow, obj{"to": "x"}, 409, "agent_offline")
	problem(t, n, "GET", "/v1/nothing", narrow, nil, 404, "not_found")
}

func TestProtocolHTTPLists(t *testing.T) {
	n := calmNode(t, func(c *app.Config) {
		c.Region = "north"
		c.Limits.MessagesPerS, c.Limits.MessagesBurst = 1, 30
	})
	token := n.Token("lst/me")
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "lst/a-"+d.name)
		a.ok(obj{"profile": obj{"card": raw(`{"n":1}`), "keys": raw(`["k"]`)}})
		a.ok(obj{"subscribe": obj{"channel": "lst/" + d.name}})
		a.ok(obj{"publish": obj{"channel": "lst/" + d.name}})
		_, got := call(t, n, "GET", "/v1/agents?match=lst/a-"+d.name+"&limit=1", token, nil)
		agents := got["agents"].([]any)
		if e := agents[0].(map[string]any); len(agents) != 1 || e["agent"] != "lst/a-"+d.name || e["state"] != "available" || e["sessions"] != 1.0 || e["card"].(map[string]any)["n"] != 1.0 || e["last_active_ms"] == 0.0 {
			t.Errorf("agents: got %v", got)
		}
		_, got = call(t, n, "GET", "/v1/channels?match=lst/"+d.name, token, nil)
		if e := got["channels"].([]any)[0].(map[string]any); e["channel"] != "lst/"+d.name || e["offset"] != 1.0 || e["subscribers"] != 1.0 || e["epoch"] == "" {
			t.Errorf("channels: got %v", got)
		}
	})
	_, got := call(t, n, "GET", "/v1/agents?limit=1", token, nil)
	if next, _ := got["next"].(string); next == "" {
		t.Errorf("a page of one: got %v", got)
	} else if _, got = call(t, n, "GET", "/v1/agents?limit=1&after="+next, token, nil); got["agents"].([]any)[0].(map[string]any)["agent"] == next {
		t.Errorf("the next page: got %v", got)
	}
	_, got = call(t, n, "GET", "/v1/regions", token, nil)
	if r := got["regions"].([]any)[0].(map[string]any); r["region"] != "north" || r["healthy"] != true || r["self"] != true {
		t.Errorf("regions: got %v", got)
	}
	viewer := jwt(t, time.Hour, obj{"roles": "viewer"})
	_, got = call(t, n, "GET", "/v1/stats", viewer, nil)
	if got["region"] != "north" || got["gauges"] == nil || got["counters"].(map[string]any)["messages"] == 0.0 {
		t.Errorf("stats: got %v", got)
	}
	problem(t, n, "GET", "/v1/stats", token, nil, 403, "forbidden")
	for _, path := range []string{"/v1/agents", "/v1/channels", "/v1/regions", "/v1/stats"} {
		problem(t, n, "GET", path, "", nil, 401, "unauthorized")
	}
	problem(t, n, "GET", "/v1/agents?match=a//b", token, nil, 400, "bad_frame")
	problem(t, n, "GET", "/v1/agents?limit=x", token, nil, 400, "bad_frame")
	for range 40 {
		if res, p := call(t, n, "POST", "/v1/publish", token, obj{"channel": "x"}); res.StatusCode == 429 {
			if p["code"] != "rate_limited" || p["retry_after_ms"] == nil || res.Header.Get("Retry-After") == "" {
				t.Errorf("got %v %v", res.Header, p)
			}
			return
		}
	}
	t.Error("the rate limit does not hold over HTTP")
}

func TestProtocolHTTPHealth(t *testing.T) {
	n := calmNode(t, nil)
	if res, got := call(t, n, "GET", "/healthz", "", nil); res.StatusCode != 200 || got["status"] != "ok" {
		t.Errorf("got %s %v", res.Status, got)
	}
	if res, got := call(t, n, "GET", "/readyz", "", nil); res.StatusCode != 200 || got["ready"] != true || len(got["reasons"].([]any)) == 0 {
		t.Errorf("got %s %v", res.Status, got)
	}
	res, text := request(t, "GET", n.URL+"/metrics", "", nil)
	if res.StatusCode != 200 || !strings.Contains(string(text), "agentnet_") {
		t.Errorf("got %s %.100s", res.Status, text)
	}
	res, text = request(t, "GET", n.URL+"/", "", nil)
	if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Content-Type"), "text/html") || !strings.Contains(string(text), "agentnet") {
		t.Errorf("got %s %.100s", res.Status, text)
	}
}

// TestProtocolHTTPPaths wants every path of the contract to be there, or, as long
// as it is not built, to be answered with a problem document; /openapi.json must
// say the truth about it.
func TestProtocolHTTPPaths(t *testing.T) {
	n := calmNode(t, nil)
	token := jwt(t, time.Hour, obj{"agents": "x", "send": "**", "subscribe": "**", "publish": "**", "roles": "admin"})
	_, doc := call(t, n, "GET", "/openapi.json", "", nil)
	if v, _ := doc["openapi"].(string); !strings.HasPrefix(v, "3.") {
		t.Errorf("got openapi %q", v)
	}
	paths := doc["paths"].(map[string]any)
	later := []string{"/v1/scaling/status", "/v1/scaling/desired", "/v1/scaling/log", "/v1/scaling/plan", "/v1/scaling/simulate", "/v1/alerts"}
	for path, method := range map[string]string{
		"/v1/send": "POST", "/v1/request": "POST", "/v1/publish": "POST", "/v1/agents": "GET", "/v1/channels": "GET", "/v1/regions": "GET", "/v1/stats": "GET",
		"/v1/scaling/status": "GET", "/v1/scaling/desired": "GET", "/v1/scaling/log": "GET", "/v1/scaling/plan": "POST", "/v1/scaling/simulate": "POST",
		"/v1/alerts": "GET", "/healthz": "GET", "/readyz": "GET", "/metrics": "GET", "/openapi.json": "GET",
	} {
		documented := paths[path] != nil && paths[path].(map[string]any)[strings.ToLower(method)] != nil
		if !documented && !slices.Contains(later, path) {
			t.Errorf("%s %s is not in openapi.json", method, path)
		}
		res, text := request(t, method, n.URL+path, token, []byte("{}"))
		switch {
		case documented && (res.StatusCode == 404 || res.StatusCode >= 500):
			t.Errorf("%s %s: got %s %.200s", method, path, res.Status, text)
		case !documented && (res.StatusCode != 404 || !strings.Contains(string(text), `"not_found"`)):
			t.Errorf("%s %s is not documented, but answers %s %.200s", method, path, res.Status, text)
		}
	}
}
