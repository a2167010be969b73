package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"agentnet/app/drill"
)

// testNodes starts nodes for drills: this very program, in processes of their own,
// so that they can be killed. They see nothing of our environment but PATH and
// HOME, lest a drill runs on somebody's settings.
type testNodes struct {
	env     *Env
	scratch string
	nodes   []*testNode
}

const (
	// nodeStart and nodeStop bound how long a test node may take.
	nodeStart = 30 * time.Second
	nodeStop  = 10 * time.Second
)

// Node implements drill.Place.
func (p *testNodes) Node(ctx context.Context, dir string, flags ...string) (drill.Node, error) {
	if dir == "" {
		dir = filepath.Join(p.scratch, fmt.Sprintf("data%d", len(p.nodes)))
	}
	var token, problem bytes.Buffer
	code := Run(ctx, Env{Args: []string{"token", "create", "--data", dir, "--agent", "drill/**", "--send", "drill/**", "--subscribe", "drill/**", "--publish", "drill/**", "--role", "viewer"},
		Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""), Stdout: &token, Stderr: &problem, Version: p.env.Version})
	if code != ExitOK {
		return nil, fmt.Errorf("make a token: %s", strings.TrimSpace(problem.String()))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	n := &testNode{dir: dir, addr: addr, token: strings.TrimSpace(token.String()), flags: flags}
	p.nodes = append(p.nodes, n)
	return n, n.Start(ctx)
}

// end stops what runs, the last first.
func (p *testNodes) end() {
	for i := len(p.nodes) - 1; i >= 0; i-- {
		p.nodes[i].stop()
	}
}

// testNode is one node in a process of its own.
type testNode struct {
	dir, addr, token string
	flags            []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	log   lastLines
}

func (n *testNode) URL() string   { return "http://" + n.addr }
func (n *testNode) Token() string { return n.token }
func (n *testNode) Dir() string   { return n.dir }

// Start starts the process and waits until it listens.
func (n *testNode) Start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := append([]string{"agentnet", "serve", "--listen", n.addr, "--data", n.dir, "--log-level", "warn", "--log-format", "text"}, n.flags...)
	cmd := &exec.Cmd{Path: self, Args: args, Dir: n.dir, Stderr: &n.log, WaitDelay: time.Second}
	for _, name := range []string{"PATH", "HOME"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a node: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a node: %w", err)
	}
	listens, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); {
			if first && strings.HasPrefix(lines.Text(), "listening on ") {
				first = false
				close(listens)
			}
		}
		_ = cmd.Wait()
	}()
	n.mu.Lock()
	n.cmd, n.ended = cmd, ended
	n.mu.Unlock()
	limit := time.NewTimer(nodeStart)
	defer limit.Stop()
	select {
	case <-listens:
		return nil
	case <-ended:
		return fmt.Errorf("the node ended at once: %s", n.log.String())
	case <-limit.C:
		err = fmt.Errorf("the node did not listen in %v: %s", nodeStart, n.log.String())
	case <-ctx.Done():
		err = ctx.Err()
	}
	n.stop()
	return err
}

// Kill ends the process as kill -9 does, and waits for it.
func (n *testNode) Kill() error {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	n.mu.Unlock()
	if cmd == nil {
		return errors.New("the node does not run")
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the node: %w", err)
	}
	<-ended
	return nil
}

// stop ends the process in order, or else by force.
func (n *testNode) stop() {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	n.cmd = nil
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
		return
	case <-time.After(nodeStop):
	}
	_ = cmd.Process.Kill()
	<-ended
}

// foreignNode is a relay that runs already.
type foreignNode struct{ url, token string }

var errForeign = errors.New("this node is not ours to break")

func (n *foreignNode) URL() string                 { return n.url }
func (n *foreignNode) Token() string               { return n.token }
func (n *foreignNode) Dir() string                 { return "" }
func (n *foreignNode) Kill() error                 { return errForeign }
func (n *foreignNode) Start(context.Context) error { return errForeign }

// lastLines keeps the end of a log, for errors.
type lastLines struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastLines) Write(p []byte) (int, error) {
	const keep = 2000
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - keep; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return printable(strings.Join(strings.Fields(string(l.buf)), " "))
}
