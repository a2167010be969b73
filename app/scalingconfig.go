package app

import (
	"fmt"
	"slices"
	"time"

	"agentnet/app/scale"
)

// Scaling says how many nodes there should be.
type Scaling struct {
	Mode      string   `yaml:"mode" default:"advise" help:"off (nothing is measured, stored or decided), observe (log only), advise (say it everywhere), or act (have the actuator do it)."`
	Min       int      `yaml:"min" default:"0" help:"Fewest instances of the fleet; 0: 2, or 1 where the Redis is the embedded one and nobody else can join."`
	Max       int      `yaml:"max" default:"0" help:"Most instances of the fleet; 0: 20, or 1 where nobody else can join."`
	DownAfter Duration `yaml:"down_after" default:"5m" help:"How long fewer instances must be enough before one goes."`
	Provision Duration `yaml:"provision" default:"3m" help:"How long a new instance may take before it counts as late."`

	InstanceConnections float64 `yaml:"instance_connections" default:"0" help:"Connections that one instance holds, as measured; 0: the document's 1,000."`
	InstanceMessages    float64 `yaml:"instance_messages" default:"0" help:"Messages a second that one instance accepts, as measured; 0: the document's 100."`
	ScaleAt             float64 `yaml:"scale_at" default:"0" help:"Connections of one instance above which the fleet grows; 0: the document's 200, or 70% of what was measured."`

	HistoryBytes Size `yaml:"history_bytes" default:"4GiB" help:"Size of the database from which on the oldest samples of single nodes go before their time."`

	LogDays    int  `yaml:"log_days" default:"1100" help:"Days that entries of the scaling log stay in the database; 0: for ever."`
	LogBytes   Size `yaml:"log_bytes" default:"1GiB" help:"Size of the scaling log from which on its oldest entries leave the database before their time; 0: any."`
	LogArchive bool `yaml:"log_archive" default:"true" negatable:"" help:"Write entries that leave the database to compressed archives below scalelog in the data directory first. Off: they are gone."`

	Currency      string  `yaml:"currency" default:"EUR" help:"Of the prices below."`
	InstancePrice float64 `yaml:"instance_price" default:"0" help:"Price of one instance for an hour, for plans; 0: not known."`
	RedisPrice    float64 `yaml:"redis_price" default:"0" help:"Price of one Redis node for an hour."`
	BalancerPrice float64 `yaml:"balancer_price" default:"0" help:"Price of one load balancer for an hour."`
}

// Alerts says when somebody should know.
type Alerts struct {
	Off   []string   `yaml:"off" help:"Names of default rules that do not count."`
	Rules AlertRules `yaml:"rules" hidden:"" help:"Further rules; one with the name of a default rule takes its place."`
}

// AlertRules are alert rules.
type AlertRules []AlertRule

// UnmarshalText refuses: rules do not fit on a command line.
func (*AlertRules) UnmarshalText([]byte) error { return errOnlyInFile }

// An AlertRule is one rule, as scale.Rule has it.
type AlertRule struct {
	Name        string   `yaml:"name" help:"Unique name."`
	Class       string   `yaml:"class" default:"operation" help:"Branch of the decision framework: capacity, performance, error, or operation (not walked)."`
	Severity    string   `yaml:"severity" default:"warning" help:"warning or critical."`
	Signal      string   `yaml:"signal" help:"What is compared, such as cpu, connections or delivery_p95."`
	Reduce      string   `yaml:"reduce" default:"mean" help:"Of the nodes' values: mean, highest, lowest, sum, or each_node for an alert for each node."`
	OfCapacity  bool     `yaml:"of_capacity" help:"The value is divided by the capacity of the live nodes."`
	Below       bool     `yaml:"below" help:"Fires below the threshold instead of above it."`
	Threshold   float64  `yaml:"threshold" help:"Beyond it is a breach. Shares are from 0 to 1, latencies in seconds."`
	Clear       float64  `yaml:"clear" help:"From where on it is over; 0: 90% of the threshold (110% for below)."`
	For         Duration `yaml:"for" default:"1m" help:"How long a breach must hold."`
	KeepFiring  Duration `yaml:"keep_firing" default:"2m" help:"How long it must be over."`
	NoData      string   `yaml:"no_data" default:"hold" help:"Without values: hold, fire or resolve."`
	NoDataAfter Duration `yaml:"no_data_after" default:"30s" help:"After so long without values."`
	Group       string   `yaml:"group" help:"Alerts of one group are told together."`
	InhibitedBy []string `yaml:"inhibited_by" help:"Rules that, firing, explain this one."`
	Response    string   `yaml:"response" help:"What to do."`
	Runbook     string   `yaml:"runbook" help:"Which runbook says how."`
}

// rule puts the names into values.
func (r *AlertRule) rule() (scale.Rule, error) {
	out := scale.Rule{Name: r.Name, OfCapacity: r.OfCapacity, Below: r.Below, Threshold: r.Threshold, Clear: r.Clear, For: time.Duration(r.For),
		KeepFiring: time.Duration(r.KeepFiring), NoDataAfter: time.Duration(r.NoDataAfter), Group: r.Group, InhibitedBy: r.InhibitedBy,
		Response: r.Response, Runbook: r.Runbook, Source: "configuration"}
	for _, f := range []struct {
		key, text string
		into      interface{ UnmarshalText([]byte) error }
	}{{"class", r.Class, &out.Class}, {"severity", r.Severity, &out.Severity}, {"signal", r.Signal, &out.Signal}, {"reduce", r.Reduce, &out.Reduce}, {"no_data", r.NoData, &out.NoData}} {
		if err := f.into.UnmarshalText([]byte(f.text)); err != nil {
			return out, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	if out.Clear == 0 {
		out.Clear = 0.9 * out.Threshold
		if out.Below {
			out.Clear = 1.1 * out.Threshold
		}
	}
	return out, out.Validate()
}

// rules are the default rules with what the configuration changes.
func (c *Alerts) rules() ([]scale.Rule, error) {
	all := scale.DefaultRules()
	for _, name := range c.Off {
		i := slices.IndexFunc(all, func(r scale.Rule) bool { return r.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("alerts.off: %.100q is no default rule", name)
		}
		all = slices.Delete(all, i, i+1)
	}
	for i := range all { // what is off explains nothing any more
		all[i].InhibitedBy = slices.DeleteFunc(slices.Clone(all[i].InhibitedBy), func(by string) bool { return slices.Contains(c.Off, by) })
	}
	for i := range c.Rules {
		r, err := c.Rules[i].rule()
		if err != nil {
			return nil, fmt.Errorf("alerts.rules[%d].%w", i, err)
		}
		if at := slices.IndexFunc(all, func(old scale.Rule) bool { return old.Name == r.Name }); at >= 0 {
			all[at] = r
		} else {
			all = append(all, r)
		}
	}
	return all, nil
}

// ReadAlertRules reads the rules under alerts.rules of a configuration file; name is
// what faults call it.
func ReadAlertRules(name string, text []byte) ([]scale.Rule, error) {
	cfg := DefaultConfig()
	if err := cfg.ReadYAML(name, text); err != nil {
		return nil, err
	}
	out := make([]scale.Rule, 0, len(cfg.Alerts.Rules))
	for i := range cfg.Alerts.Rules {
		r, err := cfg.Alerts.Rules[i].rule()
		if err != nil {
			return nil, fmt.Errorf("alerts.rules[%d].%w", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (c *Config) checkScaling(k *checker) {
	if _, err := c.engine(); err != nil {
		k.fault("scaling and alerts", "%v", err)
	}
	if d := c.Scaling.LogDays; d != 0 {
		within(k, "scaling.log_days", d, 7, 36_500) // comparisons and reports look back for days
	}
	if b := c.Scaling.LogBytes; b != 0 {
		within(k, "scaling.log_bytes", b, 16<<20, 1<<50)
	}
	for key, v := range map[string]float64{"instance_connections": c.Scaling.InstanceConnections, "instance_messages": c.Scaling.InstanceMessages,
		"scale_at": c.Scaling.ScaleAt, "instance_price": c.Scaling.InstancePrice, "redis_price": c.Scaling.RedisPrice, "balancer_price": c.Scaling.BalancerPrice} {
		within(k, "scaling."+key, v, 0, 1e9)
	}
}
