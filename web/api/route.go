package api

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Route is one entry of the table that both the router and the OpenAPI
// document are made from.
type Route struct {
	Method, Path string
	Name         string // operationId
	Summary      string // one sentence
	Doc          string // what else must be known; may be ""
	Access       Access
	Query        any    // struct whose fields are the query's parameters; nil: none
	Body         any    // struct that describes the JSON body; nil: none
	Reply        any    // struct that describes the JSON answer; nil: not JSON
	ReplyType    string // media type when Reply is nil
	Stream       any    // struct of one item when the answer can be streamed
	Codes        []wire.Code

	handle func(c *fiber.Ctx, id *relay.Identity) error
}

// listLimit and maxListLimit bound one page of a list.
const (
	listLimit    = 100
	maxListLimit = 1000
)

// ListQuery chooses a page of a list.
type ListQuery struct {
	Match string `query:"match" doc:"Glob: * within a part, ** across parts. Absent: all."`
	After string `query:"after" doc:"The next of the page before."`
	Limit int    `query:"limit" doc:"Entries on a page." default:"100" min:"1" max:"1000"`
}

func (a *API) table() []Route {
	refusals := []wire.Code{wire.BadFrame, wire.Forbidden, wire.TooLarge, wire.RateLimited, wire.Overloaded, wire.Unavailable, wire.Internal}
	with := func(codes ...wire.Code) []wire.Code { return append(codes, refusals...) }
	routes := []Route{
		{Method: "POST", Path: "/v1/send", Name: "send", Access: AnyToken, Body: SendBody{}, Reply: SendReply{}, handle: a.send,
			Codes:   with(wire.AgentOffline, wire.Conflict, wire.NotFound),
			Summary: "Sends a message to an agent's inbox.",
			Doc:     "Answers with what became of it: delivered to a live session, or parked until ttl_ms. Without ttl_ms an absent agent is agent_offline (409)."},
		{Method: "POST", Path: "/v1/request", Name: "request", Access: AnyToken, Body: RequestBody{}, Reply: RequestReply{}, Stream: ReplyLine{}, handle: a.request,
			Codes:   with(wire.AgentOffline, wire.Timeout, wire.Conflict, wire.NotFound, wire.Gone),
			Summary: "Asks an agent and waits for the reply.",
			Doc: "With Accept: application/json the last reply is the answer, and what a streaming agent said before it is in earlier. " +
				"With Accept: application/x-ndjson or text/event-stream each reply comes at once. An agent's own refusal is 502 with its code and its name in from."},
		{Method: "POST", Path: "/v1/publish", Name: "publish", Access: AnyToken, Body: PublishBody{}, Reply: PublishReply{}, handle: a.publish,
			Codes:   with(wire.NotFound, wire.Conflict),
			Summary: "Publishes a message to a channel."},
		{Method: "GET", Path: "/v1/agents", Name: "agents", Access: AnyToken, Query: ListQuery{}, Reply: AgentsReply{}, handle: a.agents,
			Codes:   []wire.Code{wire.BadFrame, wire.RateLimited, wire.Unavailable, wire.Internal},
			Summary: "Lists the agents that the token may send to, by name.",
			Doc:     "Those of all nodes. A node that does not answer within 2 s is named in missing."},
		{Method: "GET", Path: "/v1/channels", Name: "channels", Access: AnyToken, Query: ListQuery{}, Reply: ChannelsReply{}, handle: a.channels,
			Codes:   []wire.Code{wire.BadFrame, wire.RateLimited, wire.Unavailable, wire.Internal},
			Summary: "Lists the channels that the token may subscribe to, by name.",
			Doc:     "Those of all nodes: where a channel stands is what its home says, and subscribers are added up. A node that does not answer within 2 s is named in missing."},
		{Method: "GET", Path: "/v1/regions", Name: "regions", Access: AnyToken, Reply: RegionsReply{}, handle: a.regions,
			Codes:   []wire.Code{wire.Unavailable, wire.Internal},
			Summary: "Lists the regions with health and load, so that a client can choose one."},
		{Method: "GET", Path: "/v1/nodes", Name: "nodes", Access: Viewer, Reply: FleetReply{}, handle: a.nodes,
			Codes:   []wire.Code{wire.Forbidden, wire.Unavailable, wire.Internal},
			Summary: "Lists the nodes that are one relay together, as the one that answers knows them.",
			Doc:     "Needs the role viewer, operator, admin or metrics."},
		{Method: "GET", Path: "/v1/stats", Name: "stats", Access: Viewer, Reply: StatsReply{}, handle: a.stats,
			Codes:   []wire.Code{wire.Forbidden, wire.Unavailable, wire.Internal},
			Summary: "All counters and gauges of this node.",
			Doc:     "Counters only grow while the process lives. Needs the role viewer, operator, admin or metrics."},
		{Method: "GET", Path: "/healthz", Name: "healthz", Access: Public, Reply: HealthReply{}, handle: a.healthz,
			Summary: "Says that the process lives and answers."},
		{Method: "GET", Path: "/readyz", Name: "readyz", Access: Public, Reply: ReadyReply{}, handle: a.readyz,
			Summary: "Says whether the node wants traffic, and why not.",
			Doc:     "200 when every check is well, 503 with the same body when one is not. The messages are for this machine and for tokens with the role viewer, operator, admin or metrics."},
		{Method: "GET", Path: "/metrics", Name: "metrics", Access: Scrape, ReplyType: "text/plain", handle: a.metrics,
			Codes:   []wire.Code{wire.Forbidden, wire.Unavailable, wire.Internal},
			Summary: "Metrics for Prometheus.",
			Doc: "Text, OpenMetrics or protobuf by Accept; only protobuf carries native histograms. Open to the machine itself, " +
				"to the configured metrics token and to tokens with the role viewer, operator, admin or metrics."},
		{Method: "GET", Path: "/openapi.json", Name: "openapi", Access: Public, ReplyType: "application/json", handle: a.openapi,
			Summary: "This document."},
	}
	return append(routes, a.accessRoutes()...)
}

// serve wraps a route's handler: who may, then what, and no panic gets out.
func (a *API) serve(route Route) fiber.Handler {
	return func(c *fiber.Ctx) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = a.fail(c, a.caught(c.Path(), v))
			}
		}()
		if route.Stream == nil { // how long an agent takes for its reply says nothing of the API
			defer func(begun time.Time) { a.times.observe(time.Since(begun)) }(time.Now())
		}
		c.Set(fiber.HeaderCacheControl, "no-store")
		id, refused := a.admit(c, route.Access)
		if refused != nil {
			a.record(c, route, id, refused)
			return a.fail(c, refused)
		}
		err = route.handle(c, id)
		a.record(c, route, id, err)
		if err != nil {
			return a.fail(c, err)
		}
		return nil
	}
}

// caught logs a panic under a number and returns the error that names it. The
// value may hold a payload, so that only its type is logged.
func (a *API) caught(path string, v any) error {
	instance := NewInstance()
	a.cfg.Logger.Error("panic in an http handler", "path", path, "instance", instance,
		"type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
	return &wire.Error{Code: wire.Internal, Message: "the server could not do it; its log has the reason under " + instance}
}

// writeJSON answers c with v.
func writeJSON(c *fiber.Ctx, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Status(status).Send(body)
}

// page reads the parameters of a list.
func page(c *fiber.Ctx) (q ListQuery, err error) {
	q = ListQuery{Match: c.Query("match"), After: c.Query("after"), Limit: listLimit}
	if text := c.Query("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > maxListLimit {
			return q, &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("limit: expected a number from 1 to %d", maxListLimit)}
		}
	}
	return q, nil
}
