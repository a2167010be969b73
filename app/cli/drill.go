package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"agentnet/app"
	"agentnet/app/drill"
	"agentnet/app/scale"
	"agentnet/store"
)

// drillCommand is `agentnet drill`.
type drillCommand struct {
	Names   []string      `arg:"" optional:"" name:"name" help:"Drills to run, or all."`
	List    bool          `help:"List the drills."`
	Against string        `placeholder:"URL" help:"Run it against this relay instead of a test node of its own; --token must allow agents and channels below drill/ and the role viewer. Never one that people use without their knowledge."`
	Token   string        `placeholder:"TOKEN" help:"Token for --against; better given as AGENTNET_TOKEN."`
	Crowd   int           `default:"200" help:"Clients in a storm, 10 to 5000."`
	Span    time.Duration `default:"10s" help:"How long a fault lasts, 2s to 1m."`
	Out     string        `placeholder:"FILE" help:"Write the report to this file: .md, .html or .json."`
	Data    string        `placeholder:"DIR" help:"Write the result into the scaling log of this data directory (AGENTNET_DATA). Without it: the default one, where it exists; with --against: into that relay's log, as a note."`
	NoLog   bool          `help:"Write it into no log."`
	JSON    bool          `name:"json" help:"Print the results as JSON, one a line."`
	Quiet   bool          `help:"Print the results only, not each step."`
}

// errDrill marks drills that did not pass.
var errDrill = errors.New("not every drill has passed")

// Run runs drills one after the other.
func (c *drillCommand) Run(ctx context.Context, env *Env) error {
	if c.List || len(c.Names) == 0 {
		return c.list(env)
	}
	drills, err := c.chosen(env)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "agentnet-drill-")
	if err != nil {
		return fmt.Errorf("scratch directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	var results []drill.Result
	for _, d := range drills {
		r := c.one(ctx, env, d, scratch)
		results = append(results, r)
		if c.JSON {
			err = printJSON(env.Stdout, r)
		} else {
			_, err = fmt.Fprintln(env.Stdout, r.Summary())
		}
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		if err := c.record(ctx, env, &r); err != nil {
			fmt.Fprintf(env.Stderr, "agentnet: the result is in no log: %s\n", explain(err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c.Out != "" {
		if err := writeDrills(c.Out, results); err != nil {
			return err
		}
	}
	for i := range results {
		if !results[i].Passed && results[i].NotRun == "" {
			return errDrill
		}
	}
	return nil
}

func (c *drillCommand) list(env *Env) error {
	t := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(t, "NAME\tBREAKS\tWHAT MUST HOLD")
	}
	for _, d := range drill.List() {
		var err error
		if c.JSON {
			err = printJSON(env.Stdout, map[string]any{"name": d.Name, "breaks": d.Breaks, "promise": d.Promise, "runbook": d.Runbook, "own_node": d.Own})
		} else {
			_, err = fmt.Fprintf(t, "%s\t%s\t%s\n", d.Name, d.Breaks, d.Promise)
		}
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return t.Flush()
}

// chosen checks the flags and finds the drills.
func (c *drillCommand) chosen(env *Env) ([]drill.Drill, error) {
	switch {
	case c.Crowd < 10 || c.Crowd > 5000:
		return nil, usagef("--crowd: want 10 to 5000, got %d", c.Crowd)
	case c.Span < 2*time.Second || c.Span > time.Minute:
		return nil, usagef("--span: want 2s to 1m, got %v", c.Span)
	case c.Against != "" && c.Token == "":
		return nil, usagef("--against needs --token: make one with \"%s token create --agent 'drill/**' --role viewer\"", env.Program)
	case c.Against != "" && !strings.HasPrefix(c.Against, "http://") && !strings.HasPrefix(c.Against, "https://"):
		return nil, usagef("--against: %q must begin with http:// or https://", c.Against)
	}
	if format := strings.ToLower(filepath.Ext(c.Out)); c.Out != "" && format != ".md" && format != ".html" && format != ".json" {
		return nil, usagef("--out: want a file that ends in .md, .html or .json, got %q", c.Out)
	}
	if len(c.Names) == 1 && c.Names[0] == "all" {
		return drill.List(), nil
	}
	var out []drill.Drill
	for _, name := range c.Names {
		d, ok := drill.Get(name)
		if !ok {
			return nil, usagef("there is no drill %q; \"%s drill --list\" lists them", name, env.Program)
		}
		out = append(out, d)
	}
	return out, nil
}

// one runs a drill in a place of its own.
func (c *drillCommand) one(ctx context.Context, env *Env, d drill.Drill, scratch string) drill.Result {
	dir := filepath.Join(scratch, d.Name)
	place := &testNodes{env: env, scratch: dir}
	defer place.end()
	o := drill.Options{Place: place, Crowd: c.Crowd, Span: c.Span, Scratch: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return drill.Result{Drill: d.Name, Began: time.Now().UTC(), Fault: err.Error()}
	}
	if !c.Quiet && !c.JSON {
		o.Say = func(format string, args ...any) {
			fmt.Fprintln(env.Stdout, printable(fmt.Sprintf("%-17s", d.Name)+fmt.Sprintf(format, args...)))
		}
	}
	if c.Against != "" {
		o.Against = &foreignNode{url: strings.TrimSuffix(c.Against, "/"), token: c.Token}
	}
	return d.Run(ctx, o)
}

// record writes a result into a scaling log.
func (c *drillCommand) record(ctx context.Context, env *Env, r *drill.Result) error {
	if c.NoLog {
		return nil
	}
	if c.Against != "" && c.Data == "" {
		o := office{URL: c.Against, Token: c.Token, Wait: 10 * time.Second}
		var reply any
		return o.call(ctx, env, http.MethodPost, "/v1/scaling/log/notes", map[string]string{"text": r.Summary()}, &reply)
	}
	dir := c.Data
	if dir == "" {
		dir = app.DataDir(env.Getenv)
		if _, err := os.Stat(dir); err != nil {
			return nil // no relay keeps data here: there is no log to write to
		}
	}
	trail(ctx, env, dir, "drill", r.Drill, r.Summary(), nil)
	e, err := scale.NewEntry(scale.KindDrill, time.Now(), "drill", "", r.Summary(), r)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer db.Close()
	_, err = db.AppendScaleLog(ctx, "cli", []scale.Entry{e})
	return err
}

// writeDrills writes the report in the form that the file's name asks for.
func writeDrills(name string, results []drill.Result) error {
	var raw []byte
	switch strings.ToLower(filepath.Ext(name)) {
	case ".md":
		raw = []byte(drill.Markdown(results))
	case ".html":
		raw = []byte(drill.HTML(results))
	default:
		var b strings.Builder
		if err := printJSON(&b, results); err != nil {
			return err
		}
		raw = []byte(b.String())
	}
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
