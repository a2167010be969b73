//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
	"agentnet/app/scale"
)

// platform is what the command actuator runs: it makes as many node processes as
// it is asked for, and ends the victims first.
const platform = `#!/bin/sh
set -eu
cd "$1"
live() {
	for f in n*.pid; do
		[ -e "$f" ] && kill -0 "$(cat "$f")" 2>/dev/null && echo "${f%.pid}"
	done
	true
}
for name in ${AGENTNET_VICTIMS:-}; do
	[ "$(live | wc -l)" -gt "$AGENTNET_TO" ] || break
	if [ -e "$name.pid" ]; then
		kill -TERM "$(cat "$name.pid")"
		mv "$name.pid" "$name.ended"
		echo "stopped $name"
	fi
done
k=1
while [ "$(live | wc -l)" -lt "$AGENTNET_TO" ]; do
	if ! [ -e "n$k.pid" ] || ! kill -0 "$(cat "n$k.pid")" 2>/dev/null; then
		port=$(sed -n "${k}p" ports)
		AGENTNET_E2E_AS_NODE=1 setsid ./program serve --config agentnet.yaml --node "n$k" --data "data$k" --listen "127.0.0.1:$port" </dev/null >>"n$k.log" 2>&1 &
		echo $! >"n$k.pid"
		echo "started n$k"
	fi
	k=$((k + 1))
done
`

// A yard is where the platform keeps its nodes.
type yard struct {
	t     testing.TB
	dir   string
	ports []int
	token string
}

// newYard prepares a fleet of up to most nodes on one Redis, whose leader acts.
func newYard(t testing.TB, most int, downAfter time.Duration) *yard {
	t.Helper()
	y := &yard{t: t, dir: t.TempDir()}
	redis := redistest.Single(t)
	var ports []string
	for range most + 1 {
		y.ports = append(y.ports, redistest.FreePort(t))
		ports = append(ports, strconv.Itoa(y.ports[len(y.ports)-1]))
	}
	bin := os.Getenv("E2E_BINARY")
	if bin == "" {
		var err error
		if bin, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(bin, filepath.Join(y.dir, "program")); err != nil {
		t.Fatal(err)
	}
	// Connections that are evened out among nodes would leave the load generator, which
	// does not follow them.
	config := fmt.Sprintf("redis: %s\nregion: eu\nrebalance_per_s: 0\nlog: {format: text}\ndrain: {window: 500ms, timeout: 10s}\nsession: {resume: 5s}\n"+
		"scaling: {mode: act, min: 1, max: %d, down_after: %v, provision: 1m}\nactuate: {kind: command, command: [%s, %s], pause: 1s}\n",
		redis.URL(), most, downAfter, filepath.Join(y.dir, "platform.sh"), y.dir)
	for name, text := range map[string]string{"platform.sh": platform, "ports": strings.Join(ports, "\n") + "\n", "agentnet.yaml": config} {
		if err := os.WriteFile(filepath.Join(y.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out, err := program(t, "token", "create", "--data", filepath.Join(y.dir, "data1"), "--agent", "**", "--role", "admin").Output()
	if err != nil {
		t.Fatalf("make a token: %v", err)
	}
	y.token = strings.TrimSpace(string(out))
	t.Cleanup(y.end)
	cmd := exec.Command(filepath.Join(y.dir, "platform.sh"), y.dir)
	cmd.Env = append(os.Environ(), "AGENTNET_TO=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("start the first node: %v: %s", err, out)
	}
	return y
}

// live is how many node processes there are.
func (y *yard) live() (names []string) {
	files, _ := filepath.Glob(filepath.Join(y.dir, "n*.pid"))
	for _, f := range files {
		if pid := y.pid(f); pid > 0 && syscall.Kill(pid, 0) == nil {
			names = append(names, strings.TrimSuffix(filepath.Base(f), ".pid"))
		}
	}
	return names
}

func (y *yard) pid(file string) int {
	text, _ := os.ReadFile(file)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// end ends every node process that the platform ever started.
func (y *yard) end() {
	for _, pattern := range []string{"n*.pid", "n*.ended"} {
		files, _ := filepath.Glob(filepath.Join(y.dir, pattern))
		for _, f := range files {
			if pid := y.pid(f); pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// logs are the ends of the nodes' logs, for a failure.
func (y *yard) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(y.dir, "n*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(f), text[max(0, len(text)-4000):])
	}
	return b.String()
}

// ask reads one answer of the first node's API.
func (y *yard) ask(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", y.ports[0], path), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+y.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// await waits until as many nodes live and are seen by the first as wanted.
func (y *yard) await(most time.Duration, n int) time.Duration {
	y.t.Helper()
	begun := time.Now()
	var seen struct{ Current, Desired int }
	for {
		err := y.ask("/v1/scaling/desired", &seen)
		if err == nil && seen.Current == n && len(y.live()) == n {
			return time.Since(begun)
		}
		if time.Since(begun) > most {
			y.t.Fatalf("not %d nodes within %v: %v live, the first sees %+v, %v\n%s", n, most, y.live(), seen, err, y.logs())
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// bench holds connections for a time, by agentnet bench itself.
func (y *yard) bench(connections int, length time.Duration) (wait func()) {
	y.t.Helper()
	cmd := program(y.t, "bench", "idle", "--url", fmt.Sprintf("http://127.0.0.1:%d", y.ports[0]), "--connections", strconv.Itoa(connections), "--duration", length.String())
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "AGENTNET_TOKEN="+y.token)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() {
		y.t.Helper()
		if err := cmd.Wait(); err != nil {
			y.t.Fatalf("bench: %v\n%s", err, out.String())
		}
	}
}

// TestScaleFleet drives load across the thresholds: the leader's command starts
// node processes and ends them again, and the log of all of it is whole.
func TestScaleFleet(t *testing.T) {
	most, downAfter := number(t, "E2E_NODES", 2), time.Duration(number(t, "E2E_DOWN_SECONDS", 12))*time.Second
	y := newYard(t, most, downAfter)
	first := y.await(time.Minute, 1)
	begun := time.Now()
	figure(t, "first node after %.1f s; policy: act, 1 to %d instances, 200 connections each, down after %v", first.Seconds(), most, downAfter)
	for n := 2; n <= most; n++ {
		connections := 200*(n-1) + 50
		wait := y.bench(connections, time.Duration(number(t, "E2E_HOLD_SECONDS", 20))*time.Second)
		up := y.await(2*time.Minute, n)
		figure(t, "%d connections: %d nodes live and seen %.1f s after the load began", connections, n, up.Seconds())
		wait()
		if n < most {
			continue
		}
		gone := time.Now()
		down := y.await(downAfter*time.Duration(most)+3*time.Minute, 1)
		figure(t, "no load: back to one node %.1f s after the load ended", time.Since(gone).Seconds())
		if down < downAfter-time.Second {
			t.Errorf("the first node went %v after the load, want %v of watching before", down, downAfter)
		}
	}
	y.checkStory(t, begun, most)
}

// checkStory reads the log as it is on disk and holds it to what happened.
func (y *yard) checkStory(t *testing.T, begun time.Time, most int) {
	t.Helper()
	data := filepath.Join(y.dir, "data1")
	deadline := time.Now().Add(15 * time.Second)
	var all []scale.LogEntry
	for {
		out, err := program(t, "log", "export", "--data", data, "--format", "json").Output()
		if err != nil {
			t.Fatalf("log export: %v", err)
		}
		all = all[:0]
		for line := range bytes.Lines(out) {
			var e scale.LogEntry
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if n := len(byKind(all, scale.KindResult)); n > 0 && n == len(byKind(all, scale.KindAction)) || time.Now().After(deadline) {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	highest, last := 0, 0
	for _, e := range byKind(all, scale.KindResult) {
		var a scale.Action
		if err := json.Unmarshal(e.Data, &a); err != nil || !a.Done || a.Fault != "" {
			t.Errorf("entry %d: got %s (%v), want it done", e.Seq, e.Summary, err)
		}
		highest, last = max(highest, a.Order.To), a.Order.To
		action := slices.IndexFunc(all, func(x scale.LogEntry) bool { return x.Origin == e.Origin && x.Seq == e.Cause })
		if action < 0 || all[action].Kind != scale.KindAction {
			t.Errorf("entry %d is caused by %d, want its action", e.Seq, e.Cause)
			continue
		}
		decision := slices.IndexFunc(all, func(x scale.LogEntry) bool { return x.Origin == e.Origin && x.Seq == all[action].Cause })
		if decision < 0 || all[decision].Kind != scale.KindDecision {
			t.Errorf("action %d is caused by %d, want its decision", all[action].Seq, all[action].Cause)
			continue
		}
		if again, err := scale.Replay(all[decision].Entry); err != nil || again.Hash != all[decision].Hash {
			t.Errorf("decision %d replays differently: %v", all[decision].Seq, err)
		}
	}
	if highest != most || last != 1 {
		t.Errorf("the actuator was asked for up to %d and at last for %d, want %d and 1", highest, last, most)
	}
	out, err := program(t, "log", "verify", "--data", data).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(": whole, ")) {
		t.Errorf("log verify: %v: %s", err, out)
	}
	figure(t, "agentnet log verify: %s", strings.TrimSpace(string(out)))
	for _, e := range all {
		if e.Kind == scale.KindDecision || e.Kind == scale.KindAction || e.Kind == scale.KindResult || e.Kind == scale.KindDrain || e.Kind == scale.KindNode {
			figure(t, "%6.1f s  %-8s %s", e.At.Sub(begun).Seconds(), e.Kind, shorten(e.Summary, 220))
		}
	}
}

func byKind(all []scale.LogEntry, k scale.Kind) (out []scale.LogEntry) {
	for _, e := range all {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

func shorten(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
