package dash

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
	"agentnet/web/static"

	"github.com/gofiber/fiber/v2"
)

type fakeNode struct {
	stats   relay.Stats
	reasons []relay.Reason
	reads   int
	each    func(*relay.Stats) // before each reading
}

func (f *fakeNode) Stats() relay.Stats {
	f.reads++
	f.stats.Now = time.Now()
	if f.each != nil {
		f.each(&f.stats)
	}
	return f.stats
}

func (f *fakeNode) Ready() []relay.Reason { return append([]relay.Reason(nil), f.reasons...) }

func newPage(t *testing.T, node *fakeNode, change ...func(*Config)) *Page {
	t.Helper()
	files, err := static.New("/static")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Source: node, Files: files, Version: "1.2.3", Local: func(*fiber.Ctx) bool { return true }}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t *testing.T, p *Page, host string) string {
	t.Helper()
	app := fiber.New()
	app.Get("/", p.Handler)
	req := httptest.NewRequest("GET", "/", nil)
	req.Host = host
	resp, err := app.Test(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %d, %v", resp.StatusCode, err)
	}
	return string(body)
}

func TestSamplerMeasuresRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &fakeNode{}
		node.each = func(s *relay.Stats) {
			s.MessagesIn += 100
			s.DeliveredOut += 300
			// 9 in 10 deliveries take 1 ms, one takes 16 ms; an old outlier is forgotten.
			s.Delivery.Counts[40] += 90
			s.Delivery.Counts[56] += 10
			if node.reads == 1 {
				s.Delivery.Counts[100] += 1_000_000
			}
		}
		p := newPage(t, node)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan struct{})
		go func() { p.Run(ctx); close(done) }()
		time.Sleep(3*time.Minute + time.Millisecond)
		synctest.Wait()
		now := p.Now()
		if now.AcceptedPerS != 100 || now.DeliveredPerS != 300 {
			t.Errorf("got %v accepted and %v delivered a second, want 100 and 300", now.AcceptedPerS, now.DeliveredPerS)
		}
		if now.P50 != relay.Bound(40) || now.P95 != relay.Bound(56) {
			t.Errorf("got p50 %v and p95 %v, want %v and %v", now.P50, now.P95, relay.Bound(40), relay.Bound(56))
		}
		if n := len(now.Minute.Accepted); n != 60 || len(p.sampler.samples) != keptSamples {
			t.Errorf("got %d points of %d samples, want 60 of %d", n, len(p.sampler.samples), keptSamples)
		}
		if node.reads != 181 {
			t.Errorf("got %d readings in 3 minutes, want 181", node.reads)
		}
		cancel()
		<-done
	})
}

func TestRateSurvivesOddClocks(t *testing.T) {
	tests := []struct {
		from, to uint64
		took     time.Duration
		want     float64
	}{{1, 11, 2 * time.Second, 5}, {1, 11, 0, 0}, {1, 11, -time.Second, 0}, {11, 1, time.Second, 0}}
	for _, tt := range tests {
		if got := rate(tt.from, tt.to, tt.took); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestManyViewersReadTheRelayOnce(t *testing.T) {
	node := &fakeNode{}
	p := newPage(t, node)
	for range 20 {
		get(t, p, "localhost")
	}
	if node.reads != 1 {
		t.Errorf("got %d readings, want 1", node.reads)
	}
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		name string
		node fakeNode
		want []string
	}{
		{"quiet", fakeNode{}, []string{"Running", "No agent is connected yet", "–"}},
		{"one", fakeNode{stats: relay.Stats{Agents: 1}}, []string{"Running", "1 agent is connected"}},
		{"many", fakeNode{stats: relay.Stats{Agents: 1284, Level: "normal", Node: "n1", Region: "home"}}, []string{"1,284 agents are connected", "<dd>n1</dd>", "<dd>home</dd>", "<dd>1.2.3</dd>"}},
		{"busy", fakeNode{stats: relay.Stats{Level: "degraded"}}, []string{"Under load", "its level is degraded", `class="state warn"`}},
		{"draining", fakeNode{stats: relay.Stats{Draining: true, Level: "degraded"}}, []string{"Draining", `class="state info"`}},
		{"hurt", fakeNode{reasons: []relay.Reason{{Check: "hub", OK: true, Message: "well"}, {Check: "journal", Message: "disk full"}}},
			[]string{"Not ready", "<b>journal</b>", "disk full", `class="state crit"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := get(t, newPage(t, &tt.node), "localhost:8080")
			for _, want := range tt.want {
				if !strings.Contains(body, want) {
					t.Errorf("got %s\nwant %q in it", body, want)
				}
			}
			if strings.Contains(body, "<b>hub</b>") {
				t.Error("a check that is well is listed")
			}
		})
	}
}

func TestStrangersSeeNoNumbers(t *testing.T) {
	node := &fakeNode{stats: relay.Stats{Node: "n1secret", Agents: 77321}, reasons: []relay.Reason{{Check: "journal", Message: "open /secret"}}}
	stranger := func(c *Config) { c.Local = func(*fiber.Ctx) bool { return false } }
	body := get(t, newPage(t, node, stranger), "example.org")
	for _, hidden := range []string{"77,321", "n1secret", "1.2.3", "/secret", "journal", "poll.js"} {
		if strings.Contains(body, hidden) {
			t.Errorf("a stranger sees %q", hidden)
		}
	}
	if !strings.Contains(body, "ws://example.org/ws") || node.reads != 0 {
		t.Errorf("got %d readings and %s, want where agents connect and no reading", node.reads, body)
	}
	body = get(t, newPage(t, node, stranger, func(c *Config) { c.Public = true }), "example.org")
	if !strings.Contains(body, "77,321") || !strings.Contains(body, "journal") || strings.Contains(body, "/secret") {
		t.Errorf("a public page must show numbers and checks, and no text of an error: %s", body)
	}
}

func TestEndpoint(t *testing.T) {
	tests := []struct {
		name, public, base string
		tls                bool
		host, want         string
	}{
		{"from the request", "", "", false, "127.0.0.1:8080", "ws://127.0.0.1:8080/ws"},
		{"with a base path and TLS", "", "/relay", true, "relay.lan", "wss://relay.lan/relay/ws"},
		{"IPv6", "", "", false, "[::1]:8080", "ws://[::1]:8080/ws"},
		{"public url", "https://example.org/relay/", "/relay", false, "evil", "wss://example.org/relay/ws"},
		{"plain public url", "http://example.org", "", false, "evil", "ws://example.org/ws"},
		{"a host that is none", "", "", false, `a"><script>`, "ws://127.0.0.1/ws"},
		{"an endless host", "", "", false, strings.Repeat("a", 300), "ws://127.0.0.1/ws"},
		{"no host", "", "", false, "", "ws://127.0.0.1/ws"},
	}
	for _, tt := range tests {
		p := newPage(t, &fakeNode{}, func(c *Config) { c.PublicURL, c.Base, c.TLS = tt.public, tt.base, tt.tls })
		if got := p.endpoint(tt.host); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestCommandsNameTheServer(t *testing.T) {
	p := newPage(t, &fakeNode{})
	if got := p.commands("ws://127.0.0.1:8080/ws")[0]; !strings.HasPrefix(got, "AGENTNET_TOKEN=") {
		t.Errorf("got %q, want no URL for the default address", got)
	}
	if got := p.commands("wss://example.org/relay/ws")[1]; !strings.HasPrefix(got, "AGENTNET_URL=https://example.org/relay AGENTNET_TOKEN=") {
		t.Errorf("got %q, want the URL first", got)
	}
}

func TestNothingIsExecuted(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	node := &fakeNode{stats: relay.Stats{Node: evil, Region: evil, Level: evil, Agents: 1}, reasons: []relay.Reason{{Check: evil, Message: evil}}}
	body := get(t, newPage(t, node, func(c *Config) { c.Version, c.Commands = evil, []string{evil} }), "localhost")
	if strings.Contains(body, "<script>") || strings.Contains(body, "<img") || strings.Contains(body, "onerror=alert(1)>'") && !strings.Contains(body, "&gt;") {
		t.Errorf("a name became markup: %s", body)
	}
	for _, inline := range []string{"style=", "<style", "onclick", "javascript:"} {
		if strings.Contains(body, inline) {
			t.Errorf("the page has %q, which the content policy forbids", inline)
		}
	}
	if n := strings.Count(body, "<script"); n != 1 {
		t.Errorf("got %d scripts, want our one", n)
	}
}
