package incident

import (
	"fmt"
	"strings"
	"time"

	"agentnet/app/scale"
)

// Headline is what happened in two or three sentences.
func (r *Report) Headline() string {
	critical, open := 0, 0
	var longest *Alert
	for i := range r.Alerts {
		a := &r.Alerts[i]
		if a.Severity == scale.Critical {
			critical++
		}
		if a.Ended.IsZero() {
			open++
		}
		if longest == nil || a.Lasted(r.To) > longest.Lasted(r.To) {
			longest = a
		}
	}
	if r.Entries == 0 {
		return "The log holds nothing of this time."
	}
	text := fmt.Sprintf("%s fired, %d of them critical", count(len(r.Alerts), "alert"), critical)
	if open > 0 {
		text += fmt.Sprintf("; %d still did at the end", open)
	}
	text += ". "
	if longest != nil {
		text += fmt.Sprintf("The longest was %s, for %s. ", longest.Key, lasts(longest.Lasted(r.To)))
	}
	acted, failed := 0, 0
	for i := range r.Decisions {
		for _, a := range r.Decisions[i].Actions {
			acted++
			if a.Fault != "" {
				failed++
			}
		}
	}
	text += fmt.Sprintf("The count was decided upon %s and acted upon %s", times(len(r.Decisions)), times(acted))
	if failed > 0 {
		text += fmt.Sprintf(", of which %d failed", failed)
	}
	verdicts := map[scale.Verdict]int{}
	for _, c := range r.Compared {
		verdicts[c.Comparison.Verdict]++
	}
	if len(r.Compared) > 0 {
		text += fmt.Sprintf("; compared afterwards, %d helped, %d had no effect, %d made it worse, %d cannot be told", verdicts[scale.Helped], verdicts[scale.NoEffect], verdicts[scale.Worse], verdicts[scale.Unclear])
	}
	return text + "."
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// lasts writes a time as people say it.
func lasts(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// outcome is what came of an action, in words.
func (a *Action) outcome() string {
	switch {
	case !a.Answered:
		return "no result is in the log: the node may have died on the way"
	case a.Fault != "":
		return "failed: " + a.Fault
	case a.DryRun:
		return "dry run"
	case !a.Done:
		return "advice: " + a.Advice
	}
	return "done in " + lasts(a.Took)
}

// A cell of a table is text; a report is tables and lists under headings.
type section struct {
	heading string
	intro   string
	columns []string
	rows    [][]string
	empty   string // instead of the table when there are no rows
}

const clock = "2006-01-02 15:04:05"

// sections are the parts of the report, the same in every form.
func (r *Report) sections() []section {
	alerts := section{heading: "Alerts", columns: []string{"alert", "severity", "fired", "for", "why", "runbook"}, empty: "None fired."}
	for i := range r.Alerts {
		a := &r.Alerts[i]
		lasted := lasts(a.Lasted(r.To))
		if a.Ended.IsZero() {
			lasted += ", goes on"
		}
		alerts.rows = append(alerts.rows, []string{a.Key, a.Severity.String(), a.Fired.UTC().Format(clock), lasted, a.Why, a.Runbook})
	}
	decisions := section{heading: "Decisions and actions", columns: []string{"when", "count", "mode", "why", "what came of it", "entry"}, empty: "The count was not changed."}
	for i := range r.Decisions {
		d := &r.Decisions[i]
		var came []string
		for k := range d.Actions {
			came = append(came, strings.TrimSpace(d.Actions[k].Actuator+" "+d.Actions[k].outcome()))
		}
		if len(came) == 0 {
			came = []string{"not acted upon"}
		}
		decisions.rows = append(decisions.rows, []string{d.At.UTC().Format(clock), fmt.Sprintf("%d → %d", d.From, d.To), d.Mode.String(), d.Reason, strings.Join(came, "; "), d.ID})
	}
	compared := section{heading: "Before and after", columns: []string{"when", "count", "verdict", "why", "an instance carried", "p95", "errors", "entry"},
		empty: "No comparison was due in this time: it follows 30 minutes after an action."}
	for _, c := range r.Compared {
		x := &c.Comparison
		compared.rows = append(compared.rows, []string{c.At.UTC().Format(clock), fmt.Sprintf("%d → %d", x.From, x.To), strings.ReplaceAll(string(x.Verdict), "_", " "), x.Why,
			fmt.Sprintf("%s: %.4g → %.4g", x.Signal, x.Before.Value, x.After.Value), fmt.Sprintf("%.0f → %.0f ms", x.Before.LatencyP95*1000, x.After.LatencyP95*1000),
			fmt.Sprintf("%.2f%% → %.2f%%", x.Before.ErrorRate*100, x.After.ErrorRate*100), c.ID})
	}
	timeline := lines("Timeline", r.Timeline, "Nothing.")
	if r.Left > 0 {
		timeline.intro = fmt.Sprintf("The first %d entries; %d more are in the log.", len(r.Timeline), r.Left)
	}
	return []section{alerts, decisions, compared, lines("Advice of the decision framework", r.Advice, "No alert walked it."),
		lines("What people noted", r.Notes, "Nothing: add what only people know with \"agentnet log note\"."), lines("Drills", r.Drills, "None."), timeline}
}

func lines(heading string, list []Line, empty string) section {
	s := section{heading: heading, columns: []string{"when", "kind", "by", "what", "entry"}, empty: empty}
	for _, l := range list {
		s.rows = append(s.rows, []string{l.At.UTC().Format(clock), l.Kind.String(), l.Actor, l.Text, l.ID})
	}
	return s
}

func (r *Report) title() string {
	return fmt.Sprintf("Report of %s to %s UTC", r.From.Format("2006-01-02 15:04"), r.To.Format("2006-01-02 15:04"))
}

// questions are what the log cannot answer.
var questions = [...]string{"What did users notice, from when to when?", "What was the cause, and how was it found?",
	"What helped, what did not, what was luck?", "What is changed so that it does not happen again, by whom, until when?"}

// Markdown writes the report as Markdown.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\nDrawn from %s of the scaling log (%s) at %s UTC.\n", r.title(), escape(r.Headline()), entries(r.Entries), strings.Join(r.Origins, ", "), r.Made.Format(clock))
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "\n## %s\n\n", s.heading)
		if s.intro != "" {
			b.WriteString(s.intro + "\n\n")
		}
		if len(s.rows) == 0 {
			b.WriteString(s.empty + "\n")
			continue
		}
		b.WriteString("| " + strings.Join(s.columns, " | ") + " |\n|" + strings.Repeat("---|", len(s.columns)) + "\n")
		for _, row := range s.rows {
			for i, cell := range row {
				if i == 0 {
					b.WriteString("|")
				}
				b.WriteString(" " + escape(cell) + " |")
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n## To add by hand\n\n")
	for i, q := range questions {
		fmt.Fprintf(&b, "%d. %s\n", i+1, q)
	}
	return b.String()
}

// escape keeps text in its cell and from being markup.
func escape(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", ">", "&gt;", "`", "'").Replace(text)
}
