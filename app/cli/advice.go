package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"agentnet/app/scale/watch"
)

type scaleAdvice struct {
	office
	State string `default:"" enum:",open,snoozed,dismissed" help:"open, snoozed or dismissed only."`
	JSON  bool   `name:"json" help:"Print JSON." xor:"form"`
	CSV   bool   `name:"csv" help:"Print CSV." xor:"form"`
}

// Run prints what is advised.
func (c *scaleAdvice) Run(ctx context.Context, env *Env) error {
	var reply struct {
		Advice []watch.Piece `json:"advice"`
	}
	path := "/v1/scaling/advice"
	if c.State != "" {
		path += "?state=" + c.State
	}
	if err := c.call(ctx, env, http.MethodGet, path, nil, &reply); err != nil {
		return err
	}
	switch {
	case c.JSON:
		return printJSON(env.Stdout, reply)
	case c.CSV:
		sheet := csv.NewWriter(env.Stdout)
		rows := [][]string{{"advice", "weight", "urgency", "state", "title", "evidence", "effect", "change", "risk", "applies"}}
		for _, p := range reply.Advice {
			rows = append(rows, []string{p.Advice, p.Weight, p.Urgency, p.State, p.Title, factLine(p.Evidence), factLine(p.Effect), strings.Join(p.Change, "\n"), p.Risk, strconv.FormatBool(p.Applies)})
		}
		if err := sheet.WriteAll(rows); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		return nil
	}
	var text strings.Builder
	if len(reply.Advice) == 0 {
		text.WriteString("Nothing is advised.\n")
	}
	for _, p := range reply.Advice {
		writePiece(&text, &p)
	}
	if _, err := fmt.Fprint(env.Stdout, text.String()); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

func factLine(facts []watch.AdviceFact) string {
	var all []string
	for _, f := range facts {
		all = append(all, f.Name+": "+f.Value)
	}
	return strings.Join(all, "; ")
}

// writePiece is one piece of advice for a person.
func writePiece(out *strings.Builder, p *watch.Piece) {
	when := map[string]string{"now": "act now", "soon": "act soon", "later": "can wait"}[p.Urgency]
	fmt.Fprintf(out, "%s (%s, %s): %s\n", printable(p.Advice), when, p.State, printable(p.Title))
	fmt.Fprintf(out, "  evidence  %s\n  effect    %s\n", printable(factLine(p.Evidence)), printable(factLine(p.Effect)))
	for _, line := range p.Change {
		fmt.Fprintf(out, "    %s\n", printable(line))
	}
	fmt.Fprintf(out, "  risk      %s\n", printable(p.Risk))
	if a := p.Answer; a != nil {
		fmt.Fprintf(out, "  put away by %s: %s\n", printable(a.By), printable(a.Reason))
	}
	if p.Applies && p.State == "open" {
		fmt.Fprintf(out, "  agentnet scale apply %s makes the change\n", printable(p.Advice))
	}
}

type scaleAnswer struct {
	Advice  string `arg:"" help:"Which, as listed, such as nodes or memory@n1."`
	Verdict string `arg:"" enum:"snooze,dismiss,reopen" help:"${enum}."`
	For     string `default:"7d" help:"How long to snooze it."`
	Reason  string `help:"Why; needed to dismiss."`
	operation
}

// Run answers a piece of advice. The answer holds while the evidence is what it is now.
func (c *scaleAnswer) Run(ctx context.Context, env *Env) error {
	body := map[string]any{"advice": c.Advice, "verdict": c.Verdict, "reason": c.Reason}
	if c.Verdict == string(watch.Snooze) {
		body["for"] = c.For
	}
	return c.do(ctx, env, "/v1/scaling/advice/answers", body)
}

type scaleApply struct {
	Advice string `arg:"" help:"Which, as listed."`
	operation
}

// Run makes the change that is advised.
func (c *scaleApply) Run(ctx context.Context, env *Env) error {
	return c.do(ctx, env, "/v1/scaling/advice/apply", map[string]any{"advice": c.Advice})
}
