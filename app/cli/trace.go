package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"
)

const (
	// traceEvery is the distance of two readings of a trace.
	traceEvery = time.Second
	// maxTrace is the longest that the relay traces in one go.
	maxTrace = 15 * time.Minute
)

// traceReply is the answer of /v1/agents/{id}/trace.
type traceReply struct {
	Running bool       `json:"running"`
	Rows    []envelope `json:"rows"`
}

// An envelope is one message as the relay noted it.
type envelope struct {
	Number    uint64    `json:"number"`
	At        time.Time `json:"at"`
	Node      string    `json:"node"`
	Direction string    `json:"direction"`
	Kind      string    `json:"kind"`
	From      string    `json:"from,omitempty"`
	To        string    `json:"to,omitempty"`
	Channel   string    `json:"channel,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	Bytes     int       `json:"bytes"`
	Priority  string    `json:"priority"`
	Outcome   string    `json:"outcome,omitempty"`
}

type agentsTrace struct {
	Agent string `arg:"" help:"Its name."`
	office
	For    time.Duration `default:"1m" help:"It ends by itself after so long; at most 15m."`
	Reason string        `help:"Why, for the audit log."`
	End    bool          `help:"End the trace that runs, and say no more."`
	Read   bool          `help:"Read what was noted, without beginning a trace."`
	JSON   bool          `name:"json" help:"Print one JSON object a line."`
}

// Run begins a trace and prints envelopes as they come, until it ends.
func (c *agentsTrace) Run(ctx context.Context, env *Env) error {
	path := "/v1/agents/" + url.PathEscape(c.Agent) + "/trace"
	if c.End {
		return c.call(ctx, env, http.MethodDelete, path, nil, &struct{}{})
	}
	if c.For < time.Second || c.For > maxTrace {
		return usagef("--for: want 1s to %v, got %v", maxTrace, c.For)
	}
	method, body := http.MethodPost, any(map[string]any{"seconds": int(c.For / time.Second), "reason": c.Reason})
	if c.Read {
		method, body = http.MethodGet, nil
	}
	var tr traceReply
	if err := c.call(ctx, env, method, path, body, &tr); err != nil {
		return err
	}
	shown := map[string]uint64{} // by node, the last row that was printed
	if !c.Read {
		for _, row := range tr.Rows { // of a trace that ran already
			shown[row.Node] = max(shown[row.Node], row.Number)
		}
	}
	for {
		if err := c.show(env, &tr, shown); err != nil || c.Read || !tr.Running {
			return err
		}
		select {
		case <-ctx.Done():
			return c.giveUp(env, path)
		case <-time.After(traceEvery):
		}
		tr = traceReply{}
		if err := c.call(ctx, env, http.MethodGet, path, nil, &tr); err != nil {
			if ctx.Err() != nil {
				return c.giveUp(env, path)
			}
			return err
		}
	}
}

// giveUp ends the trace of somebody who looks no longer.
func (c *agentsTrace) giveUp(env *Env, path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Wait)
	defer cancel()
	if err := c.call(ctx, env, http.MethodDelete, path, nil, &struct{}{}); err != nil {
		return errors.Join(errors.New("the trace could not be ended; it ends by itself"), err)
	}
	return nil
}

// show prints the rows that were not printed yet.
func (c *agentsTrace) show(env *Env, tr *traceReply, shown map[string]uint64) error {
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	for i := range tr.Rows {
		row := &tr.Rows[i]
		if row.Number <= shown[row.Node] {
			continue
		}
		shown[row.Node] = row.Number
		if c.JSON {
			if err := printJSON(env.Stdout, row); err != nil {
				return err
			}
			continue
		}
		to := row.To
		if row.Channel != "" {
			to = "#" + row.Channel
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d B\t%s\t%s\t%s\n", row.At.Local().Format("15:04:05.000"), row.Direction, row.Kind, printable(orDash(row.From)), printable(orDash(to)), row.Bytes, row.Priority, orDash(row.Outcome), row.Node)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

type agentsSessions struct {
	Agent string `arg:"" help:"Its name."`
	office
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists the sessions of one agent.
func (c *agentsSessions) Run(ctx context.Context, env *Env) error {
	var reply struct {
		Agent    string `json:"agent"`
		Sessions []struct {
			Node      string    `json:"node"`
			Region    string    `json:"region"`
			State     string    `json:"state"`
			Connected bool      `json:"connected"`
			Since     time.Time `json:"since"`
			Address   string    `json:"address,omitempty"`
			Encoding  string    `json:"encoding"`
			Token     string    `json:"token,omitempty"`
			Subject   string    `json:"subject,omitempty"`
			RTTMS     float64   `json:"rtt_ms,omitempty"`
			Queue     int       `json:"queue_frames"`
			Unacked   int       `json:"unacked"`
			Channels  []string  `json:"channels"`
		} `json:"sessions"`
		Missing []string `json:"missing,omitempty"`
	}
	if err := c.call(ctx, env, http.MethodGet, "/v1/agents/"+url.PathEscape(c.Agent)+"/sessions", nil, &reply); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(env.Stdout, reply)
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATE\tSINCE\tADDRESS\tWIRE\tRTT\tQUEUE\tUNACKED\tCHANNELS")
	for _, s := range reply.Sessions {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%.1f ms\t%d\t%d\t%d\n", s.Node, s.State, ago(s.Since.UnixMilli()), orDash(s.Address), s.Encoding, s.RTTMS, s.Queue, s.Unacked, len(s.Channels))
	}
	if len(reply.Missing) > 0 {
		fmt.Fprintf(env.Stderr, "agentnet: no answer from %v\n", reply.Missing)
	}
	return table.Flush()
}
