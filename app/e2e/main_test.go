// Package e2e runs whole nodes, over real sockets and in processes of their
// own, through what they must survive: chaos, kill -9, readers that never read,
// reconnect storms, overload. It checks recorded histories and is not a benchmark.
//
// Each scenario is a short test for CI. scripts/soak.sh runs the very same code
// with the sizes of its long form and records the figures.
package e2e

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"agentnet/app/cli"

	"go.uber.org/goleak"
)

// asNode makes this test binary behave as the agentnet program: its arguments are
// then those of the command line.
const asNode = "AGENTNET_E2E_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		os.Exit(runNode())
	}
	if os.Getenv(asTalkers) != "" {
		os.Exit(runTalkers())
	}
	// fasthttp keeps these for the life of the process.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		// The client for a Redis Cluster sleeps for up to five seconds before it closes what is not needed.
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		// The test authority of certificates never ends its queue.
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"))
}

// runNode is main.go's main.
func runNode() int {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(130)
	}()
	return cli.Run(ctx, cli.Env{
		Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Version: "e2e", Commit: "e2e", Program: cli.ProgramName(os.Args[0]), Reload: reload,
	})
}

// reload is asked for by those only who can do it: all else ends when its terminal
// is closed.
func reload() <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return asked
}
