package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"agentnet/app"
)

// serveCommand is `agentnet serve`.
type serveCommand struct {
	Hints bool `help:"Also print what to do next, as on a terminal."`
	nodeFlags
}

// Run runs a node until ctx ends.
func (c *serveCommand) Run(ctx context.Context, env *Env, parsed *kong.Context) error {
	cfg, err := c.effective(env, parsed)
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	log := newLogger(env, cfg.Log, level)
	if openWithoutTLS(cfg) {
		log.Warn("anybody on the network can reach this relay and read what is sent to it: give tls.cert and tls.key, or put a proxy with TLS in front", "listen", cfg.Listen)
	}
	node, err := env.start(ctx, cfg, log, app.WithLogLevel(level), app.WithSupervisor(env.Getenv, os.Getpid()))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	reload := func() error { return c.reload(ctx, env, parsed, node, log) }
	select {
	case err = <-ended:
	case <-node.Ready():
		base := baseURL(cfg, node.Addr())
		fmt.Fprintf(env.Stdout, "listening on %s\n", base)
		if env.Terminal || c.Hints {
			fmt.Fprint(env.Stdout, hints(env, cfg, base))
		}
		announceSetup(env, node, cfg, base, env.Terminal || c.Hints, log)
		var asked <-chan os.Signal
		if env.Reload != nil && !env.Terminal { // a closed terminal ends what it started
			asked = env.Reload()
		}
		err = untilEnd(ended, asked, reload)
	}
	if err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// untilEnd reloads when it is asked to, until the node ends. What went wrong is in
// the log: the node goes on as it was.
func untilEnd(ended <-chan error, asked <-chan os.Signal, reload func() error) error {
	for {
		select {
		case err := <-ended:
			return err
		case <-asked:
			_ = reload()
		}
	}
}

// reload reads file, environment and flags again, and hands the node what came of
// it if all of it is right.
func (c *serveCommand) reload(ctx context.Context, env *Env, parsed *kong.Context, node Node, log *slog.Logger) error {
	cfg, err := c.effective(env, parsed)
	if err != nil {
		log.Error("the configuration was not reloaded, the old one stays in force", "error", err)
		if told, ok := node.(interface{ ReloadRefused(context.Context) }); ok {
			told.ReloadRefused(ctx)
		}
		return err
	}
	able, ok := node.(interface {
		Reload(ctx context.Context, next app.Config) (app.Reloaded, error)
	})
	if !ok {
		return nil
	}
	_, err = able.Reload(ctx, cfg) // it logs
	return err
}

func newLogger(env *Env, cfg app.Log, level *slog.LevelVar) *slog.Logger {
	_ = level.UnmarshalText([]byte(cfg.Level)) // checked by Validate
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" || cfg.Format == "auto" && env.Terminal {
		return slog.New(slog.NewTextHandler(env.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(env.Stderr, opts))
}

// openWithoutTLS says that the listener is reachable from other machines and does
// not encrypt.
func openWithoutTLS(cfg app.Config) bool {
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil || cfg.Encrypts() || host == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.IsLoopback()
}

func baseURL(cfg app.Config, addr string) string {
	scheme := "http://"
	if cfg.Encrypts() {
		scheme = "https://"
	}
	return scheme + addr + cfg.BasePath
}

// hints are the two lines that a newcomer needs next. Flags are named only where
// the defaults would not do.
func hints(env *Env, cfg app.Config, base string) string {
	var data, url string
	if cfg.Data != app.DataDir(env.Getenv) {
		dir := cfg.Data
		if abs, err := filepath.Abs(dir); err == nil {
			dir = abs
		}
		data = " --data " + quote(dir)
	}
	if base != "http://127.0.0.1:8080" {
		url = " --url " + quote(reachable(base))
	}
	line := func(agent, command string) string {
		return fmt.Sprintf("  AGENTNET_TOKEN=$(%s token create%s --agent %s) %s %s\n", env.Program, data, agent, env.Program, command)
	}
	return "\nIn a second terminal, an agent that listens:\n" + line("alice", "listen"+url) +
		"In a third one, an agent that speaks:\n" + line("bob", "send"+url+` alice '{"text":"hello"}'`) + "\n"
}

// reachable is base with an address that a client on this machine can use.
func reachable(base string) string {
	for _, any := range []string{"//[::]:", "//0.0.0.0:"} {
		base = strings.Replace(base, any, "//127.0.0.1:", 1)
	}
	return base
}

// quote makes text one word of a shell.
func quote(text string) string {
	if text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:=@,+[]") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
