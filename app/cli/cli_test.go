package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain lets the test binary be agentnet, for scripts and for the programs that
// they start.
func TestMain(m *testing.M) {
	testscript.Main(leakCheck{m}, map[string]func(){"agentnet": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		reload := func() <-chan os.Signal {
			asked := make(chan os.Signal, 1)
			signal.Notify(asked, syscall.SIGHUP)
			return asked
		}
		os.Exit(Run(ctx, Env{
			Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			Terminal: IsTerminal(os.Stdout), Version: "1.2.3-test", Commit: "abcdef", Reload: reload,
		}))
	}})
}

// leakCheck fails the run when goroutines are left.
type leakCheck struct{ m *testing.M }

func (l leakCheck) Run() int {
	code := l.m.Run()
	// Two goroutines of fasthttp outlive its server: one sleeps until its next look
	// at idle workers, one keeps the date of all servers of the process.
	err := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	return code
}

// TestScripts runs testdata/*.txtar: what a person could type, and what must come.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			l, err := net.Listen("tcp", "127.0.0.1:0") // a free port for a shared Redis
			if err != nil {
				return err
			}
			_, port, _ := net.SplitHostPort(l.Addr().String())
			e.Setenv("REDIS_PORT", port)
			return l.Close()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "code": code},
	})
}

// await FILE REGEXP [VARIABLE] waits until a line of the file matches, and puts the
// first group into the variable.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await file regexp [variable]")
	}
	want := regexp.MustCompile("(?m)" + args[1])
	name := ts.MkAbs(args[0])
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(name)
		if m := want.FindSubmatch(text); m != nil {
			if len(args) > 2 {
				ts.Setenv(args[2], string(m[1]))
			}
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not come in %s within 30 s (%v); it holds:\n%s", args[1], args[0], err, text)
		}
	}
}

// code N COMMAND… runs a command that must end with exit code N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code number command…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = regexp.MustCompile(`\d+`).FindString(err.Error())
	}
	if got != args[0] {
		ts.Fatalf("got exit code %s (%v), want %s", got, err, args[0])
	}
}
