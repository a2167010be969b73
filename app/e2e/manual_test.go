//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manualTime bounds the whole manual.
const manualTime = 2 * time.Minute

// TestManual runs every block of commands of packaging/MANUAL.md, one after the
// other in one shell, as a reader would. Paths and ports are replaced, and each
// replacement must be in the text.
func TestManual(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "MANUAL.md"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, dir := range []string{"bin", "var/lib", "var/log", "var/backups", "etc", "work"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self := program(t)
	shim := "#!/bin/sh\n" + asNode + "=1 exec '" + self.Path + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(root, "work", "agentnet"), []byte(shim), 0o700); err != nil {
		t.Fatal(err)
	}
	first, second, redis := freePort(t), freePort(t), freePort(t)
	replace := []replacement{{"/usr/local/bin", root + "/bin"}, {"/etc/agentnet", root + "/etc/agentnet"}, {"/var/lib/", root + "/var/lib/"}, {"/var/log/", root + "/var/log/"},
		{"/var/backups/", root + "/var/backups/"}, {"127.0.0.1:8080", "127.0.0.1:" + first}, {"127.0.0.1:8081", "127.0.0.1:" + second}, {"127.0.0.1:6379", "127.0.0.1:" + redis},
		{"-p 6379", "-p " + redis}, {"--port 6379", "--port " + redis}}
	for _, r := range replace {
		if !bytes.Contains(text, []byte(r.from)) {
			t.Fatalf("the manual does not hold %q, which the test replaces", r.from)
		}
		text = bytes.ReplaceAll(text, []byte(r.from), []byte(r.to))
	}
	blocks := shellBlocks(string(text))
	if len(blocks) < 15 {
		t.Fatalf("got %d blocks of commands, want all of them", len(blocks))
	}
	var script strings.Builder
	script.WriteString("set -eu\n")
	for i, block := range blocks {
		fmt.Fprintf(&script, "echo '== block %d' >&2\n%s\n", i+1, block)
	}
	script.WriteString("echo '== the end' >&2\n")

	ctx, cancel := context.WithTimeout(t.Context(), manualTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script.String())
	cmd.Dir = filepath.Join(root, "work")
	cmd.Env = append(os.Environ(), "PATH="+root+"/bin:"+os.Getenv("PATH"), "HOME="+root, "AGENTNET_URL=http://127.0.0.1:"+first)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	// All that it started is in its group, and ends with it.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	finished := make(chan struct{})
	go func() { ended <- cmd.Wait(); close(finished) }()
	waitFor(manualTime, func() bool {
		select {
		case <-finished:
			return true
		default:
			return strings.Contains(out.String(), "== the end")
		}
	}, func() {})
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the servers that the manual leaves running
	<-ended
	if log := out.String(); !strings.Contains(log, "== the end") {
		servers := ""
		for _, name := range []string{"agentnet.log", "agentnet2.log"} {
			text, _ := os.ReadFile(filepath.Join(root, "var", "log", name))
			servers += name + ":\n" + string(text[max(0, len(text)-4000):])
		}
		number := strings.Count(log, "== block ")
		t.Fatalf("block %d of the manual failed:\n%s\n\n%s\n%s", number, blocks[max(number-1, 0)], log, servers)
	}
	for _, want := range []string{"lives and is ready", `"text":"hello"`, "was made and verified", "is whole", "what was there before is in", "instances"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

// shellBlocks are the fenced blocks marked as sh.
func shellBlocks(text string) (blocks []string) {
	for _, part := range strings.Split(text, "\n```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		blocks = append(blocks, block)
	}
	return blocks
}
