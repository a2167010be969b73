package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"agentnet/app"
	"agentnet/app/scale"
)

// alertsCommands are `agentnet alerts …`.
type alertsCommands struct {
	List      alertsList      `cmd:"" help:"List alerts that are not at rest, and silences."`
	Ack       alertsAck       `cmd:"" help:"Take an alert on: nobody is told of it any more until it resolves."`
	Silence   alertsSilence   `cmd:"" help:"Keep alerts from being told until an end."`
	Unsilence alertsUnsilence `cmd:"" help:"End a silence."`
	Rules     alertsRules     `cmd:"" help:"List the rules in force."`
	Rule      alertsRule      `cmd:"" help:"Make, change, disable or take back one rule at run time, on all nodes."`
	Test      alertsTest      `cmd:"" help:"Say when a rule would have fired on the stored samples."`
}

type alertsList struct {
	office
	State string `default:"" enum:",pending,firing,resolved" help:"pending, firing or resolved only."`
	JSON  bool   `name:"json" help:"Print JSON." xor:"form"`
	CSV   bool   `name:"csv" help:"Print CSV, without the silences." xor:"form"`
}

// alertItem is an alert as /v1/alerts tells it.
type alertItem struct {
	Key string `json:"key"`
	scale.Alert
	Severity  scale.Severity `json:"severity"`
	Signal    scale.Signal   `json:"signal"`
	Threshold float64        `json:"threshold"`
	Unit      string         `json:"unit"`
	Stands    string         `json:"value_text"`
	Limit     string         `json:"threshold_text"`
	Response  string         `json:"response"`
	Runbook   string         `json:"runbook,omitempty"`
	Quiet     bool           `json:"quiet"`
}

// Run lists alerts.
func (c *alertsList) Run(ctx context.Context, env *Env) error {
	var reply struct {
		Alerts   []alertItem     `json:"alerts"`
		Silences []scale.Silence `json:"silences"`
	}
	path := "/v1/alerts"
	if c.State != "" {
		path += "?state=" + c.State
	}
	if err := c.call(ctx, env, http.MethodGet, path, nil, &reply); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(env.Stdout, reply)
	}
	if c.CSV {
		return alertSheet(env.Stdout, reply.Alerts)
	}
	if len(reply.Alerts) == 0 {
		fmt.Fprintln(env.Stdout, "no alert")
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	for i, a := range reply.Alerts {
		if i == 0 {
			fmt.Fprintln(table, "ALERT\tSTATE\tSEVERITY\tSINCE\tVALUE\tTHRESHOLD\tNOTE\tWHAT TO DO")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Key, a.State, a.Severity, ago(a.Since.UnixMilli()), orDash(a.Stands), orDash(a.Limit), a.note(), short(a.Response, 80))
	}
	for i, q := range reply.Silences {
		if i == 0 {
			fmt.Fprintln(table, "\nSILENCE\tRULE\tNODE\tUNTIL\tBY\tREASON")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", q.ID, orDash(q.Rule), orDash(q.Node), q.Until.Local().Format("2006-01-02 15:04"), q.By, q.Reason)
	}
	return table.Flush()
}

// alertSheet writes alerts as the API writes them with format=csv.
func alertSheet(w io.Writer, alerts []alertItem) error {
	sheet := csv.NewWriter(w)
	rows := [][]string{{"alert", "state", "severity", "since", "value", "threshold", "signal", "quiet", "response", "unit"}}
	for i := range alerts {
		a := &alerts[i]
		quiet := ""
		if a.Quiet {
			quiet = "quiet"
		}
		number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
		rows = append(rows, []string{a.Key, a.State.String(), a.Severity.String(), a.Since.UTC().Format(time.RFC3339), number(a.Value), number(a.Threshold), a.Signal.String(), quiet, a.Response, a.Unit})
	}
	if err := sheet.WriteAll(rows); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// note says why nobody is told.
func (a *alertItem) note() string {
	switch {
	case a.Ack != nil:
		return "taken on by " + a.Ack.By
	case a.Silent != "":
		return "silenced"
	case a.Under != "":
		return "explained by " + a.Under
	case a.Flapped:
		return "flapping"
	case a.NoData:
		return "no data"
	}
	return "-"
}

// operation are the flags of commands whose answer is an entry of the log.
type operation struct {
	office
	JSON bool `name:"json" help:"Print the entry of the scaling log as JSON."`
}

func (o *operation) do(ctx context.Context, env *Env, path string, body any) error {
	var e scale.LogEntry
	if err := o.call(ctx, env, http.MethodPost, path, body, &e); err != nil {
		return err
	}
	if o.JSON {
		return printJSON(env.Stdout, e)
	}
	_, err := fmt.Fprintf(env.Stdout, "%s (log entry %s:%d)\n", e.Summary, e.Origin, e.Seq)
	return err
}

type alertsAck struct {
	Alert string `arg:"" help:"Its key, as listed."`
	operation
	Reason string `required:"" help:"Whoever comes next must understand it."`
}

// Run takes an alert on.
func (c *alertsAck) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "/v1/alerts/ack", map[string]string{"alert": c.Alert, "reason": c.Reason})
}

type alertsSilence struct {
	Rule string `arg:"" optional:"" help:"Name of the rule; every rule without it."`
	operation
	Node   string       `help:"Only on this node."`
	For    app.Duration `required:"" placeholder:"TIME" help:"How long, such as 2h or 7d; at most 30d."`
	Reason string       `required:"" help:"Whoever comes next must understand it."`
}

// Run silences alerts.
func (c *alertsSilence) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "/v1/alerts/silence", map[string]string{"rule": c.Rule, "node": c.Node, "reason": c.Reason, "for": time.Duration(c.For).String()})
}

type alertsUnsilence struct {
	ID string `arg:"" help:"Its id, as listed."`
	operation
}

// Run ends a silence.
func (c *alertsUnsilence) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "/v1/alerts/unsilence", map[string]string{"id": c.ID})
}

type alertsRules struct {
	office
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists rules.
func (c *alertsRules) Run(ctx context.Context, env *Env) error {
	var reply struct {
		Rules    []scale.Rule   `json:"rules"`
		Capacity scale.Capacity `json:"capacity"`
	}
	if err := c.call(ctx, env, http.MethodGet, "/v1/alerts/rules", nil, &reply); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(env.Stdout, reply)
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "RULE\tSEVERITY\tCLASS\tSIGNAL\tTHRESHOLD\tCLEAR\tFOR\tSOURCE")
	for _, r := range reply.Rules {
		beyond := "> "
		switch {
		case r.OfSilence():
			beyond = ""
		case r.Below:
			beyond = "< "
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s%s\t%s\t%v\t%s\n", r.Name, r.Severity, r.Class, r.Signal, beyond, r.Limit(), r.Back(), r.For, r.Source)
	}
	return table.Flush()
}

type alertsTest struct {
	Rule string `arg:"" optional:"" help:"Name of a rule in force."`
	office
	File  string       `placeholder:"FILE" help:"Configuration file whose alerts.rules has the rule, to try one before it counts."`
	Range app.Duration `default:"24h" help:"Samples of so long, such as 6h or 14d."`
	JSON  bool         `name:"json" help:"Print JSON."`
}

// Run backtests a rule.
func (c *alertsTest) Run(ctx context.Context, env *Env) error {
	body := map[string]any{"range": time.Duration(c.Range).String()}
	switch {
	case c.File != "":
		rule, err := ruleFromFile(c.File, c.Rule)
		if err != nil {
			return err
		}
		body["rule"] = rule
	case c.Rule != "":
		body["name"] = c.Rule
	default:
		return usagef("name a rule, or give one with --file; see \"agentnet alerts rules\"")
	}
	var out scale.Backtested
	if err := c.call(ctx, env, http.MethodPost, "/v1/alerts/backtest", body, &out); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(env.Stdout, out)
	}
	fmt.Fprintf(env.Stdout, "%d moments judged: fired %d times, %v in all; %d times pending without firing\n", out.Moments, len(out.Episodes)+out.Dropped, out.Firing.Round(time.Second), out.Pending)
	if out.Flapped {
		fmt.Fprintln(env.Stdout, "it flaps: notices would have been held back; a longer hold time or a clear threshold further off calms it")
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	for i, e := range out.Episodes {
		if i == 0 {
			fmt.Fprintln(table, "ALERT\tFROM\tUNTIL\tWORST")
		}
		until := "still"
		if !e.Until.IsZero() {
			until = e.Until.Local().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.4g\n", e.Alert, e.From.Local().Format("2006-01-02 15:04:05"), until, e.Worst)
	}
	return table.Flush()
}

// ruleFromFile reads the rule from a configuration: the named one, or the only one.
func ruleFromFile(file, name string) (scale.Rule, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return scale.Rule{}, usagef("--file: %v", err)
	}
	rules, err := app.ReadAlertRules(file, raw)
	if err != nil {
		return scale.Rule{}, usagef("--file: %v", err)
	}
	at := slices.IndexFunc(rules, func(r scale.Rule) bool { return r.Name == name })
	if name == "" && len(rules) == 1 {
		at = 0
	}
	if at < 0 {
		return scale.Rule{}, usagef("--file: %s holds %d rules under alerts.rules, and none is %q", file, len(rules), name)
	}
	return rules[at], nil
}
