package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	orders "agentnet/app/ask"
)

// order are the flags of commands that have nodes do something.
type order struct {
	office
	Reason string `help:"Why, for the logs; an agent is told it."`
	JSON   bool   `name:"json" help:"Print the answer as JSON."`
}

func (o *order) do(ctx context.Context, env *Env, kind, name, what string, body map[string]any) error {
	if o.Reason != "" {
		body["reason"] = o.Reason
	}
	var done orders.Done
	if err := o.call(ctx, env, http.MethodPost, "/v1/"+kind+"/"+url.PathEscape(name)+"/"+what, body, &done); err != nil {
		return err
	}
	if o.JSON {
		return printJSON(env.Stdout, done)
	}
	if len(done.Missing) > 0 {
		fmt.Fprintf(env.Stderr, "agentnet: no answer from %v\n", done.Missing)
	}
	_, err := fmt.Fprintln(env.Stdout, done.Message)
	return err
}

type nodesDrain struct {
	Node string `arg:"" help:"Its name, as listed."`
	order
}

// Run empties a node.
func (c *nodesDrain) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "nodes", c.Node, "drain", map[string]any{})
}

type nodesUndrain struct {
	Node string `arg:"" help:"Its name, as listed."`
	order
}

// Run takes a drain back.
func (c *nodesUndrain) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "nodes", c.Node, "undrain", map[string]any{})
}

type nodesRebalance struct {
	Node string `arg:"" help:"Its name, as listed."`
	order
	Clients int `required:"" placeholder:"COUNT" help:"How many are to go; the quietest go first."`
}

// Run sends clients of a node to others.
func (c *nodesRebalance) Run(ctx context.Context, env *Env) error {
	if c.Clients < 1 {
		return usagef("--clients: want at least 1, got %d", c.Clients)
	}
	return c.do(ctx, env, "nodes", c.Node, "rebalance", map[string]any{"clients": c.Clients})
}

type agentsDisconnect struct {
	Agent string `arg:"" help:"Its name."`
	order
}

// Run ends the sessions of an agent.
func (c *agentsDisconnect) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "agents", c.Agent, "disconnect", map[string]any{})
}
