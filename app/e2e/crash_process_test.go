//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentnet/web/api"
)

// program is the server under test: the executable that soak.sh built, or this
// test binary, which behaves as it (with the race detector where it has one).
func program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if bin := os.Getenv("E2E_BINARY"); bin != "" {
		if core := os.Getenv("E2E_SERVER_CPU"); core != "" {
			return exec.Command("taskset", append([]string{"-c", core, bin}, args...)...)
		}
		return exec.Command(bin, args...)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asNode+"=1")
	return cmd
}

// A process is a node in a process of its own.
type process struct {
	t     testing.TB
	dir   string
	token string // may act as any agent, and look at everything
	cmd   *exec.Cmd
	url   string
	addr  string
	ended chan struct{} // closed when the process has been waited for
	err   error         // of its end
	log   *tail
}

// A house is a data directory with its configuration, in which processes start.
type house struct {
	t      testing.TB
	dir    string
	config string
	token  string
	env    []string
}

// newHouse prepares a data directory. config is YAML.
func newHouse(t testing.TB, config string, env ...string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), env: env}
	h.config = filepath.Join(h.dir, "agentnet.yaml")
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.token = h.newToken()
	return h
}

// newToken has the command line make a token that may act as anybody.
func (h *house) newToken() string {
	h.t.Helper()
	cmd := program(h.t, "token", "create", "--data", filepath.Join(h.dir, "data"), "--agent", "**", "--role", "admin")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("make a token: %v: %s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// start runs a node until it ends by itself, is killed, or the test ends.
func (h *house) start() *process {
	h.t.Helper()
	return h.startAt("127.0.0.1:0")
}

// startAt runs a node that listens at an address.
func (h *house) startAt(listen string) *process {
	h.t.Helper()
	p := &process{t: h.t, dir: h.dir, token: h.token, ended: make(chan struct{}), log: &tail{}}
	p.cmd = program(h.t, "serve", "--data", filepath.Join(h.dir, "data"), "--config", h.config, "--listen", listen)
	if p.cmd.Env == nil {
		p.cmd.Env = os.Environ()
	}
	p.cmd.Env = append(p.cmd.Env, h.env...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		first <- line
		_, _ = io.Copy(io.Discard, r)
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	h.t.Cleanup(func() { p.kill() })
	select {
	case line := <-first:
		url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
		if !ok {
			p.kill()
			h.t.Fatalf("the node said %q\n%s", line, p.log)
		}
		p.url, p.addr = url, strings.TrimPrefix(url, "http://")
	case <-time.After(time.Minute):
		p.kill()
		h.t.Fatalf("the node did not listen in a minute\n%s", p.log)
	}
	return p
}

// kill is kill -9, and waits for the end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop asks for an orderly end and says how long it took; the exit code must be 0.
func (p *process) stop(within time.Duration) time.Duration {
	p.t.Helper()
	begun := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.endsWell(within)
	return time.Since(begun)
}

func (p *process) endsWell(within time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended:
		if p.err != nil {
			p.t.Errorf("the node ended with %v, want exit code 0\n%s", p.err, p.log)
		}
	case <-time.After(within):
		p.kill()
		p.t.Errorf("the node had not ended %v after SIGTERM\n%s", within, p.log)
	}
}

// get reads one page of the node.
func (p *process) get(path string) []byte {
	p.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest("GET", p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := client.Do(req)
	if err != nil {
		p.t.Errorf("get %s: %v", path, err)
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Errorf("get %s: status %d, %v: %.200s", path, resp.StatusCode, err, body)
	}
	return body
}

func (p *process) stats() (s api.StatsReply) {
	p.t.Helper()
	if body := p.get("/v1/stats"); body != nil {
		if err := json.Unmarshal(body, &s); err != nil {
			p.t.Errorf("stats: %v", err)
		}
	}
	return s
}

// A usage is what a process holds.
type usage struct {
	rss        int64 // bytes
	cpu        time.Duration
	fds        int
	goroutines int
}

func (p *process) usage() (u usage) {
	p.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	u.rss = rss(p.cmd.Process.Pid)
	if text, err := os.ReadFile(proc + "stat"); err == nil {
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		user, _ := strconv.Atoi(fields[11])
		sys, _ := strconv.Atoi(fields[12])
		u.cpu = time.Duration(user+sys) * 10 * time.Millisecond
	}
	if list, err := os.ReadDir(proc + "fd"); err == nil {
		u.fds = len(list)
	}
	for line := range strings.Lines(string(p.get("/metrics"))) {
		if v, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			u.goroutines, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return u
}

// rss is the resident memory of a process, 0 when it is gone.
func rss(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// A baseline is what an idle node holds, for a look at leaks afterwards.
type baseline struct {
	p *process
	u usage
	// resumable: sessions outlive the scenario, only their sockets must be gone.
	resumable bool
}

// baseline takes the measure after one connection has come and gone, so that what
// is made once is there.
func (p *process) baseline() baseline {
	p.t.Helper()
	s := p.join("warm-up", 0)
	s.leave()
	return baseline{p: p, u: p.usage()}
}

// returned waits until nothing is left of a scenario whose clients have gone:
// connections, sessions, subscriptions, requests, queues, descriptors, goroutines.
func (b baseline) returned(within time.Duration) {
	b.p.t.Helper()
	const slack = 8 // workers of the HTTP server that wait for another request
	var last string
	waitFor(within, func() bool {
		g, u := b.p.stats().Gauges, b.p.usage()
		last = fmt.Sprintf("%+v; goroutines %d (idle %d), descriptors %d (idle %d)", g, u.goroutines, b.u.goroutines, u.fds, b.u.fds)
		kept := g.Sessions + g.Resumable + g.Agents
		return g.Connections+g.Subscriptions+g.Requests == 0 && (kept == 0 || b.resumable) && g.QueueBytes == 0 &&
			u.goroutines <= b.u.goroutines+slack && u.fds <= b.u.fds+slack
	}, func() { b.p.t.Errorf("the node still holds, %v after its clients went: %s", within, last) })
}

// waitFor polls until f holds; late is called when it did not in time.
func waitFor(within time.Duration, f func() bool, late func()) {
	for end := time.Now().Add(within); ; {
		if f() {
			return
		}
		if time.Now().After(end) {
			late()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// tail keeps the end of a log.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (b *tail) Write(p []byte) (int, error) {
	const limit = 64 << 10
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if over := len(b.buf) - limit; over > 0 {
		b.buf = append(b.buf[:0], b.buf[over:]...)
	}
	return len(p), nil
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf)
}
