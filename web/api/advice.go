package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// AdviceQuery chooses pieces of advice.
type AdviceQuery struct {
	State  string `query:"state" enum:"open,snoozed,dismissed" doc:"Absent: all."`
	Format string `query:"format" enum:"json,csv" default:"json"`
}

// AdviceReply lists advice.
type AdviceReply struct {
	Advice []watch.Piece `json:"advice"`
}

// ApplyBody names a piece of advice.
type ApplyBody struct {
	Advice string `json:"advice" doc:"Which, such as nodes."`
	Reason string `json:"reason,omitempty" doc:"At most 200 bytes, for the log."`
}

// adviceRoutes are none where nobody advises.
func (a *API) adviceRoutes() []Route {
	if a.cfg.Advice == nil {
		return nil
	}
	return []Route{
		{Method: "GET", Path: "/v1/scaling/advice", Name: "scaling.advice", Access: Viewer, Query: AdviceQuery{}, Reply: AdviceReply{}, handle: a.advice, Codes: scalingCodes(),
			Summary: "What this server advises: each change with its evidence, its expected effect and the exact lines.",
			Doc:     "Made from the present numbers. What was snoozed or dismissed is told too, with the answer."},
		{Method: "POST", Path: "/v1/scaling/advice/apply", Name: "scaling.advice.apply", Access: Operator, Body: ApplyBody{}, Reply: scale.LogEntry{}, handle: a.applyAdvice, Codes: scalingCodes(wire.NotFound, wire.Conflict),
			Summary: "Makes the change of a piece of advice, where it can be made while the server runs."},
	}
}

func (a *API) advice(c *fiber.Ctx, _ *relay.Identity) error {
	state := c.Query("state")
	if state != "" && state != "open" && state != "snoozed" && state != "dismissed" {
		return &wire.Error{Code: wire.BadFrame, Message: "state: expected open, snoozed or dismissed"}
	}
	all := append([]watch.Piece{}, a.cfg.Advice()...)
	all = slices.DeleteFunc(all, func(p watch.Piece) bool { return state != "" && p.State != state })
	if !asTable(c) {
		return writeJSON(c, http.StatusOK, AdviceReply{all})
	}
	rows := [][]string{{"advice", "weight", "urgency", "state", "title", "evidence", "effect", "change", "risk", "applies"}}
	facts := func(list []watch.AdviceFact) string {
		var out []string
		for _, f := range list {
			out = append(out, f.Name+": "+f.Value)
		}
		return strings.Join(out, "; ")
	}
	for _, p := range all {
		rows = append(rows, []string{p.Advice, p.Weight, p.Urgency, p.State, p.Title, facts(p.Evidence), facts(p.Effect), strings.Join(p.Change, "\n"), p.Risk, strconv.FormatBool(p.Applies)})
	}
	return writeTable(c, "advice", rows)
}

// advised is the piece of advice of a name.
func (a *API) advised(name string) (watch.Piece, error) {
	if a.cfg.Advice != nil {
		for _, p := range a.cfg.Advice() {
			if p.Advice == name {
				return p, nil
			}
		}
	}
	return watch.Piece{}, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("advice: %.60q is not advised, or not any more; /v1/scaling/advice lists what is", name)}
}

func (a *API) applyAdvice(c *fiber.Ctx, id *relay.Identity) error {
	var b ApplyBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	p, err := a.advised(b.Advice)
	if err != nil {
		return err
	}
	if p.Apply == nil {
		return &wire.Error{Code: wire.Conflict, Message: "advice: this change cannot be made while the server runs: copy the lines of change"}
	}
	if len(b.Reason) > 200 {
		return &wire.Error{Code: wire.BadFrame, Message: "reason: longer than 200 bytes"}
	}
	change := *p.Apply
	if b.Reason != "" {
		change.Reason += ": " + b.Reason
	}
	return a.operate(c, id, change)
}
