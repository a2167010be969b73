package cli

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agentnet/app/incident"
	"agentnet/app/scale"
)

// logReport is `agentnet log report`.
type logReport struct {
	logPlace
	From string `placeholder:"TIME" help:"Where it begins: 2026-03-02T09:30 in local time, with Z or an offset in that, or a time ago such as 6h. Default: 24h ago."`
	To   string `placeholder:"TIME" help:"Where it ends, written the same way. Default: now."`
	Out  string `placeholder:"FILE" help:"Write it to this file, .md or .html, instead of printing Markdown."`
}

// maxReported bounds the entries that one report reads.
const maxReported = 200_000

// Run makes the report of an incident.
func (c *logReport) Run(ctx context.Context, env *Env) error {
	now := time.Now()
	from, err := moment(c.From, now, now.Add(-24*time.Hour))
	if err != nil {
		return usagef("--from: %v", err)
	}
	to, err := moment(c.To, now, now)
	if err != nil {
		return usagef("--to: %v", err)
	}
	if !from.Before(to) {
		return usagef("--from (%s) is not before --to (%s)", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	format := strings.ToLower(filepath.Ext(c.Out))
	if c.Out != "" && format != ".md" && format != ".html" {
		return usagef("--out: want a file that ends in .md or .html, got %q", c.Out)
	}
	var report *incident.Report
	if err := c.open(ctx, env, func(source logSource) error {
		report, err = incident.Make(between(ctx, source, from, to), from, to, now)
		return err
	}); err != nil {
		return err
	}
	text := report.Markdown()
	if format == ".html" {
		if text, err = report.HTML(); err != nil {
			return err
		}
	}
	if c.Out == "" {
		_, err = fmt.Fprint(env.Stdout, text)
	} else if err = os.WriteFile(c.Out, []byte(text), 0o644); err == nil {
		_, err = fmt.Fprintf(env.Stdout, "%s\nReport: %s\n", report.Headline(), c.Out)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// between reads the entries of a span, the oldest first.
func between(ctx context.Context, source logSource, from, to time.Time) iter.Seq2[scale.LogEntry, error] {
	return func(yield func(scale.LogEntry, error) bool) {
		stopped := false
		err := eachEntry(ctx, source, scale.LogFilter{From: from.UTC(), To: to.UTC().Add(time.Second), Oldest: true}, maxReported, func(e *scale.LogEntry) error {
			if !yield(*e, nil) {
				stopped = true
				return context.Canceled
			}
			return nil
		})
		if err != nil && !stopped {
			yield(scale.LogEntry{}, err)
		}
	}
}

// moment reads a time as people write it; "" is the default.
func moment(text string, now, byDefault time.Time) (time.Time, error) {
	if text == "" {
		return byDefault, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%.40q is no time: write it like 2026-03-02T09:30, 2026-03-02T09:30Z or 6h", text)
}
