package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"agentnet/app/scale"
)

// logCommands are `agentnet log …`.
type logCommands struct {
	List   logList   `cmd:"" help:"List the scaling log, the newest entry first."`
	Show   logShow   `cmd:"" help:"Show one entry with all its evidence."`
	Replay logReplay `cmd:"" help:"Compute an entry anew from the inputs that it holds."`
	Verify logVerify `cmd:"" help:"Check that no entry was edited, removed, reordered or cut off."`
	Export logExport `cmd:"" help:"Write the log as CSV or JSON lines, the oldest entry first."`
	Report logReport `cmd:"" help:"Draw the report of an incident from the log: timeline, alerts, decisions, what came of them."`
	Note   logNote   `cmd:"" help:"Write a note into the log."`
}

// chosen are the flags that choose entries.
type chosen struct {
	Kind   []string      `placeholder:"KIND" help:"Only these kinds: decision, alert, walk, action, result, outcome, config, drain, storm, note, silence, forecast, drill, planning, node."`
	Origin string        `help:"Only the log of this origin, as entries name it."`
	Actor  string        `help:"Only of this actor: engine, a node, an account or token."`
	Match  string        `help:"Only with this text in the summary."`
	Range  time.Duration `placeholder:"TIME" help:"Only of the last such as 6h."`
}

func (c *chosen) filter() (f scale.LogFilter, err error) {
	f = scale.LogFilter{Origin: c.Origin, Actor: c.Actor, Match: c.Match}
	for _, name := range c.Kind {
		var k scale.Kind
		if err := k.UnmarshalText([]byte(name)); err != nil {
			return f, usagef("--kind: %v", err)
		}
		f.Kinds = append(f.Kinds, k)
	}
	if c.Range < 0 {
		return f, usagef("--range: want a time such as 6h, got %v", c.Range)
	}
	if c.Range > 0 {
		f.To = time.Now().UTC().Add(time.Minute) // another machine's clock may be ahead
		f.From = f.To.Add(-c.Range - time.Minute)
	}
	return f, nil
}

type logList struct {
	logPlace
	chosen
	Limit int  `default:"50" help:"Entries at most."`
	JSON  bool `name:"json" help:"Print one JSON object a line."`
	CSV   bool `name:"csv" help:"Print CSV."`
}

// maxListed bounds what one list prints.
const maxListed = 100_000

// Run lists entries.
func (c *logList) Run(ctx context.Context, env *Env) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	if c.Limit < 1 || c.Limit > maxListed {
		return usagef("--limit: want 1 to %d, got %d", maxListed, c.Limit)
	}
	return c.open(ctx, env, func(from logSource) error {
		table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
		sheet := csv.NewWriter(env.Stdout)
		switch {
		case c.CSV:
			if err := sheet.Write(entryHeading()); err != nil {
				return fmt.Errorf("output: %w", err)
			}
		case !c.JSON:
			fmt.Fprintln(table, "ID\tWHEN\tKIND\tBY\tWHAT")
		}
		err := eachEntry(ctx, from, f, c.Limit, func(e *scale.LogEntry) error {
			switch {
			case c.JSON:
				return printJSON(env.Stdout, e)
			case c.CSV:
				return sheet.Write(entryRow(e))
			}
			_, err := fmt.Fprintf(table, "%s:%d\t%s\t%s\t%s\t%s\n", e.Origin, e.Seq, e.At.Local().Format("2006-01-02 15:04:05"), e.Kind, e.Actor, short(e.Summary, 160))
			return err
		})
		if err != nil {
			return err
		}
		sheet.Flush()
		return errors.Join(sheet.Error(), table.Flush())
	})
}

// eachEntry hands over up to limit entries, a page at a time.
func eachEntry(ctx context.Context, from logSource, f scale.LogFilter, limit int, do func(*scale.LogEntry) error) error {
	for limit > 0 {
		f.Limit = min(limit, 500)
		page, err := from.page(ctx, f)
		if err != nil {
			return err
		}
		for i := range page {
			if err := do(&page[i]); err != nil {
				return fmt.Errorf("output: %w", err)
			}
			f.Before = page[i].Place
		}
		if limit -= len(page); len(page) < f.Limit {
			return nil
		}
	}
	return nil
}

func entryHeading() []string {
	return []string{"origin", "seq", "at", "kind", "actor", "region", "summary", "cause", "data", "prev", "hash"}
}

func entryRow(e *scale.LogEntry) []string {
	cause := ""
	if e.Cause > 0 {
		cause = strconv.FormatUint(e.Cause, 10)
	}
	return []string{e.Origin, strconv.FormatUint(e.Seq, 10), e.At.UTC().Format(time.RFC3339Nano), e.Kind.String(), e.Actor, e.Region, e.Summary, cause, string(e.Data), e.Prev, e.Hash}
}

// short cuts a text for a table.
func short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "…"
}

// entryArg names one entry.
type entryArg struct {
	ID string `arg:"" help:"ORIGIN:SEQ as listed, or SEQ where there is only one log."`
}

func (a *entryArg) parse() (origin string, seq uint64, err error) {
	text := a.ID
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		origin, text = text[:i], text[i+1:]
	}
	if seq, err = strconv.ParseUint(text, 10, 53); err != nil {
		return "", 0, usagef("%q is no entry: want ORIGIN:SEQ as \"agentnet log list\" prints it", a.ID)
	}
	return origin, seq, nil
}

type logShow struct {
	entryArg
	logPlace
	JSON bool `name:"json" help:"Print JSON."`
}

// Run shows an entry.
func (c *logShow) Run(ctx context.Context, env *Env) error {
	origin, seq, err := c.parse()
	if err != nil {
		return err
	}
	return c.open(ctx, env, func(from logSource) error {
		e, led, err := from.entry(ctx, origin, seq)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(env.Stdout, map[string]any{"entry": e, "led": append([]scale.LogEntry{}, led...)})
		}
		_, err = io.WriteString(env.Stdout, entryText(&e, led))
		return err
	})
}

// entryText writes an entry for people.
func entryText(e *scale.LogEntry, led []scale.LogEntry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d  %s  %s by %s\n%s\n", e.Origin, e.Seq, e.At.Local().Format("2006-01-02 15:04:05"), e.Kind, e.Actor, e.Summary)
	if e.Cause > 0 {
		fmt.Fprintf(&b, "because of %s:%d\n", e.Origin, e.Cause)
	}
	b.WriteString(evidence(e))
	for i := range led {
		fmt.Fprintf(&b, "led to %s:%d  %s: %s\n", led[i].Origin, led[i].Seq, led[i].Kind, short(led[i].Summary, 120))
	}
	fmt.Fprintf(&b, "hash %s\n", e.Hash)
	return b.String()
}

// evidence writes what the entry holds, in the form of its kind.
func evidence(e *scale.LogEntry) string {
	var b strings.Builder
	var d scale.DecisionData
	var w scale.WalkData
	switch {
	case len(e.Data) == 0:
	case e.Kind == scale.KindWalk && json.Unmarshal(e.Data, &w) == nil:
		b.WriteString("\n" + w.Walk.Text() + "\n")
	case e.Kind == scale.KindDecision && json.Unmarshal(e.Data, &d) == nil:
		b.WriteByte('\n')
		for i := range d.Decision.Wants {
			want := &d.Decision.Wants[i]
			fmt.Fprintf(&b, "  %-16s wants %d: %s\n", want.Signal, want.Count, want.Reason)
		}
		for _, s := range d.Decision.Suppressions {
			fmt.Fprintf(&b, "  %-16s %d to %d: %s\n", s.By, s.From, s.To, s.Why)
		}
		fmt.Fprintf(&b, "  of %d live nodes: %d to %d", d.Decision.Live, d.Decision.Base, d.Decision.Desired)
		if len(d.Decision.Victims) > 0 {
			fmt.Fprintf(&b, ", to go: %s", strings.Join(d.Decision.Victims, ", "))
		}
		b.WriteString("\n\n")
	default:
		if text, err := json.MarshalIndent(e.Data, "  ", "  "); err == nil {
			fmt.Fprintf(&b, "\n  %s\n\n", text)
		}
	}
	return b.String()
}

type logExport struct {
	logPlace
	chosen
	Format string `default:"csv" enum:"csv,json" help:"${enum}."`
	Out    string `default:"-" placeholder:"FILE" help:"File to write, which must not exist; - is standard output."`
}

// Run writes entries, the oldest first.
func (c *logExport) Run(ctx context.Context, env *Env) error {
	f, err := c.filter()
	if err != nil {
		return err
	}
	f.Oldest = true
	return c.open(ctx, env, func(from logSource) (err error) {
		out := env.Stdout
		if c.Out != "-" {
			file, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			out = file
		}
		sheet := csv.NewWriter(out)
		if c.Format == "csv" {
			if err := sheet.Write(entryHeading()); err != nil {
				return fmt.Errorf("export: %w", err)
			}
		}
		err = eachEntry(ctx, from, f, math.MaxInt, func(e *scale.LogEntry) error {
			if c.Format == "json" {
				return printJSON(out, e)
			}
			return sheet.Write(entryRow(e))
		})
		sheet.Flush()
		return errors.Join(err, sheet.Error())
	})
}

type logNote struct {
	Text []string `arg:"" help:"What whoever comes next should know."`
	logPlace
	JSON bool `name:"json" help:"Print the entry as JSON."`
}

// Run writes a note.
func (c *logNote) Run(ctx context.Context, env *Env) error {
	text := strings.TrimSpace(strings.Join(c.Text, " "))
	if text == "" || len(text) > 2000 {
		return usagef("the note must have 1 to 2000 bytes")
	}
	return c.open(ctx, env, func(from logSource) error {
		e, err := from.note(ctx, text)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(env.Stdout, e)
		}
		_, err = fmt.Fprintf(env.Stdout, "%s:%d\n", e.Origin, e.Seq)
		return err
	})
}

// systemActor names who works on a data directory itself.
func systemActor() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return "system:" + u.Username
	}
	return "system"
}
