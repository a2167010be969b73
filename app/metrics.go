package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"agentnet/app/monitor"
)

// listTime bounds how long a node may take until all its metrics are there.
const listTime = 30 * time.Second

// ListMetrics starts a node that has every part, on a data directory of its own
// (dir, which is empty) and on ports of this machine that nobody knows, and returns
// the metrics that it tells.
func ListMetrics(ctx context.Context, dir string) (list monitor.List, err error) {
	cfg := DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Drain.Window = dir, "127.0.0.1:0", 0
	// A port makes it a node among others, with the metrics of a cluster.
	cfg.Embedded.Listen, cfg.Embedded.Password = "127.0.0.1:0", "for-a-list-of-metrics"
	a, err := New(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("list metrics: %w", err)
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(run) }()
	defer func() {
		stop()
		if e := <-ended; err == nil && e != nil {
			err = fmt.Errorf("list metrics: %w", e)
		}
	}()
	for deadline := time.Now().Add(listTime); ; time.Sleep(100 * time.Millisecond) {
		var all []monitor.Metric
		for _, m := range a.web.Metrics() {
			all = append(all, monitor.Metric{Name: m.Name, Help: m.Help, Kind: monitor.Kind(m.Kind), Label: m.Label})
		}
		// Those of Redis are there when it was asked for the first time.
		if slices.ContainsFunc(all, func(m monitor.Metric) bool { return strings.HasPrefix(m.Name, "agentnet_redis_") }) {
			return monitor.NewList(all)
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("list metrics: those of Redis were not there after %v", listTime)
		}
	}
}
