package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"agentnet/app/ask"
	"agentnet/app/relay"
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

// orderRoutes are those that move clients about; none without Orders.
func (a *API) orderRoutes() []Route {
	if a.cfg.Orders == nil {
		return nil
	}
	codes := []wire.Code{wire.BadFrame, wire.Forbidden, wire.NotFound, wire.Conflict, wire.Overloaded, wire.Timeout, wire.Unavailable, wire.Internal}
	return []Route{
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
