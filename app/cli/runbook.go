package cli

import (
	"fmt"
	"text/tabwriter"

	"agentnet/app/runbook"
)

// runbookCommand is `agentnet runbook`.
type runbookCommand struct {
	Name string `arg:"" optional:"" help:"Which one, as an alert names it. Without it: list them."`
	JSON bool   `name:"json" help:"Print JSON."`
}

type runbookJSON struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Summary  string `json:"summary"`
	Markdown string `json:"markdown,omitempty"`
}

// Run prints a runbook, or all their names.
func (c *runbookCommand) Run(env *Env) error {
	if c.Name != "" {
		b, ok := runbook.Get(c.Name)
		if !ok {
			return usagef("there is no runbook %q; \"%s runbook\" lists them", c.Name, env.Program)
		}
		if c.JSON {
			return printJSON(env.Stdout, runbookJSON{b.Name, b.Title, b.Summary, b.Markdown})
		}
		if _, err := fmt.Fprint(env.Stdout, b.Markdown); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		return nil
	}
	books, err := runbook.List()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(t, "NAME\tFOR")
	}
	for _, b := range books {
		if c.JSON {
			err = printJSON(env.Stdout, runbookJSON{Name: b.Name, Title: b.Title, Summary: b.Summary})
		} else {
			_, err = fmt.Fprintf(t, "%s\t%s\n", b.Name, b.Summary)
		}
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return t.Flush()
}
