//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
)

// The files of packaging/proxies are run as they are: only names, addresses, ports
// and paths of certificates are replaced, and each replacement must find its place.

// A replacement is text of a packaged file, and what stands there in a test.
type replacement struct{ from, to string }

// A proxyKind is one of the programs.
type proxyKind struct {
	name    string
	file    func(kind string) string // below packaging/proxies
	replace func(s *stage, kind string) []replacement
	// frame makes a whole configuration of the file's text, and says how to start it.
	frame func(s *stage, text string) (config string, command []string)
	// silence is the file's idle time, which the test of heartbeats shortens.
	silence replacement
}

// A stage is a proxy with a node behind it.
type stage struct {
	t       *testing.T
	dir     string
	port    string // of the proxy
	node    *apptest.Node
	backend string // host:port of the node
	extra   string // host:port of a second node; HAProxy only
	base    string
	url     string // what clients use
	pool    *x509.CertPool
	log     *tail
	cmd     *exec.Cmd
	ended   chan struct{}
	patient bool // any answer of the proxy will do
}

func proxies() []proxyKind {
	return []proxyKind{
		{
			name: "nginx", file: func(kind string) string { return "nginx/" + kind + ".conf" },
			replace: func(s *stage, kind string) []replacement {
				host := map[string]string{"root": "relay.example", "subpath": "www.example"}[kind]
				return []replacement{{"listen 443 ssl;", "listen 127.0.0.1:" + s.port + " ssl;"}, {"server_name " + host, "server_name _"},
					{"/etc/ssl/" + host + "/fullchain.pem", s.path("cert.pem")}, {"/etc/ssl/" + host + "/privkey.pem", s.path("key.pem")}}
			},
			frame: func(s *stage, text string) (string, []string) {
				user := ""
				if os.Getuid() == 0 {
					user = "user root;\n"
				}
				return user + "daemon off;\npid " + s.path("pid") + ";\nerror_log stderr warn;\nevents { worker_connections 4096; }\nhttp {\naccess_log off;\n" +
						"client_body_temp_path " + s.path("body") + ";\nproxy_temp_path " + s.path("temp") + ";\nfastcgi_temp_path " + s.path("f") + ";\nuwsgi_temp_path " + s.path("u") + ";\nscgi_temp_path " + s.path("s") + ";\n" + text + "}\n",
					[]string{"nginx", "-p", s.dir, "-c", s.path("config")}
			},
			silence: replacement{"proxy_read_timeout 90s;", "proxy_read_timeout 3s;"},
		},
		{
			name: "caddy", file: func(kind string) string { return "caddy/" + kind + ".Caddyfile" },
			replace: func(s *stage, kind string) []replacement {
				host := map[string]string{"root": "relay.example", "subpath": "www.example"}[kind]
				return []replacement{{"\n" + host + " {", "\nhttps://127.0.0.1:" + s.port + " {\n\tbind 127.0.0.1\n\ttls " + s.path("cert.pem") + " " + s.path("key.pem")}}
			},
			frame: func(s *stage, text string) (string, []string) {
				return "{\n\tadmin off\n\tauto_https off\n}\n" + text, []string{"caddy", "run", "--adapter", "caddyfile", "--config", s.path("config")}
			},
		},
		{
			name: "haproxy", file: func(kind string) string { return "haproxy/" + kind + ".cfg" },
			replace: func(s *stage, _ string) []replacement {
				list := []replacement{{"bind :443 ssl crt /etc/haproxy/certs/relay.example.pem", "bind 127.0.0.1:" + s.port + " ssl crt " + s.path("both.pem")}, {"maxconn 200000", "maxconn 2000"}}
				if s.extra != "" {
					list = append(list, replacement{"# server n2 10.0.0.2:8080", "server n2 " + s.extra})
				}
				return list
			},
			frame: func(s *stage, text string) (string, []string) {
				return text, []string{"haproxy", "-db", "-f", s.path("config")}
			},
			silence: replacement{"timeout tunnel 90s", "timeout tunnel 3s"},
		},
	}
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// freePort is one that nobody listens on at this moment.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// configure is a node's configuration behind the proxy.
func (s *stage) configure(c *app.Config) {
	c.BasePath, c.PublicURL, c.TrustedProxies = s.base, s.url, []string{"127.0.0.1"}
	c.Session.HeartbeatMin, c.Session.Heartbeat, c.Session.HeartbeatMax = app.Duration(time.Second), app.Duration(time.Second), app.Duration(time.Second)
}

// play starts a node and the proxy in front of it. kind is root or subpath.
func play(t *testing.T, p proxyKind, kind string, more ...replacement) *stage {
	t.Helper()
	s := newStage(t, kind)
	s.node = apptest.Start(t, s.configure)
	s.backend = strings.TrimPrefix(s.node.URL, "http://")
	s.run(p, kind, more)
	return s
}

func newStage(t *testing.T, kind string) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir(), port: freePort(t), log: &tail{}, ended: make(chan struct{}), pool: x509.NewCertPool()}
	if kind == "subpath" {
		s.base = "/relay"
	}
	s.url = "https://127.0.0.1:" + s.port + s.base
	writePair(t, s.path("cert.pem"), s.path("key.pem"), 7)
	cert, err1 := os.ReadFile(s.path("cert.pem"))
	key, err2 := os.ReadFile(s.path("key.pem"))
	if err1 != nil || err2 != nil || !s.pool.AppendCertsFromPEM(cert) {
		t.Fatal(err1, err2)
	}
	if err := os.WriteFile(s.path("both.pem"), append(cert, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// run writes the configuration and starts the proxy.
func (s *stage) run(p proxyKind, kind string, more []replacement) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "proxies", filepath.FromSlash(p.file(kind))))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range append(append(p.replace(s, kind), replacement{"127.0.0.1:8080", s.backend}), more...) {
		if !bytes.Contains(text, []byte(r.from)) {
			s.t.Fatalf("%s does not hold %q, which the test replaces", p.file(kind), r.from)
		}
		text = bytes.ReplaceAll(text, []byte(r.from), []byte(r.to))
	}
	config, command := p.frame(s, string(text))
	if err := os.WriteFile(s.path("config"), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("%s is needed (apt-get install %s): %v", p.name, p.name, err)
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	s.t.Cleanup(s.stop)
	waitFor(patience, func() bool {
		select {
		case <-s.ended:
			s.t.Fatalf("%s ended at once:\n%s\n%s", p.name, s.log, config)
		default:
		}
		resp, err := s.http("127.0.0.1").Get(s.url + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK || s.patient && resp.StatusCode == http.StatusNotFound
	}, func() { s.t.Fatalf("%s does not pass requests on:\n%s\n%s", p.name, s.log, config) })
}

func (s *stage) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func (s *stage) tls() *tls.Config { return &tls.Config{RootCAs: s.pool} }

// http is a client that comes from an address of this machine, and follows no
// redirects.
func (s *stage) http(from string) *http.Client {
	dialer := &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: s.tls(), DisableKeepAlives: true, DialContext: dialer.DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// each runs a test behind each proxy, at the root and below a path, at one time.
func each(t *testing.T, f func(t *testing.T, p proxyKind, kind string)) {
	for _, p := range proxies() {
		for _, kind := range []string{"root", "subpath"} {
			t.Run(fmt.Sprintf("%s %s", p.name, kind), func(t *testing.T) {
				t.Parallel()
				f(t, p, kind)
			})
		}
	}
}
