package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"agentnet/app"
	"agentnet/app/client"
	"agentnet/app/wire"
)

// TestFlagsAreTheKeysOfTheFile holds that kong names each flag of serve as
// app.Config does, with the same default and help.
func TestFlagsAreTheKeysOfTheFile(t *testing.T) {
	parser, err := newParser(&commands{}, &Env{Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var serve *kong.Node
	for _, n := range parser.Model.Children {
		if n.Name == "serve" {
			serve = n
		}
	}
	flags := map[string]*kong.Flag{}
	for _, f := range serve.Flags {
		flags[f.Name] = f
	}
	c := app.DefaultConfig()
	known := map[string]bool{"hints": true, "config": true, "help": true}
	for _, f := range c.Fields() {
		if f.OnlyIn {
			continue
		}
		known[f.Flag] = true
		k := flags[f.Flag]
		if k == nil {
			t.Errorf("serve has no flag --%s for the key %s", f.Flag, f.Key)
			continue
		}
		if k.Default != f.Default || k.Help != f.Help {
			t.Errorf("--%s: got default %q and help %q, want %q and %q", f.Flag, k.Default, k.Help, f.Default, f.Help)
		}
	}
	for name := range flags {
		if !known[name] && !flags[name].Hidden {
			t.Errorf("the flag --%s is no key of the configuration", name)
		}
	}
}

// TestEveryFlagHasHelp looks at all commands, and at the names of variables that
// two flags of one command would share.
func TestEveryFlagHasHelp(t *testing.T) {
	parser, err := newParser(&commands{}, &Env{Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		commands++
		if n.Help == "" {
			t.Errorf("%s has no help", n.Path())
		}
		for _, f := range n.Flags {
			if f.Help == "" {
				t.Errorf("%s --%s has no help", n.Path(), f.Name)
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(parser.Model.Node)
	if commands < 18 {
		t.Errorf("only %d commands were looked at", commands)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{usagef("x"), ExitUsage},
		{fmt.Errorf("to bob: %w", &wire.Error{Code: wire.AgentOffline}), ExitOffline},
		{&wire.Error{Code: wire.NotFound}, ExitOffline},
		{&wire.Error{Code: wire.Unauthorized}, ExitForbidden},
		{&wire.Error{Code: wire.Forbidden}, ExitForbidden},
		{&wire.Error{Code: wire.Timeout}, ExitTimeout},
		{&wire.Error{Code: wire.TooLarge}, ExitUsage},
		{&wire.Error{Code: wire.Internal}, ExitFailure},
		{&wire.Error{Code: wire.RateLimited}, ExitFailure},
		{fmt.Errorf("%w: %w", client.ErrUncertain, context.DeadlineExceeded), ExitTimeout},
		{fmt.Errorf("%w at x: %w", errUnreachable, errors.New("refused")), ExitUnreachable},
		{&client.CloseError{Code: wire.CloseAuthFailed}, ExitForbidden},
		{&client.CloseError{Code: wire.CloseInternal}, ExitFailure},
		{&client.HandshakeError{Status: 401}, ExitForbidden},
		{errors.New("disk"), ExitFailure},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("exitCode(%v) = %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestExplainIsOneLineThatHelps(t *testing.T) {
	for code, want := range map[wire.Code]string{
		wire.Unauthorized: "token create", wire.Forbidden: "grants", wire.AgentOffline: "--ttl 1h", wire.RateLimited: "70 ms",
	} {
		err := errors.Join(&wire.Error{Code: code, Message: "no", RetryAfterMS: 70}, errors.New("second"))
		if got := explain(err); !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("explain(%s) = %q, want one line with %q", code, got, want)
		}
	}
}

func TestHintsNameOnlyWhatIsNeeded(t *testing.T) {
	env := &Env{Program: "go run .", Getenv: func(name string) string { return map[string]string{"HOME": "/home/al"}[name] }}
	cfg := app.DefaultConfig()
	cfg.Data = app.DataDir(env.Getenv)
	got := hints(env, cfg, "http://127.0.0.1:8080")
	for _, want := range []string{
		"AGENTNET_TOKEN=$(go run . token create --agent alice) go run . listen\n",
		"AGENTNET_TOKEN=$(go run . token create --agent bob) go run . send alice '{\"text\":\"hello\"}'\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got hints %q, want %q in them", got, want)
		}
	}
	cfg.Data = "/srv/my data"
	got = hints(env, cfg, "http://0.0.0.0:9000/base")
	if !strings.Contains(got, "--data '/srv/my data' --agent alice) go run . listen --url http://127.0.0.1:9000/base\n") {
		t.Errorf("got hints %q", got)
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"/srv/data": "/srv/data", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(rm)": "'$(rm)'", "http://[::1]:80": "http://[::1]:80",
	} {
		if got := quote(text); got != want {
			t.Errorf("quote(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestProgramName(t *testing.T) {
	for argv0, want := range map[string]string{
		"/tmp/go-build123/b001/exe/agentnet": "go run .", "./agentnet": "./agentnet", "agentnet": "agentnet", "": "agentnet", "/my bin/x": "'/my bin/x'",
	} {
		if got := ProgramName(argv0); got != want {
			t.Errorf("ProgramName(%q) = %s, want %s", argv0, got, want)
		}
	}
}

func TestOpenWithoutTLS(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:80": false, "[::1]:80": false, "localhost:80": false, ":80": true, "0.0.0.0:80": true, "192.168.1.2:80": true, "relay.example:80": true,
	} {
		cfg := app.DefaultConfig()
		cfg.Listen = listen
		if got := openWithoutTLS(cfg); got != want {
			t.Errorf("openWithoutTLS(%s) = %v, want %v", listen, got, want)
		}
		cfg.TLS.Cert = "c"
		if openWithoutTLS(cfg) {
			t.Errorf("%s with a certificate counts as without", listen)
		}
	}
}

func TestPayload(t *testing.T) {
	for _, tc := range []struct {
		data, stdin, want string
		raw               bool
	}{
		{`{"a": 1}`, "", `{"a": 1}`, false}, {`hello`, "", `"hello"`, false}, {`7`, "", `7`, false}, {``, "", `""`, false},
		{`{"a"`, "", `"{\"a\""`, false}, {"-", "line\n", `"line"`, false}, {"-", "[1]\n", "[1]\n", false}, {"x", "", "x", true}, {"-", "\x00\n", "\x00\n", true},
	} {
		c := content{Raw: tc.raw}
		p, err := c.payload(&Env{Stdin: strings.NewReader(tc.stdin)}, tc.data)
		if err != nil || string(p.Data) != tc.want || p.Binary != tc.raw {
			t.Errorf("payload(%q, %q) = %q, %v, want %q", tc.data, tc.stdin, p.Data, err, tc.want)
		}
	}
	big := strings.NewReader(strings.Repeat("x", maxInput+1))
	if _, err := (&content{}).payload(&Env{Stdin: big}, "-"); err == nil {
		t.Error("took more than the bound from standard input")
	}
}

// TestListenPrintsNoControlCharacters keeps what other agents say from driving the
// terminal.
func TestListenPrintsNoControlCharacters(t *testing.T) {
	var out bytes.Buffer
	l := &listener{flags: &listenCommand{}, env: &Env{Stdout: &out, Stderr: &out}}
	l.print(eventJSON{Type: "message", From: "bob", Time: 1}, wire.Payload{Data: []byte("\"a\x1b[2J\u009b7\n  b\"")})
	if got := out.String(); strings.ContainsAny(got, "\x1b\u009b") || strings.Count(got, "\n") != 1 || !strings.Contains(got, "[2J") {
		t.Errorf("got %q, want one line without control characters", got)
	}
}

// fakeNode ends as it was told.
type fakeNode struct {
	ready chan struct{}
	err   error
}

func (n *fakeNode) Run(ctx context.Context) error {
	if n.err == nil {
		close(n.ready)
		<-ctx.Done()
	}
	return n.err
}
func (n *fakeNode) Ready() <-chan struct{} { return n.ready }
func (n *fakeNode) Addr() string           { return "127.0.0.1:4711" }

func TestServe(t *testing.T) {
	for _, tc := range []struct {
		name           string
		args           []string
		start, run     error
		want           int
		stdout, stderr string
	}{
		{"stops in order", []string{"serve", "--base-path", "/x"}, nil, nil, ExitOK, "listening on http://127.0.0.1:4711/x\n", ""},
		{"cannot start", []string{"serve"}, errors.New("no disk"), nil, ExitFailure, "", "agentnet: serve: no disk\n"},
		{"breaks", []string{"serve"}, nil, errors.New("address in use"), ExitFailure, "", "agentnet: serve: address in use\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var stdout, stderr bytes.Buffer
			env := Env{Args: tc.args, Getenv: func(string) string { return "" }, Stdout: notify{&stdout, cancel}, Stderr: &stderr}
			env.Start = func(context.Context, app.Config, *slog.Logger) (Node, error) {
				return &fakeNode{ready: make(chan struct{}), err: tc.run}, tc.start
			}
			if got := Run(ctx, env); got != tc.want || stdout.String() != tc.stdout || stderr.String() != tc.stderr {
				t.Errorf("got %d, %q, %q, want %d, %q, %q", got, stdout.String(), stderr.String(), tc.want, tc.stdout, tc.stderr)
			}
		})
	}
}

// notify ends the context at the first line.
type notify struct {
	io.Writer
	done func()
}

func (n notify) Write(p []byte) (int, error) { defer n.done(); return n.Writer.Write(p) }

func TestAPanicIsNotSwallowed(t *testing.T) {
	defer func() {
		if p := recover(); p != "broken" {
			t.Errorf("got panic %v, want the node's", p)
		}
	}()
	Run(t.Context(), Env{Args: []string{"serve"}, Getenv: func(string) string { return "" }, Stdout: io.Discard, Stderr: io.Discard,
		Start: func(context.Context, app.Config, *slog.Logger) (Node, error) { panic("broken") }})
}
