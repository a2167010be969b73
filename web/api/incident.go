package api

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	"agentnet/app/incident"
	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// maxReported bounds the entries that one report reads.
const maxReported = 50_000

// ReportQuery says which time a report is about.
type ReportQuery struct {
	Range  string `query:"range" doc:"Time up to the end, such as 6h; instead of from. Absent: 24h."`
	From   string `query:"from" doc:"RFC 3339, or milliseconds since 1970."`
	To     string `query:"to" doc:"The same."`
	Format string `query:"format" enum:"markdown,html" default:"markdown"`
}

// incidentRoute is the report of an incident.
func (a *API) incidentRoute() Route {
	return Route{Method: "GET", Path: "/v1/scaling/log/report", Name: "scaling.report", Access: Viewer, Query: ReportQuery{}, ReplyType: "text/markdown", handle: a.incident,
		Codes: scalingCodes(wire.Overloaded, wire.Timeout), Summary: "Draws the report of an incident from the scaling log: alerts, decisions, what came of them, notes, timeline.",
		Doc: "Markdown, or with format=html a page to keep. Two reports and simulations are made at one time."}
}

func (a *API) incident(c *fiber.Ctx, _ *relay.Identity) error {
	from, to, err := timeRange(c, 24*time.Hour)
	if err != nil {
		return err
	}
	format := c.Query("format", "markdown")
	if format != "markdown" && format != "html" {
		return &wire.Error{Code: wire.BadFrame, Message: "format: expected markdown or html"}
	}
	select {
	case a.heavy <- struct{}{}:
		defer func() { <-a.heavy }()
	default:
		return &wire.Error{Code: wire.Overloaded, Message: "two reports or simulations are made already; try again", RetryAfterMS: 2000}
	}
	ctx, cancel := context.WithTimeout(a.ctx, heavyTime)
	defer cancel()
	report, err := incident.Make(a.entriesBetween(ctx, from, to), from, to, time.Now())
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &wire.Error{Code: wire.Timeout, Message: "the log of this time could not be read in time: ask for a shorter one"}
	case err != nil:
		return asScaling(err)
	}
	if format == "html" {
		page, err := report.HTML()
		if err != nil {
			return err
		}
		c.Attachment("incident.html") // it brings its own style, which pages of this server may not
		c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
		return c.Status(http.StatusOK).SendString(page)
	}
	c.Set(fiber.HeaderContentType, "text/markdown; charset=utf-8")
	return c.Status(http.StatusOK).SendString(report.Markdown())
}

// entriesBetween reads the log of a span a page at a time, the oldest first.
func (a *API) entriesBetween(ctx context.Context, from, to time.Time) iter.Seq2[scale.LogEntry, error] {
	return func(yield func(scale.LogEntry, error) bool) {
		f := scale.LogFilter{From: from, To: to.Add(time.Second), Oldest: true, Limit: maxListLimit}
		for left := maxReported; left > 0; {
			page, err := a.cfg.Scaling.Log(ctx, f)
			if err != nil {
				yield(scale.LogEntry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				f.Before = e.Place
			}
			if left -= len(page); len(page) < f.Limit {
				return
			}
		}
	}
}
