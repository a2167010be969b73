package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"agentnet/app/notify"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A NotifyLog keeps deliveries.
type NotifyLog interface {
	// Deliveries lists one page, the newest first.
	Deliveries(ctx context.Context, f notify.DeliveryFilter) ([]notify.Delivery, error)
}

// DeliveriesQuery chooses stored deliveries.
type DeliveriesQuery struct {
	Channel string `query:"channel" doc:"Only those of this target."`
	Outcome string `query:"outcome" enum:"sent,retried,failed,dropped" doc:"Absent: all."`
	Before  string `query:"before" doc:"The next of the page before."`
	Limit   int    `query:"limit" doc:"Deliveries on a page." default:"100" min:"1" max:"1000"`
	Format  string `query:"format" enum:"json,csv"`
}

// DeliveriesReply is one page of deliveries.
type DeliveriesReply struct {
	Deliveries []StoredDelivery `json:"deliveries"`
	Next       string           `json:"next,omitempty" doc:"The before of the next page; absent on the last."`
}

// A StoredDelivery is one try to deliver a message, as it is kept.
type StoredDelivery struct {
	ID       uint64  `json:"id"`
	TimeMS   int64   `json:"time_ms" doc:"Milliseconds since 1970."`
	Message  string  `json:"message" doc:"Repeats with each try of the same message."`
	Channel  string  `json:"channel"`
	Kind     string  `json:"kind"`
	Target   string  `json:"target" doc:"Its host."`
	Rules    string  `json:"rules" doc:"Alerts that it told of."`
	Severity string  `json:"severity" enum:"warning,critical"`
	Test     bool    `json:"test"`
	Outcome  string  `json:"outcome" enum:"sent,retried,failed,dropped"`
	Tries    int     `json:"tries" doc:"The how manieth try it was; 0: it was never tried."`
	TookMS   float64 `json:"took_ms"`
	Status   int     `json:"status,omitempty" doc:"What the target answered, in HTTP's or SMTP's numbers; absent: nothing."`
	Class    string  `json:"class,omitempty" doc:"Kind of the fault: address, timeout, name, tls, connect, refused, resting, stopped, full or other."`
}

func storedOf(d *notify.Delivery) StoredDelivery {
	return StoredDelivery{ID: d.ID, TimeMS: d.At.UnixMilli(), Message: d.Message, Channel: d.Channel, Kind: d.Kind, Target: d.Target, Rules: d.Rules, Severity: d.Severity.String(),
		Test: d.Test, Outcome: string(d.Outcome), Tries: d.Tries, TookMS: float64(d.Took.Microseconds()) / 1000, Status: d.Status, Class: d.Class}
}

func (a *API) deliveries(c *fiber.Ctx, _ *relay.Identity) error {
	limit, err := number(c, "limit", listLimit, 1, maxListLimit)
	if err != nil {
		return err
	}
	f := notify.DeliveryFilter{Channel: c.Query("channel"), Outcome: notify.Outcome(c.Query("outcome")), Limit: limit}
	if !slices.Contains([]notify.Outcome{"", notify.Sent, notify.Retried, notify.Failed, notify.Dropped}, f.Outcome) {
		return &wire.Error{Code: wire.BadFrame, Message: "outcome: expected sent, retried, failed or dropped"}
	}
	if text := c.Query("before"); text != "" {
		if f.Before, err = strconv.ParseUint(text, 10, 63); err != nil || f.Before == 0 {
			return &wire.Error{Code: wire.BadFrame, Message: "before: expected the next of the page before"}
		}
	}
	found, err := a.cfg.NotifyLog.Deliveries(c.UserContext(), f)
	if err != nil {
		return err
	}
	if asTable(c) {
		rows := [][]string{{"id", "time", "message", "channel", "kind", "target", "rules", "severity", "test", "outcome", "tries", "took_ms", "status", "class"}}
		for i := range found {
			d := storedOf(&found[i])
			rows = append(rows, []string{strconv.FormatUint(d.ID, 10), found[i].At.UTC().Format(time.RFC3339Nano), d.Message, d.Channel, d.Kind, d.Target, d.Rules, d.Severity,
				strconv.FormatBool(d.Test), d.Outcome, strconv.Itoa(d.Tries), strconv.FormatFloat(d.TookMS, 'f', -1, 64), strconv.Itoa(d.Status), d.Class})
		}
		return writeTable(c, "deliveries", rows)
	}
	reply := DeliveriesReply{Deliveries: []StoredDelivery{}}
	for i := range found {
		reply.Deliveries = append(reply.Deliveries, storedOf(&found[i]))
	}
	if len(found) == limit {
		reply.Next = strconv.FormatUint(found[len(found)-1].ID, 10)
	}
	return writeJSON(c, http.StatusOK, reply)
}
