package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"agentnet/app/relay"
	"agentnet/app/roster"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Tracer notes for a while the envelopes of what one agent sends and gets, on all
// nodes. Errors that are the caller's are *wire.Error.
type Tracer interface {
	Trace(ctx context.Context, agent, actor string, length time.Duration) (relay.Trace, error)
	Traced(ctx context.Context, agent string) relay.Trace
	EndTrace(ctx context.Context, agent, actor string) error
}

// TraceBody says how long.
type TraceBody struct {
	Seconds int    `json:"seconds" min:"1" max:"900" doc:"The trace ends by itself after so long."`
	Reason  string `json:"reason,omitempty" doc:"At most 200 bytes, for the audit log."`
}

// TraceQuery is the form of a trace.
type TraceQuery struct {
	Format string `query:"format" enum:"json,csv" default:"json"`
}

// AgentSessionsReply lists the sessions of an agent.
type AgentSessionsReply struct {
	Agent    string         `json:"agent"`
	Sessions []AgentSession `json:"sessions"`
	Missing  []string       `json:"missing,omitempty" doc:"Nodes that did not answer."`
}

// AgentSession is one session as operators see it.
type AgentSession struct {
	Node        string    `json:"node"`
	Region      string    `json:"region"`
	State       string    `json:"state"`
	Connected   bool      `json:"connected" doc:"false: it lost its socket and may come back."`
	Since       time.Time `json:"since"`
	Address     string    `json:"address,omitempty"`
	Encoding    string    `json:"encoding"`
	Token       string    `json:"token,omitempty" doc:"Public name of the credential."`
	Subject     string    `json:"subject,omitempty"`
	RTTMS       float64   `json:"rtt_ms,omitempty"`
	HeartbeatMS float64   `json:"heartbeat_ms"`
	Heard       uint64    `json:"heard" doc:"Frames of its present connection."`
	Sent        uint64    `json:"sent" doc:"Frames since it began."`
	Queue       int       `json:"queue_frames"`
	QueueBytes  int       `json:"queue_bytes"`
	Unacked     int       `json:"unacked"`
	Channels    []string  `json:"channels"`
}

func (a *API) traceRoutes() (routes []Route) {
	codes := []wire.Code{wire.BadFrame, wire.Forbidden, wire.NotFound, wire.Overloaded, wire.Timeout, wire.Unavailable, wire.Internal}
	if a.cfg.AgentSessions != nil {
		routes = append(routes, Route{Method: "GET", Path: "/v1/agents/:id/sessions", Name: "agent.sessions", Access: Viewer, Query: TraceQuery{}, Reply: AgentSessionsReply{}, handle: a.agentSessions, Codes: codes,
			Summary: "The sessions of one agent on all nodes, with their queues, round trips and subscriptions.", Doc: "A / in the agent's name is written %2F."})
	}
	if a.cfg.Tracer == nil {
		return routes
	}
	return append(routes,
		Route{Method: "GET", Path: "/v1/agents/:id/trace", Name: "agent.trace", Access: Operator, Query: TraceQuery{}, Reply: relay.Trace{}, handle: a.trace, Codes: codes,
			Summary: "The envelopes that were noted of one agent: when, what kind, from, to, how large, what became of it. Never payloads.",
			Doc:     "Rows of all nodes, the oldest first. They can be read for ten minutes after the end. A / in the agent's name is written %2F."},
		Route{Method: "POST", Path: "/v1/agents/:id/trace", Name: "agent.trace.begin", Access: Operator, Body: TraceBody{}, Reply: relay.Trace{}, handle: a.beginTrace, Codes: codes,
			Summary: "Notes, from now on and for a bounded time, the envelopes of one agent's messages on all nodes.",
			Doc:     "Off unless asked for, and in the audit log. At most 8 agents at one time, 500 rows on each node. A trace that runs gets the new end."},
		Route{Method: "DELETE", Path: "/v1/agents/:id/trace", Name: "agent.trace.end", Access: Operator, Reply: DoneReply{}, handle: a.endTrace, Codes: codes,
			Summary: "Ends the trace of an agent before its time."})
}

func (a *API) beginTrace(c *fiber.Ctx, id *relay.Identity) error {
	var b TraceBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	agent, err := named(c, "id")
	if err != nil {
		return err
	}
	if len(b.Reason) > 200 {
		return &wire.Error{Code: wire.BadFrame, Message: "reason: longer than 200 bytes"}
	}
	if b.Seconds < 1 || b.Seconds > int(relay.MaxTrace/time.Second) {
		return &wire.Error{Code: wire.BadFrame, Message: "seconds: say how long, 1 to " + strconv.Itoa(int(relay.MaxTrace/time.Second))}
	}
	note(c, agent, strconv.Itoa(b.Seconds)+" s "+b.Reason)
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	tr, err := a.cfg.Tracer.Trace(ctx, agent, actor(id), time.Duration(b.Seconds)*time.Second)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, tr)
}

func (a *API) endTrace(c *fiber.Ctx, id *relay.Identity) error {
	agent, err := named(c, "id")
	if err != nil {
		return err
	}
	note(c, agent, "")
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	if err := a.cfg.Tracer.EndTrace(ctx, agent, actor(id)); err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, DoneReply{Done: true})
}

func (a *API) trace(c *fiber.Ctx, _ *relay.Identity) error {
	agent, err := named(c, "id")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	tr := a.cfg.Tracer.Traced(ctx, agent)
	if !asTable(c) {
		return writeJSON(c, http.StatusOK, tr)
	}
	rows := [][]string{{"at", "node", "direction", "kind", "from", "to", "channel", "message_id", "bytes", "priority", "outcome"}}
	for i := range tr.Rows {
		r := &tr.Rows[i]
		rows = append(rows, []string{r.At.UTC().Format(time.RFC3339Nano), r.Node, r.Direction, r.Kind, r.From, r.To, r.Channel, r.MessageID, strconv.Itoa(r.Bytes), r.Priority.String(), r.Outcome})
	}
	return writeTable(c, "trace", rows)
}

func (a *API) agentSessions(c *fiber.Ctx, _ *relay.Identity) error {
	agent, err := named(c, "id")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	all, missing := a.cfg.AgentSessions(ctx, agent)
	reply := AgentSessionsReply{Agent: agent, Sessions: []AgentSession{}, Missing: missing}
	for i := range all {
		reply.Sessions = append(reply.Sessions, sessionOf(&all[i]))
	}
	if !asTable(c) {
		return writeJSON(c, http.StatusOK, reply)
	}
	rows := [][]string{{"node", "region", "state", "connected", "since", "address", "encoding", "token", "subject", "rtt_ms", "heard", "sent", "queue_frames", "queue_bytes", "unacked", "channels"}}
	for _, s := range reply.Sessions {
		rows = append(rows, []string{s.Node, s.Region, s.State, strconv.FormatBool(s.Connected), s.Since.UTC().Format(time.RFC3339), s.Address, s.Encoding, s.Token, s.Subject, decimal(s.RTTMS),
			strconv.FormatUint(s.Heard, 10), strconv.FormatUint(s.Sent, 10), strconv.Itoa(s.Queue), strconv.Itoa(s.QueueBytes), strconv.Itoa(s.Unacked), strconv.Itoa(len(s.Channels))})
	}
	return writeTable(c, "sessions", rows)
}

func sessionOf(s *roster.Session) AgentSession {
	out := AgentSession{Node: s.Node, Region: s.Region, State: string(s.State), Connected: s.Connected, Since: s.Since, Encoding: s.Encoding, Token: s.Token, Subject: s.Subject,
		RTTMS: milliseconds(s.RTT), HeartbeatMS: milliseconds(s.Heartbeat), Heard: s.Heard, Sent: s.Sent, Queue: s.Queue, QueueBytes: s.QueueBytes, Unacked: s.Unacked, Channels: append([]string{}, s.Channels...)}
	if s.Addr.IsValid() {
		out.Address = s.Addr.String()
	}
	return out
}
