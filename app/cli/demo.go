package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"agentnet/app"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/store"
)

// demoCommand is `agentnet demo`.
type demoCommand struct {
	URL    string        `placeholder:"URL" help:"Use the relay at this base address (AGENTNET_URL), with AGENTNET_TOKEN. Default: an own one, gone at the end."`
	Token  string        `placeholder:"TOKEN" help:"Token for demo/**, needed with --url (AGENTNET_TOKEN)."`
	Rounds int           `default:"3" help:"Questions that are worked on; 0: until interrupted."`
	Pace   time.Duration `default:"700ms" help:"How long an agent takes to think, so that a person can follow."`
}

// Run lets a few agents work together and prints what they say.
func (c *demoCommand) Run(ctx context.Context, env *Env) error {
	if c.Rounds < 0 || c.Pace < 0 {
		return usagef("--rounds and --pace cannot be negative")
	}
	if c.URL == "" {
		return c.alone(ctx, env)
	}
	if c.Token == "" {
		return usagef("no token: set AGENTNET_TOKEN, made with \"%s token create --agent 'demo/**'\"", env.Program)
	}
	return c.play(ctx, env, c.URL, c.Token)
}

// alone runs the demo on a relay of its own, in a folder that is gone afterwards.
func (c *demoCommand) alone(ctx context.Context, env *Env) (err error) {
	dir, err := os.MkdirTemp("", "agentnet-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(dir)
	cfg := app.DefaultConfig()
	cfg.Data = filepath.Join(dir, "data")
	cfg.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(0))
	cfg.Drain.Window = 0
	log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	running, stop := context.WithCancel(ctx)
	node, err := env.start(running, cfg, log)
	if err != nil {
		stop()
		return fmt.Errorf("demo: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(running) }()
	defer func() {
		stop()
		if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, fmt.Errorf("demo: %w", e))
		}
	}()
	select {
	case <-node.Ready():
	case e := <-ended:
		ended <- nil
		return fmt.Errorf("demo: the relay ended: %w", e)
	}
	var token string
	rows := dataFlag{Data: cfg.Data}
	err = rows.with(ctx, env, false, func(_ *store.Store, service *auth.Service) (err error) {
		all := []string{"demo/**"}
		token, _, err = service.CreateToken(ctx, auth.TokenSpec{Name: "demo", Lifetime: 24 * time.Hour,
			Grants: auth.Grants{Agents: all, Send: all, Subscribe: all, Publish: all}})
		return err
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	url := "http://" + node.Addr()
	fmt.Fprintf(env.Stdout, "A relay runs at %s; four agents connect to it.\n\n", url)
	return c.play(ctx, env, url, token)
}

// play connects the agents and lets them work.
func (c *demoCommand) play(ctx context.Context, env *Env, url, token string) error {
	cast := &troupe{
		ctx: ctx, out: env.Stdout, pace: c.Pace,
		cfg: client.Config{URL: url, Token: token, Name: "agentnet-demo", Version: env.Version},
	}
	defer cast.leave()
	planner, err := cast.gather()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for round := 0; c.Rounds == 0 || round < c.Rounds; round++ {
		err := planner.round(questions[round%len(questions)])
		if ctx.Err() != nil {
			return nil // the person has seen enough
		}
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	cast.say("", "That was the demo. "+strings.TrimSpace(`Start your own relay with "`+env.Program+` serve".`))
	return nil
}
