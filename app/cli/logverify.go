package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"agentnet/app/scale"
)

type logReplay struct {
	entryArg
	logPlace
	JSON bool `name:"json" help:"Print JSON."`
}

// Run computes an entry anew. The exit code is 1 where it comes out differently.
func (c *logReplay) Run(ctx context.Context, env *Env) error {
	origin, seq, err := c.parse()
	if err != nil {
		return err
	}
	return c.open(ctx, env, func(from logSource) error {
		e, _, err := from.entry(ctx, origin, seq)
		if err != nil {
			return err
		}
		again, err := scale.Replay(e.Entry)
		if errors.Is(err, scale.ErrNoReplay) {
			return usagef("entry %d is of the kind %v, which records what happened; decisions, walks and alerts can be replayed", seq, e.Kind)
		}
		if err != nil {
			return err
		}
		same := again.Hash == e.Hash
		if c.JSON {
			err = printJSON(env.Stdout, map[string]any{"same": same, "entry": e, "again": again})
		} else if same {
			_, err = fmt.Fprintf(env.Stdout, "same: %s\n", e.Summary)
		} else {
			_, err = fmt.Fprintf(env.Stdout, "then: %s\nnow:  %s\n", e.Summary, again.Summary)
		}
		if err == nil && !same {
			err = fmt.Errorf("entry %d comes out differently: this program decides otherwise, or the entry was edited (agentnet log verify)", seq)
		}
		return err
	})
}

type logVerify struct {
	logPlace
	Archive []string `placeholder:"FILE" help:"Check these archives of entries that left the database too, and that they fit to each other and to the log."`
	JSON    bool     `name:"json" help:"Print JSON."`
}

// Run checks all chains. The exit code is 1 where one is broken.
func (c *logVerify) Run(ctx context.Context, env *Env) error {
	archives, err := readArchives(c.Archive)
	if err != nil {
		return err
	}
	return c.open(ctx, env, func(from logSource) error {
		reports, err := from.verify(ctx)
		if err != nil {
			return err
		}
		faults, rows, err := c.archives(env.Stdout, archives, reports)
		if err != nil {
			return err
		}
		for i := range reports {
			r := &reports[i]
			faults, rows = faults+len(r.Faults), rows+r.Rows
			if c.JSON {
				err = printJSON(env.Stdout, r)
			} else {
				err = reportText(env.Stdout, r)
			}
			if err != nil {
				return fmt.Errorf("output: %w", err)
			}
		}
		if len(reports) == 0 && !c.JSON {
			fmt.Fprintln(env.Stdout, "the log is empty")
		}
		if faults > 0 {
			return fmt.Errorf("the scaling log is not as it was written: %d faults in %d entries", faults, rows)
		}
		return nil
	})
}

func reportText(w io.Writer, r *scale.LogReport) error {
	if len(r.Faults) == 0 {
		before := ""
		if a := r.Anchor; a != nil {
			before = fmt.Sprintf(" behind entry %d (%d have left", a.Head.Seq, a.Entries)
			if a.File != "" {
				before += ", the last ones for " + a.File
			}
			before += ")"
		}
		_, err := fmt.Fprintf(w, "%s: whole, %d entries%s, end %d:%s\n", r.Origin, r.Rows, before, r.End.Seq, r.End.Hash)
		return err
	}
	for _, f := range r.Faults {
		if _, err := fmt.Fprintf(w, "%s:%d %s: %s\n", r.Origin, f.Seq, f.Kind, f.Text); err != nil {
			return err
		}
	}
	return nil
}
