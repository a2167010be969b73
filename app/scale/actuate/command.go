package actuate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// command runs a program of the operator, without a shell. The order comes as
// JSON on its standard input and in AGENTNET_FROM, _TO, _ORDER, _FENCE, _REGION,
// _VICTIMS (separated by spaces) and _REASON; of our own environment it sees PATH,
// HOME and LANG only, since the rest may hold secrets. Exit code 0 is done, 75 is
// "try again" (EX_TEMPFAIL), 77 is "a newer leader was here" (EX_NOPERM), any
// other is a failure.
type command struct {
	argv []string
	env  []string
}

const (
	exitAgain  = 75
	exitFenced = 77
	// maxOutput bounds what is kept of a program's output, in bytes.
	maxOutput = 16 << 10
	// killAfter is how long a program may take to end once it was asked to.
	killAfter = 3 * time.Second
)

func (c *command) name() string { return "command" }

func (c *command) count(context.Context) (int, error) { return 0, scale.ErrNotTold }

func (c *command) set(ctx context.Context, o *scale.Order, s *steps) error {
	input, err := json.Marshal(o)
	if err != nil {
		return finally("", "encode the order: %w", err)
	}
	if o.DryRun {
		s.say("would run %s with %d arguments", c.argv[0], len(c.argv)-1)
		return nil
	}
	vars := append([]string{"AGENTNET_FROM=" + strconv.Itoa(o.From), "AGENTNET_TO=" + strconv.Itoa(o.To), "AGENTNET_ORDER=" + o.ID,
		"AGENTNET_FENCE=" + strconv.FormatUint(o.Fence, 10), "AGENTNET_REGION=" + o.Region, "AGENTNET_VICTIMS=" + strings.Join(o.Victims, " "),
		"AGENTNET_REASON=" + egress.Shorten(o.Reason, 2000)}, c.env...)
	output, code, err := execute(ctx, c.argv, vars, input)
	s.output = output
	if err != nil {
		return finally("Check that the program exists, may be executed and ends in time.", "run %s: %w", c.argv[0], err)
	}
	s.say("%s ended with code %d", c.argv[0], code)
	last := lastLine(output)
	switch code {
	case 0:
		return nil
	case exitAgain:
		return fmt.Errorf("%s asks to try again: %s", c.argv[0], last)
	case exitFenced:
		return fmt.Errorf("%w: %s", scale.ErrFenced, last)
	}
	return finally("Run the program by hand with the same variables; its output is in this entry.", "%s ended with code %d: %s", c.argv[0], code, last)
}

// execute runs a program with a deadline. Its children are ended with it.
func execute(ctx context.Context, argv, vars []string, input []byte) (output string, code int, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, vars...)
	cmd.Stdin = bytes.NewReader(input)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	ownGroup(cmd)
	cmd.WaitDelay = killAfter
	err = cmd.Run()
	if ctx.Err() != nil {
		return out.String(), -1, fmt.Errorf("it did not end in time: %w", ctx.Err())
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() >= 0 {
		return out.String(), e.ExitCode(), nil
	}
	return out.String(), 0, err
}

// tail keeps the last maxOutput bytes of an output.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxOutput; over > 0 {
		t.buf, t.cut = append(t.buf[:0], t.buf[over:]...), true
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(string(t.buf), "\uFFFD"))
	if t.cut {
		text = "…" + text
	}
	return strings.TrimSpace(text)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return egress.Shorten(lines[len(lines)-1], 300)
}
