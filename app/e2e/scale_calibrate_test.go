//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/web/api"
)

// calibrate runs `agentnet bench --calibrate` against a node and says what it printed.
func (p *process) calibrate(ctx context.Context, token string, more ...string) (string, error) {
	p.t.Helper()
	cmd := program(p.t, append([]string{"bench", "--calibrate", "--url", p.url}, more...)...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "AGENTNET_TOKEN="+token)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	return said.String(), err
}

// planned asks a node how it would carry a load.
func (p *process) planned(connections int) (r api.PlanReply) {
	p.t.Helper()
	p.post("/v1/scaling/plan", map[string]any{"connections": connections}, &r)
	return r
}

var calibrated = regexp.MustCompile(`calibrated on \d{4}-\d\d-\d\d: ([\d.]+) KB a connection, ([\d.]+) µs of a processor for a message, seen up to (\d+) connections and (\d+) messages/s`)

// TestCalibrate measures a real node as an admin would: the figures are those of its
// process, plans and the log have them, and they hold over a restart. Who is no admin
// changes nothing.
func TestCalibrate(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	h := newHouse(t, "limits:\n  connects_per_s: 0\n")
	p := h.start()
	weak, err := program(t, "token", "create", "--data", h.dir+"/data", "--agent", "**", "--role", "operator").Output()
	if err != nil {
		t.Fatal(err)
	}
	size := []string{"--connections", "1500", "--pairs", "10", "--rate", "400"}
	if said, err := p.calibrate(ctx, ""); err == nil || !strings.Contains(said, "AGENTNET_TOKEN") {
		t.Errorf("without a token: got %v, %s, want it to ask for one", err, said)
	}
	if said, err := p.calibrate(ctx, strings.TrimSpace(string(weak)), size...); err == nil || !strings.Contains(said, "admin") {
		t.Errorf("as operator: got %v, %s, want a refusal that names the role", err, said)
	}
	if source := p.planned(1000).Capacity.Source; calibrated.MatchString(source) {
		t.Fatalf("got a capacity %q before anything was measured", source)
	}
	said, err := p.calibrate(ctx, h.token, size...)
	if err != nil || !strings.Contains(said, "capacity of an instance") {
		t.Fatalf("got %v and\n%s\nwant the capacity of an instance", err, said)
	}
	before := p.planned(1000)
	judgeCalibrated(t, before.Capacity)
	var log struct{ Entries []scale.Entry }
	if err := json.Unmarshal(p.get("/v1/scaling/log"), &log); err != nil {
		t.Fatal(err)
	}
	if raw, _ := json.Marshal(log.Entries); !calibrated.Match(raw) {
		t.Errorf("got a log without the measured capacity: %.2000s", raw)
	}
	p.stop(time.Minute)
	if after := h.start().planned(1000); after.Capacity != before.Capacity {
		t.Errorf("after a restart: got %+v, want %+v", after.Capacity, before.Capacity)
	}
}

// judgeCalibrated holds figures of a real process against what is possible: no
// connection is smaller than its own session, none takes a megabyte.
func judgeCalibrated(t *testing.T, c scale.Capacity) {
	t.Helper()
	m := calibrated.FindStringSubmatch(c.Source)
	if m == nil {
		t.Fatalf("got the source %q, want what was measured", c.Source)
	}
	var n [4]float64
	for i := range n {
		n[i], _ = strconv.ParseFloat(m[i+1], 64)
	}
	if n[0] < 1 || n[0] > 1000 || n[1] < 0.5 || n[1] > 100_000 || n[2] != 1500 || n[3] < 50 {
		t.Errorf("got %q, want 1 to 1000 KB, 0.5 to 100000 µs, 1500 connections and most of 400 messages/s", c.Source)
	}
	if c.Connections <= 0 || c.Connections > 15000 || c.Messages <= 0 {
		t.Errorf("got %+v, want at most ten times the 1500 connections that were seen", c)
	}
}
