//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/doctor"
	"agentnet/app/wire"

	"github.com/goccy/go-yaml"
	"github.com/golang-jwt/jwt/v5"
)

// A visitor is a client that came through the proxy.
type visitor struct {
	*client.Client
	got chan string
}

// join connects through the proxy.
func (s *stage) join(agent, token string, enc wire.Encoding) *visitor {
	s.t.Helper()
	v := &visitor{got: make(chan string, 16)}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URL: s.url, Token: token, Agent: agent, Encoding: enc, TLS: s.tls(),
		OnMessage: func(_ context.Context, m *client.Message) { v.got <- string(m.Payload.Data) },
		Backoff:   client.Backoff{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}})
	if err != nil {
		s.t.Fatalf("connect through the proxy: %v\n%s", err, s.log)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	v.Client = c
	return v
}

func admin(spec *auth.TokenSpec) { spec.Grants.Roles = []string{"admin"} }

// TestProxyPassesEverything: the doctor finds nothing wrong with headers, WebSocket,
// events and a silent connection; agents talk; every link of the pages leads
// somewhere.
func TestProxyPassesEverything(t *testing.T) {
	each(t, func(t *testing.T, p proxyKind, kind string) {
		s := play(t, p, kind)
		token := s.node.Token("**", admin)

		found := doctor.Run(t.Context(), doctor.Config{URL: s.url, PublicURL: s.url, BasePath: s.base, Token: token, CA: s.path("cert.pem"),
			TrustedProxies: []string{"127.0.0.1"}, Listen: s.backend, Running: true, PID: os.Getpid(), Idle: 2 * time.Second})
		for _, f := range found {
			if f.Group == "network" && f.Check != "certificate" && f.Result != doctor.OK {
				t.Errorf("the doctor found: %+v", f)
			}
			if f.Check == "proxy_headers" && !strings.Contains(f.Evidence, "the proxy is trusted; the server takes 127.0.0.1") {
				t.Errorf("got %+v", f)
			}
		}

		// The server examines itself, through the proxy.
		req, err := http.NewRequest("GET", s.url+"/v1/doctor", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		var own struct{ Findings []doctor.Finding }
		s.json(s.http("127.0.0.1"), req, &own)
		for _, f := range own.Findings {
			if slices.Contains([]string{"proxy_headers", "websocket", "stream", "public_url", "database", "journal"}, f.Check) && f.Result != doctor.OK {
				t.Errorf("the server's own doctor found: %+v", f)
			}
		}
		if len(own.Findings) < 20 {
			t.Errorf("got %d findings, want all", len(own.Findings))
		}

		// The server sees where a client really comes from, whatever it writes.
		for _, from := range []string{"127.0.0.1", "127.0.0.9"} {
			req, err := http.NewRequest("GET", s.url+"/v1/probe", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Forwarded-For", "198.51.100.7, 203.0.113.5")
			req.Header.Set("Forwarded", "for=198.51.100.7")
			var seen doctor.Seen
			s.json(s.http(from), req, &seen)
			if seen.Client != from || !seen.Trusted || !seen.Forwarded {
				t.Errorf("from %s: got %+v", from, seen)
			}
		}

		for enc, name := range map[wire.Encoding]string{wire.JSON: "json", wire.Protobuf: "protobuf"} {
			a := s.join("ann-"+name, token, enc)
			s.speaks(a, "ann-"+name)
		}
		s.links()
	})
}

// speaks sends a message to itself.
func (s *stage) speaks(c *visitor, agent string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	data, err := client.JSON("through the proxy")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.Send(ctx, agent, data); err != nil {
		s.t.Errorf("send through the proxy: %v", err)
	}
	select {
	case got := <-c.got:
		if got != `"through the proxy"` {
			s.t.Errorf("got %s", got)
		}
	case <-ctx.Done():
		s.t.Errorf("what %s sent to itself did not come back\n%s", agent, s.log)
	}
}

func (s *stage) json(c *http.Client, req *http.Request, into any) {
	s.t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: status %d, %v", req.URL, resp.StatusCode, err)
	}
}

var leads = regexp.MustCompile(`(?:href|src|action)="([^"]+)"`)

// links follows every link from the first page on, and looks at redirects, cookies
// and the OpenAPI document: nothing leads out of the base path.
func (s *stage) links() {
	s.t.Helper()
	c, origin := s.http("127.0.0.1"), strings.TrimSuffix(s.url, s.base)
	waiting, seen := []string{s.base + "/"}, map[string]bool{}
	for len(waiting) > 0 && len(seen) < 100 {
		path := waiting[0]
		waiting = waiting[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		resp, err := c.Get(origin + path)
		if err != nil {
			s.t.Errorf("%s: %v", path, err)
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		for _, cookie := range resp.Cookies() {
			if !strings.HasPrefix(cookie.Path, s.base) || !cookie.Secure {
				s.t.Errorf("%s: got cookie %s with path %q, secure %v", path, cookie.Name, cookie.Path, cookie.Secure)
			}
		}
		if to := resp.Header.Get("Location"); to != "" {
			to = strings.TrimPrefix(to, origin)
			if !strings.HasPrefix(to, s.base+"/") {
				s.t.Errorf("%s leads to %s, out of %s", path, to, s.base)
			} else {
				waiting = append(waiting, to)
			}
		}
		if resp.StatusCode >= 400 && resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
			s.t.Errorf("%s: got status %d", path, resp.StatusCode)
		}
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			continue
		}
		for _, m := range leads.FindAllSubmatch(body, -1) {
			to := strings.TrimPrefix(string(m[1]), origin)
			if to, _, _ = strings.Cut(to, "#"); to == "" || strings.Contains(to, "://") || strings.HasPrefix(to, "data:") || strings.HasPrefix(to, "?") {
				continue
			}
			if !strings.HasPrefix(to, s.base+"/") {
				s.t.Errorf("%s links to %s, out of %s", path, to, s.base)
				continue
			}
			waiting = append(waiting, to)
		}
	}
	if len(seen) < 4 {
		s.t.Errorf("got only the pages %v", seen)
	}
	req, err := http.NewRequest("GET", s.url+"/openapi.json", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	var doc struct{ Servers []struct{ URL string } }
	if s.json(c, req, &doc); len(doc.Servers) != 1 || doc.Servers[0].URL != s.url+"/" {
		s.t.Errorf("got the servers %v, want %s/", doc.Servers, s.url)
	}
}

// TestProxySilence: a connection on which nobody says anything outlives an idle time
// that is longer than a heartbeat, because of the heartbeat. In the long form the
// files' own time is waited for.
func TestProxySilence(t *testing.T) {
	each(t, func(t *testing.T, p proxyKind, kind string) {
		var short []replacement
		wait := 5 * time.Second
		if os.Getenv("E2E_LONG") != "" {
			wait = 100 * time.Second
		} else if p.silence.from != "" {
			short = append(short, p.silence)
		}
		s := play(t, p, kind, short...)
		c := s.join("quiet", s.node.Token("quiet"), wire.JSON)
		session := c.Info()
		time.Sleep(wait) // silence is what is tested
		if now := c.Info(); c.State() != client.Connected || fmt.Sprint(now) != fmt.Sprint(session) {
			t.Errorf("the connection did not outlive %v of silence: %v, %+v before, %+v now\n%s", wait, c.State(), session, now, s.log)
		}
		s.speaks(c, "quiet")
	})
}

// TestProxyAcrossARestart: the node behind the proxy is replaced; clients come back
// by themselves and nothing that was sent is lost.
func TestProxyAcrossARestart(t *testing.T) {
	each(t, func(t *testing.T, p proxyKind, kind string) {
		s := play(t, p, kind)
		token := s.node.Token("**")
		c := s.join("stays", token, wire.JSON)
		s.speaks(c, "stays")
		s.node = s.node.Restart(s.configure)
		s.speaks(c, "stays")
	})
}

// TestProxyDrain: behind HAProxy with two nodes, the clients of one that stops go
// over to the other, because its readiness says so before it ends.
func TestProxyDrain(t *testing.T) {
	p := proxies()[2]
	s := newStage(t, "root")
	secret := strings.Repeat("s", 40)
	signed := func(agent string) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": agent, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	start := func() *apptest.Node {
		return apptest.Start(t, func(c *app.Config) {
			s.configure(c)
			c.Auth.JWT = []app.Issuer{{Secret: secret, Claim: "agentnet"}}
			c.Drain.Window = app.Duration(3 * time.Second)
		})
	}
	first, second := start(), start()
	s.node, s.backend, s.extra = first, strings.TrimPrefix(first.URL, "http://"), strings.TrimPrefix(second.URL, "http://")
	s.run(p, "root", nil)
	var all []*visitor
	for i := range 12 {
		agent := fmt.Sprintf("agent-%d", i)
		all = append(all, s.join(agent, signed(agent), wire.JSON))
	}
	before := first.App.Hub().Stats().Connections
	if other := second.App.Hub().Stats().Connections; before == 0 || other == 0 || before+other != len(all) {
		t.Fatalf("got %d and %d connections, want both to have some of %d", before, other, len(all))
	}
	first.Stop()
	waitFor(patience, func() bool { return second.App.Hub().Stats().Agents == len(all) },
		func() {
			t.Errorf("got %d agents at the node that is left, want %d\n%s", second.App.Hub().Stats().Agents, len(all), s.log)
		})
	for i, c := range all {
		s.speaks(c, fmt.Sprintf("agent-%d", i))
	}
}

// TestTraefikFilesSayTheSame: Traefik is not in Debian and is not run. Its files
// are valid YAML, route to the relay and keep the path.
func TestTraefikFilesSayTheSame(t *testing.T) {
	for kind, base := range map[string]string{"root": "", "subpath": "/relay"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "proxies", "traefik", kind+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			HTTP struct {
				Routers  map[string]struct{ Rule, Service string }
				Services map[string]struct {
					LoadBalancer struct {
						HealthCheck struct{ Path string } `yaml:"healthCheck"`
						Servers     []struct{ URL string }
					} `yaml:"loadBalancer"`
				}
			}
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		router := file.HTTP.Routers["agentnet"]
		service := file.HTTP.Services[router.Service].LoadBalancer
		if len(service.Servers) != 1 || service.Servers[0].URL != "http://127.0.0.1:8080" || service.HealthCheck.Path != base+"/readyz" {
			t.Errorf("%s: got %+v", kind, service)
		}
		if strings.Contains(string(text), "stripPrefix:") || base != "" && !strings.Contains(router.Rule, "PathPrefix(`"+base+"`)") {
			t.Errorf("%s: got the rule %s", kind, router.Rule)
		}
	}
}
