package ws

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

func bearer(_ context.Context, token string) (*relay.Identity, error) {
	switch token {
	case "good":
		return &relay.Identity{Token: "t1"}, nil
	case "old":
		return nil, relay.ErrTokenExpired
	case "bad":
		return nil, relay.ErrUnauthorized
	}
	return nil, errors.New("secret-database-detail")
}

func guarded(c *Config, _ *timeouts) {
	c.Authorize = bearer
	c.Origins = []string{"https://app.example.com", "http://Local.test:8080", "https://ported.example:443"}
}

func TestRefusals(t *testing.T) {
	base := upgradeRequest()
	with := func(h ...string) string { return upgradeRequest(h...) }
	without := func(header string) string {
		lines := strings.Split(base, "\r\n")
		kept := lines[:0:0]
		for _, l := range lines {
			if !strings.HasPrefix(l, header+":") {
				kept = append(kept, l)
			}
		}
		return strings.Join(kept, "\r\n")
	}
	cases := []struct {
		name, request string
		status        int
		code          wire.Code
	}{
		{"plain GET", "GET /ws HTTP/1.1\r\nHost: relay.test\r\n\r\n", 426, wire.BadFrame},
		{"no Connection", without("Connection"), 426, wire.BadFrame},
		{"no Upgrade", without("Upgrade"), 426, wire.BadFrame},
		{"other upgrade", strings.Replace(base, "Upgrade: websocket", "Upgrade: h2c", 1), 426, wire.BadFrame},
		{"HTTP/1.0", strings.Replace(base, "HTTP/1.1", "HTTP/1.0", 1), 426, wire.BadFrame},
		{"no version", without("Sec-WebSocket-Version"), 426, wire.BadFrame},
		{"version 12", strings.Replace(base, "Version: 13", "Version: 12", 1), 426, wire.BadFrame},
		{"version twice", with("Sec-WebSocket-Version: 8"), 426, wire.BadFrame},
		{"no key", without("Sec-WebSocket-Key"), 400, wire.BadFrame},
		{"short key", strings.Replace(base, "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 1), 400, wire.BadFrame},
		{"two keys", with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, wire.BadFrame},
		{"unknown subprotocol", with("Sec-WebSocket-Protocol: mqtt, agentnet.v2.json"), 400, wire.BadFrame},
		{"foreign origin", with("Origin: https://evil.example"), 403, wire.Forbidden},
		{"origin of another port", with("Origin: https://app.example.com:444"), 403, wire.Forbidden},
		{"origin of another scheme", with("Origin: http://app.example.com"), 403, wire.Forbidden},
		{"origin with a longer host", with("Origin: https://app.example.com.evil.example"), 403, wire.Forbidden},
		{"origin null", with("Origin: null"), 403, wire.Forbidden},
		{"origin empty", with("Origin: "), 403, wire.Forbidden},
		{"two origins", with("Origin: https://app.example.com", "Origin: https://evil.example"), 403, wire.Forbidden},
		{"origin with a path", with("Origin: https://app.example.com/x"), 403, wire.Forbidden},
		{"bad token", with("Authorization: Bearer bad"), 401, wire.Unauthorized},
		{"expired token", with("Authorization: Bearer old"), 401, wire.Unauthorized},
		{"two tokens", with("Authorization: Bearer good", "Authorization: Bearer good"), 401, wire.Unauthorized},
		{"other scheme", with("Authorization: Basic Z29vZA=="), 401, wire.Unauthorized},
		{"empty token", with("Authorization: Bearer "), 401, wire.Unauthorized},
		{"no answer about the token", with("Authorization: Bearer any"), 503, wire.Unavailable},
	}
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS, guarded)
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				c := n.connect()
				c.t = t
				wantProblem(t, c.upgrade(tc.request), tc.status, tc.code)
			})
		}
		n.hub.mu.Lock()
		n.hub.refuse = &wire.Error{Code: wire.Overloaded, Message: "too many at once", RetryAfterMS: 1500}
		n.hub.mu.Unlock()
		res := n.connect().upgrade(base)
		if got := res.Header.Get("Retry-After"); got != "2" {
			t.Errorf("Retry-After: got %q, want 2", got)
		}
		wantProblem(t, res, 503, wire.Overloaded)
		n.hub.mu.Lock()
		n.hub.refuse = &wire.Error{Code: wire.RateLimited, Message: "slower"}
		n.hub.mu.Unlock()
		res = n.connect().upgrade(base)
		if got := res.Header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After: got %q, want 1", got)
		}
		wantProblem(t, res, 429, wire.RateLimited)
		if got := n.srv.Stats().Refused[wire.Unauthorized]; got != 5 {
			t.Errorf("counted as unauthorized: got %d, want 5", got)
		}
		if logs := n.logs.String(); strings.Contains(logs, "good") || strings.Contains(logs, "secret") {
			t.Errorf("a secret is in the log: %s", logs)
		}
	})
}

func wantProblem(t *testing.T, res *http.Response, status int, code wire.Code) {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Fatalf("got status %d, want %d", res.StatusCode, status)
	}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type: got %q", got)
	}
	if status == 426 && res.Header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("no Sec-WebSocket-Version: 13 in a 426")
	}
	var p map[string]any
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if p["type"] != "about:blank" || p["title"] != http.StatusText(status) || p["status"] != float64(status) ||
		p["code"] != string(code) || p["detail"] == "" {
		t.Errorf("got problem %s, want status %d, code %s and a detail", body, status, code)
	}
	if strings.Contains(string(body), "secret") {
		t.Errorf("the answer tells an inner error: %s", body)
	}
}

func TestAdmitted(t *testing.T) {
	cases := []struct {
		name     string
		headers  []string
		protocol string // echoed
		encoding wire.Encoding
		token    string
	}{
		{"nothing", nil, "", wire.JSON, ""},
		{"json", []string{"Sec-WebSocket-Protocol: agentnet.v1.json"}, wire.SubprotocolJSON, wire.JSON, ""},
		{"protobuf", []string{"Sec-WebSocket-Protocol: agentnet.v1.protobuf"}, wire.SubprotocolProtobuf, wire.Protobuf, ""},
		{"client's order", []string{"Sec-WebSocket-Protocol: x, agentnet.v1.protobuf, agentnet.v1.json"}, wire.SubprotocolProtobuf, wire.Protobuf, ""},
		{"two headers", []string{"Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: agentnet.v1.json"}, wire.SubprotocolJSON, wire.JSON, ""},
		{"listed origin", []string{"Origin: https://APP.example.com"}, "", wire.JSON, ""},
		{"listed origin with port", []string{"Origin: http://local.test:8080"}, "", wire.JSON, ""},
		{"default port", []string{"Origin: https://ported.example"}, "", wire.JSON, ""},
		{"own origin", []string{"Origin: http://Relay.test"}, "", wire.JSON, ""},
		{"token", []string{"Authorization: bearer good"}, "", wire.JSON, "t1"},
		{"cookies are no tokens", []string{"Cookie: token=good"}, "", wire.JSON, ""},
	}
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS, guarded)
		for i, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				c := n.connect()
				c.t = t
				res := c.upgrade(upgradeRequest(tc.headers...))
				if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
					t.Fatalf("got %d and %v, want 101 and the accept key of RFC 6455", res.StatusCode, res.Header)
				}
				if got := res.Header.Get("Sec-WebSocket-Protocol"); got != tc.protocol {
					t.Errorf("echoed subprotocol: got %q, want %q", got, tc.protocol)
				}
				n.hub.wait(t)
				n.hub.mu.Lock()
				info := n.hub.infos[i]
				n.hub.mu.Unlock()
				token := ""
				if info.Identity != nil {
					token = info.Identity.Token
				}
				if info.Encoding != tc.encoding || token != tc.token || info.Addr != netip.MustParseAddr("127.0.0.1") {
					t.Errorf("got %+v with token %q, want encoding %d, token %q", info, token, tc.encoding, tc.token)
				}
			})
		}
	})
}

// TestQueryTokenIsNotRead: an address that ends in a log must not open anything.
func TestQueryTokenIsNotRead(t *testing.T) {
	n := startNode(t, false, guarded)
	c := n.connect()
	res := c.upgrade(strings.Replace(upgradeRequest(), "/ws", "/ws?token=good&access_token=good", 1))
	if res.StatusCode != 101 {
		t.Fatalf("got status %d, want 101", res.StatusCode)
	}
	n.hub.wait(t)
	if id := n.hub.infos[0].Identity; id != nil {
		t.Errorf("got identity %v, want none", id)
	}
}

func TestConfigFaults(t *testing.T) {
	_, err := New(Config{Origins: []string{"example.com", "https://ok.example", "https://x.example/path"}})
	if err == nil {
		t.Fatal("got no error, want one for the hub and the logger")
	}
	n := newEchoHub()
	_, err = newServer(Config{Hub: n, Logger: discard(), Origins: []string{"example.com", "https://ok.example", "https://x.example/path"}}, defaultTimeouts, nil)
	if err == nil || strings.Count(err.Error(), "is not scheme://host") != 2 {
		t.Errorf("got %v, want both wrong origins named", err)
	}
}
