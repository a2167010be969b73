package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
)

// auditCommands are `agentnet audit …`.
type auditCommands struct {
	List   auditList   `cmd:"" help:"List the audit log, the newest entry first."`
	Verify auditVerify `cmd:"" help:"Check that no entry was edited, removed or replaced."`
	Export auditExport `cmd:"" help:"Write the whole audit log as CSV or JSON lines, the oldest entry first."`
}

type auditList struct {
	dataFlag
	Actor   string `help:"Only of this account, token:ID or system:USER."`
	Action  string `help:"Only this action, such as token.create, or all that begin with token."`
	Outcome string `help:"done, refused or failed."`
	Match   string `help:"Only with this text in it."`
	Origin  string `help:"Only what this data directory wrote, as listed by verify. Without it: all nodes."`
	Limit   int    `default:"50" help:"Entries at most, up to 1000."`
	JSON    bool   `name:"json" help:"Print one JSON object a line."`
}

type auditVerify struct {
	dataFlag
	Head string `placeholder:"ORIGIN:SEQ:HASH" help:"End of a chain as an earlier check printed it; finds that the end was cut off."`
	JSON bool   `name:"json" help:"Print JSON."`
}

type auditExport struct {
	dataFlag
	Format string `default:"csv" enum:"csv,json" help:"${enum}."`
	Out    string `default:"-" placeholder:"FILE" help:"File to write, which must not exist; - is standard output."`
}

// Run lists entries.
func (c *auditList) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) error {
		found, err := p.db.Audit(ctx, account.AuditFilter{Actor: c.Actor, Action: c.Action, Outcome: c.Outcome, Match: c.Match, Origin: c.Origin, Limit: c.Limit})
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(table, "SEQ\tNODE\tWHEN\tWHO\tVIA\tFROM\tACTION\tTARGET\tOUTCOME\tDETAIL")
		}
		for _, e := range found {
			if c.JSON {
				err = printJSON(env.Stdout, e)
			} else {
				_, err = fmt.Fprintln(table, strings.Join([]string{strconv.FormatUint(e.Seq, 10), e.Node, e.At.Local().Format("2006-01-02 15:04:05"), e.Actor, e.Via, e.Address,
					e.Action, e.Target, e.Outcome, e.Detail}, "\t"))
			}
			if err != nil {
				return fmt.Errorf("output: %w", err)
			}
		}
		return table.Flush()
	})
}

// chainJSON is what verify --json says of the chain of one origin.
type chainJSON struct {
	Origin string `json:"origin"`
	Own    bool   `json:"own"`
	Rows   uint64 `json:"rows"`
	Head   string `json:"head"`
	Away   uint64 `json:"away,omitempty"`
	Faults int    `json:"faults"`
}

// Run checks the chains of all origins.
func (c *auditVerify) Run(ctx context.Context, env *Env) error {
	known, err := account.ParseKnownEnd(c.Head)
	if err != nil {
		return usagef("--head: %v", err)
	}
	return c.people(ctx, env, false, func(p people) error {
		reports, err := p.db.VerifyAudit(ctx, known)
		if err != nil {
			return err
		}
		faults, rows := account.AuditFaults(reports)
		if c.JSON {
			err = printVerified(env, reports, faults, rows)
		} else {
			err = tellVerified(env, reports, faults)
		}
		if err != nil || len(faults) == 0 {
			return err
		}
		return fmt.Errorf("the audit log is not as it was written: %d faults in %d entries", len(faults), rows)
	})
}

func printVerified(env *Env, reports []account.AuditReport, faults []chain.Fault, rows uint64) error {
	chains, head := []chainJSON{}, ""
	for _, r := range reports {
		end := account.KnownEnd{Origin: r.Origin, Head: r.End}.String()
		if r.Own {
			head = end
		}
		chains = append(chains, chainJSON{r.Origin, r.Own, r.Rows, end, r.Away, len(r.Faults)})
	}
	return printJSON(env.Stdout, map[string]any{"ok": len(faults) == 0, "rows": rows, "head": head, "chains": chains, "faults": append([]chain.Fault{}, faults...)})
}

// tellVerified prints a line for each origin, and every fault.
func tellVerified(env *Env, reports []account.AuditReport, faults []chain.Fault) error {
	if len(reports) == 0 {
		_, err := fmt.Fprintln(env.Stdout, "whole: the log is empty")
		return err
	}
	for _, r := range reports {
		word := "whole"
		if len(r.Faults) > 0 {
			word = "NOT AS IT WAS WRITTEN"
		}
		line := fmt.Sprintf("%s: %d entries, end %s", word, r.Rows, account.KnownEnd{Origin: r.Origin, Head: r.End})
		if r.Own {
			line += " (of this data directory)"
		}
		if r.Away > 0 {
			line += fmt.Sprintf("; %d were removed for their age before they came here", r.Away)
		}
		if _, err := fmt.Fprintln(env.Stdout, printable(line)); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	for _, f := range faults {
		fmt.Fprintln(env.Stdout, printable(f.Text))
	}
	return nil
}

// Run writes all entries.
func (c *auditExport) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) (err error) {
		var out io.Writer = env.Stdout
		if c.Out != "-" {
			f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			defer f.Close()
			out = f
		}
		table := csv.NewWriter(out)
		if c.Format == "csv" {
			err = table.Write([]string{"seq", "at", "node", "actor", "role", "via", "address", "action", "target", "outcome", "detail", "prev", "hash", "origin"})
		}
		if err == nil {
			err = p.db.EachAudit(ctx, func(e account.Entry) error {
				if c.Format == "json" {
					return printJSON(out, e)
				}
				return table.Write([]string{strconv.FormatUint(e.Seq, 10), e.At.UTC().Format(time.RFC3339Nano), e.Node, e.Actor, string(e.Role), e.Via, e.Address,
					e.Action, e.Target, e.Outcome, e.Detail, e.Prev, e.Hash, e.Origin})
			})
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		table.Flush()
		return table.Error()
	})
}
