package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"agentnet/app/egress"
	"agentnet/app/notify"
	"agentnet/app/scale"
	"agentnet/app/scale/actuate"

	"golang.org/x/sync/errgroup"
)

// acting is what this node does to the world outside: it tells people, and asks
// control planes for instances.
type acting struct {
	notifier  *notify.Notifier
	sent      *deliveries
	heartbeat *notify.Heartbeat // nil: none is configured
	actuator  *actuate.Keeper
	gate      *Gate
	links     links
	share     atomic.Int64 // of the configured bounds that is in force, in millionths
}

// openActing makes the ways to tell people and the gate for work that can wait.
func (a *App) openActing(ctx context.Context) error {
	c := &a.cfg.Notify
	allow, err := egress.ParseNetworks(c.AllowNetworks)
	if err != nil {
		return fmt.Errorf("notify.allow_networks: %w", err)
	}
	a.acting.share.Store(1e6)
	a.acting.gate = NewGate(a.hub.Level, a.log)
	a.calm.Store(a.acting.gate)
	a.acting.links = links{root: strings.TrimRight(a.cfg.PublicURL, "/")}
	a.acting.sent = newDeliveries(a.store, a.log)
	cfg := notify.Config{Allow: allow, From: c.From, Logger: a.log, Log: a.acting.sent.put, Past: a.acting.sent.past(ctx),
		Firing: a.firing,
		Hold:   func(ctx context.Context, most time.Duration) error { return a.acting.gate.Wait(ctx, WorkNotify, most) }}
	if cfg.From == "" {
		cfg.From = a.cfg.Node + ", " + a.cfg.Region
	}
	if cfg.Template, err = c.template(); err != nil {
		return fmt.Errorf("notify.template_file: %w", err)
	}
	for i := range c.Targets {
		ch, err := c.Targets[i].channel()
		if err != nil {
			return fmt.Errorf("notify.targets[%d]: %w", i, err)
		}
		cfg.Channels = append(cfg.Channels, ch)
	}
	if a.acting.notifier, err = notify.New(cfg); err != nil {
		return err
	}
	// The engine is made after this, and gives no order before.
	lease := func() (uint64, bool) { return a.scaling.Lease() }
	if a.acting.actuator, err = actuate.New(a.cfg.Actuate.config(lease, a.cfg.Scaling.Max)); err != nil {
		return err
	}
	if c.HeartbeatURL != "" {
		a.acting.heartbeat, err = notify.NewHeartbeat(notify.HeartbeatConfig{URL: c.HeartbeatURL, Method: c.HeartbeatMethod,
			Every: time.Duration(c.HeartbeatEvery), Allow: allow, Healthy: a.healthy, Logger: a.log})
	}
	return err
}

// runActing delivers notifications and heartbeats until ctx ends.
func (a *App) runActing(ctx context.Context) error {
	defer a.acting.sent.flush()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.acting.notifier.Run(ctx) })
	g.Go(func() error { return a.acting.sent.run(ctx) })
	g.Go(func() error { return a.runAdaptive(ctx) })
	g.Go(func() error { return a.runStrain(ctx) })
	if a.acting.heartbeat != nil {
		g.Go(func() error { return a.acting.heartbeat.Run(ctx) })
	}
	return g.Wait()
}

// firing lists the alerts that go on and are to be told, where this node leads.
func (a *App) firing() []notify.Item {
	if _, mine := a.scaling.Lease(); !mine {
		return nil
	}
	rules, _ := a.scaling.Rules()
	var out []notify.Item
	for _, alert := range a.scaling.Alerts() {
		i := slices.IndexFunc(rules, func(r scale.Rule) bool { return r.Name == alert.Rule })
		if alert.State != scale.Firing || alert.Quiet() || i < 0 {
			continue
		}
		r := &rules[i]
		it := notify.Item{Key: alert.Key(), Rule: alert.Rule, Node: alert.Node, Severity: severity(r.Severity), At: alert.Since, Since: alert.Began, Value: r.Amount(alert.Value),
			Threshold: r.Amount(r.Threshold), Why: "goes on, at its worst " + r.Amount(alert.Worst), Response: r.Response, Runbook: r.Runbook}
		if r.OfSilence() || alert.NoData {
			it.Value, it.Threshold = r.Standing(&alert, time.Now()), r.Limit()
			it.Why = "goes on, " + it.Value
		}
		if r.Runbook != "" {
			it.Link = a.acting.links.page("/runbooks/" + r.Runbook)
		}
		out = append(out, it)
	}
	return out
}

// healthy says what keeps this node from being well.
func (a *App) healthy() error {
	var errs []error
	for _, r := range a.hub.Ready() {
		if !r.OK {
			errs = append(errs, fmt.Errorf("%s: %s", r.Check, r.Message))
		}
	}
	return errors.Join(errs...)
}

// Actuator carries scaling decisions out as configured; nil where they are advice
// for people.
func (a *App) Actuator() scale.Actuator {
	if a.acting.actuator == nil || a.acting.actuator.Name() == "advise" {
		return nil
	}
	return a.acting.actuator
}

// Notifier tells people what the scaling engine notices.
func (a *App) Notifier() scale.Notifier { return &a.acting }

// Notify implements scale.Notifier.
func (t *acting) Notify(_ context.Context, n scale.Notice) error {
	return t.notifier.Send(t.links.message(n))
}

// links knows where pages are, for messages.
type links struct{ root string }

// page is the address of a page; "" where no public address is configured.
func (l links) page(path string) string {
	if l.root == "" {
		return ""
	}
	return l.root + path
}

// message puts a notice into the words of package notify.
func (l links) message(n scale.Notice) notify.Message {
	m := notify.Message{At: n.At, Group: n.Group, Link: l.page("/alerts")}
	for i, e := range n.Events {
		it := notify.Item{Key: e.Alert, Rule: e.Alert, At: e.At, Since: e.At, Resolved: e.To == scale.Resolved, Why: e.Why, Severity: severity(n.Severity)}
		if i < len(n.Details) {
			d := n.Details[i]
			it.Rule, it.Node, it.Severity, it.Value, it.Threshold, it.Response, it.Runbook = d.Rule, d.Node, severity(d.Severity), d.Value, d.Threshold, d.Response, d.Runbook
			if !d.Since.IsZero() {
				it.Since = d.Since
			}
			if d.Runbook != "" {
				it.Link = l.page("/runbooks/" + d.Runbook)
			}
		}
		m.Items = append(m.Items, it)
	}
	return m
}

func severity(s scale.Severity) notify.Severity {
	if s == scale.Critical {
		return notify.Critical
	}
	return notify.Warning
}
