package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/egress"
	"agentnet/app/notify"
	"agentnet/app/relay/overload"
	"agentnet/app/runbook"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// receiver is a webhook that keeps what it gets.
func receiver(t *testing.T) (url string, got chan notify.Payload) {
	t.Helper()
	got = make(chan notify.Payload, 16)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/ping" {
			return
		}
		var p notify.Payload
		if err := egress.Verify(secret, r.Header.Get(notify.SignatureHeader), body, time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		if err := json.Unmarshal(body, &p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got <- p
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

const secret = "canary-0123456789abcdef"

func TestNodeTellsPeople(t *testing.T) {
	url, got := receiver(t)
	n := apptest.Start(t, func(c *app.Config) {
		c.PublicURL = "https://relay.example"
		c.Notify.AllowNetworks = []string{"127.0.0.1"}
		c.Notify.HeartbeatURL = url + "/ping"
		c.Notify.Targets = []app.NotifyTarget{{Name: "hook", Kind: "webhook", URL: url + "/canary-path", Secret: secret, Least: "warning", Ends: true}}
	})
	operator := n.Token("ops", func(s *auth.TokenSpec) { s.Grants.Roles = []string{"operator"} })
	viewer := n.Token("eve", func(s *auth.TokenSpec) { s.Grants.Roles = []string{"viewer"} })
	call := func(method, path, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, n.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	if status, body := call("POST", "/v1/notify/hook/test", operator); status != 200 || !strings.Contains(body, `"outcome":"sent"`) {
		t.Fatalf("test: got %d %s", status, body)
	}
	if p := <-got; p.Status != "test" || p.From != "n1, local" {
		t.Errorf("test: got %+v", p)
	}
	if status, _ := call("POST", "/v1/notify/hook/test", viewer); status != 403 {
		t.Errorf("test by a viewer: got %d, want 403", status)
	}
	if status, _ := call("POST", "/v1/notify/nobody/test", operator); status != 404 {
		t.Errorf("test of nobody: got %d, want 404", status)
	}
	began := time.Now().Add(-time.Minute)
	notice := scale.Notice{At: time.Now(), Group: "cpu", Severity: scale.Critical,
		Events:  []scale.Event{{At: time.Now(), Alert: "cpu_critical@n1", From: scale.Pending, To: scale.Firing, Why: "93% is beyond 90%"}},
		Details: []scale.Detail{{Rule: "cpu_critical", Node: "n1", Severity: scale.Critical, Since: began, Value: "93% cpu", Threshold: "90% cpu", Response: "Increase instance size or count", Runbook: "capacity"}}}
	if err := n.App.Notifier().Notify(context.Background(), notice); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-got:
		want := "Runbook: https://relay.example/runbooks/capacity"
		if p.Status != "firing" || p.Severity != notify.Critical || !strings.Contains(p.Text, want) || !strings.Contains(p.Text, "Value: 93% cpu; threshold: 90% cpu") {
			t.Errorf("got %+v, want %q in it", p, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the notice did not arrive in 10 s")
	}
	status, body := call("GET", "/v1/notify", viewer)
	for end := time.Now().Add(10 * time.Second); strings.Count(body, `"outcome":"sent"`) < 2 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		status, body = call("GET", "/v1/notify", viewer) // the record follows the delivery
	}
	if status != 200 || strings.Count(body, `"outcome":"sent"`) != 2 || strings.Contains(body, "canary") {
		t.Errorf("list: got %d %s", status, body)
	}
	if strings.Contains(n.Log(), "canary") {
		t.Errorf("a secret is in the log:\n%s", n.Log())
	}
}

func TestNotifyConfigurationIsChecked(t *testing.T) {
	c := app.DefaultConfig()
	c.Notify.AllowNetworks = []string{"everything"}
	c.Notify.HeartbeatURL, c.Notify.TemplateFile = "canary", "/nowhere/canary.tmpl"
	c.Notify.Targets = []app.NotifyTarget{{Name: "a", Kind: "webhook", URL: "https://x", Secret: "canary", Least: "mild"}, {Name: "a", Kind: "ntfy", URL: "https://x/t"}}
	err := c.Validate()
	for _, want := range []string{"notify.targets[0]: severity \"mild\"", "secret: has 6 bytes", "notify.targets[1].name: \"a\" is given twice", "notify.allow_networks", "notify.heartbeat_url", "notify.template_file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a fault with %q", err, want)
		}
	}
}

func TestGateDefersUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var level atomic.Uint32
		g := app.NewGate(func() overload.Level { return overload.Level(level.Load()) }, nil)
		wait := func(most time.Duration) time.Duration {
			began := time.Now()
			if err := g.Wait(t.Context(), app.WorkExport, most); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		if got := wait(time.Minute); got != 0 {
			t.Errorf("calm: waited %v", got)
		}
		level.Store(uint32(overload.Elevated))
		if got := wait(time.Minute); got != time.Minute {
			t.Errorf("pressure that goes on: waited %v, want until the deadline of 1m", got)
		}
		time.AfterFunc(10*time.Second, func() { level.Store(uint32(overload.Normal)) })
		if got := wait(time.Minute); got < 10*time.Second || got > 11*time.Second {
			t.Errorf("pressure of 10 s: waited %v", got)
		}
		level.Store(uint32(overload.Critical))
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		if err := g.Wait(ctx, app.WorkExport, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped while waiting: got %v", err)
		}
		want := app.GateStats{Passed: 1, Deferred: 3, Forced: 1, Why: "critical load"}
		got := g.Stats()[app.WorkExport]
		got.Waited = 0
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestDeferralsAreSeen has two exports, a snapshot and a roll-up wait, and wants the
// list and the log to say so, and each to go on in the end.
func TestDeferralsAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		var level atomic.Uint32
		g := app.NewGate(func() overload.Level { return overload.Level(level.Load()) }, slog.New(slog.NewTextHandler(&text, nil)))
		if g.Busy(app.WorkRollup) || len(g.Deferrals()) != 0 {
			t.Errorf("calm: got %+v, want nothing to wait", g.Deferrals())
		}
		level.Store(uint32(overload.Degraded))
		began := time.Now()
		var work sync.WaitGroup
		for _, w := range []struct {
			name string
			most time.Duration
		}{{app.WorkExport, 10 * time.Second}, {app.WorkExport, time.Hour}, {app.WorkSnapshot, 5 * time.Minute}, {app.WorkArchive, time.Hour}} {
			work.Go(func() {
				if err := g.Wait(t.Context(), w.name, w.most); err != nil {
					t.Errorf("%s: %v", w.name, err)
				}
			})
		}
		synctest.Wait()
		for range 3 { // the engine looks each ten seconds
			if !g.Busy(app.WorkRollup) {
				t.Error("a roll-up need not wait under pressure")
			}
			time.Sleep(10 * time.Second)
		}
		got := g.Deferrals()
		want := []watch.Deferral{{Work: app.WorkArchive, Since: began, Why: "degraded load", Waiting: 1}, {Work: app.WorkExport, Since: began, Why: "degraded load", Waiting: 1},
			{Work: app.WorkRollup, Since: began, Why: "degraded load", Waiting: 1}, {Work: app.WorkSnapshot, Since: began, Why: "degraded load", Waiting: 1}}
		if !slices.Equal(got, want) {
			t.Errorf("after half a minute: got %+v, want %+v", got, want)
		}
		time.Sleep(5 * time.Minute) // the snapshot does not wait longer
		if got := g.Deferrals(); len(got) != 3 || g.Stats()[app.WorkSnapshot].Forced != 1 {
			t.Errorf("after five minutes: got %+v, want the snapshot to have gone on", got)
		}
		level.Store(uint32(overload.Normal))
		work.Wait()
		if g.Busy(app.WorkRollup) || len(g.Deferrals()) != 0 {
			t.Errorf("calm again: got %+v, want nothing to wait", g.Deferrals())
		}
		for name, s := range g.Stats() {
			if s.Waiting != 0 || !s.Since.IsZero() || s.Waited < 5*time.Minute || s.Waited > 11*time.Minute {
				t.Errorf("%s: got %+v", name, s)
			}
		}
		for _, line := range []string{`msg="work is put off until the node is calm" work=archive reason="degraded load"`, `msg="work goes on that was put off" work=snapshot waited=5m0s at_its_deadline=true`, `msg="work goes on that was put off" work=rollup`} {
			if strings.Count(text.String(), line) != 1 {
				t.Errorf("the log does not say once: %s\n%s", line, text.String())
			}
		}
	})
}

// TestEveryRuleHasARunbook holds the alert rules and the runbooks together.
func TestEveryRuleHasARunbook(t *testing.T) {
	for _, r := range scale.DefaultRules() {
		if _, ok := runbook.Get(r.Runbook); !ok {
			t.Errorf("rule %s names the runbook %q, which does not exist", r.Name, r.Runbook)
		}
	}
}

func TestRunbooksArePages(t *testing.T) {
	n := apptest.Start(t, func(c *app.Config) { c.BasePath = "/relay" })
	defer http.DefaultClient.CloseIdleConnections()
	for _, tt := range []struct {
		path, kind, want string
		status           int
	}{
		{"/relay/runbooks", "text/html", `href="/relay/runbooks/disk-full"`, 200},
		{"/relay/runbooks/disk-full", "text/html", "<h1>The disk is full</h1>", 200},
		{"/relay/runbooks/disk-full.md", "text/markdown", "# The disk is full", 200},
		{"/relay/runbooks/nothing", "application/problem+json", "not_found", 404},
	} {
		resp, err := http.Get(n.URL + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.kind) || !strings.Contains(string(body), tt.want) {
			t.Errorf("%s: got %d %s %v %.200s", tt.path, resp.StatusCode, resp.Header.Get("Content-Type"), err, body)
		}
	}
}
