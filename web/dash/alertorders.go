package dash

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// order sends a command to the engine and reports what came of it.
func (b *Board) order(r *request, back, done string, c watch.Command) error {
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return r.report(back, "", errors.New("this node has no scaling engine"))
	}
	c.Actor = r.who.Name
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e, err := sc.Do(ctx, c)
	if err == nil {
		b.note(r.c, string(c.Op), e.Summary)
		done += fmt.Sprintf(" It is row %d of the log.", e.Seq)
	}
	return r.report(back, done, err)
}

func (b *Board) acknowledge(r *request) error {
	return b.order(r, "/alerts", "You have taken it.", watch.Command{Op: watch.OpAck, Alert: r.c.FormValue("alert"), Reason: r.c.FormValue("reason")})
}

func (b *Board) silence(r *request) error {
	span := time.Duration(0)
	for _, s := range silenceTimes {
		if s.word == r.c.FormValue("for") {
			span = s.span
		}
	}
	if span == 0 {
		return r.report("/alerts", "", errors.New("choose how long"))
	}
	rule, node, _ := strings.Cut(r.c.FormValue("alert"), "@")
	if sc := b.cfg.Sources.Scaling; sc != nil {
		for _, a := range sc.Alerts() {
			if a.Key() == r.c.FormValue("alert") {
				rule, node = a.Rule, a.Node
			}
		}
	}
	return b.order(r, "/alerts", "It is silenced for "+r.c.FormValue("for")+".", watch.Command{Op: watch.OpSilence,
		Silence: &scale.Silence{Rule: rule, Node: node, By: r.who.Name, Reason: r.c.FormValue("reason"), From: r.now, Until: r.now.Add(span)}})
}

func (b *Board) unsilence(r *request) error {
	return b.order(r, "/alerts", "The silence has ended.", watch.Command{Op: watch.OpUnsilence, ID: r.c.FormValue("id")})
}

// testChannel sends a test message by one of the ways to tell people.
func (b *Board) testChannel(r *request) error {
	n, name := b.cfg.Sources.Notify, r.c.FormValue("channel")
	if n == nil {
		return r.report("/alerts", "", errors.New("no way to tell people is configured"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d, err := n.Test(ctx, name)
	b.note(r.c, name, "")
	if err == nil && d.Fault != "" {
		err = errors.New(name + ": " + d.Fault)
	}
	return r.report("/alerts", fmt.Sprintf("%s answered %s after %d ms.", name, orNone(d.Answer), d.Took.Milliseconds()), err)
}
