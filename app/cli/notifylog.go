package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"
)

// notifyLog is `agentnet notify log`.
type notifyLog struct {
	office
	Channel string `placeholder:"NAME" help:"Only deliveries of this target."`
	Outcome string `placeholder:"OUTCOME" help:"Only these: sent, retried, failed or dropped."`
	Limit   int    `default:"50" help:"Deliveries to show, 1 to 1000."`
	Before  uint64 `placeholder:"ID" help:"Only those before this one, to page back."`
	JSON    bool   `name:"json" xor:"form" help:"Print JSON, one delivery a line."`
	CSV     bool   `name:"csv" xor:"form" help:"Print CSV."`
}

type storedDelivery struct {
	ID       uint64  `json:"id"`
	TimeMS   int64   `json:"time_ms"`
	Message  string  `json:"message"`
	Channel  string  `json:"channel"`
	Kind     string  `json:"kind"`
	Target   string  `json:"target"`
	Rules    string  `json:"rules"`
	Severity string  `json:"severity"`
	Test     bool    `json:"test"`
	Outcome  string  `json:"outcome"`
	Tries    int     `json:"tries"`
	TookMS   float64 `json:"took_ms"`
	Status   int     `json:"status,omitempty"`
	Class    string  `json:"class,omitempty"`
}

// Run lists stored deliveries.
func (c *notifyLog) Run(ctx context.Context, env *Env) error {
	if c.Limit < 1 || c.Limit > 1000 {
		return usagef("--limit: want 1 to 1000, got %d", c.Limit)
	}
	q := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	if c.Channel != "" {
		q.Set("channel", c.Channel)
	}
	if c.Outcome != "" {
		q.Set("outcome", c.Outcome)
	}
	if c.Before > 0 {
		q.Set("before", strconv.FormatUint(c.Before, 10))
	}
	var reply struct {
		Deliveries []storedDelivery `json:"deliveries"`
	}
	if err := c.call(ctx, env, http.MethodGet, "/v1/notify/deliveries?"+q.Encode(), nil, &reply); err != nil {
		return err
	}
	switch {
	case c.JSON:
		for _, d := range reply.Deliveries {
			if err := printJSON(env.Stdout, d); err != nil {
				return fmt.Errorf("output: %w", err)
			}
		}
		return nil
	case c.CSV:
		return c.table(env, reply.Deliveries)
	}
	t := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tWHEN\tCHANNEL\tOUTCOME\tTRY\tSTATUS\tFAULT\tTOOK\tRULES")
	for _, d := range reply.Deliveries {
		status, rules := "-", d.Rules
		if d.Status > 0 {
			status = strconv.Itoa(d.Status)
		}
		if d.Test {
			rules = "(test)"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%.0f ms\t%s\n", d.ID, ago(d.TimeMS), d.Channel, d.Outcome, d.Tries, status, d.Class, d.TookMS, printable(rules))
	}
	return t.Flush()
}

func (c *notifyLog) table(env *Env, list []storedDelivery) error {
	w := csv.NewWriter(env.Stdout)
	_ = w.Write([]string{"id", "time", "message", "channel", "kind", "target", "rules", "severity", "test", "outcome", "tries", "took_ms", "status", "class"})
	for _, d := range list { // Error tells what a Write could not
		_ = w.Write([]string{strconv.FormatUint(d.ID, 10), time.UnixMilli(d.TimeMS).UTC().Format(time.RFC3339Nano), d.Message, d.Channel, d.Kind, d.Target, d.Rules, d.Severity,
			strconv.FormatBool(d.Test), d.Outcome, strconv.Itoa(d.Tries), strconv.FormatFloat(d.TookMS, 'f', -1, 64), strconv.Itoa(d.Status), d.Class})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
