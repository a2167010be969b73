package gate

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"agentnet/app/account"

	"github.com/gofiber/fiber/v2"
)

// people know one secret, after so many questions.
type people struct {
	asked atomic.Int32
	after int32
}

func (p *people) Visit(_ context.Context, secret string) (account.Visitor, error) {
	if p.asked.Add(1) > p.after && secret == "right" {
		return account.Visitor{Name: "anna", Role: account.Viewer}, nil
	}
	return account.Visitor{}, account.ErrSignedOut
}

func (*people) Record(context.Context, account.Entry) error { return nil }

func newGate(t *testing.T, who *people, base string) (*Gate, *fiber.App) {
	t.Helper()
	g, err := New(Config{Accounts: who, Base: base, ClientAddr: func(*fiber.Ctx) netip.Addr { return netip.MustParseAddr("192.0.2.1") }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	g.Add(app.Group(base), Route{Method: "GET", Path: "/page", Access: Viewer, Handler: func(c *fiber.Ctx) error { return c.SendString("in") }})
	return g, app
}

func TestAFreshSessionIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name, cookies string
		after         int32
		status        int
		asked         int32
	}{
		{"known", "agentnet=right", 0, 200, 1},
		{"not known yet, just signed in", "agentnet=right; agentnet_fresh=1", 3, 200, 4},
		{"not known", "agentnet=right", 3, 303, 1},
	} {
		who := &people{after: tt.after}
		_, app := newGate(t, who, "")
		req := httptest.NewRequest("GET", "/page", nil)
		req.Header.Set("Cookie", tt.cookies)
		req.Header.Set("Accept", "text/html")
		resp, err := app.Test(req, 5000)
		if err != nil || resp.StatusCode != tt.status || who.asked.Load() != tt.asked {
			t.Errorf("%s: got %v, %v after %d questions, want %d after %d", tt.name, resp, err, who.asked.Load(), tt.status, tt.asked)
		}
	}
	who := &people{after: 1000}
	g, app := newGate(t, who, "")
	g.waiting.Store(freshWaits) // as many as may wait do wait
	req := httptest.NewRequest("GET", "/page", nil)
	req.Header.Set("Cookie", "agentnet=right; agentnet_fresh=1")
	if resp, err := app.Test(req, 1000); err != nil || resp.StatusCode != 401 || who.asked.Load() != 1 || g.waiting.Load() != freshWaits {
		t.Errorf("too many that wait: got %v, %v after %d questions, want 401 at once", resp, err, who.asked.Load())
	}
}

func TestRoutesMustSayWhoMayUseThem(t *testing.T) {
	handler := func(*fiber.Ctx) error { return nil }
	for name, r := range map[string]Route{
		"no access":         {Method: "GET", Path: "/a", Handler: handler},
		"an unknown access": {Method: "GET", Path: "/a", Access: "root", Handler: handler},
		"a nameless change": {Method: "POST", Path: "/a", Access: Admin, Handler: handler},
		"no handler":        {Method: "GET", Path: "/a", Access: Admin},
	} {
		g, app := newGate(t, &people{}, "")
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: it was added", name)
				}
			}()
			g.Add(app, r)
		}()
	}
}

func FuzzSafeNext(f *testing.F) {
	for _, seed := range []string{"/", "/agents?q=1", "//evil.example", `/\evil.example`, "/a/../b", "https://evil.example", "/%2f%2fevil", "/relay/x", "/a\tb", "/;//x"} {
		f.Add(seed)
	}
	g, err := New(Config{Accounts: &people{}, Base: "/relay", ClientAddr: func(*fiber.Ctx) netip.Addr { return netip.Addr{} }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next string) {
		got := g.SafeNext(next)
		if got == "" {
			return
		}
		if got != next || !strings.HasPrefix(got, "/relay/") || strings.ContainsAny(got, "\\\r\n\t ") || strings.Contains(strings.SplitN(got, "?", 2)[0], "..") && strings.Contains(got, "/../") {
			t.Errorf("%q became %q", next, got)
		}
	})
}

func TestBrowserNames(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0":                                              "Firefox on Linux",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18 Safari/1": "Safari on iPhone",
		"Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36 Edg/131.0":           "Edge on Windows",
		"curl/8.5.0": "curl", "": "another program", "<script>": "another program", strings.Repeat("x", 10000): "another program",
	} {
		if got := browserName(agent); got != want {
			t.Errorf("%.60s: got %q, want %q", agent, got, want)
		}
	}
}
