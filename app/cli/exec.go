package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// maxOutput bounds what a program of --exec may answer.
const maxOutput = 1 << 20

// killWait is how long after its end a program's pipes may stay open, held by
// children that it left behind.
const killWait = 2 * time.Second

// runner runs a shell command for each event, a bounded number at a time.
type runner struct {
	command string
	timeout time.Duration
	env     *Env
	slots   chan struct{}
	tasks   sync.WaitGroup
}

func newRunner(command string, jobs int, timeout time.Duration, env *Env) *runner {
	return &runner{command: command, timeout: timeout, env: env, slots: make(chan struct{}, jobs)}
}

func (r *runner) acquire(ctx context.Context) bool {
	select {
	case r.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *runner) release() { <-r.slots }

// spawn runs f beside the caller when there is a slot; it waits for one, so that
// whoever brings events is slowed down.
func (r *runner) spawn(ctx context.Context, f func(context.Context)) {
	if !r.acquire(ctx) {
		return
	}
	r.tasks.Go(func() {
		defer r.release()
		f(ctx)
	})
}

// wait returns when all programs have ended.
func (r *runner) wait() { r.tasks.Wait() }

// run gives e to the program and returns what it wrote.
func (r *runner) run(ctx context.Context, e eventJSON) ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("the program took longer than %v", r.timeout))
	defer cancel()
	cmd := shell(ctx, r.command)
	cmd.Stdin = bytes.NewReader(append(line, '\n'))
	out := &boundedBuffer{max: maxOutput}
	cmd.Stdout, cmd.Stderr = out, r.env.Stderr
	cmd.WaitDelay = killWait
	cmd.Env = append(os.Environ(), "AGENTNET_EVENT="+e.Type, "AGENTNET_FROM="+e.From, "AGENTNET_METHOD="+e.Method)
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case out.over:
		return nil, fmt.Errorf("the program wrote more than %d bytes", maxOutput)
	case err != nil:
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("the program ended with %s", exit)
		}
		return nil, fmt.Errorf("the program could not be run: %w", err)
	}
	return bytes.TrimSpace(out.b.Bytes()), nil
}

// boundedBuffer takes up to max bytes and lets go of the rest.
type boundedBuffer struct {
	b    bytes.Buffer
	max  int
	over bool
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.b.Len()+len(p) > b.max {
		b.over = true
		return len(p), nil
	}
	return b.b.Write(p)
}
