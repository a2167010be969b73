package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"agentnet/app/scale"
)

// alertsRule are `agentnet alerts rule …`.
type alertsRule struct {
	Set     ruleSet     `cmd:"" help:"Make a rule, or put one in the place of its namesake."`
	Disable ruleDisable `cmd:"" help:"Keep a rule and do not run it."`
	Enable  ruleEnable  `cmd:"" help:"Run a disabled rule again."`
	Drop    ruleDrop    `cmd:"" help:"Take a rule that was made at run time away, or a changed one back to the configuration."`
}

// ruleOrder are the flags of commands that change one rule.
type ruleOrder struct {
	operation
	Reason string `help:"Why, for the scaling log."`
}

func (o *ruleOrder) put(ctx context.Context, env *Env, r scale.Rule) error {
	body := struct {
		scale.Rule
		Reason string `json:"reason,omitempty"`
	}{r, o.Reason}
	return o.send(ctx, env, http.MethodPut, "/v1/alerts/rules/"+url.PathEscape(r.Name), body)
}

func (o *ruleOrder) send(ctx context.Context, env *Env, method, path string, body any) error {
	var e scale.LogEntry
	if err := o.call(ctx, env, method, path, body, &e); err != nil {
		return err
	}
	if o.JSON {
		return printJSON(env.Stdout, e)
	}
	_, err := fmt.Fprintf(env.Stdout, "%s (log entry %s:%d)\n", e.Summary, e.Origin, e.Seq)
	return err
}

// able has a rule run or not.
func (o *ruleOrder) able(ctx context.Context, env *Env, name string, disabled bool) error {
	var reply struct {
		Rules []scale.Rule `json:"rules"`
	}
	if err := o.call(ctx, env, http.MethodGet, "/v1/alerts/rules", nil, &reply); err != nil {
		return err
	}
	at := slices.IndexFunc(reply.Rules, func(r scale.Rule) bool { return r.Name == name })
	if at < 0 {
		return usagef("there is no rule %q; see \"agentnet alerts rules\"", name)
	}
	r := reply.Rules[at]
	r.Disabled = disabled
	return o.put(ctx, env, r)
}

type ruleSet struct {
	Rule string `arg:"" optional:"" help:"Its name in the file; not needed when the file has one."`
	ruleOrder
	File string `required:"" placeholder:"FILE" help:"Configuration file whose alerts.rules has the rule."`
}

// Run makes or changes a rule.
func (c *ruleSet) Run(ctx context.Context, env *Env) error {
	rule, err := ruleFromFile(c.File, c.Rule)
	if err != nil {
		return err
	}
	return c.put(ctx, env, rule)
}

type ruleDisable struct {
	Rule string `arg:"" help:"Its name."`
	ruleOrder
}

// Run disables a rule.
func (c *ruleDisable) Run(ctx context.Context, env *Env) error {
	return c.able(ctx, env, c.Rule, true)
}

type ruleEnable struct {
	Rule string `arg:"" help:"Its name."`
	ruleOrder
}

// Run enables a rule.
func (c *ruleEnable) Run(ctx context.Context, env *Env) error {
	return c.able(ctx, env, c.Rule, false)
}

type ruleDrop struct {
	Rule string `arg:"" help:"Its name."`
	operation
}

// Run takes a rule back.
func (c *ruleDrop) Run(ctx context.Context, env *Env) error {
	o := ruleOrder{operation: c.operation}
	return o.send(ctx, env, http.MethodDelete, "/v1/alerts/rules/"+url.PathEscape(c.Rule), nil)
}
