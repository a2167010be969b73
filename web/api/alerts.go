package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

func (a *API) alertRoutes() []Route {
	codes := scalingCodes
	return []Route{
		{Method: "GET", Path: "/v1/alerts", Name: "alerts", Access: Viewer, Query: AlertsQuery{}, Reply: AlertsReply{}, handle: a.alerts, Codes: codes(),
			Summary: "Alerts that are not at rest, firing first, and the silences that hold."},
		{Method: "GET", Path: "/v1/alerts/history", Name: "alerts.history", Access: Viewer, Query: LogQuery{}, Reply: LogReply{}, handle: a.alertHistory, Codes: codes(),
			Summary: "What alerts did, from the scaling log: the newest entry first.", Doc: "Takes the filters of /v1/scaling/log, but for kinds."},
		{Method: "GET", Path: "/v1/alerts/rules", Name: "alerts.rules", Access: Viewer, Query: RulesQuery{}, Reply: RulesReply{}, handle: a.alertRules, Codes: codes(),
			Summary: "The alert rules in force, and where each comes from."},
		{Method: "PUT", Path: "/v1/alerts/rules/:rule", Name: "alerts.rule.set", Access: Operator, Body: RuleBody{}, Reply: scale.LogEntry{}, handle: a.setAlertRule, Codes: codes(),
			Summary: "Makes a rule, or puts one in the place of its namesake.", Doc: "With disabled it is kept and not run. It holds over restarts, on all nodes; the configuration's own is not lost: DELETE brings it back. Try it before with /v1/alerts/backtest."},
		{Method: "DELETE", Path: "/v1/alerts/rules/:rule", Name: "alerts.rule.drop", Access: Operator, Reply: scale.LogEntry{}, handle: a.dropAlertRule, Codes: codes(wire.NotFound),
			Summary: "Takes a rule that was made here away, or a changed one back to what the configuration says."},
		{Method: "PUT", Path: "/v1/alerts/rules", Name: "alerts.rules.set", Access: Admin, Body: RulesBody{}, Reply: scale.LogEntry{}, handle: a.setAlertRules, Codes: codes(),
			Summary: "Puts other rules in place of the configured ones.", Doc: "It holds over restarts, on all nodes; without rules the configured ones count again. Alerts of rules that stay keep their state."},
		{Method: "POST", Path: "/v1/alerts/backtest", Name: "alerts.backtest", Access: Viewer, Body: BacktestBody{}, Reply: scale.Backtested{}, handle: a.backtestRule, Codes: codes(wire.Overloaded),
			Summary: "Says when a rule would have fired on the stored samples.", Doc: "It is run by the code that runs it live."},
		{Method: "POST", Path: "/v1/alerts/ack", Name: "alerts.ack", Access: Operator, Body: AckBody{}, Reply: scale.LogEntry{}, handle: a.ackAlert, Codes: codes(wire.NotFound),
			Summary: "Takes an alert on: nobody is told of it any more until it resolves."},
		{Method: "POST", Path: "/v1/alerts/silence", Name: "alerts.silence", Access: Operator, Body: SilenceBody{}, Reply: scale.LogEntry{}, handle: a.silenceAlerts, Codes: codes(),
			Summary: "Keeps matching alerts from being told until an end. They are evaluated, logged and shown all the same."},
		{Method: "POST", Path: "/v1/alerts/unsilence", Name: "alerts.unsilence", Access: Operator, Body: UnsilenceBody{}, Reply: scale.LogEntry{}, handle: a.unsilenceAlerts, Codes: codes(wire.NotFound),
			Summary: "Ends a silence before its time."},
	}
}

// AlertsQuery filters alerts.
type AlertsQuery struct {
	State  string `query:"state" doc:"Absent: all that are not at rest." enum:"pending,firing,resolved"`
	Format string `query:"format" enum:"json,csv" default:"json"`
}

// AlertsReply lists alerts.
type AlertsReply struct {
	Alerts   []AlertItem     `json:"alerts"`
	Silences []scale.Silence `json:"silences"`
}

// An AlertItem is an alert with what its rule says.
type AlertItem struct {
	Key string `json:"key" doc:"Names the alert: the rule, and the node behind an @."`
	scale.Alert
	Severity  scale.Severity `json:"severity" enum:"warning,critical"`
	Class     scale.Class    `json:"class"`
	Signal    scale.Signal   `json:"signal"`
	Threshold float64        `json:"threshold"`
	Unit      string         `json:"unit" doc:"Of value, worst and threshold: share (1 is all), seconds, connections, bytes, messages/s …"`
	Stands    string         `json:"value_text" doc:"The value for people."`
	Limit     string         `json:"threshold_text" doc:"The threshold for people."`
	Group     string         `json:"group,omitempty"`
	Response  string         `json:"response,omitempty" doc:"What to do."`
	Runbook   string         `json:"runbook,omitempty"`
	Quiet     bool           `json:"quiet" doc:"Nobody is told, although it goes on."`
}

func (a *API) alerts(c *fiber.Ctx, _ *relay.Identity) error {
	state := c.Query("state")
	if !slices.Contains([]string{"", "pending", "firing", "resolved"}, state) {
		return &wire.Error{Code: wire.BadFrame, Message: "state: expected pending, firing or resolved"}
	}
	rules, _ := a.cfg.Scaling.Rules()
	now := time.Now()
	reply := AlertsReply{Alerts: []AlertItem{}, Silences: append([]scale.Silence{}, a.cfg.Scaling.Silences()...)}
	for _, al := range a.cfg.Scaling.Alerts() {
		if state != "" && al.State.String() != state {
			continue
		}
		item := AlertItem{Key: al.Key(), Alert: al, Quiet: al.Quiet()}
		if i := slices.IndexFunc(rules, func(r scale.Rule) bool { return r.Name == al.Rule }); i >= 0 {
			r := &rules[i]
			item.Severity, item.Class, item.Signal, item.Group, item.Response, item.Runbook = r.Severity, r.Class, r.Signal, r.Group, r.Response, r.Runbook
			item.Value, item.Threshold = r.Figures(&al, now)
			item.Unit, item.Stands, item.Limit = r.Unit(), r.Standing(&al, now), r.Limit()
		}
		reply.Alerts = append(reply.Alerts, item)
	}
	if !asTable(c) {
		return writeJSON(c, http.StatusOK, reply)
	}
	rows := [][]string{{"alert", "state", "severity", "since", "value", "threshold", "signal", "quiet", "response", "unit"}}
	for i := range reply.Alerts {
		it := &reply.Alerts[i]
		quiet := ""
		if it.Quiet {
			quiet = "quiet"
		}
		rows = append(rows, []string{it.Key, it.State.String(), it.Severity.String(), it.Since.Format(time.RFC3339), decimal(it.Value), decimal(it.Threshold), it.Signal.String(), quiet, it.Response, it.Unit})
	}
	return writeTable(c, "alerts", rows)
}

func (a *API) alertHistory(c *fiber.Ctx, id *relay.Identity) error {
	if c.Query("kinds") != "" {
		return &wire.Error{Code: wire.BadFrame, Message: "kinds: this list has alerts only; see /v1/scaling/log"}
	}
	c.Context().QueryArgs().Set("kinds", "alert,silence")
	return a.scalingLog(c, id)
}

// RulesQuery chooses the form.
type RulesQuery struct {
	Format string `query:"format" enum:"json,csv" default:"json"`
}

// RulesReply lists rules.
type RulesReply struct {
	Rules    []scale.Rule            `json:"rules"`
	Origins  map[string]watch.Origin `json:"origins" doc:"Where each rule comes from, by name: configuration, changed (in the place of the configured one), or stored (made here)."`
	Words    map[string]RuleWords    `json:"words" doc:"Threshold and clear of each rule for people, with their unit, by name."`
	Capacity scale.Capacity          `json:"capacity" doc:"Of one instance, which shares of capacity are of."`
}

// RuleWords are the numbers of a rule for people.
type RuleWords struct {
	Threshold string `json:"threshold"`
	Clear     string `json:"clear"`
	Unit      string `json:"unit" doc:"Of the values of its alerts."`
}

func (a *API) alertRules(c *fiber.Ctx, _ *relay.Identity) error {
	rules, capacity := a.cfg.Scaling.Rules()
	origins := a.cfg.Scaling.Origins()
	if !asTable(c) {
		words := make(map[string]RuleWords, len(rules))
		for i := range rules {
			words[rules[i].Name] = RuleWords{rules[i].Limit(), rules[i].Back(), rules[i].Unit()}
		}
		return writeJSON(c, http.StatusOK, RulesReply{Rules: append([]scale.Rule{}, rules...), Origins: origins, Words: words, Capacity: capacity})
	}
	rows := [][]string{{"rule", "origin", "disabled", "severity", "class", "signal", "of_capacity", "below", "threshold", "clear", "for_s", "keep_firing_s", "response", "source"}}
	for i := range rules {
		r := &rules[i]
		rows = append(rows, []string{r.Name, string(origins[r.Name]), strconv.FormatBool(r.Disabled), r.Severity.String(), r.Class.String(), r.Signal.String(), strconv.FormatBool(r.OfCapacity), strconv.FormatBool(r.Below),
			decimal(r.Threshold), decimal(r.Clear), decimal(r.For.Seconds()), decimal(r.KeepFiring.Seconds()), r.Response, r.Source})
	}
	return writeTable(c, "rules", rows)
}

// RuleBody is one rule.
type RuleBody struct {
	scale.Rule
	Reason string `json:"reason,omitempty" doc:"For the scaling log."`
}

func (a *API) setAlertRule(c *fiber.Ctx, id *relay.Identity) error {
	var b RuleBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	name, err := named(c, "rule")
	if err != nil {
		return err
	}
	if b.Name == "" {
		b.Name = name
	}
	if b.Name != name {
		return &wire.Error{Code: wire.BadFrame, Message: "name: the body names another rule than the path"}
	}
	return a.operate(c, id, watch.Command{Op: watch.OpRule, Rule: &b.Rule, Reason: b.Reason})
}

func (a *API) dropAlertRule(c *fiber.Ctx, id *relay.Identity) error {
	name, err := named(c, "rule")
	if err != nil {
		return err
	}
	return a.operate(c, id, watch.Command{Op: watch.OpUnrule, ID: name})
}

// RulesBody are rules.
type RulesBody struct {
	Rules  []scale.Rule `json:"rules" doc:"All of them; none: the configured ones again."`
	Reason string       `json:"reason,omitempty"`
}

func (a *API) setAlertRules(c *fiber.Ctx, id *relay.Identity) error {
	var b RulesBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.operate(c, id, watch.Command{Op: watch.OpRules, Rules: b.Rules, Reason: b.Reason})
}

// BacktestBody is a rule and a time.
type BacktestBody struct {
	Rule  *scale.Rule `json:"rule,omitempty" doc:"The rule; or name one in force."`
	Name  string      `json:"name,omitempty"`
	From  time.Time   `json:"from,omitzero" doc:"Absent: a day before to."`
	To    time.Time   `json:"to,omitzero" doc:"Absent: now."`
	Range string      `json:"range,omitempty" doc:"Time up to to, such as 6h or 14d; instead of from."`
}

func (a *API) backtestRule(c *fiber.Ctx, _ *relay.Identity) error {
	var b BacktestBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if b.Rule == nil {
		rules, _ := a.cfg.Scaling.Rules()
		i := slices.IndexFunc(rules, func(r scale.Rule) bool { return r.Name == b.Name })
		if i < 0 {
			return &wire.Error{Code: wire.BadFrame, Message: "rule: give a rule, or the name of one in force"}
		}
		b.Rule = &rules[i]
	}
	if b.To.IsZero() {
		b.To = time.Now()
	}
	length := 24 * time.Hour
	if b.Range != "" {
		var err error
		if length, err = span(b.Range); err != nil {
			return &wire.Error{Code: wire.BadFrame, Message: "range: " + err.Error()}
		}
	}
	if b.From.IsZero() {
		b.From = b.To.Add(-length)
	}
	select {
	case a.heavy <- struct{}{}:
		defer func() { <-a.heavy }()
	default:
		return &wire.Error{Code: wire.Overloaded, Message: "the server computes for others already; try again", RetryAfterMS: 2000}
	}
	ctx, cancel := context.WithTimeout(a.ctx, heavyTime)
	defer cancel()
	out, err := a.cfg.Scaling.Backtest(ctx, *b.Rule, b.From, b.To)
	if err != nil {
		return asScaling(err)
	}
	out.Episodes = append([]scale.Episode{}, out.Episodes...)
	return writeJSON(c, http.StatusOK, out)
}

// AckBody takes an alert on.
type AckBody struct {
	Alert  string `json:"alert" doc:"Its key."`
	Reason string `json:"reason" doc:"Whoever comes next must understand it."`
}

func (a *API) ackAlert(c *fiber.Ctx, id *relay.Identity) error {
	var b AckBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.operate(c, id, watch.Command{Op: watch.OpAck, Alert: b.Alert, Reason: b.Reason})
}

// SilenceBody is a silence.
type SilenceBody struct {
	Rule   string    `json:"rule,omitempty" doc:"Absent: every rule."`
	Node   string    `json:"node,omitempty" doc:"Absent: the fleet and every node."`
	Reason string    `json:"reason"`
	From   time.Time `json:"from,omitzero" doc:"Absent: now."`
	Until  time.Time `json:"until,omitzero"`
	For    string    `json:"for,omitempty" doc:"How long, such as 2h or 7d; instead of until. At most 30 days."`
}

func (a *API) silenceAlerts(c *fiber.Ctx, id *relay.Identity) error {
	var b SilenceBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if b.For != "" {
		length, err := span(b.For)
		if err != nil {
			return &wire.Error{Code: wire.BadFrame, Message: "for: " + err.Error()}
		}
		b.Until = time.Now().Add(length)
		if !b.From.IsZero() {
			b.Until = b.From.Add(length)
		}
	}
	if len(b.Rule)+len(b.Node) > 300 {
		return &wire.Error{Code: wire.BadFrame, Message: "rule or node: too long"}
	}
	return a.operate(c, id, watch.Command{Op: watch.OpSilence, Silence: &scale.Silence{Rule: b.Rule, Node: b.Node, Reason: b.Reason, From: b.From, Until: b.Until}})
}

// UnsilenceBody names a silence.
type UnsilenceBody struct {
	ID string `json:"id"`
}

func (a *API) unsilenceAlerts(c *fiber.Ctx, id *relay.Identity) error {
	var b UnsilenceBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.operate(c, id, watch.Command{Op: watch.OpUnsilence, ID: b.ID})
}
