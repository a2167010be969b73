package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"agentnet/app/scale"
)

var begin = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// story is a log of one incident, made by the engine's own types: an alert fires,
// a walk, a decision, an action that fails and one that works, a comparison, a
// note, and the alert's end.
func story(t *testing.T) []scale.LogEntry {
	t.Helper()
	at := func(minutes float64) time.Time { return begin.Add(time.Duration(minutes * float64(time.Minute))) }
	rule := scale.DefaultRules()[3] // cpu_critical
	var plain []scale.Entry
	add := func(kind scale.Kind, when time.Time, cause uint64, summary string, data any) {
		e, err := scale.NewEntry(kind, when, "engine", "eu", summary, data)
		if err != nil {
			t.Fatal(err)
		}
		e.Cause = cause
		plain = append(plain, e)
	}
	event := func(when time.Time, from, to scale.AlertState, why string) scale.Judgement {
		return scale.Judgement{Rule: rule, After: scale.Alert{Rule: rule.Name, Began: at(5)}, Before: scale.Alert{Began: at(5)},
			Events: []scale.Event{{At: when, Alert: rule.Name, From: from, To: to, Why: why}}}
	}
	add(scale.KindAlert, at(6), 0, "fires", event(at(6), scale.Pending, scale.Firing, "93% is beyond 90% | <b>for 30s</b>"))
	add(scale.KindWalk, at(6), 1, "walk", scale.WalkData{Walk: scale.Walk{Alert: rule.Name, Advice: "Add capacity"}})
	d := scale.DecisionData{Decision: scale.Decision{Mode: scale.Act, Base: 3, Desired: 6, Act: true, Reason: "cpu 93% an instance is above 70%"}}
	add(scale.KindDecision, at(6.2), 0, "act: 3 to 6", d)
	order := scale.Order{ID: "n1-1-3", From: 3, To: 6, Reason: "cpu"}
	add(scale.KindAction, at(6.3), 3, "3 to 6", order)
	add(scale.KindResult, at(7), 4, "not done", scale.Action{Order: order, Actuator: "nomad", Fault: "nomad answered 503", Took: 40 * time.Second})
	add(scale.KindAction, at(9.3), 3, "3 to 6", order)
	add(scale.KindResult, at(9.4), 6, "done", scale.Action{Order: order, Actuator: "nomad", Done: true, Changed: true, Took: 2 * time.Second})
	add(scale.KindNote, at(12), 0, "the deployment of 9:50 did it", nil)
	add(scale.KindAlert, at(20), 0, "ends", event(at(20), scale.Firing, scale.Resolved, "61% is on the good side"))
	add(scale.KindOutcome, at(40), 0, "helped", map[string]any{"origin": "n1", "seq": 6, "comparison": scale.Comparison{Signal: scale.CPU, From: 3, To: 6,
		Before: scale.Side{Value: 0.93, LatencyP95: 0.9, ErrorRate: 0.03}, After: scale.Side{Value: 0.5, LatencyP95: 0.1}, Verdict: scale.Helped, Why: "an instance went from 93% to 50%"}})
	sealed, err := scale.NewMemoryLog(100).Append(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	var out []scale.LogEntry
	for _, e := range sealed {
		out = append(out, scale.LogEntry{Place: e.Seq, Origin: "n1", Entry: e})
	}
	return out
}

func each(list []scale.LogEntry, end error) iter.Seq2[scale.LogEntry, error] {
	return func(yield func(scale.LogEntry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
		if end != nil {
			yield(scale.LogEntry{}, end)
		}
	}
}

func report(t *testing.T, from, to time.Time) *Report {
	t.Helper()
	r, err := Make(each(story(t), nil), from, to, begin.Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportTellsTheStory(t *testing.T) {
	r := report(t, begin, begin.Add(time.Hour))
	if len(r.Alerts) != 1 || r.Alerts[0].Lasted(r.To) != 14*time.Minute || r.Alerts[0].Severity != scale.Critical || r.Alerts[0].Runbook != "capacity" {
		t.Errorf("alerts: got %+v", r.Alerts)
	}
	if len(r.Decisions) != 1 || len(r.Decisions[0].Actions) != 2 || r.Decisions[0].Actions[0].outcome() != "failed: nomad answered 503" || r.Decisions[0].Actions[1].outcome() != "done in 2 s" {
		t.Errorf("decisions: got %+v", r.Decisions)
	}
	if len(r.Compared) != 1 || r.Compared[0].Comparison.Verdict != scale.Helped || len(r.Notes) != 1 || len(r.Advice) != 1 || r.Entries != 10 {
		t.Errorf("got %+v", r)
	}
	want := "1 alert fired, 1 of them critical. The longest was cpu_critical, for 14 min. The count was decided upon once and acted upon 2 times, of which 1 failed; compared afterwards, 1 helped, 0 had no effect, 0 made it worse, 0 cannot be told."
	if got := r.Headline(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReportOfAPart(t *testing.T) {
	late := report(t, begin.Add(10*time.Minute), begin.Add(time.Hour))
	if len(late.Alerts) != 1 || !late.Alerts[0].Fired.Equal(late.From) || late.Alerts[0].Ended.IsZero() {
		t.Errorf("an alert that fired before: got %+v", late.Alerts)
	}
	early := report(t, begin, begin.Add(8*time.Minute))
	if len(early.Alerts) != 1 || !early.Alerts[0].Ended.IsZero() || !strings.Contains(early.Headline(), "1 still did at the end") || early.Alerts[0].Lasted(early.To) != 2*time.Minute {
		t.Errorf("an alert that goes on: got %+v: %s", early.Alerts, early.Headline())
	}
	mid := report(t, begin.Add(380*time.Second), begin.Add(8*time.Minute))
	if len(mid.Decisions) != 0 || mid.Entries != 1 {
		t.Errorf("a result without its action: got %+v", mid.Decisions)
	}
	none := report(t, begin.Add(-time.Hour), begin)
	if none.Headline() != "The log holds nothing of this time." {
		t.Errorf("got %s", none.Headline())
	}
	for _, r := range []*Report{late, early, mid, none} {
		if _, err := r.HTML(); err != nil || r.Markdown() == "" {
			t.Error(err)
		}
	}
}

func TestReportForms(t *testing.T) {
	r := report(t, begin, begin.Add(time.Hour))
	md := r.Markdown()
	for _, want := range []string{"# Report of 2026-03-02 10:00 to 2026-03-02 11:00 UTC", "| cpu_critical | critical | 2026-03-02 10:06:00 | 14 min | 93% is beyond 90% \\| &lt;b&gt;for 30s&lt;/b&gt; | capacity |",
		"| 2026-03-02 10:06:12 | 3 → 6 | act |", "nomad failed: nomad answered 503; nomad done in 2 s | n1:3 |", "| 3 → 6 | helped | an instance went from 93% to 50% | cpu: 0.93 → 0.5 | 900 → 100 ms | 3.00% → 0.00% | n1:10 |",
		"the deployment of 9:50 did it", "## To add by hand"} {
		if !strings.Contains(md, want) {
			t.Errorf("want %q in\n%s", want, md)
		}
	}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page, "<b>for") || !strings.Contains(page, "&lt;b&gt;for 30s") || !strings.Contains(page, `<rect class="critical"`) || strings.Count(page, "<circle") != 1 {
		t.Errorf("got\n%s", page)
	}
}

func TestReportBounds(t *testing.T) {
	list := make([]scale.LogEntry, 0, 5000)
	for i := range 5000 {
		e, err := scale.Note(begin.Add(time.Duration(i)*time.Second), "somebody", fmt.Sprint("note ", i))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, scale.LogEntry{Origin: "n1", Entry: e})
	}
	r, err := Make(each(list, nil), begin, begin.Add(2*time.Hour), begin)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Timeline) != maxTimeline || r.Left != 5000-maxTimeline || len(r.Notes) != maxRows || !strings.Contains(r.Markdown(), "3000 more are in the log") {
		t.Errorf("got %d lines, %d left, %d notes", len(r.Timeline), r.Left, len(r.Notes))
	}
	broken := errors.New("disk")
	if _, err := Make(each(list[:3], broken), begin, begin.Add(time.Hour), begin); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the log", err)
	}
}

func FuzzMake(f *testing.F) {
	f.Add(uint8(scale.KindAlert), []byte(`{"events":[{"to":"firing"},{"to":"resolved"}]}`))
	f.Add(uint8(scale.KindResult), []byte(`{"order":{"to":1e9}}`))
	f.Add(uint8(scale.KindOutcome), []byte(`{"comparison":null,"verdict":"x"}`))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		if !json.Valid(data) {
			return
		}
		e := scale.LogEntry{Entry: scale.Entry{Seq: 1, At: begin, Kind: scale.Kind(kind), Data: data, Summary: string(data)}}
		r, err := Make(each([]scale.LogEntry{e, e}, nil), begin, begin.Add(time.Hour), begin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.HTML(); err != nil {
			t.Fatal(err)
		}
		_ = r.Markdown()
	})
}
