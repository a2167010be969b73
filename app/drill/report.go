package drill

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// Summary is one line on a result.
func (r *Result) Summary() string {
	took := r.Took.Round(100 * time.Millisecond)
	switch {
	case r.NotRun != "":
		return fmt.Sprintf("drill %s: not run: %s", r.Drill, r.NotRun)
	case r.Fault != "":
		return fmt.Sprintf("drill %s: ended early: %s", r.Drill, r.Fault)
	case r.Passed:
		return fmt.Sprintf("drill %s: passed, %d checks in %v", r.Drill, len(r.Checks), took)
	}
	var failed []string
	for _, c := range r.Checks {
		if !c.OK {
			failed = append(failed, c.What+": "+c.Got)
		}
	}
	return fmt.Sprintf("drill %s: FAILED after %v: %s", r.Drill, took, strings.Join(failed, "; "))
}

func (c *Check) mark() string {
	if c.OK {
		return "ok"
	}
	return "FAILED"
}

// Markdown is the report of several drills.
func Markdown(results []Result) string {
	var b strings.Builder
	b.WriteString("# Report of drills\n")
	for i := range results {
		r := &results[i]
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n- Breaks: %s\n- Promise: %s\n- Node: %s\n- Begun: %s\n- Runbook: %s\n", r.Drill, escape(r.Summary()), r.Breaks, r.Promise, r.Node,
			r.Began.Format("2006-01-02 15:04:05 UTC"), r.Runbook)
		if len(r.Checks) > 0 {
			b.WriteString("\n| what | expected | happened | |\n|---|---|---|---|\n")
		}
		for _, c := range r.Checks {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", escape(c.What), escape(c.Want), escape(c.Got), c.mark())
		}
		for k, f := range r.Facts {
			if k == 0 {
				b.WriteString("\nMeasured:\n\n")
			}
			fmt.Fprintf(&b, "- %s: %s\n", escape(f.What), escape(f.Value))
		}
	}
	return b.String()
}

func escape(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", ">", "&gt;").Replace(text)
}

const pageStyle = `:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem}` +
	`table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #8884}` +
	`.bad{color:#c0392b;font-weight:600}.good{color:#2d7d46}`

// HTML is the same report as a page that needs nothing else.
func HTML(results []Result) string {
	var b strings.Builder
	b.WriteString(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Report of drills</title><style>` +
		pageStyle + "</style></head><body><h1>Report of drills</h1>\n")
	text := html.EscapeString
	for i := range results {
		r := &results[i]
		class := "bad"
		if r.Passed {
			class = "good"
		}
		fmt.Fprintf(&b, "<h2>%s</h2><p class=\"%s\">%s</p><p>Breaks: %s. Promise: %s. Node: %s. Begun %s. Runbook: %s.</p>\n", text(r.Drill), class, text(r.Summary()), text(r.Breaks),
			text(r.Promise), text(r.Node), r.Began.Format("2006-01-02 15:04:05 UTC"), text(r.Runbook))
		if len(r.Checks) > 0 {
			b.WriteString("<table><tr><th>what</th><th>expected</th><th>happened</th><th></th></tr>\n")
			for _, c := range r.Checks {
				class := "bad"
				if c.OK {
					class = "good"
				}
				fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td>%s</td><td class=\"%s\">%s</td></tr>\n", text(c.What), text(c.Want), text(c.Got), class, c.mark())
			}
			b.WriteString("</table>\n")
		}
		for k, f := range r.Facts {
			if k == 0 {
				b.WriteString("<p>Measured:</p><ul>")
			}
			fmt.Fprintf(&b, "<li>%s: %s</li>", text(f.What), text(f.Value))
		}
		if len(r.Facts) > 0 {
			b.WriteString("</ul>\n")
		}
	}
	return b.String() + "</body></html>\n"
}
