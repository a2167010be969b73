package e2e_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/cluster/redistest"
)

// role answers as what a node knows whoever has the cookie; "" for nobody.
func role(t testing.TB, n *apptest.Node, cookie *http.Cookie) account.Role {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v, err := n.App.Desk().Visit(ctx, cookie.Value)
	if err != nil {
		return account.Nobody
	}
	return v.Role
}

// TestClusterPeople: who signs in at one node is signed in at all within two
// seconds; a new role and a revocation at another count everywhere as soon.
func TestClusterPeople(t *testing.T) {
	s := redistest.Single(t)
	f := startFleet(t, over(s.URL(), 3), nil)
	const limit = 2 * time.Second

	f.nodes[0].Account("anna", account.Admin)
	f.nodes[0].Account("otto", account.Viewer)
	cookie := apptest.SignIn(t, f.nodes[0], "otto")
	took := f.within(t, limit, "a sign-in at node 1", func(n *apptest.Node) bool { return role(t, n, cookie) == account.Viewer })
	t.Logf("who signed in at node 1 is signed in at all nodes after %v", took.Round(time.Millisecond))

	if out := cli(t, "admin", "role", "--data", f.nodes[1].Dir, "otto", "operator"); out != "operator" {
		t.Fatalf("got %q", out)
	}
	took = f.within(t, limit, "a role given by a command beside node 2", func(n *apptest.Node) bool { return role(t, n, cookie) == account.Operator })
	t.Logf("a role given by a command beside node 2 counts at all nodes after %v", took.Round(time.Millisecond))

	if err := f.nodes[2].App.Desk().SetDisabled(t.Context(), "otto", true); err != nil {
		t.Fatal(err)
	}
	took = f.within(t, limit, "an account disabled at node 3", func(n *apptest.Node) bool { return role(t, n, cookie) == account.Nobody })
	t.Logf("an account disabled at node 3 is out at all nodes after %v", took.Round(time.Millisecond))
	if f.nodes[1].App.SetupPath() != "" {
		if _, err := f.nodes[1].App.Desk().CheckLink(t.Context(), f.nodes[1].App.SetupPath()[len("/setup/"):], account.Attempt{Address: "127.0.0.1"}); err == nil {
			t.Error("the setup link of a node opens although another node has an admin")
		}
	}
}
