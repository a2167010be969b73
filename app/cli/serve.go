package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
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
	log := newLogger(env, cfg.Log)
	if openWithoutTLS(cfg) {
		log.Warn("anybody on the network can reach this relay and read what is sent to it: give tls.cert and tls.key, or put a proxy with TLS in front", "listen", cfg.Listen)
	}
	node, err := env.start(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	select {
	case err = <-ended:
	case <-node.Ready():
		base := baseURL(cfg, node.Addr())
		fmt.Fprintf(env.Stdout, "listening on %s\n", base)
		if env.Terminal || c.Hints {
			fmt.Fprint(env.Stdout, hints(env, cfg, base))
		}
		announceSetup(env, node, cfg, base, env.Terminal || c.Hints, log)
		err = <-ended
	}
	if err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func newLogger(env *Env, cfg app.Log) *slog.Logger {
	var level slog.Level
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
	if err != nil || cfg.TLS.Cert != "" || host == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.IsLoopback()
}

func baseURL(cfg app.Config, addr string) string {
	scheme := "http://"
	if cfg.TLS.Cert != "" {
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
