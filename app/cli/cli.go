// Package cli is the command line of agentnet: it reads flags, environment and
// configuration file, runs one command and turns its outcome into an exit code.
// Each command has a file of its own. Nothing here exits the process or looks at
// its globals: all that a command needs of the outside is in Env.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/alecthomas/kong"

	"agentnet/app"
	"agentnet/app/bench"
	"agentnet/app/client"
	"agentnet/app/wire"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitFailure     = 1 // anything not named below
	ExitUsage       = 2 // wrong command, flag, configuration or data
	ExitUnreachable = 3 // no relay answers at the address
	ExitForbidden   = 4 // the token is not valid or does not allow it
	ExitTimeout     = 5 // no answer in time
	ExitOffline     = 6 // the receiver is not there
)

// Env is what a command sees of the outside.
type Env struct {
	Args           []string // without the program's name
	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Version        string
	Commit         string
	Program        string // how a person starts this program; "" means agentnet
	Terminal       bool   // Stdout is a terminal
	// Reload begins to listen for SIGHUP and returns where it comes: the configuration
	// shall be read again. Nil: nobody can ask for that.
	Reload func() <-chan os.Signal
	// Start makes a node. Nil: app.New.
	Start func(context.Context, app.Config, *slog.Logger) (Node, error)
}

// A Node is a relay that serve runs.
type Node interface {
	// Run serves until ctx ends, then drains and returns.
	Run(ctx context.Context) error
	// Ready is closed when connections are accepted; then Addr is host and port.
	Ready() <-chan struct{}
	Addr() string
}

// commands is the command line as kong reads it.
type commands struct {
	Serve      serveCommand      `cmd:"" help:"Run a relay."`
	Token      tokenCommands     `cmd:"" help:"Make, list and revoke the tokens that agents connect with."`
	Admin      adminCommands     `cmd:"" help:"Make and look after the accounts of those who operate the relay."`
	Audit      auditCommands     `cmd:"" help:"Read, check and export the audit log."`
	Listen     listenCommand     `cmd:"" help:"Be an agent: print what comes, or give it to a program."`
	Send       sendCommand       `cmd:"" help:"Send a message to an agent."`
	Request    requestCommand    `cmd:"" help:"Ask an agent and print its answer."`
	Publish    publishCommand    `cmd:"" help:"Publish a message to a channel."`
	Agents     agentsCommands    `cmd:"" help:"List agents; end the sessions of one."`
	Nodes      nodesCommands     `cmd:"" help:"List the nodes that are one relay together; empty one, or even out their clients."`
	Demo       demoCommand       `cmd:"" help:"Show a few agents that talk to each other."`
	Bench      bench.Command     `cmd:"" help:"Measure a relay under load."`
	Log        logCommands       `cmd:"" help:"Read, check, replay and export the scaling log; write notes into it."`
	Alerts     alertsCommands    `cmd:"" help:"List, acknowledge and silence alerts; test rules on stored samples."`
	Plan       planCommand       `cmd:"" help:"Plan how many instances a load needs, of which size, at what cost."`
	Simulate   simulateCommand   `cmd:"" help:"Run the scaling engine on an invented or recorded load."`
	Doctor     doctorCommand     `cmd:"" help:"Look for what keeps a relay from working well, and say what to do."`
	Health     healthCommand     `cmd:"" help:"Say whether a relay lives, by exit code, for containers."`
	Backup     backupCommand     `cmd:"" help:"Write all data into one file, beside a running server."`
	Restore    restoreCommand    `cmd:"" help:"Put a backup into a data directory."`
	Drill      drillCommand      `cmd:"" help:"Rehearse faults on a test node and say whether it holds what it promises."`
	Scale      scaleCommands     `cmd:"" help:"Look at and steer scaling, and try the actuator."`
	Runbook    runbookCommand    `cmd:"" help:"Show what to do when something is wrong."`
	Notify     notifyCommands    `cmd:"" help:"Show and try the ways to tell people."`
	Top        topCommand        `cmd:"" help:"Show agents, rates, queues and nodes, each second."`
	Metrics    metricsCommands   `cmd:"" help:"List the metrics of a node; write a Grafana dashboard and alert rules for them."`
	Config     configCommands    `cmd:"" help:"Check, show and explain the configuration."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
	Completion completionCommand `cmd:"" help:"Print a completion script for a shell."`
}

const description = `A relay that lets AI agents talk to each other over WebSockets.

Start with "agentnet serve"; it prints what to do next. "agentnet demo" shows a
few agents at work.

Every flag is also a variable: --node is AGENTNET_NODE. Exit codes: 0 done,
1 failed, 2 wrong usage, 3 no relay at the address, 4 not allowed, 5 no answer
in time, 6 the receiver is not there.`

// helped unwinds the stack after kong has printed help.
type helped struct{ code int }

// Run runs the command that env.Args names and returns the exit code.
func Run(ctx context.Context, env Env) (code int) {
	if env.Version == "dev" {
		env.Version = app.BuildVersion() // a build without -ldflags may still know its commit
	}
	if env.Program == "" {
		env.Program = "agentnet"
	}
	env.Stdout, env.Stderr = &lockedWriter{w: env.Stdout}, &lockedWriter{w: env.Stderr}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case helped:
			code = p.code
		default:
			panic(p)
		}
	}()
	parser, err := newParser(&commands{}, &env)
	if err != nil {
		fmt.Fprintf(env.Stderr, "agentnet: %v\n", err)
		return ExitFailure
	}
	args := env.Args
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(env.Stderr, "agentnet: %s\n", usageText(err))
		return ExitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.BindTo(env.Stdout, (*io.Writer)(nil)) // for bench
	if err := parsed.Run(&env, parsed); err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			fmt.Fprintln(env.Stderr, "agentnet: interrupted")
			return ExitFailure
		}
		fmt.Fprintf(env.Stderr, "agentnet: %s\n", explain(err))
		return exitCode(err)
	}
	return ExitOK
}

func newParser(model *commands, env *Env) (*kong.Kong, error) {
	return kong.New(model,
		kong.Name("agentnet"),
		kong.Description(description),
		kong.Writers(env.Stdout, env.Stderr),
		kong.Exit(func(code int) { panic(helped{code}) }),
		kong.Resolvers(environment(env.Getenv)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
}

// serveFlags are read from the environment by app.Config, with the file between
// it and the flags.
var serveFlags = func() func(name string) bool {
	var c app.Config
	known := map[string]bool{}
	for _, f := range c.Fields() {
		known[f.Flag] = true
	}
	return func(name string) bool { return known[name] }
}()

// environment gives each flag that was not on the command line its variable.
func environment(getenv func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
		if parent.Command != nil && usesConfig(parent.Command.Path()) && serveFlags(flag.Name) {
			return nil, nil
		}
		if text := getenv(app.EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))); text != "" {
			return text, nil
		}
		return nil, nil
	})
}

func usesConfig(path string) bool {
	return strings.HasSuffix(path, "serve") || strings.HasSuffix(path, "doctor") || strings.HasSuffix(path, "config dump")
}

// usageError is something that the caller has to write differently.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func usageText(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", "; ") + "; see agentnet --help"
}

// exitCode is the only place that turns an error into an exit code.
func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		switch e.Code {
		case wire.Unauthorized, wire.Forbidden:
			return ExitForbidden
		case wire.Timeout:
			return ExitTimeout
		case wire.AgentOffline, wire.NotFound:
			return ExitOffline
		case wire.BadFrame, wire.TooLarge:
			return ExitUsage
		}
		return ExitFailure
	}
	if e, ok := errors.AsType[*client.CloseError](err); ok && e.Code.Final() {
		return ExitForbidden
	}
	if e, ok := errors.AsType[*client.HandshakeError](err); ok && (e.Status == 401 || e.Status == 403) {
		return ExitForbidden
	}
	switch {
	case errors.Is(err, errUnreachable):
		return ExitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout
	}
	return ExitFailure
}

// explain is the one line that a person reads: what, where, what to do.
func explain(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*wire.Error](err); ok {
		switch e.Code {
		case wire.Unauthorized:
			text += " (make a token with \"agentnet token create --agent NAME\" and put it into AGENTNET_TOKEN)"
		case wire.Forbidden:
			text += " (the token's grants do not allow it; see \"agentnet token list\")"
		case wire.AgentOffline:
			text += " (start it with \"agentnet listen\", or let the message wait with --ttl 1h)"
		case wire.RateLimited, wire.Overloaded:
			if e.RetryAfterMS > 0 {
				text += fmt.Sprintf(" (try again in %d ms)", e.RetryAfterMS)
			}
		}
	}
	if _, ok := errors.AsType[*usageError](err); !ok {
		text = strings.ReplaceAll(text, "\n", "; ")
	}
	return text
}

// lockedWriter lets several goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
