package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"agentnet/app"
	"agentnet/app/monitor"
)

// metricsCommands are `agentnet metrics …`.
type metricsCommands struct {
	List  metricsList  `cmd:"" help:"List all metrics with their meaning."`
	Write metricsWrite `cmd:"" help:"Write a Grafana dashboard, alert rules for Prometheus and a table of all metrics into a folder."`
}

type metricsList struct{}

type metricsWrite struct {
	Dir string `arg:"" help:"Folder; made when it is missing."`
}

// listMetrics runs a node for a moment.
func listMetrics(ctx context.Context) (monitor.List, error) {
	dir, err := os.MkdirTemp("", "agentnet-metrics-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return app.ListMetrics(ctx, filepath.Join(dir, "data"))
}

// Run lists the metrics.
func (*metricsList) Run(ctx context.Context, env *Env) error {
	list, err := listMetrics(ctx)
	if err != nil {
		return err
	}
	_, err = env.Stdout.Write(monitor.Table(list))
	return err
}

// Run writes the files.
func (c *metricsWrite) Run(ctx context.Context, env *Env) error {
	list, err := listMetrics(ctx)
	if err != nil {
		return err
	}
	dashboard, err := monitor.Dashboard(list)
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	rules, err := monitor.Rules(list)
	if err != nil {
		return fmt.Errorf("alert rules: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"agentnet.dashboard.json": append(dashboard, '\n'), "agentnet.rules.yml": rules, "METRICS.md": monitor.Table(list),
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), text, 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(env.Stdout, "%d metrics: %s\n", len(list), filepath.Join(c.Dir, "agentnet.dashboard.json"))
	return err
}
