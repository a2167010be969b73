package e2e_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/cluster/redistest"
)

// takes says that a node opens a session with a token.
func takes(n *apptest.Node, token string) bool {
	res, err := get(n.URL+"/v1/agents", token)
	return err == nil && res.StatusCode == http.StatusOK
}

// cli runs a command of the program beside the running nodes.
func cli(t testing.TB, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "AGENTNET_E2E_AS_NODE=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("agentnet %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// within fails unless all nodes are ok in time, and returns how long it took.
func (f *fleet) within(t testing.TB, limit time.Duration, what string, ok func(*apptest.Node) bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		behind := ""
		for _, n := range f.nodes {
			if !ok(n) {
				behind = n.URL
			}
		}
		took := time.Since(begun)
		if behind == "" {
			return took
		}
		if took > limit {
			t.Fatalf("%s: not at %s after %v", what, behind, took)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestClusterTokens: a token made anywhere opens a session everywhere within two
// seconds, a revoked one ends its sessions everywhere, and neither needs the memory
// of Redis or the node that did it.
func TestClusterTokens(t *testing.T) {
	s := redistest.Single(t)
	f := startFleet(t, over(s.URL(), 3), nil)
	const limit = 2 * time.Second

	token := cli(t, "token", "create", "--data", f.nodes[0].Dir, "--agent", "tok/*")
	took := f.within(t, limit, "a token made by a command beside node 1", func(n *apptest.Node) bool { return takes(n, token) })
	t.Logf("a token made beside node 1 is on all nodes after %v", took.Round(time.Millisecond))

	var open []*speaker
	for range f.nodes {
		open = append(open, joinWith(t, f, inJSON, obj{"token": token, "agent": "tok/a"}))
	}
	begun := time.Now()
	cli(t, "token", "revoke", "--data", f.nodes[1].Dir, strings.Split(token, "_")[1])
	for i, sp := range open {
		sp.wantClose(4000)
		if took := time.Since(begun); took > limit {
			t.Errorf("the session at node %d ended %v after the revocation", i+1, took)
		}
	}
	t.Logf("its sessions on all nodes ended %v after the revocation", time.Since(begun).Round(time.Millisecond))

	// Redis forgets everything and is gone when a token is made; the node that made
	// it is gone for good when Redis is back.
	s.Kill()
	late := f.nodes[0].Token("tok/late")
	if takes(f.nodes[1], late) {
		t.Error("a token crossed without Redis")
	}
	s.Start()
	took = f.within(t, 10*time.Second, "a token made while Redis was gone", func(n *apptest.Node) bool { return takes(n, late) })
	t.Logf("a token made while Redis was gone is on all nodes %v after its return", took.Round(time.Millisecond))
	for _, n := range f.nodes {
		if takes(n, token) {
			t.Error("the revoked token lives again")
		}
	}
	f.nodes[0].Stop()
	f.nodes = f.nodes[1:]
	fresh := apptest.Start(t, func(c *app.Config) { // under the name of the lost one, with an empty disk
		calm(c)
		c.Node, c.Redis = "n1", s.URL()
	})
	f.nodes = append(f.nodes, fresh)
	took = f.within(t, 5*time.Second, "the tokens of a lost node", func(n *apptest.Node) bool { return takes(n, late) && !takes(n, token) })
	t.Logf("a fresh node has all tokens %v after it listens", took.Round(time.Millisecond))
}
