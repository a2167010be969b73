package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"agentnet/app/notify"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Notifier has the ways to tell people. *notify.Notifier is one.
type Notifier interface {
	Channels() []notify.Status
	Deliveries(limit int) []notify.Delivery
	Test(ctx context.Context, name string) (notify.Delivery, error)
}

// NotifyQuery bounds the deliveries that are listed.
type NotifyQuery struct {
	Limit int `query:"limit" doc:"Deliveries, the newest first." default:"100" min:"1" max:"1000"`
}

// NotifyReply is what there is to know of notifications.
type NotifyReply struct {
	Channels   []NotifyChannel `json:"channels"`
	Deliveries []Delivery      `json:"deliveries"`
}

// A NotifyChannel is one way to tell people.
type NotifyChannel struct {
	Name       string `json:"name"`
	Kind       string `json:"kind" enum:"webhook,ntfy,gotify,smtp,alertmanager"`
	Target     string `json:"target" doc:"Its host; the whole address may be a secret."`
	Least      string `json:"least" enum:"warning,critical" doc:"What is less is not told here."`
	Waiting    int    `json:"waiting" doc:"Messages that wait."`
	Dropped    uint64 `json:"dropped" doc:"Messages that found no room, since the start."`
	Resting    bool   `json:"resting" doc:"It failed too often and is left alone for a while."`
	Fault      string `json:"fault,omitempty" doc:"The last fault since it worked."`
	LastSentMS int64  `json:"last_sent_ms,omitempty" doc:"Milliseconds since 1970."`
}

// A Delivery is one try to deliver a message.
type Delivery struct {
	ID       uint64  `json:"id"`
	TimeMS   int64   `json:"time_ms" doc:"Milliseconds since 1970."`
	Message  string  `json:"message" doc:"Repeats with each try of the same message."`
	Channel  string  `json:"channel"`
	Kind     string  `json:"kind"`
	Target   string  `json:"target"`
	Title    string  `json:"title"`
	Severity string  `json:"severity" enum:"warning,critical"`
	Test     bool    `json:"test"`
	Outcome  string  `json:"outcome" enum:"sent,retried,failed,dropped"`
	Tries    int     `json:"tries"`
	TookMS   float64 `json:"took_ms"`
	Answer   string  `json:"answer,omitempty" doc:"What the target answered, shortened."`
	Fault    string  `json:"fault,omitempty"`
}

func deliveryOf(d notify.Delivery) Delivery {
	return Delivery{ID: d.ID, TimeMS: d.At.UnixMilli(), Message: d.Message, Channel: d.Channel, Kind: d.Kind, Target: d.Target, Title: d.Title,
		Severity: d.Severity.String(), Test: d.Test, Outcome: string(d.Outcome), Tries: d.Tries, TookMS: float64(d.Took.Microseconds()) / 1000,
		Answer: d.Answer, Fault: d.Fault}
}

// notifyRoutes are the routes about notifications; none without a Notifier.
func (a *API) notifyRoutes() []Route {
	if a.cfg.Notifier == nil {
		return nil
	}
	codes := []wire.Code{wire.BadFrame, wire.Forbidden, wire.Unavailable, wire.Internal}
	routes := []Route{
		{Method: "GET", Path: "/v1/notify", Name: "notify", Access: Viewer, Query: NotifyQuery{}, Reply: NotifyReply{}, handle: a.notify, Codes: codes,
			Summary: "Lists the ways to tell people, and what was delivered lately."},
		{Method: "POST", Path: "/v1/notify/:name/test", Name: "notify.test", Access: Operator, Reply: Delivery{}, handle: a.testNotify,
			Codes:   append([]wire.Code{wire.NotFound}, codes...),
			Summary: "Sends a test message now, once, and answers with what came of it.",
			Doc:     "200 also when the target refused: outcome and fault say so."},
	}
	if a.cfg.NotifyLog != nil {
		routes = append(routes, Route{Method: "GET", Path: "/v1/notify/deliveries", Name: "notify.deliveries", Access: Viewer, Query: DeliveriesQuery{}, Reply: DeliveriesReply{},
			handle: a.deliveries, Codes: codes, Summary: "Lists every try to deliver that this node has made, the newest first.",
			Doc: "Kept over restarts, the last 10,000, without what was told and what was answered. With Accept: text/csv as a table."})
	}
	return routes
}

func (a *API) notify(c *fiber.Ctx, _ *relay.Identity) error {
	limit := listLimit
	if text := c.Query("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxListLimit {
			return &wire.Error{Code: wire.BadFrame, Message: "limit: expected a number from 1 to 1000"}
		}
	}
	reply := NotifyReply{Channels: []NotifyChannel{}, Deliveries: []Delivery{}}
	for _, s := range a.cfg.Notifier.Channels() {
		ch := NotifyChannel{Name: s.Name, Kind: s.Kind, Target: s.Target, Least: s.Least.String(), Waiting: s.Waiting, Dropped: s.Dropped, Resting: s.Resting, Fault: s.Fault}
		if !s.LastSent.IsZero() {
			ch.LastSentMS = s.LastSent.UnixMilli()
		}
		reply.Channels = append(reply.Channels, ch)
	}
	for _, d := range a.cfg.Notifier.Deliveries(limit) {
		reply.Deliveries = append(reply.Deliveries, deliveryOf(d))
	}
	return writeJSON(c, http.StatusOK, reply)
}

func (a *API) testNotify(c *fiber.Ctx, _ *relay.Identity) error {
	note(c, c.Params("name"), "a test message")
	d, err := a.cfg.Notifier.Test(a.ctx, c.Params("name"))
	if errors.Is(err, notify.ErrNoChannel) {
		return &wire.Error{Code: wire.NotFound, Message: "no channel has this name; GET /v1/notify lists them"}
	}
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, deliveryOf(d))
}
