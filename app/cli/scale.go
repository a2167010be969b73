package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"agentnet/app"
	"agentnet/app/scale"
)

// scaleCommands are `agentnet scale …`.
type scaleCommands struct {
	Status scaleStatus `cmd:"" help:"Say where scaling stands: mode, count, what is wanted and why."`
	Mode   scaleMode   `cmd:"" help:"Set the mode of a running fleet: observe, advise or act."`
	Pause  scalePause  `cmd:"" help:"Pause scaling: all, in (no fewer), out (no more), or none."`
	Pin    scalePin    `cmd:"" help:"Pin the count; 0 unpins it."`
	Advice scaleAdvice `cmd:"" help:"Say what this server advises: evidence, effect and the exact change."`
	Answer scaleAnswer `cmd:"" help:"Snooze or dismiss a piece of advice, or show it again."`
	Apply  scaleApply  `cmd:"" help:"Make the change of a piece of advice, where that can be done at run time."`
	Try    scaleTry    `cmd:"" help:"Try the configured actuator: what would it do, with which answer? Changes nothing without --really."`
}

type scaleStatus struct {
	office
	JSON bool `name:"json" help:"Print JSON."`
}

// scaleReply is the part of /v1/scaling/status that people read first.
type scaleReply struct {
	At        time.Time     `json:"at"`
	Leader    string        `json:"leader,omitempty"`
	Held      string        `json:"held,omitempty"`
	Mode      scale.Mode    `json:"mode"`
	Pause     scale.Pause   `json:"pause"`
	Pinned    int           `json:"pinned,omitempty"`
	Min       int           `json:"min"`
	Max       int           `json:"max"`
	Current   int           `json:"current"`
	Desired   int           `json:"desired"`
	Requested int           `json:"requested,omitempty"`
	Reason    string        `json:"reason"`
	Actuator  string        `json:"actuator,omitempty"`
	Last      *scale.Action `json:"last_action,omitempty"`
}

// Run prints where scaling stands.
func (c *scaleStatus) Run(ctx context.Context, env *Env) error {
	var s scaleReply
	if err := c.call(ctx, env, http.MethodGet, "/v1/scaling/status", nil, &s); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(env.Stdout, s)
	}
	text := fmt.Sprintf("%d instances, %d wanted (%d to %d allowed): %s\n", s.Current, s.Desired, s.Min, s.Max, printable(s.Reason))
	text += fmt.Sprintf("Mode: %v", s.Mode)
	if s.Pause != scale.PauseNone {
		text += fmt.Sprintf("; paused: %v", s.Pause)
	}
	if s.Pinned > 0 {
		text += fmt.Sprintf("; pinned to %d", s.Pinned)
	}
	text += "\n"
	switch {
	case s.Held != "":
		text += "Nothing is changed now: " + printable(s.Held) + "\n"
	case s.Leader != "":
		text += "Decided by " + printable(s.Leader) + "\n"
	}
	if s.Actuator != "" {
		text += "Carried out by " + printable(s.Actuator) + "\n"
	}
	if s.Last != nil && s.Last.Fault != "" {
		text += "The last action failed: " + printable(s.Last.Fault) + "\n"
		if s.Last.Advice != "" {
			text += printable(s.Last.Advice) + "\n"
		}
	}
	if _, err := fmt.Fprint(env.Stdout, text); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// change asks for a change and prints the entry that the log has of it.
func (o *office) change(ctx context.Context, env *Env, path string, body any) error {
	var e scale.LogEntry
	if err := o.call(ctx, env, http.MethodPost, path, body, &e); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(env.Stdout, "%s:%d  %s\n", printable(e.Origin), e.Seq, printable(e.Summary)); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

type scaleMode struct {
	Mode string `arg:"" enum:"observe,advise,act" help:"${enum}."`
	office
}

// Run sets the mode.
func (c *scaleMode) Run(ctx context.Context, env *Env) error {
	return c.change(ctx, env, "/v1/scaling/mode", map[string]string{"mode": c.Mode})
}

type scalePause struct {
	Pause string `arg:"" enum:"all,in,out,none" help:"${enum}."`
	office
}

// Run pauses a direction.
func (c *scalePause) Run(ctx context.Context, env *Env) error {
	return c.change(ctx, env, "/v1/scaling/pause", map[string]string{"pause": c.Pause})
}

type scalePin struct {
	Count int `arg:"" help:"Instances; 0: no longer pinned."`
	office
}

// Run pins the count.
func (c *scalePin) Run(ctx context.Context, env *Env) error {
	if c.Count < 0 || c.Count > scale.MaxInstances {
		return usagef("want 0 to %d instances, got %d", scale.MaxInstances, c.Count)
	}
	return c.change(ctx, env, "/v1/scaling/pin", map[string]int{"count": c.Count})
}

type scaleTry struct {
	ConfigFile string `name:"config" placeholder:"FILE" help:"Configuration file with the section actuate; AGENTNET_CONFIG without it."`
	To         int    `required:"" help:"Instances to ask for."`
	Really     bool   `help:"Change the count. Without it the control plane is only asked, and nothing is changed. Refused where a leader has given orders: there, pin the count."`
	JSON       bool   `name:"json" help:"Print JSON."`
}

// errNotDone marks an order that was not carried out.
var errNotDone = errors.New("it was not done")

// Run gives the actuator one order, outside of the engine.
func (c *scaleTry) Run(ctx context.Context, env *Env) error {
	cfg, err := loadConfig(env, c.ConfigFile, func(*app.Config) {})
	if err != nil {
		return err
	}
	act, err := cfg.NewActuator()
	if err != nil {
		return usagef("%v", err)
	}
	now := time.Now()
	before, err := act.Requested(ctx)
	if err != nil && !errors.Is(err, scale.ErrNotTold) {
		return err
	}
	o := scale.Order{ID: fmt.Sprintf("cli-%d", now.UnixNano()), At: now.UTC(), Fence: 1<<63 - 1, From: before, To: c.To, Reason: "tried by hand", DryRun: !c.Really}
	if c.Really {
		o.Fence = 0 // below every leader: whoever leads now is not refused afterwards
	}
	a, err := act.Act(ctx, o)
	if c.Really {
		trail(ctx, env, cfg.Data, "scale.try", a.Actuator, fmt.Sprintf("%d to %d instances", before, c.To), err)
	}
	if c.JSON {
		err = errors.Join(printJSON(env.Stdout, a), err)
		return err
	}
	fmt.Fprintf(env.Stdout, "%s: %d to %d instances\n", a.Actuator, before, c.To)
	for _, s := range a.Steps {
		fmt.Fprintf(env.Stdout, "  %s\n", printable(s))
	}
	for _, text := range []string{a.Output, a.Advice} {
		if text != "" {
			fmt.Fprintln(env.Stdout, printable(text))
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotDone, err)
	case o.DryRun:
		fmt.Fprintln(env.Stdout, "Nothing was changed: add --really.")
	case a.Done:
		fmt.Fprintln(env.Stdout, "Done.")
	}
	return nil
}
