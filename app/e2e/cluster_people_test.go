package e2e_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
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

// watch opens the stream of a page at a node, as the browser that has the cookie, and
// returns a channel that closes with the stream. What comes last is in *end.
func watch(t testing.TB, n *apptest.Node, cookie *http.Cookie, page string, end *string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/live?page="+page, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(cookie)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("watch %s: %v, %v", page, resp, err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		t.Fatalf("watch %s: nothing came: %v", page, lines.Err())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				*end = text
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done; resp.Body.Close() })
	return done
}

// TestClusterStreamsEnd: pages that are open at another node end when their session
// does, whatever ends it, and when its role is another one.
func TestClusterStreamsEnd(t *testing.T) {
	s := redistest.Single(t)
	f := startFleet(t, over(s.URL(), 2), nil)
	const limit = 4 * time.Second // two to travel, and the next two that are sent
	here, there := f.nodes[0], f.nodes[1]
	here.Account("anna", account.Admin)
	for name, revoke := range map[string]func(name, session string) error{
		"signed out": func(_, session string) error {
			return here.App.Desk().SignOut(t.Context(), session, account.Attempt{Address: "127.0.0.1"})
		},
		"disabled": func(name, _ string) error { return here.App.Desk().SetDisabled(t.Context(), name, true) },
		"reset": func(name, _ string) error {
			_, err := here.App.Desk().ResetLink(t.Context(), name)
			return err
		},
		"another role": func(name, _ string) error {
			_, err := here.App.Desk().SetRole(t.Context(), name, account.Viewer)
			return err
		},
		"sessions ended by an admin": func(name, _ string) error {
			_, err := here.App.Desk().EndSessions(t.Context(), account.SessionFilter{Account: name})
			return err
		},
	} {
		who := strings.ReplaceAll(name, " ", ".")
		here.Account(who, account.Operator)
		cookie := apptest.SignIn(t, here, who)
		f.within(t, limit, "a sign-in", func(n *apptest.Node) bool { return role(t, n, cookie) == account.Operator })
		var ends [2]string
		var open [2]<-chan struct{}
		for i, n := range []*apptest.Node{here, there} {
			open[i] = watch(t, n, cookie, "/agents", &ends[i])
		}
		began := time.Now()
		if err := revoke(who, cookie.Value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range open {
			select {
			case <-open[i]:
				if ends[i] != "signed out" {
					t.Errorf("%s: the stream at node %d ended with %q", name, i+1, ends[i])
				}
			case <-time.After(limit):
				t.Errorf("%s: the page at node %d goes on after %v", name, i+1, limit)
			}
		}
		t.Logf("%s: pages at both nodes ended after %v", name, time.Since(began).Round(time.Millisecond))
	}
}
