package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"agentnet/app/wire"
)

// agentsCommands are `agentnet agents …`; without a word they list.
type agentsCommands struct {
	List       agentsCommand    `cmd:"" default:"withargs" help:"List agents."`
	Sessions   agentsSessions   `cmd:"" help:"List the sessions of one agent on all nodes."`
	Trace      agentsTrace      `cmd:"" help:"Show the envelopes of an agent's messages for a while: who, when, how large, what became of it; never payloads."`
	Disconnect agentsDisconnect `cmd:"" help:"End all sessions of an agent, on whichever nodes they are."`
}

// agentsCommand is `agentnet agents`.
type agentsCommand struct {
	Match string `arg:"" optional:"" default:"**" help:"Glob of names, such as bob/*."`

	connection
	Limit   int           `default:"1000" help:"At most so many."`
	Timeout time.Duration `default:"30s" help:"Longest wait for the list."`
	JSON    bool          `name:"json" help:"Print one JSON object a line."`
}

type agentJSON struct {
	wire.AgentInfo
	Card json.RawMessage `json:"card,omitempty"`
	Keys json.RawMessage `json:"keys,omitempty"`
}

// Run lists agents.
func (c *agentsCommand) Run(ctx context.Context, env *Env) error {
	if c.Limit < 1 {
		return usagef("--limit: want at least 1, got %d", c.Limit)
	}
	conn, err := c.dial(ctx, env, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(table, "AGENT\tSTATE\tSESSIONS\tLAST ACTIVE\tQUEUE")
	}
	n := 0
	for a, err := range conn.Agents(ctx, c.Match) {
		if err != nil {
			return err
		}
		if c.JSON {
			err = printJSON(env.Stdout, agentJSON{a, a.Card, a.Keys})
		} else {
			_, err = fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\n", a.Agent, a.State, a.Sessions, ago(a.LastActiveMS), a.Queue)
		}
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		if n++; n >= c.Limit {
			break
		}
	}
	return table.Flush()
}

// ago tells a time of the past to a person.
func ago(ms int64) string {
	if ms == 0 {
		return "-"
	}
	d := time.Since(time.UnixMilli(ms))
	switch {
	case d < 2*time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d d ago", d/(24*time.Hour))
}
