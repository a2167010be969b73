package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"agentnet/app/bench"
)

// benchGlob is what the token of a measured relay covers.
const benchGlob = "bench/**"

// A stage starts servers on one core and load on another.
type stage struct {
	self     string // this program
	agentnet string // the relay's program
	pin      bool
	extra    []string // arguments for agentnet serve
}

// command is a command on core number core.
func (s *stage) command(ctx context.Context, core, program string, args ...string) *exec.Cmd {
	if s.pin {
		args = append([]string{"-c", core, program}, args...)
		program = "taskset"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = startPatience
	return cmd
}

// A running server is a process that accepts connections.
type running struct {
	urls  []string // of its nodes
	token string
	pids  []int
	with  []int // of the Redis that several nodes share
	stop  func()
}

// start runs a fresh server: the nodes that the work asks for, and with more than
// one the Redis between them.
func (s *stage) start(ctx context.Context, server string, w *work) (_ *running, err error) {
	ctx, cancel := context.WithCancel(ctx)
	dir, err := os.MkdirTemp("", "agentnet-bench-")
	if err != nil {
		cancel()
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	r := &running{}
	var started []*exec.Cmd
	r.stop = func() {
		cancel()
		for _, cmd := range started {
			_ = cmd.Wait()
		}
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			r.stop()
			err = fmt.Errorf("start %s: %w", server, err)
		}
	}()
	between, err := s.between(ctx, server, w.nodes, r, &started)
	if err != nil {
		return nil, err
	}
	for i := range max(1, w.nodes) {
		more := between.arguments(i)
		if server == "agentnet" {
			more = slices.Concat(more, w.serve)
		}
		cmd, err := s.serveCommand(ctx, server, filepath.Join(dir, fmt.Sprint(i)), w.small, more, r)
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, err
		}
		started = append(started, cmd)
		r.pids = append(r.pids, cmd.Process.Pid) // taskset becomes the server
		url, err := listening(out, startPatience)
		if err != nil {
			return nil, err
		}
		r.urls = append(r.urls, url)
	}
	return r, between.settle(ctx, r)
}

// serveCommand is the command that runs one node. The first node of the relay gets
// a token, which is good for all of them.
func (s *stage) serveCommand(ctx context.Context, server, dir string, small bool, more []string, r *running) (*exec.Cmd, error) {
	if server != "agentnet" {
		args := append([]string{"serve", server}, more...)
		if small {
			args = append(args, "--small")
		}
		return s.command(ctx, "0", s.self, args...), nil
	}
	data := filepath.Join(dir, "data")
	if r.token != "" {
		return s.command(ctx, "0", s.agentnet, slices.Concat([]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, more, s.extra)...), nil
	}
	token, err := exec.CommandContext(ctx, s.agentnet, "token", "create", "--data", data, "--agent", benchGlob).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return nil, fmt.Errorf("create token: %w", err)
	}
	r.token = strings.TrimSpace(string(token))
	return s.serveCommand(ctx, server, dir, small, more, r)
}

// listening waits for the line that tells the URL, then reads on so that the
// server never blocks on its output.
func listening(out interface{ Read([]byte) (int, error) }, patience time.Duration) (string, error) {
	found := make(chan string, 1)
	go func() { // ends with the server
		defer close(found)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, url, ok := strings.Cut(lines.Text(), "listening on "); ok {
				select {
				case found <- strings.TrimSpace(url):
				default:
				}
			}
		}
	}()
	select {
	case url, ok := <-found:
		if !ok {
			return "", errors.New("it ended without saying where it listens")
		}
		return url, nil
	case <-time.After(patience):
		return "", fmt.Errorf("it did not say where it listens within %v", patience)
	}
}

// load makes one kind of load against a fresh server.
func (s *stage) load(ctx context.Context, server string, w *work) (*bench.Report, error) {
	r, err := s.start(ctx, server, w)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	args := []string{"load", "--server", server, "--url", strings.Join(r.urls, ","), "--json"}
	for _, pid := range r.pids {
		args = append(args, "--pid", strconv.Itoa(pid))
	}
	for _, pid := range r.with {
		args = append(args, "--with", strconv.Itoa(pid))
	}
	args = append(args, w.args...)
	cmd := s.command(ctx, "1", s.self, args...)
	cmd.Env = append(os.Environ(), "AGENTNET_TOKEN="+r.token)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", server, err)
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, fmt.Errorf("load %s: read report: %w", server, err)
	}
	return &report, nil
}
