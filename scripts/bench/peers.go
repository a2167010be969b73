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
	url, token string
	pid        int
	stop       func()
}

// start runs a fresh server.
func (s *stage) start(ctx context.Context, server string, small bool) (*running, error) {
	ctx, cancel := context.WithCancel(ctx)
	dir, err := os.MkdirTemp("", "agentnet-bench-")
	if err != nil {
		cancel()
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	r := &running{}
	cmd, err := s.serveCommand(ctx, server, dir, small, r)
	if err != nil {
		cancel()
		_ = os.RemoveAll(dir)
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("start %s: %w", server, err)
	}
	r.pid = cmd.Process.Pid // taskset becomes the server
	r.stop = func() {
		cancel()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	if r.url, err = listening(out, startPatience); err != nil {
		r.stop()
		return nil, fmt.Errorf("start %s: %w", server, err)
	}
	return r, nil
}

// serveCommand is the command that runs the server, with a token for the relay.
func (s *stage) serveCommand(ctx context.Context, server, dir string, small bool, r *running) (*exec.Cmd, error) {
	if server != "agentnet" {
		args := []string{"serve", server}
		if small {
			args = append(args, "--small")
		}
		return s.command(ctx, "0", s.self, args...), nil
	}
	data := filepath.Join(dir, "data")
	token, err := exec.CommandContext(ctx, s.agentnet, "token", "create", "--data", data, "--agent", benchGlob).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return nil, fmt.Errorf("create token: %w", err)
	}
	r.token = strings.TrimSpace(string(token))
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, s.extra...)
	return s.command(ctx, "0", s.agentnet, args...), nil
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
	r, err := s.start(ctx, server, w.small)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	args := append([]string{"load", "--server", server, "--url", r.url, "--pid", fmt.Sprint(r.pid), "--json"}, w.args...)
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
