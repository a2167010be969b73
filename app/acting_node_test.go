package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/notify"
	"agentnet/app/wire"
)

// TestNodeActsAndTells runs the whole way in one node: the engine sees too few
// instances and has the command start some, once; it sees an alert and has the
// webhook called; and the log tells of both.
func TestNodeActsAndTells(t *testing.T) {
	url, got := receiver(t)
	dir := t.TempDir()
	script, acted := filepath.Join(dir, "act.sh"), filepath.Join(dir, "acted")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$AGENTNET_FROM $AGENTNET_TO $AGENTNET_ORDER\" >> "+acted+"\necho started\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := apptest.Start(t, func(c *app.Config) {
		c.Scaling.Mode, c.Scaling.Min, c.Scaling.Max = "act", 3, 5
		c.Actuate.Kind, c.Actuate.Command = "command", []string{script}
		c.Notify.AllowNetworks = []string{"127.0.0.1"}
		c.Notify.Targets = []app.NotifyTarget{{Name: "hook", Kind: "webhook", URL: url + "/hook", Secret: secret, Least: "critical", Ends: true}}
		c.Alerts.Rules = app.AlertRules{{Name: "somebody", Class: "operation", Severity: "critical", Signal: "connections", Reduce: "sum", Threshold: 0.5,
			NoData: "hold", NoDataAfter: app.Duration(time.Minute), Response: "Say hello", Runbook: "incident"}}
	})
	n.Dial("alice", wire.JSON)
	select {
	case p := <-got:
		if p.Status != "firing" || p.Severity != notify.Critical || p.Items[0].Rule != "somebody" || !strings.Contains(p.Text, "What to do: Say hello") || !strings.Contains(p.Text, "agentnet runbook incident") {
			t.Errorf("got %+v", p)
		}
	case <-time.After(40 * time.Second):
		t.Fatalf("nobody was told\n%s", n.Log())
	}
	var text []byte
	for end := time.Now().Add(40 * time.Second); len(text) == 0; time.Sleep(50 * time.Millisecond) {
		text, _ = os.ReadFile(acted)
		if time.Now().After(end) {
			t.Fatalf("nothing was done\n%s", n.Log())
		}
	}
	if lines := strings.Fields(string(text)); len(lines) != 3 || lines[0] != "1" || lines[1] != "3" || !strings.HasPrefix(lines[2], "n1~") {
		t.Errorf("the command got %q, want one order from 1 to 3", text)
	}
	token := n.Token("eve", func(s *auth.TokenSpec) { s.Grants.Roles = []string{"viewer"} })
	told := ""
	for end := time.Now().Add(10 * time.Second); !strings.Contains(told, "command: done, 3 instances are asked for"); time.Sleep(50 * time.Millisecond) {
		if told = get(t, n.URL+"/v1/scaling/log?kinds=decision,action,result,alert", token); time.Now().After(end) {
			t.Fatalf("the log does not tell of it: %s", told)
		}
	}
	for _, want := range []string{"command: 1 to 3 instances", "somebody (critical): firing"} {
		if !strings.Contains(told, want) {
			t.Errorf("want %q in the log: %s", want, told)
		}
	}
	if report := get(t, n.URL+"/v1/scaling/log/report?range=1h", token); !strings.Contains(report, "| 1 → 3 | act |") || !strings.Contains(report, "command done in 0 s") || !strings.Contains(report, "| somebody | critical |") {
		t.Errorf("the report does not tell the story: %s", report)
	}
}
