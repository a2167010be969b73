// Command agentnet runs a WebSocket relay for agents. One binary holds the relay,
// its pages and API, and the tools to use and operate it; run "agentnet --help"
// for the list.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"agentnet/app/cli"
)

// Set by release builds with -ldflags "-X main.version=… -X main.commit=…".
var version, commit = "dev", "unknown"

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // who asks twice does not want to wait
		os.Exit(130)
	}()

	os.Exit(cli.Run(ctx, cli.Env{
		Args: os.Args[1:], Getenv: os.Getenv,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Terminal: cli.IsTerminal(os.Stdout),
		Version: version, Commit: commit, Program: cli.ProgramName(os.Args[0]), Reload: reload,
	}))
}

// reload is asked for by those only who can do it: all else ends when its terminal
// is closed.
func reload() <-chan os.Signal {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return asked
}
