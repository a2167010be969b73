package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"

	"github.com/gofiber/fiber/v2"
)

var authorization = []string{"Authorization", "Bearer good" + canary}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	s := newSite(t, func(c *Config) { c.PublicURL = "https://example.org" })
	for _, path := range []string{"/", "/healthz", "/v1/agents", "/none", "/openapi.json", s.server.page.Now().Stats.Node} {
		resp, _ := s.do("GET", "/"+strings.TrimPrefix(path, "/"), "")
		for name, want := range map[string]string{
			"Content-Security-Policy":      contentPolicy,
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Strict-Transport-Security":    "max-age=31536000",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
		if got := resp.Header.Get("Server"); got != "" {
			t.Errorf("%s: got Server %q, want none", path, got)
		}
	}
	for _, word := range []string{"unsafe", "*"} {
		if strings.Contains(contentPolicy, word) {
			t.Errorf("the content policy has %q", word)
		}
	}
	plain := newSite(t)
	if resp, _ := plain.do("GET", "/", ""); resp.Header.Get("Strict-Transport-Security") != "" {
		t.Error("plain http promises TLS")
	}
}

func TestErrorsAreProblems(t *testing.T) {
	s := newSite(t)
	tests := []struct {
		method, path, body string
		headers            []string
		status             int
		code               string
	}{
		{"GET", "/none", "", nil, 404, "not_found"},
		{"GET", "/<script>" + canary, "", nil, 404, "not_found"},
		{"GET", "/V1/agents", "", nil, 404, "not_found"},
		{"DELETE", "/v1/send", "", nil, 405, "bad_frame"},
		{"POST", "/", "", nil, 405, "bad_frame"},
		{"GET", "/v1/agents", "", nil, 401, "unauthorized"},
		{"GET", "/static/none", "", nil, 404, "not_found"},
		{"POST", "/v1/send", `{"to":"bob","data":"` + strings.Repeat("x", 100_000) + `"}`, authorization, 413, "too_large"},
		{"POST", "/v1/send", `{"to":"bob","data":"` + strings.Repeat("x", 65_600) + `"}`, authorization, 413, "too_large"},
		{"POST", "/v1/send", `{"to":"panic"}`, authorization, 500, "internal"},
	}
	for _, tt := range tests {
		resp, body := s.do(tt.method, tt.path, tt.body, tt.headers...)
		var p struct {
			Status int
			Code   string
			Title  string
			Detail string
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: got %s: %v", tt.method, tt.path, body, err)
			continue
		}
		if resp.StatusCode != tt.status || p.Status != tt.status || p.Code != tt.code || p.Detail == "" || p.Title == "" {
			t.Errorf("%s %s: got %d %+v, want %d %s", tt.method, tt.path, resp.StatusCode, p, tt.status, tt.code)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s %s: got %q", tt.method, tt.path, got)
		}
		if strings.Contains(body, canary) || strings.Contains(body, "script") {
			t.Errorf("%s %s: the answer repeats the request: %s", tt.method, tt.path, body)
		}
	}
	if resp, _ := s.do("DELETE", "/v1/send", ""); !strings.Contains(resp.Header.Get("Allow"), "POST") {
		t.Errorf("got Allow %q, want POST in it", resp.Header.Get("Allow"))
	}
	if strings.Contains(s.log.String(), canary) {
		t.Errorf("the log has what was sent: %s", s.log)
	}
}

func TestPanicInAnyHandler(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Socket = func(*fiber.Ctx) error { panic("socket " + canary) }
	})
	resp, body := s.do("GET", "/ws", "")
	if resp.StatusCode != 500 || strings.Contains(body, canary) || !strings.Contains(body, "urn:agentnet:error:") {
		t.Errorf("got %d %s, want 500 with an instance", resp.StatusCode, body)
	}
	log := s.log.String()
	if strings.Contains(log, "socket "+canary) || !strings.Contains(log, "route=/ws") || !strings.Contains(log, "type=string") {
		t.Errorf("got log %s, want the route and the type, not the value", log)
	}
}

func TestErrorOfAnyHandler(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Socket = func(*fiber.Ctx) error { return fmt.Errorf("reason %s", "kept") }
	})
	resp, body := s.do("GET", "/ws", "")
	if resp.StatusCode != 500 || strings.Contains(body, "kept") || !strings.Contains(s.log.String(), "reason kept") {
		t.Errorf("got %d %s, want 500 and the reason in the log only", resp.StatusCode, body)
	}
}

func TestBasePath(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Base = "/relay/eu-1"
		c.Socket = func(c *fiber.Ctx) error { return c.SendStatus(418) }
	})
	for path, want := range map[string]int{
		"/relay/eu-1": 200, "/relay/eu-1/": 200, "/relay/eu-1/healthz": 200, "/relay/eu-1/openapi.json": 200, "/relay/eu-1/ws": 418,
		"/": 404, "/healthz": 404, "/relay": 404, "/relay/eu-1x/healthz": 404, "/ws": 404,
	} {
		if resp, body := s.do("GET", path, ""); resp.StatusCode != want {
			t.Errorf("%s: got %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
	_, page := s.do("GET", "/relay/eu-1/", "")
	start := strings.Index(page, "/relay/eu-1/static/app.")
	if start < 0 {
		t.Fatalf("the stylesheet is not under the base path: %s", page)
	}
	style, _, _ := strings.Cut(page[start:], `"`)
	if resp, _ := s.do("GET", style, ""); resp.StatusCode != 200 {
		t.Errorf("%s: got %d", style, resp.StatusCode)
	}
	if _, doc := s.do("GET", "/relay/eu-1/openapi.json", ""); !strings.Contains(doc, `"url": "/relay/eu-1/"`) {
		t.Error("the OpenAPI document does not name the base path")
	}
	for _, bad := range []string{"relay", "/", "/relay/", "/a//b", "/a b", "/:x", "/*"} {
		if _, err := New(Config{Relay: s.relay, Authorizer: fakeAuth{}, Logger: s.server.cfg.Logger, Base: bad}); err == nil {
			t.Errorf("base path %q was accepted", bad)
		}
	}
}

func TestWhoIsLocal(t *testing.T) {
	trusting, err := ParseProxies([]string{"127.0.0.1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		proxies Proxies
		headers []string
		local   bool
	}{
		{"by address", Proxies{}, nil, true},
		{"by name", Proxies{}, []string{"Host", "localhost:8080"}, true},
		{"by a name below", Proxies{}, []string{"Host", "relay.localhost"}, true},
		{"IPv6", Proxies{}, []string{"Host", "[::1]:80"}, true},
		{"by the public name", Proxies{}, []string{"Host", "Relay.example.org"}, true},
		{"a foreign name that points here", Proxies{}, []string{"Host", "evil.example"}, false},
		{"localhost as a part", Proxies{}, []string{"Host", "localhost.evil.example"}, false},
		{"through a proxy that we do not know", Proxies{}, []string{"X-Forwarded-For", "203.0.113.1"}, false},
		{"the same, claiming to be local", Proxies{}, []string{"X-Forwarded-For", "127.0.0.1"}, false},
		{"the same, with the other header", Proxies{}, []string{"Forwarded", "for=127.0.0.1"}, false},
		{"through a proxy that we know", trusting, []string{"X-Forwarded-For", "203.0.113.1"}, false},
		{"the same, forged", trusting, []string{"X-Forwarded-For", "127.0.0.1, 203.0.113.1"}, false},
		{"a local client of a known proxy", trusting, []string{"X-Forwarded-For", "127.0.0.1"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, func(c *Config) { c.Proxies, c.PublicURL = tt.proxies, "http://relay.example.org" })
			_, page := s.do("GET", "/", "", tt.headers...)
			metrics, _ := s.do("GET", "/metrics", "", tt.headers...)
			if strings.Contains(page, "77,321") {
				t.Error("got numbers on the page, though nobody is signed in")
			}
			if got := metrics.StatusCode == 200; got != tt.local {
				t.Errorf("got metrics %d, want open = %v", metrics.StatusCode, tt.local)
			}
		})
	}
}

func TestAccessLog(t *testing.T) {
	s := newSite(t)
	s.do("GET", "/v1/agents?match=q"+canary, "", authorization...)
	if log := s.log.String(); log != "" {
		t.Errorf("got log %s, want none by default", log)
	}
	s = newSite(t, func(c *Config) { c.AccessLog = true })
	s.do("GET", "/v1/agents?match=q"+canary, "", authorization...)
	s.do("GET", "/none/"+canary, "", authorization...)
	log := s.log.String()
	for _, want := range []string{"method=GET", "route=/v1/agents", "status=200", "status=404", "client=127.0.0.1"} {
		if !strings.Contains(log, want) {
			t.Errorf("got log %s, want %q in it", log, want)
		}
	}
	if strings.Contains(log, canary) {
		t.Errorf("the log has a query, a path or a token: %s", log)
	}
}

func TestShutdownAnswersThoseWhoWait(t *testing.T) {
	s := newSite(t)
	idle, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer, 1)
	go func() {
		resp, body := s.do("POST", "/v1/request", `{"to":"bob"}`, authorization...)
		answers <- answer{resp.StatusCode, body}
	}()
	<-s.relay.asked
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got := <-answers; got.status != 503 || !strings.Contains(got.body, "unavailable") {
		t.Errorf("got %d %s, want 503 unavailable", got.status, got.body)
	}
	if conn, err := net.Dial("tcp", s.addr); err == nil {
		conn.Close()
		t.Error("the listener is still open")
	}
}

func TestServeAfterShutdown(t *testing.T) {
	s := newSite(t)
	if err := s.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.server.Serve(ln); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener was left open")
	}
}

func TestNamesAreNeverMarkup(t *testing.T) {
	const evil = `"><script>alert(1)</script>`
	s := newSite(t)
	s.relay.stats = relay.Stats{Node: evil, Region: evil, Level: evil}
	for _, path := range []string{"/", "/metrics", "/v1/stats", "/v1/regions"} {
		resp, body := s.do("GET", path, "", authorization...)
		if html := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"); html && strings.Contains(body, "<script>") {
			t.Errorf("%s: a name became markup", path)
		} else if !html && resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: a browser may take it for a page", path)
		}
		if resp.StatusCode != 200 {
			t.Errorf("%s: got %d", path, resp.StatusCode)
		}
	}
}

func TestConfigSaysWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("got no error for an empty configuration")
	}
	s := newSite(t)
	for _, bad := range []string{"example.org", "ftp://example.org", "https://", "::"} {
		_, err := New(Config{Relay: s.relay, Authorizer: fakeAuth{}, Logger: s.server.cfg.Logger, PublicURL: bad})
		if err == nil || !strings.Contains(err.Error(), "public url") {
			t.Errorf("public url %q: got %v, want an error that names it", bad, err)
		}
	}
}

// TestStringsSurviveTheRequest keeps what a handler read and compares it after
// many other requests: without Immutable they would be rewritten.
func TestStringsSurviveTheRequest(t *testing.T) {
	kept := make(chan string, 64)
	s := newSite(t, func(c *Config) {
		c.Socket = func(c *fiber.Ctx) error {
			kept <- c.Get("X-Name")
			return c.SendStatus(http.StatusNoContent)
		}
	})
	var strs []string
	for i := range 32 {
		s.do("GET", "/ws", "", "X-Name", fmt.Sprintf("first-%04d", i))
		strs = append(strs, <-kept)
	}
	for i := range 200 {
		s.do("GET", "/ws", "", "X-Name", fmt.Sprintf("OTHER-%04d", i))
		<-kept
	}
	for i, got := range strs {
		if want := fmt.Sprintf("first-%04d", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
