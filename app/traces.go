package app

import (
	"context"
	"encoding/json"
	"time"

	"agentnet/app/ask"
	"agentnet/app/relay"
	"agentnet/app/wire"
)

// traceHandlers let other nodes trace an agent on this one.
func (a *App) traceHandlers() map[string]ask.Handler {
	read := func(body json.RawMessage, do func(o ask.Order) (any, error)) (any, error) {
		var o ask.Order
		if err := json.Unmarshal(body, &o); err != nil {
			return nil, &wire.Error{Code: wire.BadFrame, Message: "the question cannot be read: the nodes run different versions"}
		}
		return do(o)
	}
	return map[string]ask.Handler{
		ask.KindTrace: func(_ context.Context, from string, body json.RawMessage) (any, error) {
			return read(body, func(o ask.Order) (any, error) {
				a.log.Info("an agent is traced, by order at another node", "asked_by", from, "actor", o.Actor, "agent", o.Agent, "seconds", o.Seconds)
				return a.traceHere(o)
			})
		},
		ask.KindTraceEnd: func(_ context.Context, _ string, body json.RawMessage) (any, error) {
			return read(body, func(o ask.Order) (any, error) {
				done := ask.Done{Node: a.cfg.Node}
				if a.hub.EndTrace(o.Agent) {
					done.Sessions = 1
				}
				return done, nil
			})
		},
		ask.KindTraced: func(_ context.Context, _ string, body json.RawMessage) (any, error) {
			return read(body, func(o ask.Order) (any, error) { return a.tracedHere(o.Agent), nil })
		},
	}
}

func (a *App) traceHere(o ask.Order) (relay.Trace, error) {
	tr, err := a.hub.Trace(o.Agent, o.Actor, time.Duration(o.Seconds)*time.Second)
	return a.signed(tr), err
}

func (a *App) tracedHere(agent string) relay.Trace { return a.signed(a.hub.Traced(agent, 0)) }

// signed writes this node's name into the rows that it noted.
func (a *App) signed(tr relay.Trace) relay.Trace {
	for i := range tr.Rows {
		tr.Rows[i].Node = a.cfg.Node
	}
	return tr
}

// fleetTraces notes the envelopes of an agent on all nodes.
type fleetTraces struct{ a *App }

// Trace begins a trace of an agent on all nodes, or gives the one that runs a new end.
func (f fleetTraces) Trace(ctx context.Context, agent, actor string, length time.Duration) (relay.Trace, error) {
	o := ask.Order{Actor: actor, Agent: agent, Seconds: int(length / time.Second)}
	own, err := f.a.traceHere(o)
	if err != nil {
		return own, err
	}
	f.a.log.Info("an agent is traced", "actor", actor, "agent", agent, "until", own.Ends)
	return f.join(ctx, ask.KindTrace, o, own), nil
}

// Traced reads what all nodes noted of an agent.
func (f fleetTraces) Traced(ctx context.Context, agent string) relay.Trace {
	return f.join(ctx, ask.KindTraced, ask.Order{Agent: agent}, f.a.tracedHere(agent))
}

func (f fleetTraces) join(ctx context.Context, kind string, o ask.Order, own relay.Trace) relay.Trace {
	all := []relay.Trace{own}
	missing := f.a.elsewhere(ctx, kind, o, func() (any, func()) {
		var tr relay.Trace
		return &tr, func() { all = append(all, tr) }
	})
	out := relay.MergeTraces(o.Agent, all...)
	out.Missing = missing
	return out
}

// EndTrace ends the trace of an agent on all nodes.
func (f fleetTraces) EndTrace(ctx context.Context, agent, actor string) error {
	if agent == "" {
		return &wire.Error{Code: wire.BadFrame, Message: "agent: name one"}
	}
	ended := f.a.hub.EndTrace(agent)
	missing := f.a.elsewhere(ctx, ask.KindTraceEnd, ask.Order{Agent: agent, Actor: actor}, func() (any, func()) {
		var done ask.Done
		return &done, func() { ended = ended || done.Sessions > 0 }
	})
	if len(missing) > 0 {
		return &wire.Error{Code: wire.Unavailable, Message: "no answer came from " + missing[0] + ": a trace there ends by itself"}
	}
	if !ended {
		return errNoTrace
	}
	f.a.log.Info("a trace of an agent was ended", "actor", actor, "agent", agent)
	return nil
}

// errNoTrace refuses the end of a trace that does not run.
var errNoTrace = &wire.Error{Code: wire.NotFound, Message: "this agent is not traced"}
