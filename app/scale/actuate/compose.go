package actuate

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"agentnet/app/scale"
)

// compose runs `docker compose up --scale`. Compose chooses which containers end.
type compose struct{ c *Config }

func (p *compose) name() string { return "compose" }

// argv is the command line up to the subcommand.
func (p *compose) argv(rest ...string) []string {
	argv := []string{cmp.Or(p.c.Docker, "docker"), "compose"}
	if p.c.File != "" {
		argv = append(argv, "--file", p.c.File)
	}
	if p.c.Project != "" {
		argv = append(argv, "--project-name", p.c.Project)
	}
	return append(argv, rest...)
}

func (p *compose) count(ctx context.Context) (int, error) {
	output, code, err := execute(ctx, p.argv("ps", "--quiet", "--status", "running", "--", p.c.Name), p.c.Env, nil)
	if err != nil {
		return 0, finally("Check that Docker is installed and this user may use it.", "docker compose ps: %w", err)
	}
	if code != 0 {
		return 0, fmt.Errorf("docker compose ps ended with code %d: %s", code, lastLine(output))
	}
	return len(strings.Fields(output)), nil
}

func (p *compose) set(ctx context.Context, o *scale.Order, s *steps) error {
	n, err := p.count(ctx)
	if err != nil {
		return err
	}
	s.before = n
	argv := p.argv("up", "--detach", "--no-recreate", "--no-deps", "--scale", fmt.Sprintf("%s=%d", p.c.Name, o.To), "--", p.c.Name)
	if o.DryRun {
		s.say("would run %s", strings.Join(argv, " "))
		return nil
	}
	output, code, err := execute(ctx, argv, p.c.Env, nil)
	s.output = output
	if err != nil {
		return finally("", "docker compose up: %w", err)
	}
	s.say("docker compose up --scale %s=%d ended with code %d", p.c.Name, o.To, code)
	if code != 0 {
		return finally("Run the same command by hand; its output is in this entry.", "docker compose up ended with code %d: %s", code, lastLine(output))
	}
	return nil
}
