package drill_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/drill"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// standing is a node of the test, which drills may not break.
type standing struct{ n *apptest.Node }

func (s standing) URL() string { return s.n.URL }
func (s standing) Token() string {
	return s.n.Token("drill/**", func(spec *auth.TokenSpec) { spec.Grants.Roles = []string{"viewer"} })
}
func (s standing) Dir() string                 { return "" }
func (s standing) Kill() error                 { return errors.New("not ours") }
func (s standing) Start(context.Context) error { return errors.New("not ours") }

func run(t *testing.T, name string, o drill.Options) drill.Result {
	t.Helper()
	d, ok := drill.Get(name)
	if !ok {
		t.Fatalf("no drill %s", name)
	}
	o.Say, o.Scratch = t.Logf, t.TempDir()
	if o.Span == 0 {
		o.Span = 2 * time.Second
	}
	return d.Run(t.Context(), o)
}

func TestStormAgainstARunningNode(t *testing.T) {
	n := apptest.Start(t, nil)
	if r := run(t, "connection-storm", drill.Options{Against: standing{n}, Crowd: 40}); !r.Passed || len(r.Checks) != 3 || r.Node != n.URL {
		t.Errorf("got %+v", r)
	}
}

// TestDrillsFail holds that a drill notices a node that does not keep its promise:
// this one can neither keep what comes for absent sessions nor park it.
func TestDrillsFail(t *testing.T) {
	n := apptest.Start(t, func(c *app.Config) {
		c.Session.ReplayFrames, c.Session.Resume = 1, app.Duration(time.Second)
		c.Mailbox.Count, c.Mailbox.AgentCount = 1, 1
		c.Limits.ConnectsPerS, c.Limits.ConnectsBurst = 15, 70 // back so slowly that sessions end
	})
	r := run(t, "connection-storm", drill.Options{Against: standing{n}, Crowd: 60, Span: 5 * time.Second})
	if r.Passed || r.Fault != "" || !strings.Contains(r.Summary(), "FAILED") {
		t.Errorf("got %s", r.Summary())
	}
	for _, text := range []string{drill.Markdown([]drill.Result{r}), drill.HTML([]drill.Result{r})} {
		if !strings.Contains(text, "FAILED") || !strings.Contains(text, "connection-storm") {
			t.Errorf("the report hides it:\n%s", text)
		}
	}
}

func TestDrillsThatCannotBeRun(t *testing.T) {
	n := apptest.Start(t, nil)
	for _, d := range drill.List() {
		if !d.Own {
			continue
		}
		if r := run(t, d.Name, drill.Options{Against: standing{n}}); r.Passed || r.NotRun == "" || len(r.Checks) > 0 {
			t.Errorf("%s against a node that is not ours: got %+v", d.Name, r)
		}
	}
	broken := run(t, "kill-restart", drill.Options{Place: nowhere{}})
	if broken.Passed || broken.Fault != "start a node: no room" {
		t.Errorf("got %+v", broken)
	}
}

type nowhere struct{}

func (nowhere) Node(context.Context, string, ...string) (drill.Node, error) {
	return nil, errors.New("no room")
}

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

func TestValve(t *testing.T) {
	v, err := drill.NewValve(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", v.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	comes := func(c net.Conn, within time.Duration) error {
		_ = c.SetReadDeadline(time.Now().Add(within))
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	c := dial()
	for _, tt := range []struct {
		name string
		do   func()
		ok   bool
	}{{"open", func() {}, true}, {"paused", v.Pause, false}, {"resumed", v.Resume, true}, {"stalled", v.Stall, false}, {"resumed again", v.Resume, true}} {
		tt.do()
		if tt.ok && tt.name != "open" { // what was held back comes first
			if err := comes(c, 5*time.Second); err != nil {
				t.Fatalf("%s: what was held back did not come: %v", tt.name, err)
			}
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		within := 5 * time.Second
		if !tt.ok {
			within = 100 * time.Millisecond
		}
		if err := comes(c, within); (err == nil) != tt.ok {
			t.Fatalf("%s: got %v, want bytes %v", tt.name, err, tt.ok)
		}
	}
	other := dial()
	if _, err := other.Write([]byte("x")); err != nil || comes(other, 5*time.Second) != nil {
		t.Fatal("a second connection does not work")
	}
	if n := v.Cut(); n != 2 {
		t.Errorf("cut %d connections, want 2", n)
	}
	if err := comes(c, 5*time.Second); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("after the cut: got %v, want the end", err)
	}
	again := dial()
	if _, err := again.Write([]byte("x")); err != nil || comes(again, 5*time.Second) != nil {
		t.Error("new connections are not let through after a cut")
	}
}

func TestResultsAreEscaped(t *testing.T) {
	r := []drill.Result{{Drill: "x", Checks: []drill.Check{{What: "<script>|", Want: "a", Got: "<b>"}}, Facts: []drill.Fact{{What: "f", Value: "<i>"}}}}
	for _, text := range []string{drill.Markdown(r), drill.HTML(r)} {
		if strings.Contains(text, "<script>") || strings.Contains(text, "<b>") || strings.Contains(text, "<i>") {
			t.Errorf("markup came through:\n%s", text)
		}
	}
}

func TestValveBar(t *testing.T) {
	v, err := drill.NewValve(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	answers := func() bool {
		c, err := net.Dial("tcp", v.Addr())
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			return false
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	if !answers() {
		t.Fatal("an open valve lets nothing through")
	}
	v.Bar()
	if answers() {
		t.Error("a barred valve lets somebody new in")
	}
	v.Resume()
	if !answers() {
		t.Error("nothing comes through after Resume")
	}
}
