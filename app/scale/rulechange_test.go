package scale

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRuleThatEndsTellsThatItsAlertDid: whoever heard that an alert fires hears that it
// ended when its rule is disabled, removed or taken back; nobody hears of one that never
// fired, or of one that is silenced.
func TestRuleThatEndsTellsThatItsAlertDid(t *testing.T) {
	disable := func(rules []Rule) []Rule {
		rules = slices.Clone(rules)
		for i := range rules {
			rules[i].Disabled = rules[i].Disabled || strings.HasPrefix(rules[i].Name, "cpu")
		}
		return rules
	}
	for _, c := range []struct {
		name    string
		change  func([]Rule) []Rule
		silence bool
		want    string // why, in what is told; "": nothing is told
	}{
		{"disabled", disable, false, "rule disabled by ada"},
		{"removed", func(rules []Rule) []Rule {
			return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return strings.HasPrefix(r.Name, "cpu") })
		}, false, "rule removed by ada"},
		{"another rule", func(rules []Rule) []Rule { return slices.Clone(rules) }, false, ""},
		{"silenced", disable, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := NewEngine(DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			now := start
			var told []Event
			run := func(d time.Duration) {
				for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
					out, err := e.Tick(now, fleetOf(now, 3, calm().with(CPU, 0.97)))
					if err != nil {
						t.Fatal(err)
					}
					for _, n := range out.Notices {
						if n.Group == "cpu" || strings.HasPrefix(n.Events[0].Alert, "cpu") {
							told = append(told, n.Events...)
						}
					}
				}
			}
			run(5 * time.Minute)
			if !slices.ContainsFunc(told, func(ev Event) bool { return ev.To == Firing }) {
				t.Fatalf("got %v, want an alert of the processors", told)
			}
			if c.silence {
				if _, err := e.Silence(now, Silence{ID: "s", By: "ada", Reason: "a test", From: now, Until: now.Add(time.Hour)}); err != nil {
					t.Fatal(err)
				}
				run(2 * time.Second)
			}
			told = nil
			rules, capacity := e.Rules()
			entry, err := e.ChangeRules(now, "ada", c.change(rules), capacity)
			if err != nil {
				t.Fatal(err)
			}
			run(2 * time.Minute)
			ended := slices.DeleteFunc(told, func(ev Event) bool { return ev.To != Resolved })
			if (len(ended) > 0) != (c.want != "") || len(ended) > 0 && (ended[0].Why != c.want || ended[0].From != Firing) {
				t.Errorf("got %+v, want %q", ended, c.want)
			}
			if gone := c.name != "another rule"; strings.Contains(entry.Summary, "no longer firing: cpu") != gone {
				t.Errorf("got the entry %q, want the alerts that ended in it: %v", entry.Summary, gone)
			}
		})
	}
}
