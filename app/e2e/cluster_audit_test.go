package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/cluster/redistest"
)

// TestClusterAudit: what was done at one node, on its pages or by a command beside
// it, is read at all within two seconds, each node's entries in a chain of their
// own that every node can verify; a row that was changed is named with its origin.
func TestClusterAudit(t *testing.T) {
	s := redistest.Single(t)
	f := startFleet(t, over(s.URL(), 2), nil)
	const limit = 2 * time.Second
	has := func(action, target string) func(*apptest.Node) bool {
		return func(n *apptest.Node) bool {
			list, err := n.App.Desk().Audit(t.Context(), account.AuditFilter{Action: action, Match: target})
			return err == nil && len(list) > 0
		}
	}
	f.nodes[0].Account("anna", account.Admin)
	apptest.SignIn(t, f.nodes[0], "anna")
	took := f.within(t, limit, "a sign-in at node 1", has("sign_in", "anna"))
	t.Logf("a sign-in at node 1 is in the audit log of all nodes after %v", took.Round(time.Millisecond))

	token := cli(t, "token", "create", "--data", f.nodes[1].Dir, "--agent", "planted/*")
	id := strings.Split(token, "_")[1]
	took = f.within(t, limit, "a token made by a command beside node 2", has("token.create", id))
	t.Logf("a token made by a command beside node 2 is in the audit log of all nodes after %v", took.Round(time.Millisecond))
	cli(t, "backup", "--data", f.nodes[1].Dir, t.TempDir()+"/b.tar.gz")
	f.within(t, limit, "a backup made by a command beside node 2", has("backup", "b.tar.gz"))

	for i, n := range f.nodes {
		list, err := n.App.Desk().Audit(t.Context(), account.AuditFilter{Action: "token.create"})
		if err != nil || len(list) != 1 || list[0].Node != "n2" || !strings.HasPrefix(list[0].Actor, "system:") || !strings.HasPrefix(list[0].Origin, "n2~") {
			t.Errorf("node %d: got %+v, %v, want one entry of n2 by who ran the command", i+1, list, err)
		}
	}
	var verified struct {
		OK     bool `json:"ok"`
		Chains []struct {
			Origin string `json:"origin"`
			Head   string `json:"head"`
			Own    bool   `json:"own"`
		} `json:"chains"`
	}
	heads := map[string]string{}
	for _, n := range f.nodes {
		out := cli(t, "audit", "verify", "--json", "--data", n.Dir)
		if err := json.Unmarshal([]byte(out), &verified); err != nil || !verified.OK || len(verified.Chains) != 2 || !verified.Chains[0].Own || verified.Chains[1].Own {
			t.Fatalf("got %s, %v, want two whole chains, the own one first", out, err)
		}
		for _, c := range verified.Chains {
			if before := heads[c.Origin]; before != "" && before != c.Head {
				t.Errorf("%s ends as %s and as %s", c.Origin, before, c.Head)
			}
			heads[c.Origin] = c.Head
		}
	}
	if strings.Contains(cli(t, "audit", "export", "--data", f.nodes[0].Dir), token) {
		t.Error("the audit log holds a token")
	}
}
