package dash

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/scale"
	"agentnet/web/ui"
)

// logPage is how many entries of the scaling log a page shows.
const logPageRows = 60

// logView is the page of the scaling log.
type logView struct {
	r        *request
	lead     string
	verified string // what the check of the chains came to; "" was not asked for
	sound    bool
	chips    []ui.Choice
	lanes    []lane
	days     []logDay
	older    string
	newest   string
	match    string
	operates bool
	empty    bool
}

type logDay struct {
	name string
	rows []logRow
}

// logRow is one entry.
type logRow struct {
	id, at, kind, icon, word string
	text, actor              string
	seq                      string
	path                     string // opens or closes it
	open                     *logOpen
	state, stateWord         string
}

// lane is one line of the timeline.
type lane struct {
	name string
	dots []string // places in percent
	kind string
}

// logKinds are the chips: a name and the kinds that it stands for.
var logKinds = []struct {
	key, name string
	kinds     []scale.Kind
}{
	{"", "All", nil},
	{"decisions", "Decisions", []scale.Kind{scale.KindDecision, scale.KindWalk, scale.KindForecast}},
	{"actions", "Actions", []scale.Kind{scale.KindAction, scale.KindResult, scale.KindOutcome}},
	{"alerts", "Alerts", []scale.Kind{scale.KindAlert, scale.KindSilence}},
	{"config", "Config", []scale.Kind{scale.KindConfig}},
	{"nodes", "Nodes and drains", []scale.Kind{scale.KindNode, scale.KindDrain}},
	{"storms", "Storms", []scale.Kind{scale.KindStorm}},
	{"notes", "Notes", []scale.Kind{scale.KindNote, scale.KindDrill, scale.KindPlanning}},
}

// logFilter reads what the address chooses.
func (r *request) logFilter(rng timeRange) scale.LogFilter {
	f := scale.LogFilter{From: rng.from, To: rng.to.Add(time.Second), Match: r.query.Get("q"), Limit: logPageRows}
	for _, k := range logKinds {
		if k.key == r.query.Get("kind") {
			f.Kinds = k.kinds
		}
	}
	if before, err := strconv.ParseUint(r.query.Get("before"), 10, 64); err == nil {
		f.Before = before
	}
	return f
}

// exportPath is where the API has all entries of the range that the page's filter
// chooses, however many.
func (r *request) exportPath(format string) string {
	f := r.logFilter(r.during("7d"))
	q := url.Values{"format": {format}, "from": {f.From.UTC().Format(time.RFC3339)}, "to": {f.To.UTC().Format(time.RFC3339)}}
	if f.Match != "" {
		q.Set("match", f.Match)
	}
	var kinds []string
	for _, k := range f.Kinds {
		kinds = append(kinds, k.String())
	}
	if len(kinds) > 0 {
		q.Set("kinds", strings.Join(kinds, ","))
	}
	return r.base + "/v1/scaling/log/export?" + q.Encode()
}

func (b *Board) scalingLog(r *request) (*view, error) {
	rng := r.during("7d")
	v := &logView{r: r, match: r.query.Get("q"), operates: r.who.Role >= Operator}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		v.empty = true
		return &view{title: "Scaling log", body: logPage(v)}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	entries, err := sc.Log(ctx, r.logFilter(rng))
	if err != nil {
		return nil, fmt.Errorf("read the scaling log: %w", err)
	}
	all, err := sc.Log(ctx, scale.LogFilter{From: rng.from, To: rng.to.Add(time.Second), Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("read the scaling log: %w", err)
	}
	v.lanes = lanesOf(all, rng)
	v.chips = logChips(r, all)
	v.lead = logLead(all, rng)
	if r.query.Get("verify") != "" {
		v.verified, v.sound = verifyWords(ctx, sc)
	}
	if err := b.logDays(ctx, r, v, entries); err != nil {
		return nil, err
	}
	if len(entries) == logPageRows {
		v.older = r.with("before", fmt.Sprint(entries[len(entries)-1].Place), "open", "")
	}
	if r.query.Get("before") != "" {
		v.newest = r.with("before", "", "open", "")
	}
	return &view{title: "Scaling log", body: logPage(v)}, nil
}

// logDays groups entries by the visitor's days and opens the chosen one.
func (b *Board) logDays(ctx context.Context, r *request, v *logView, entries []scale.LogEntry) error {
	open := r.query.Get("open")
	for i := range entries {
		e := &entries[i]
		at := e.At.In(r.zone)
		day := at.Format("Monday 2 January 2006")
		if at.Format("20060102") == r.now.In(r.zone).Format("20060102") {
			day = "Today, " + at.Format("Monday 2 January")
		}
		if len(v.days) == 0 || v.days[len(v.days)-1].name != day {
			v.days = append(v.days, logDay{name: day})
		}
		row := logRowOf(r, e)
		if row.id == open {
			var err error
			if row.open, err = b.openEntry(ctx, r, e.Origin, e.Seq); err != nil {
				return err
			}
			row.path = r.with("open", "", "replay", "")
		}
		last := &v.days[len(v.days)-1]
		last.rows = append(last.rows, row)
	}
	return nil
}

func entryID(e *scale.LogEntry) string { return e.Origin + ":" + strconv.FormatUint(e.Seq, 10) }

func logRowOf(r *request, e *scale.LogEntry) logRow {
	kind, icon, word := entryLook(e)
	row := logRow{id: entryID(e), at: e.At.In(r.zone).Format("15:04:05"), kind: kind, icon: icon, word: word, text: e.Summary, actor: e.Actor,
		seq: strconv.FormatUint(e.Seq, 10), path: r.with("open", entryID(e), "replay", "") + "#" + rowAnchor(e)}
	switch e.Kind {
	case scale.KindOutcome:
		var c scale.Comparison
		if json.Unmarshal(e.Data, &c) == nil {
			row.state, row.stateWord = verdictLook(c.Verdict)
		}
	case scale.KindDecision:
		var d scale.DecisionData
		if json.Unmarshal(e.Data, &d) == nil {
			row.icon = map[int]string{-1: "down", 0: "log", 1: "up"}[cmp.Compare(d.Decision.Desired, d.Decision.Base)]
			if d.Decision.Mode != scale.Act && d.Decision.Changed() {
				row.state, row.stateWord = "info", "Waits for you"
			}
		}
	}
	return row
}

func rowAnchor(e *scale.LogEntry) string { return "e" + strconv.FormatUint(e.Place, 10) }

func verdictLook(v scale.Verdict) (kind, word string) {
	switch v {
	case scale.Helped:
		return "ok", "Helped"
	case scale.NoEffect:
		return "none", "No effect"
	case scale.Worse:
		return "crit", "Worse"
	}
	return "none", "Unclear"
}

func lanesOf(entries []scale.LogEntry, rng timeRange) []lane {
	lanes := []lane{{name: "Scaling", kind: "pin"}, {name: "Alerts", kind: "fx"}, {name: "Changes", kind: "pin"}, {name: "Storms", kind: "pin"}, {name: "Notes", kind: "pin"}}
	span := rng.to.Sub(rng.from)
	for i := len(entries) - 1; i >= 0; i-- {
		e, at := &entries[i], -1
		switch e.Kind {
		case scale.KindDecision, scale.KindAction, scale.KindResult, scale.KindForecast:
			at = 0
		case scale.KindAlert:
			at = 1
		case scale.KindConfig, scale.KindNode, scale.KindDrain:
			at = 2
		case scale.KindStorm:
			at = 3
		case scale.KindNote, scale.KindDrill, scale.KindPlanning:
			at = 4
		}
		if at < 0 || span <= 0 {
			continue
		}
		place := fmt.Sprintf("%.1f%%", min(max(100*float64(e.At.Sub(rng.from))/float64(span), 0), 100))
		if n := len(lanes[at].dots); n == 0 || lanes[at].dots[n-1] != place {
			lanes[at].dots = append(lanes[at].dots, place)
		}
	}
	return lanes
}

func logChips(r *request, all []scale.LogEntry) (out []ui.Choice) {
	for _, k := range logKinds {
		n := 0
		for i := range all {
			if k.kinds == nil || slices.Contains(k.kinds, all[i].Kind) {
				n++
			}
		}
		count := ui.Count(n)
		if len(all) == 1000 {
			count += "+"
		}
		out = append(out, ui.Choice{Name: k.name, Path: r.with("kind", k.key, "before", "", "open", ""), Current: r.query.Get("kind") == k.key, Count: count})
	}
	return out
}

func logLead(all []scale.LogEntry, rng timeRange) string {
	decisions, helped, nothing, worse := 0, 0, 0, 0
	for i := range all {
		switch all[i].Kind {
		case scale.KindDecision:
			decisions++
		case scale.KindOutcome:
			var c scale.Comparison
			if json.Unmarshal(all[i].Data, &c) != nil {
				continue
			}
			switch c.Verdict {
			case scale.Helped:
				helped++
			case scale.NoEffect:
				nothing++
			case scale.Worse:
				worse++
			}
		}
	}
	text := fmt.Sprintf("Every decision with its evidence, and what came of it. %s in %s", ui.Plural(decisions, "decision", "decisions"), rng.word)
	if helped+nothing+worse > 0 {
		text += fmt.Sprintf(": %d helped, %d changed nothing, %d made it worse", helped, nothing, worse)
	}
	return text + "."
}

// verifyWords checks the chains of all nodes.
func verifyWords(ctx context.Context, sc Scaling) (text string, sound bool) {
	reports, err := sc.Verify(ctx)
	if err != nil {
		return "The log could not be checked: " + err.Error(), false
	}
	rows, faults := uint64(0), []string{}
	for _, rep := range reports {
		rows += rep.Rows
		for _, f := range rep.Faults {
			faults = append(faults, fmt.Sprintf("%s row %d: %s", rep.Origin, f.Seq, f.Text))
		}
	}
	if len(faults) > 0 {
		return "The log was changed: " + strings.Join(faults[:min(len(faults), 5)], "; "), false
	}
	return fmt.Sprintf("%s rows of %s checked just now: none was changed or removed.", ui.Count(int(rows)), ui.Plural(len(reports), "node", "nodes")), true
}

// logTable is the log for machines.
func (b *Board) logTable(r *request) (*table, error) {
	sc := b.cfg.Sources.Scaling
	t := &table{columns: []string{"origin", "seq", "at", "kind", "actor", "region", "summary", "cause", "hash"}}
	if sc == nil {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	f := r.logFilter(r.during("7d"))
	f.Limit = 1000
	entries, err := sc.Log(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("read the scaling log: %w", err)
	}
	for i := range entries {
		e := &entries[i]
		t.add(e.Origin, e.Seq, e.At, e.Kind.String(), e.Actor, e.Region, e.Summary, e.Cause, e.Hash)
	}
	return t, nil
}

// addNote writes an admin's words into the log.
func (b *Board) addNote(r *request) error {
	sc, text := b.cfg.Sources.Scaling, strings.TrimSpace(r.c.FormValue("text"))
	back := r.c.FormValue("back")
	if sc == nil {
		return r.report("/log", "", errors.New("this node keeps no scaling log"))
	}
	if text == "" || len(text) > 2000 {
		return r.report(back, "", errors.New("a note has 1 to 2,000 letters"))
	}
	cause, err := strconv.ParseUint(r.c.FormValue("cause"), 10, 64)
	if err != nil {
		cause = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e, err := sc.Note(ctx, r.who.Name, text, cause)
	b.note(r.c, "note", "")
	return r.report(back, fmt.Sprintf("The note is row %d of the log.", e.Seq), err)
}
