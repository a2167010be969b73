package actuate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

func TestOrdersAreCarriedOut(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *plane, k *Keeper, _ bool) {
		for i, to := range []int{5, 5, 2} {
			before := p.now()
			a, err := act(t, k, order(fmt.Sprint("o", i), 4, before, to))
			if err != nil {
				t.Fatalf("to %d: %v\n%v", to, err, a.Steps)
			}
			if p.now() != to || !a.Done || a.Before != before || a.Changed != (before != to) || a.Tries != 1 {
				t.Errorf("to %d: the plane holds %d; got %+v", to, p.now(), a)
			}
			if n, err := k.Requested(t.Context()); err != nil || n != to {
				t.Errorf("count: got %d, %v, want %d", n, err, to)
			}
		}
	})
}

func TestOrdersAreIdempotent(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *plane, k *Keeper, _ bool) {
		if _, err := act(t, k, order("same", 4, 3, 6)); err != nil {
			t.Fatal(err)
		}
		if _, err := act(t, k, order("next", 4, 6, 4)); err != nil {
			t.Fatal(err)
		}
		a, err := act(t, k, order("same", 4, 3, 6))
		if err != nil || !a.Replayed || p.now() != 4 {
			t.Errorf("the same order again: got %+v, %v; the plane holds %d, want 4", a, err, p.now())
		}
	})
}

func TestDryRunChangesNothing(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *plane, k *Keeper, _ bool) {
		o := order("dry", 4, 3, 1)
		o.DryRun = true
		a, err := act(t, k, o)
		if err != nil {
			t.Fatal(err)
		}
		if p.now() != 3 || p.writes != 0 || p.fence != "" || len(p.costs) != 0 {
			t.Errorf("a dry run changed something: %d instances, %d writes, leader %q, costs %v", p.now(), p.writes, p.fence, p.costs)
		}
		if len(a.Steps) == 0 || a.Before != 3 {
			t.Errorf("got %+v, want what would be done", a)
		}
		o.DryRun = false
		if a, err := act(t, k, o); err != nil || a.Replayed || p.now() != 1 {
			t.Errorf("the order itself after its dry run: got %+v, %v", a, err)
		}
	})
}

func TestConcurrentWritersAreNoticed(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *plane, k *Keeper, speaksHTTP bool) {
		if !speaksHTTP {
			return
		}
		p.locked(func() { p.steal = 2 })
		a, err := act(t, k, order("o", 4, 3, 6))
		if err != nil || p.now() != 6 || a.Tries != 3 {
			t.Errorf("got %+v, %v; the plane holds %d", a, err, p.now())
		}
		p.locked(func() { p.steal = 99 })
		if a, err := act(t, k, order("p", 4, 6, 7)); !errors.Is(err, errConflict) || a.Tries != 6 || p.now() != 6 {
			t.Errorf("a writer that is always faster: got %v after %d tries", err, a.Tries)
		}
		if k.Fault() != "" {
			t.Errorf("conflicts opened the breaker: %s", k.Fault())
		}
	})
}

// TestDeposedLeaderIsRefused has the newer leader on another machine: only the
// control plane knows of it.
func TestDeposedLeaderIsRefused(t *testing.T) {
	eachPlane(t, func(t *testing.T, p *plane, k *Keeper, speaksHTTP bool) {
		if speaksHTTP {
			p.locked(func() { p.fence = "9" })
			if a, err := act(t, k, order("old", 8, 3, 6)); !errors.Is(err, scale.ErrFenced) || p.now() != 3 || a.Tries != 1 {
				t.Errorf("got %+v, %v; the plane holds %d", a, err, p.now())
			}
		}
		if _, err := act(t, k, order("new", 9, 3, 4)); err != nil || p.now() != 4 {
			t.Fatalf("the leader itself: %v, %d instances", err, p.now())
		}
		if speaksHTTP && p.fence != "9" {
			t.Errorf("the leader noted: got %q, want 9", p.fence)
		}
		if _, err := act(t, k, order("late", 8, 4, 1)); !errors.Is(err, scale.ErrFenced) || p.now() != 4 {
			t.Errorf("an older leader on the same node: got %v", err)
		}
	})
}

func TestFaultsOfControlPlanes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status []int
		ok     bool
		tries  int
		advice bool
	}{
		{"not allowed", []int{403}, false, 1, true},
		{"not found", []int{404}, false, 1, true},
		{"bad", []int{400}, false, 1, false},
		{"invalid", []int{422}, false, 1, false},
		{"broken for a moment", []int{500, 502}, true, 3, false},
		{"too many", []int{429}, true, 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachPlane(t, func(t *testing.T, p *plane, k *Keeper, speaksHTTP bool) {
				if !speaksHTTP || k.Name() == "swarm" && tt.name == "not allowed" {
					return // Docker's socket is guarded by the file system
				}
				p.locked(func() { p.refuse = tt.status })
				a, err := act(t, k, order("o", 4, 3, 6))
				if (err == nil) != tt.ok || a.Tries != tt.tries || (a.Advice != "") != tt.advice {
					t.Errorf("got %v after %d tries, advice %q; want ok %v after %d", err, a.Tries, a.Advice, tt.ok, tt.tries)
				}
				if want := map[bool]int{true: 6, false: 3}[tt.ok]; p.now() != want {
					t.Errorf("the plane holds %d, want %d", p.now(), want)
				}
			})
		})
	}
}

func TestWrongTokenIsRefused(t *testing.T) {
	for name, fake := range planes {
		if fake.anonymous {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := &plane{t: t, count: 3, version: 7, costs: map[string]string{}}
			c := fake.make(p)
			c.Token = "wrong"
			k, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := act(t, k, order("o", 4, 3, 6)); err == nil || a.Tries != 1 || p.writes != 0 {
				t.Errorf("got %+v, %v; want one try and a refusal", a, err)
			}
		})
	}
}

func TestKubernetesChoosesVictims(t *testing.T) {
	p := &plane{t: t, count: 3, version: 7, costs: map[string]string{}}
	k, err := New(kubernetesPlane(p))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := act(t, k, order("o", 4, 3, 1)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"relay-b": "-2", "relay-a": "-1", "relay-c": "250"}
	if fmt.Sprint(p.costs) != fmt.Sprint(want) {
		t.Errorf("deletion costs: got %v, want %v", p.costs, want)
	}
	if i, j := index(p.calls, "PATCH /api/v1/namespaces/prod/pods/relay-b"), index(p.calls, "PATCH /apis/apps/v1/namespaces/prod/deployments/relay/scale"); i < 0 || j < i {
		t.Errorf("the costs must be set before the count: %v", p.calls)
	}
}

func index(all []string, one string) int {
	for i, s := range all {
		if s == one {
			return i
		}
	}
	return -1
}

func TestBreakerLeavesAPlaneAlone(t *testing.T) {
	p := &plane{t: t, count: 3, version: 7}
	c := nomadPlane(p)
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	k.backoff.First, k.backoff.Most = time.Millisecond, time.Millisecond
	p.locked(func() {
		for range 50 {
			p.refuse = append(p.refuse, 503)
		}
	})
	if a, err := act(t, k, order("a", 1, 3, 4)); !errors.Is(err, egress.ErrOpen) || a.Tries != 5 {
		t.Errorf("got %v after %d tries, want the breaker after 5", err, a.Tries)
	}
	calls := len(p.calls)
	if a, err := act(t, k, order("b", 1, 3, 4)); !errors.Is(err, egress.ErrOpen) || a.Tries != 0 || len(p.calls) != calls {
		t.Errorf("got %v after %d tries, want none", err, a.Tries)
	}
	if k.Fault() == "" {
		t.Error("the fault is not told")
	}
}

func TestLeaseIsAskedBeforeEachTry(t *testing.T) {
	p := &plane{t: t, count: 3, version: 7}
	c := nomadPlane(p)
	asked := 0
	c.Limits.Lease = func() (uint64, bool) { asked++; return 4, asked < 3 }
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	k.backoff.First, k.backoff.Most = time.Millisecond, time.Millisecond
	p.locked(func() { p.refuse = []int{503, 503, 503, 503} })
	if a, err := act(t, k, order("a", 4, 3, 4)); !errors.Is(err, scale.ErrFenced) || a.Tries != 2 {
		t.Errorf("got %v after %d tries, want the lease lost after 2", err, a.Tries)
	}
	if _, err := act(t, k, order("b", 5, 3, 4)); !errors.Is(err, scale.ErrFenced) {
		t.Errorf("an order of another leadership: got %v", err)
	}
}

func TestChangesAreSpaced(t *testing.T) {
	p := &plane{t: t, count: 3, version: 7}
	c := nomadPlane(p)
	c.Limits.Pause, c.Limits.Timeout = 150*time.Millisecond, 5*time.Second
	k, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 3 {
		if _, err := act(t, k, order(fmt.Sprint(i), 1, 3+i, 4+i)); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("three changes took %v, want two pauses of 150ms", took)
	}
	k.limits.Timeout = 50 * time.Millisecond
	if _, err := act(t, k, order("soon", 1, 6, 7)); !errors.Is(err, context.DeadlineExceeded) || p.now() != 6 {
		t.Errorf("no time for the pause: got %v", err)
	}
}

func TestOrdersOutOfBounds(t *testing.T) {
	p := &plane{t: t, count: 3, version: 7}
	k, err := New(nomadPlane(p))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{-1, scale.MaxInstances + 1} {
		if _, err := act(t, k, order("o", 1, 3, to)); err == nil || len(p.calls) > 0 {
			t.Errorf("to %d: got %v, %d calls", to, err, len(p.calls))
		}
	}
	if a, err := act(t, k, order("o", 1, 3, 51)); err == nil || !strings.Contains(a.Advice, "scaling block") {
		t.Errorf("above Nomad's own bound: got %v, advice %q", err, a.Advice)
	}
}

func TestAdvise(t *testing.T) {
	k, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := act(t, k, order("o", 1, 3, 2))
	if err != nil || a.Done || a.Changed || a.Advice != "Go from 3 to 2 instances by hand: 250 connections an instance is above 200. End [relay-b relay-a] first: they carry the fewest connections" {
		t.Errorf("got %+v, %v", a, err)
	}
	if _, err := k.Requested(t.Context()); !errors.Is(err, scale.ErrNotTold) {
		t.Errorf("count: got %v, want ErrNotTold", err)
	}
}

func TestWebhookCall(t *testing.T) {
	var got []*http.Request
	var calls []WebhookCall
	status := []int{503, 200, 409}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c WebhookCall
		body := make([]byte, r.ContentLength)
		if _, err := r.Body.Read(body); err != nil && err.Error() != "EOF" {
			t.Error(err)
		}
		if err := egress.Verify(canary, r.Header.Get(egress.SignatureHeader), body, time.Now()); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(body, &c); err != nil {
			t.Error(err)
		}
		got, calls = append(got, r), append(calls, c)
		w.WriteHeader(status[len(got)-1])
	}))
	defer srv.Close()
	k, err := New(Config{Kind: "webhook", URL: srv.URL + "/scale?x=1", Secret: canary, Limits: Limits{Pause: time.Nanosecond}})
	if err != nil {
		t.Fatal(err)
	}
	k.backoff.First = time.Millisecond
	if a, err := act(t, k, order("o1", 7, 3, 5)); err != nil || a.Tries != 2 || !a.Done {
		t.Errorf("got %+v, %v", a, err)
	}
	if c := calls[1]; c.Version != 1 || c.To != 5 || c.Fence != 7 || got[1].Header.Get("Idempotency-Key") != "o1" || got[1].Header.Get("X-Agentnet-Fence") != "7" {
		t.Errorf("got %+v with %v", c, got[1].Header)
	}
	if _, err := act(t, k, order("o2", 7, 5, 6)); !errors.Is(err, scale.ErrFenced) {
		t.Errorf("409: got %v, want ErrFenced", err)
	}
	k.way.(*webhook).client.Close()
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("AGENTNET_TOKEN", canary)
	script := filepath.Join(dir, "act.sh")
	write := func(body string) {
		t.Helper()
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(o scale.Order) (scale.Action, error) {
		k, err := New(Config{Kind: "command", Command: []string{script, "an argument; $(id)"}, Env: []string{"EXTRA=1"}, Limits: Limits{Timeout: 5 * time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		k.backoff.First, k.backoff.Most = time.Millisecond, time.Millisecond
		return act(t, k, o)
	}
	write(`echo "$1|$AGENTNET_FROM|$AGENTNET_TO|$AGENTNET_FENCE|$AGENTNET_VICTIMS|$EXTRA|$AGENTNET_TOKEN|$(cat | grep -c '"id":"o"')"`)
	a, err := run(order("o", 7, 3, 2))
	if want := "an argument; $(id)|3|2|7|relay-b relay-a|1||1"; err != nil || a.Output != want || !a.Done {
		t.Errorf("got %q, %v, want %q", a.Output, err, want)
	}
	write("echo no space left; exit 3")
	if a, err := run(order("o", 7, 3, 2)); err == nil || a.Tries != 1 || !strings.Contains(a.Fault, "code 3: no space left") || a.Output != "no space left" {
		t.Errorf("code 3: got %+v, %v", a, err)
	}
	write(`[ -e "` + dir + `/once" ] && exit 0; touch "` + dir + `/once"; exit 75`)
	if a, err := run(order("o", 7, 3, 2)); err != nil || a.Tries != 2 {
		t.Errorf("code 75: got %+v, %v", a, err)
	}
	write("exit 77")
	if _, err := run(order("o", 7, 3, 2)); !errors.Is(err, scale.ErrFenced) {
		t.Errorf("code 77: got %v", err)
	}
	write(`head -c 100000 /dev/zero | tr '\0' x; printf '\033[31mred'`)
	if a, err := run(order("o", 7, 3, 2)); err != nil || len(a.Output) > maxOutput+16 || strings.Contains(a.Output, "\x1b") || !strings.HasSuffix(a.Output, "red") {
		t.Errorf("much output: got %d bytes, %v", len(a.Output), err)
	}
	write("sleep 60 & wait")
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	k, _ := New(Config{Kind: "command", Command: []string{script}})
	if a, err := k.Act(ctx, order("o", 7, 3, 2)); err == nil || time.Since(began) > 10*time.Second || !strings.Contains(a.Fault, "in time") {
		t.Errorf("a program that hangs: got %+v, %v after %v", a, err, time.Since(began))
	}
	o := order("o", 7, 3, 2)
	o.DryRun = true
	write("touch " + dir + "/ran")
	if _, err := run(o); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("a dry run ran the program")
	}
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	if a, err := run(order("o", 7, 3, 2)); err == nil || a.Tries != 1 || a.Advice == "" {
		t.Errorf("no such program: got %+v, %v", a, err)
	}
}

func TestActionsBecomeEntries(t *testing.T) {
	p := &plane{t: t, count: 3, version: 7}
	k, err := New(nomadPlane(p))
	if err != nil {
		t.Fatal(err)
	}
	log, now, o := scale.NewMemoryLog(10), time.Unix(1_790_000_000, 0), order("o", 1, 3, 4)
	first, err := scale.ActionEntry(now, k.Name(), o, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, err := act(t, k, o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := scale.ResultEntry(now, a, 1)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := log.Append(t.Context(), []scale.Entry{first, second})
	if err != nil {
		t.Fatal(err)
	}
	var back scale.Action
	if err := json.Unmarshal(stored[1].Data, &back); err != nil || back.Order.To != 4 || !back.Done || len(back.Steps) == 0 {
		t.Errorf("got %+v, %v", back, err)
	}
	for i, want := range []string{"nomad: 3 to 4 instances: 250 connections an instance is above 200", "nomad: done, 4 instances are asked for"} {
		if stored[i].Summary != want {
			t.Errorf("got %q, want %q", stored[i].Summary, want)
		}
	}
	if faults, _, _, err := scale.Verify(t.Context(), log, scale.Head{}); err != nil || len(faults) > 0 {
		t.Errorf("the chain: got %v, %v", faults, err)
	}
}

func TestConfigFaultsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		want string
		c    Config
	}{
		{"kind:", Config{Kind: "terraform"}},
		{"url:", Config{Kind: "webhook"}},
		{"secret:", Config{Kind: "webhook", URL: "https://x", Secret: "short"}},
		{"command:", Config{Kind: "command"}},
		{"env:", Config{Kind: "command", Command: []string{"x"}, Env: []string{"y"}}},
		{"name:", Config{Kind: "kubernetes"}},
		{"name:", Config{Kind: "compose", Name: "--help"}},
		{"resource:", Config{Kind: "kubernetes", Name: "x", Resource: "pods"}},
		{"namespace:", Config{Kind: "kubernetes", Name: "x", Namespace: "../y"}},
		{"group:", Config{Kind: "nomad", URL: "http://x", Name: "x"}},
		{"project:", Config{Kind: "cloudrun", Name: "x"}},
		{"timeout", Config{Limits: Limits{Timeout: time.Hour}}},
	} {
		if _, err := New(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want a fault of %q", tt.c, err, tt.want)
		}
	}
}
