package doctor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree writes files below a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// examine runs one check.
func examine(t *testing.T, name string, cfg Config) Finding {
	t.Helper()
	for _, f := range Run(t.Context(), cfg) {
		if f.Check == name {
			return f
		}
	}
	t.Fatalf("there is no check %q", name)
	return Finding{}
}

func limits(n string) map[string]string {
	return map[string]string{"self/limits": "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            " + n + "                1048576              files     \n"}
}

func TestMachine(t *testing.T) {
	mem := func(kib string) map[string]string {
		return map[string]string{"meminfo": "MemTotal:       " + kib + " kB\n"}
	}
	group := func(name, text string) map[string]string {
		return map[string]string{"fs/cgroup/app/" + name: text, "fs/cgroup/app/memory.max": "max\n"}
	}
	in := map[string]string{"self/cgroup": "0::/app\n"}
	tests := []struct {
		name, check string
		proc, sys   map[string]string
		cfg         Config
		want        Result
		says        string
	}{
		{"enough files", "file_descriptors", limits("262144"), nil, Config{}, OK, "262144"},
		{"few files", "file_descriptors", limits("1024"), nil, Config{}, Warn, "65536 are wanted"},
		{"fewer files than connections", "file_descriptors", limits("70000"), nil, Config{Connections: 100_000}, Fail, "100256 are needed"},
		{"enough for the connections", "file_descriptors", limits("2000"), nil, Config{Connections: 1000}, OK, ""},
		{"files without limit", "file_descriptors", limits("unlimited"), nil, Config{Connections: 1e6}, OK, ""},
		{"no limits to be read", "file_descriptors", nil, nil, Config{}, Skipped, "cannot be read"},
		{"good kernel", "kernel", map[string]string{"sys/net/core/somaxconn": "4096", "sys/net/ipv4/tcp_max_syn_backlog": "4096"}, nil, Config{}, OK, "somaxconn 4096"},
		{"short queue", "kernel", map[string]string{"sys/net/core/somaxconn": "128"}, nil, Config{}, Warn, "somaxconn is 128"},
		{"tcp memory", "kernel", map[string]string{"sys/net/ipv4/tcp_mem": "10 20 30"}, nil, Config{Connections: 50_000}, Warn, "TCP may use"},
		{"connection tracking full", "kernel", map[string]string{"sys/net/netfilter/nf_conntrack_count": "900", "sys/net/netfilter/nf_conntrack_max": "1000"}, nil, Config{}, Warn, "room for 1000"},
		{"no limits of a group", "cgroup", in, group("cpu.max", "max 100000"), Config{}, OK, "no limits"},
		{"a processor and a half", "cgroup", in, group("cpu.max", "150000 100000"), Config{}, OK, "1.50 processors"},
		{"a third of a processor", "cgroup", in, group("cpu.max", "33000 100000"), Config{}, Warn, "0.33"},
		{"throttled", "cgroup", in, group("cpu.stat", "nr_periods 1000\nnr_throttled 300\n"), Config{}, Warn, "30 %"},
		{"few tasks", "cgroup", in, group("pids.max", "20"), Config{}, Fail, "only 20 tasks"},
		{"room in memory", "memory", mem("8000000"), nil, Config{Bounds: []Bound{{"queue.total_bytes", 256 << 20}}}, OK, "256 MiB"},
		{"tight memory", "memory", mem("400000"), nil, Config{Bounds: []Bound{{"queue.total_bytes", 256 << 20}}}, Warn, "60 %"},
		{"more than there is", "memory", mem("100000"), nil, Config{Bounds: []Bound{{"queue.total_bytes", 256 << 20}}}, Fail, "would be killed"},
		{"a group has less than the machine", "memory", merged(in, mem("8000000")), map[string]string{"fs/cgroup/app/memory.max": "104857600"}, Config{Bounds: []Bound{{"queue.total_bytes", 256 << 20}}}, Fail, "of the container"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Proc, tt.cfg.Sys = tree(t, tt.proc), tree(t, tt.sys)
			got := examine(t, tt.check, tt.cfg)
			if got.Result != tt.want || !strings.Contains(got.Evidence+got.Fix, tt.says) {
				t.Errorf("got %s %q (fix %q), want %s with %q", got.Result, got.Evidence, got.Fix, tt.want, tt.says)
			}
			if (got.Result == Warn || got.Result == Fail) && got.Fix == "" {
				t.Error("there is no advice")
			}
		})
	}
}

func merged(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func TestData(t *testing.T) {
	dir := t.TempDir() // 0755 or narrower by umask
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := examine(t, "data_directory", Config{Data: dir}); got.Result != OK {
		t.Errorf("got %+v, want ok", got)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if got := examine(t, "data_directory", Config{Data: dir}); got.Result != Warn || !strings.Contains(got.Fix, "chmod 700") {
		t.Errorf("got %+v, want a warning", got)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agentnet.db"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := examine(t, "data_directory", Config{Data: dir}); got.Result != Fail || !strings.Contains(got.Fix, "chmod -R go=") {
		t.Errorf("got %+v, want a failure", got)
	}
	if got := examine(t, "disk_speed", Config{Data: dir}); got.Result == Skipped || !strings.Contains(got.Evidence, "median of 20") {
		t.Errorf("got %+v", got)
	}
	if got := examine(t, "disk_space", Config{Data: filepath.Join(dir, "not", "yet")}); got.Result == Skipped || !strings.Contains(got.Evidence, "are free") {
		t.Errorf("got %+v", got)
	}
	if got := examine(t, "data_directory", Config{Data: filepath.Join(dir, "not")}); got.Result != Skipped {
		t.Errorf("got %+v, want skipped", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".agentnet-*")); len(left) > 0 {
		t.Errorf("the doctor left %v", left)
	}
	tests := []struct {
		name string
		db   Database
		err  error
		want Result
		says string
	}{
		{"whole", Database{Schema: 3, Knows: 3, Bytes: 4096}, nil, OK, "schema 3"},
		{"none yet", Database{}, fmt.Errorf("look: %w", fs.ErrNotExist), Skipped, "no database yet"},
		{"damaged", Database{}, errors.New("the database is damaged: page 7"), Fail, "page 7"},
		{"older", Database{Schema: 2, Knows: 3}, nil, Warn, "upgrades"},
		{"large log", Database{Schema: 3, Knows: 3, WAL: 1 << 30}, nil, Warn, "1.0 GiB"},
		{"near its bound", Database{Schema: 3, Knows: 3, Bytes: 95, Max: 100}, nil, Warn, "database.max_bytes"},
	}
	for _, tt := range tests {
		got := examine(t, "database", Config{Database: func(context.Context) (Database, error) { return tt.db, tt.err }})
		if got.Result != tt.want || !strings.Contains(got.Evidence+got.Fix, tt.says) {
			t.Errorf("%s: got %+v, want %s with %q", tt.name, got, tt.want, tt.says)
		}
	}
	for want, j := range map[Result]Journal{OK: {Messages: 2}, Warn: {SetAside: 1}, Fail: {Damaged: []string{"a: 5 bytes at 7"}}} {
		if got := examine(t, "journal", Config{Journal: func(context.Context) (Journal, error) { return j, nil }}); got.Result != want {
			t.Errorf("%+v: got %+v, want %s", j, got, want)
		}
	}
}

func TestNetworkSettings(t *testing.T) {
	tests := []struct {
		check string
		cfg   Config
		want  Result
	}{
		{"exposure", Config{Listen: "127.0.0.1:0"}, OK},
		{"exposure", Config{Listen: ":8080"}, Fail},
		{"exposure", Config{Listen: ":8080", TLSCert: "x"}, OK},
		{"exposure", Config{Listen: ":443", ACME: true}, OK},
		{"exposure", Config{Listen: ":8080", TrustedProxies: []string{"10.0.0.0/8"}}, Warn},
		{"exposure", Config{Listen: ":8080", TrustedProxies: []string{"127.0.0.1"}}, Fail},
		{"exposure", Config{}, Skipped},
		{"public_url", Config{}, OK},
		{"public_url", Config{TrustedProxies: []string{"::1"}}, Warn},
		{"public_url", Config{PublicURL: "https://relay.example/r", BasePath: "/r", TrustedProxies: []string{"::1"}}, OK},
		{"public_url", Config{PublicURL: "https://relay.example/r", TrustedProxies: []string{"::1"}}, Fail},
		{"public_url", Config{PublicURL: "https://relay.example/"}, Warn},
		{"public_url", Config{PublicURL: "http://relay.example"}, Warn},
		{"certificate", Config{}, Skipped},
	}
	for _, tt := range tests {
		tt.cfg.Now = func() time.Time { return time.Unix(1_800_000_000, 0) }
		checks := checks()
		for i := range checks {
			if checks[i].name != tt.check {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if tt.check == "certificate" || tt.check == "public_url" || tt.check == "exposure" {
				if got := checks[i].run(ctx, &tt.cfg); got.Result != tt.want {
					t.Errorf("%s %+v: got %+v, want %s", tt.check, tt.cfg.Listen+tt.cfg.PublicURL, got, tt.want)
				}
			}
			cancel()
		}
	}
}

func TestCertificate(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name      string
		from, to  time.Time
		publicURL string
		want      Result
		says      string
	}{
		{"fresh", now.Add(-time.Hour), now.Add(80 * 24 * time.Hour), "", OK, "79 days"},
		{"three weeks", now.Add(-80 * 24 * time.Hour), now.Add(10 * 24 * time.Hour), "", Warn, "SIGHUP"},
		{"two days", now.Add(-80 * 24 * time.Hour), now.Add(48 * time.Hour), "", Fail, "1 days"},
		{"expired", now.Add(-80 * 24 * time.Hour), now.Add(-time.Hour), "", Fail, "expired"},
		{"not yet", now.Add(time.Hour), now.Add(80 * 24 * time.Hour), "", Fail, "valid only from"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert, key := pair(t, "relay.example", tt.from, tt.to)
			got := examine(t, "certificate", Config{TLSCert: cert, TLSKey: key})
			if got.Result != tt.want || !strings.Contains(got.Evidence+got.Fix, tt.says) {
				t.Errorf("got %+v, want %s with %q", got, tt.want, tt.says)
			}
		})
	}
	cert, key := pair(t, "relay.example", now.Add(-time.Hour), now.Add(1000*time.Hour))
	c := &Config{TLSCert: cert, TLSKey: key, PublicURL: "https://other.example", Now: time.Now}
	if got := c.certificateFile(); got.result != Fail || !strings.Contains(got.fix, "other.example") {
		t.Errorf("another name: got %+v, want a failure", got)
	}
	_, key2 := pair(t, "relay.example", now, now.Add(time.Hour))
	c = &Config{TLSCert: cert, TLSKey: key2, Now: time.Now}
	if got := c.certificateFile(); got.result != Fail {
		t.Errorf("another key: got %+v, want a failure", got)
	}
}

// pair writes a certificate and its key.
func pair(t *testing.T, name string, from, to time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	root := tree(t, map[string]string{
		"cert.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
	})
	return filepath.Join(root, "cert.pem"), filepath.Join(root, "key.pem")
}

// A relay is one that answers as a test says.
func relayServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestProxyHeaders(t *testing.T) {
	tests := []struct {
		name  string
		plain string // answer to a request without headers
		sent  string // answer to one that makes an address up
		want  Result
		says  string
	}{
		{"direct", `{"client":"192.0.2.1"}`, `{"client":"192.0.2.1","forwarded":true}`, OK, "no proxy stands in front"},
		{"trusted proxy", `{"client":"192.0.2.1","forwarded":true,"trusted":true}`, `{"client":"192.0.2.1","forwarded":true,"trusted":true}`, OK, "the proxy is trusted"},
		{"unknown proxy", `{"client":"10.0.0.2","forwarded":true,"peer":"10.0.0.2"}`, `{"client":"10.0.0.2","forwarded":true}`, Fail, "trusted_proxies: [10.0.0.2]"},
		{"proxy appends", `{"client":"192.0.2.1","forwarded":true,"trusted":true}`, `{"client":"203.0.113.77","forwarded":true,"trusted":true}`, Fail, "made up"},
		{"past the proxy", `{"client":"127.0.0.1","trusted":true}`, `{"client":"203.0.113.77","forwarded":true,"trusted":true}`, Skipped, "asked directly"},
		{"no relay", `<html>`, `<html>`, Fail, "no answer of a relay"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := relayServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/base/v1/probe" && r.Header.Get("X-Forwarded-For") != "" {
					_, _ = io.WriteString(w, tt.sent)
				} else {
					_, _ = io.WriteString(w, tt.plain)
				}
			})
			c := Config{URL: url + "/base/", Now: time.Now}
			if got := proxyHeaders(t.Context(), &c); got.result != tt.want || !strings.Contains(got.evidence+got.fix, tt.says) {
				t.Errorf("got %+v, want %s with %q", got, tt.want, tt.says)
			}
		})
	}
}

func TestStreamTellsABufferFromAStream(t *testing.T) {
	serve := func(pause time.Duration) string {
		return relayServer(t, func(w http.ResponseWriter, r *http.Request) {
			for range 4 {
				_, _ = io.WriteString(w, "data: event\n\n")
				if pause > 0 {
					_ = http.NewResponseController(w).Flush()
					time.Sleep(pause)
				}
			}
		})
	}
	if got := stream(t.Context(), &Config{URL: serve(150 * time.Millisecond)}); got.result != OK {
		t.Errorf("one by one: got %+v, want ok", got)
	}
	if got := stream(t.Context(), &Config{URL: serve(0)}); got.result != Fail || !strings.Contains(got.fix, "proxy_buffering off") {
		t.Errorf("all at once: got %+v, want a failure", got)
	}
	if got := webSocket(t.Context(), &Config{URL: serve(0)}); got.result != Fail || !strings.Contains(got.fix, "Upgrade") {
		t.Errorf("no upgrade: got %+v, want a failure", got)
	}
	if got := stream(t.Context(), &Config{URL: "http://127.0.0.1:1"}); got.result != Fail {
		t.Errorf("nobody there: got %+v, want a failure", got)
	}
}

func TestATokenIsNotSentInTheClear(t *testing.T) {
	for url, want := range map[string]bool{"http://127.0.0.1:1": true, "http://localhost": true, "http://relay.invalid": false, "https://127.0.0.1:1/x": true, "https://relay.invalid": false} {
		if got := (&Config{URL: url}).verified(t.Context()); got != want {
			t.Errorf("%s: got %v, want %v", url, got, want)
		}
	}
}

func TestRedis(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--requirepass", "hunter2", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatalf("redis-server is needed (apt-get install redis-server): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url := "redis://:hunter2@127.0.0.1:" + port
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := dialRedis(t.Context(), &Config{Redis: url})
		if err == nil {
			if _, err := c.do("PING"); err == nil {
				c.close()
				break
			}
			c.close()
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	cfg := &Config{Redis: url, Now: time.Now}
	for name, tt := range map[string]struct {
		look func(context.Context, *Config) outcome
		want Result
		says string
	}{
		"server": {redisServer, OK, "role master"}, "memory": {redisMemory, Warn, "noeviction"},
		"latency": {redisLatency, OK, "median of 50"}, "pubsub": {redisPubSub, OK, "came back"}, "clock": {redisClock, OK, "that of Redis"},
	} {
		if got := tt.look(t.Context(), cfg); got.result != tt.want || !strings.Contains(got.evidence+got.fix, tt.says) {
			t.Errorf("%s: got %+v, want %s with %q", name, got, tt.want, tt.says)
		}
	}
	c, err := dialRedis(t.Context(), &Config{Redis: url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.do("CONFIG", "SET", "maxmemory-policy", "noeviction"); err != nil {
		t.Fatal(err)
	}
	if got := redisMemory(t.Context(), cfg); got.result != OK {
		t.Errorf("noeviction: got %+v, want ok", got)
	}
	for _, bad := range []string{"redis://:secretpass@127.0.0.1:" + port, "redis://:secretpass@127.0.0.1:1", "redis://127.0.0.1:" + port} {
		if got := redisServer(t.Context(), &Config{Redis: bad}); got.result != Fail || strings.Contains(got.evidence, "secretpass") {
			t.Errorf("%s: got %+v, want a failure that hides the password", bad, got)
		}
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{"6.0.16": true, "6.2.0": false, "7.0.15": false, "5.1": true, "8": false, "": false, "x.y": false} {
		if got := older(version, 6, 2); got != want {
			t.Errorf("%q: got %v, want %v", version, got, want)
		}
	}
}

func TestRunEndsWithItsContextAndSurvivesAPanic(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range Run(ctx, Config{}) {
		if f.Result != Skipped {
			t.Errorf("%s: got %s after the end, want skipped", f.Check, f.Result)
		}
	}
	if got := examine(t, "database", Config{Database: func(context.Context) (Database, error) { panic("x") }}); got.Result != Skipped {
		t.Errorf("got %+v, want skipped", got)
	}
	if got := Worst([]Finding{{Result: OK}, {Result: Skipped}, {Result: Warn}}); got != Warn {
		t.Errorf("got %s, want warn", got)
	}
}

func FuzzRESP(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "$3\r\nabc\r\n", "*2\r\n:1\r\n$-1\r\n", "-ERR no\r\n", "$99999999999\r\n", "*4096\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+x\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = readRESP(bufio.NewReader(strings.NewReader(string(text))), 0)
	})
}
