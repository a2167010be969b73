package cli

import (
	"strings"
	"testing"

	"agentnet/app/drill"
	"agentnet/app/runbook"
)

// TestRunbooksNameRealCommands holds the runbooks to the command line: what a
// person is told to type at night must exist.
func TestRunbooksNameRealCommands(t *testing.T) {
	parser, err := newParser(&commands{}, &Env{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, c := range parser.Model.Children {
		known[c.Name] = true
	}
	books, err := runbook.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range books {
		for _, c := range b.Commands() {
			if !known[c] {
				t.Errorf("runbook %s names \"agentnet %s\", which does not exist", b.Name, c)
			}
		}
	}
	drills, _ := runbook.Get("drills")
	for _, d := range drill.List() {
		if _, ok := runbook.Get(d.Runbook); !ok {
			t.Errorf("drill %s names the runbook %q, which does not exist", d.Name, d.Runbook)
		}
		if !strings.Contains(drills.Markdown, "| "+d.Name+" |") {
			t.Errorf("the runbook drills does not list %s", d.Name)
		}
	}
}
