package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"agentnet/app/ask"
	"agentnet/app/relay"
	"agentnet/app/roster"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// Orders has nodes do what operators want, this one or another. Errors that are the
// caller's are *wire.Error.
type Orders interface {
	Drain(ctx context.Context, node, actor, reason string) (ask.Done, error)
	Undrain(ctx context.Context, node, actor, reason string) (ask.Done, error)
	Rebalance(ctx context.Context, node string, clients int, actor, reason string) (ask.Done, error)
	Disconnect(ctx context.Context, agent, actor, reason string) (ask.Done, error)
}

// A Roster lists the agents of all nodes for people who operate the relay.
type Roster interface {
	Find(ctx context.Context, q roster.Query) (roster.List, error)
}

// RosterQuery chooses rows of the roster.
type RosterQuery struct {
	Filter string `query:"q" doc:"Words that must all hold: part of the name, or a key such as state:slow, node:n1, region:eu, queue>50, rtt<20; ! turns a word round."`
	Sort   string `query:"sort" doc:"agent, node, state, up, rtt, in, out, queue, unacked or channels; a minus turns the order round." default:"queue"`
	Limit  int    `query:"limit" doc:"Rows." default:"100" min:"1" max:"5000"`
	Format string `query:"format" enum:"json,csv" default:"json"`
}

func (a *API) rosterList(c *fiber.Ctx, _ *relay.Identity) error {
	q := roster.Query{Filter: strings.Clone(c.Query("q")), Sort: strings.Clone(c.Query("sort"))}
	var err error
	if q.Limit, err = number(c, "limit", listLimit, 1, roster.MaxRows); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	l, err := a.cfg.Roster.Find(ctx, q)
	if err != nil {
		return err
	}
	if !asTable(c) {
		l.Rows = append([]roster.Row{}, l.Rows...)
		return writeJSON(c, http.StatusOK, l)
	}
	rows := [][]string{{"agent", "node", "region", "state", "sessions", "connected", "since", "rtt_ms", "in_per_s", "out_per_s", "queue_frames", "queue_bytes", "unacked", "channels", "encoding", "subject"}}
	for i := range l.Rows {
		r := &l.Rows[i]
		rows = append(rows, []string{r.Agent, r.Node, r.Region, r.State, strconv.Itoa(r.Sessions), strconv.Itoa(r.Connected), r.Since.Format(time.RFC3339), decimal(milliseconds(r.RTT)),
			decimal(r.HeardPerS), decimal(r.SentPerS), strconv.Itoa(r.Queue), strconv.Itoa(r.Bytes), strconv.Itoa(r.Unacked), strconv.Itoa(r.Channels), r.Encoding, r.Subject})
	}
	return writeTable(c, "agents", rows)
}

// orderRoutes are those that move clients about; none without Orders and Roster.
func (a *API) orderRoutes() []Route {
	if a.cfg.Orders == nil || a.cfg.Roster == nil {
		return nil
	}
	codes := []wire.Code{wire.BadFrame, wire.Forbidden, wire.NotFound, wire.Conflict, wire.Overloaded, wire.Timeout, wire.Unavailable, wire.Internal}
	return []Route{
		{Method: "GET", Path: "/v1/agents/roster", Name: "agents.roster", Access: Viewer, Query: RosterQuery{}, Reply: roster.List{}, handle: a.rosterList, Codes: []wire.Code{wire.BadFrame, wire.Forbidden, wire.Unavailable, wire.Internal},
			Summary: "The agents of all nodes with state, queue, round trip and rates, as operators see them.",
			Doc:     "One row for each node that an agent has sessions on. Whoever may send to whom plays no part here; /v1/agents is the agents' own view."},
		{Method: "POST", Path: "/v1/nodes/:name/drain", Name: "node.drain", Access: Operator, Body: OrderBody{}, Reply: ask.Done{}, handle: a.drainNode, Codes: codes,
			Summary: "Has a node take no new clients and send those that it has to other nodes, where they resume.",
			Doc:     "Any node passes the order on. The answer says that it was accepted; /v1/nodes shows the state and the connections that are left. The node stays, empty, until undrain or its stop; a restart takes the drain back. Refused (409) where no other node of its region is ready."},
		{Method: "POST", Path: "/v1/nodes/:name/undrain", Name: "node.undrain", Access: Operator, Body: OrderBody{}, Reply: ask.Done{}, handle: a.undrainNode, Codes: codes,
			Summary: "Takes a drain back: the node takes clients again."},
		{Method: "POST", Path: "/v1/nodes/:name/rebalance", Name: "node.rebalance", Access: Operator, Body: RebalanceBody{}, Reply: ask.Done{}, handle: a.rebalanceNode, Codes: codes,
			Summary: "Has a node send some of its clients, the quietest first, to the emptiest others of its region."},
		{Method: "POST", Path: "/v1/agents/:id/disconnect", Name: "agent.disconnect", Access: Operator, Body: OrderBody{}, Reply: ask.Done{}, handle: a.disconnectAgent, Codes: codes,
			Summary: "Ends all sessions of an agent, on whichever nodes they are. It may connect again; revoke its token to keep it out.",
			Doc:     "A / in the agent's name is written %2F. The reason is told to the agent."},
	}
}

// OrderBody says why.
type OrderBody struct {
	Reason string `json:"reason,omitempty" doc:"At most 200 bytes, for the logs."`
}

// RebalanceBody says how many.
type RebalanceBody struct {
	Clients int    `json:"clients" min:"1" max:"100000" doc:"How many are to go."`
	Reason  string `json:"reason,omitempty" doc:"At most 200 bytes, for the logs."`
}

// named is the part of the path that names something.
func named(c *fiber.Ctx, parameter string) (string, error) {
	name, err := url.PathUnescape(strings.Clone(c.Params(parameter)))
	if err != nil || name == "" {
		return "", &wire.Error{Code: wire.BadFrame, Message: parameter + ": the path does not name one"}
	}
	return name, nil
}

// give reads the target of an order, has it done and answers.
func (a *API) give(c *fiber.Ctx, parameter, reason string, do func(ctx context.Context, target string) (ask.Done, error)) error {
	target, err := named(c, parameter)
	if err != nil {
		return err
	}
	note(c, target, reason)
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	done, err := do(ctx, target)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, done)
}

func (a *API) drainNode(c *fiber.Ctx, id *relay.Identity) error {
	var b OrderBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.give(c, "name", b.Reason, func(ctx context.Context, node string) (ask.Done, error) {
		return a.cfg.Orders.Drain(ctx, node, actor(id), b.Reason)
	})
}

func (a *API) undrainNode(c *fiber.Ctx, id *relay.Identity) error {
	var b OrderBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.give(c, "name", b.Reason, func(ctx context.Context, node string) (ask.Done, error) {
		return a.cfg.Orders.Undrain(ctx, node, actor(id), b.Reason)
	})
}

func (a *API) rebalanceNode(c *fiber.Ctx, id *relay.Identity) error {
	var b RebalanceBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.give(c, "name", strings.TrimSpace(fmt.Sprintf("%d clients %s", b.Clients, b.Reason)), func(ctx context.Context, node string) (ask.Done, error) {
		return a.cfg.Orders.Rebalance(ctx, node, b.Clients, actor(id), b.Reason)
	})
}

func (a *API) disconnectAgent(c *fiber.Ctx, id *relay.Identity) error {
	var b OrderBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	return a.give(c, "id", b.Reason, func(ctx context.Context, agent string) (ask.Done, error) {
		return a.cfg.Orders.Disconnect(ctx, agent, actor(id), b.Reason)
	})
}
