package cluster

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"agentnet/embedded"

	"go.uber.org/goleak"
)

// TestMain fails when goroutines are left. Some of the client's for a Redis Cluster
// sleep for up to five seconds before they look again, or close what is not needed.
func TestMain(m *testing.M) {
	const client = "github.com/redis/rueidis."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(client+"(*call).DelayDo.func1"), goleak.IgnoreAnyFunction(client+"(*clusterClient)._refresh.func1"),
		goleak.IgnoreAnyFunction(client+"(*clusterClient)._refresh.func2"), goleak.IgnoreAnyFunction(client+"(*clusterClient)._refresh.func3"))
}

// A store is a Redis of either kind, as a test sees it.
type store struct {
	config BrokerConfig
	// restart stops it and starts it again with all or nothing of its content.
	restart func(t *testing.T, keepContent bool)
}

// kinds are the two that every test of a Broker runs on.
var kinds = []struct {
	name  string
	start func(t *testing.T) *store
}{
	{"embedded", startEmbedded},
	{"redis", startRedis},
}

// onBoth runs one test body on the embedded store and on a real Redis.
func onBoth(t *testing.T, body func(t *testing.T, s *store)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { body(t, k.start(t)) })
	}
}

func startEmbedded(t *testing.T) *store {
	t.Helper()
	dir := t.TempDir()
	s := &store{}
	var server *embedded.Server
	start := func() {
		var err error
		if server, err = embedded.Start(t.Context(), embedded.Config{Dir: dir}); err != nil {
			t.Fatalf("start the embedded store: %v", err)
		}
	}
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("stop the embedded store: %v", err)
		}
	}
	start()
	t.Cleanup(func() { stop() })
	s.config = BrokerConfig{Dial: func(ctx context.Context) (net.Conn, error) { return server.Dial(ctx) }}
	s.restart = func(t *testing.T, keepContent bool) {
		stop()
		if !keepContent {
			dir = t.TempDir()
		}
		start()
	}
	return s
}

func startRedis(t *testing.T) *store {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: apt-get install redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	var cmd *exec.Cmd
	start := func() {
		cmd = exec.Command(path, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir,
			"--requirepass", "pass word", "--daemonize", "no", "--enable-debug-command", "yes")
		if err := cmd.Start(); err != nil {
			t.Fatalf("start redis-server: %v", err)
		}
		waitForPort(t, port)
	}
	stop := func(signal bool) {
		if signal {
			cmd.Process.Kill()
		}
		cmd.Wait()
	}
	start()
	t.Cleanup(func() { stop(true) })
	s := &store{config: BrokerConfig{URL: fmt.Sprintf("redis://default:pass%%20word@127.0.0.1:%d/2", port)}}
	s.restart = func(t *testing.T, keepContent bool) {
		if keepContent {
			exec.Command("redis-cli", "-p", fmt.Sprint(port), "-a", "pass word", "SAVE").Run()
		}
		stop(true)
		start()
	}
	return s
}

func waitForPort(t *testing.T, port int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(c, "PING\r\n")
		b := make([]byte, 64)
		n, _ := c.Read(b)
		c.Close()
		if text := string(b[:n]); strings.HasPrefix(text, "-NOAUTH") || strings.HasPrefix(text, "+PONG") {
			return
		}
	}
	t.Fatalf("redis-server does not answer on port %d within 10 s", port)
}

// connect returns a Broker that is closed with the test.
func connect(t *testing.T, cfg BrokerConfig) *Broker {
	t.Helper()
	b, err := OpenBroker(within(t), cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// within returns a context of 10 s, so that no test hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
