package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

const (
	// heavyWork bounds what computes for seconds at one time, and heavyTime one of it.
	heavyWork = 2
	heavyTime = 20 * time.Second
	// maxSimulatedSteps bounds a simulation that is asked for over the API.
	maxSimulatedSteps = 200_000
)

func (a *API) scalingAskRoutes() []Route {
	codes := scalingCodes
	return []Route{
		{Method: "POST", Path: "/v1/scaling/plan", Name: "scaling.plan", Access: Viewer, Body: PlanBody{}, Reply: PlanReply{}, handle: a.scalingPlan, Codes: codes(),
			Summary: "Plans how many instances a load needs, of which size, at what cost.",
			Doc:     "By the capacity that is best known: configured, calibrated, measured on this deployment's own samples, or the document's."},
		{Method: "POST", Path: "/v1/scaling/simulate", Name: "scaling.simulate", Access: Viewer, Body: SimulateBody{}, Reply: scale.Simulated{}, handle: a.scalingSimulate, Codes: codes(wire.Overloaded, wire.Timeout),
			Summary: "Runs the scaling engine on an invented load.", Doc: "With Accept: image/svg+xml the charts, with Accept: text/html the report. Two simulations run at one time, each up to 20 s."},
		{Method: "POST", Path: "/v1/scaling/mode", Name: "scaling.mode", Access: Operator, Body: ModeBody{}, Reply: scale.LogEntry{}, handle: a.scalingMode, Codes: codes(),
			Summary: "Sets the mode: observe, advise or act.", Doc: "It holds over restarts, on all nodes, until it is set again or taken back with reset."},
		{Method: "POST", Path: "/v1/scaling/pause", Name: "scaling.pause", Access: Operator, Body: PauseBody{}, Reply: scale.LogEntry{}, handle: a.scalingPause, Codes: codes(),
			Summary: "Pauses scaling: all, in (no fewer), out (no more), or none."},
		{Method: "POST", Path: "/v1/scaling/capacity", Name: "scaling.capacity", Access: Admin, Body: CapacityBody{}, Reply: scale.LogEntry{}, handle: a.scalingCapacity, Codes: codes(),
			Summary: "Puts a measured capacity of one instance in the place of the document's.", Doc: "agentnet bench --calibrate measures and sends it. It holds over restarts, on all nodes."},
		{Method: "GET", Path: "/v1/scaling/advice/answers", Name: "scaling.advice.answers", Access: Viewer, Reply: AnswersReply{}, handle: a.adviceAnswers, Codes: codes(),
			Summary: "What admins said to pieces of advice: snoozed, dismissed, opened again."},
		{Method: "POST", Path: "/v1/scaling/advice/answers", Name: "scaling.advice.answer", Access: Operator, Body: AnswerBody{}, Reply: scale.LogEntry{}, handle: a.answerAdvice, Codes: codes(),
			Summary: "Snoozes or dismisses a piece of advice, or shows it again.",
			Doc:     "The answer holds while the weight of the advice, which stands for the evidence, is the same; without a weight, the present one. On all nodes, over restarts."},
		{Method: "POST", Path: "/v1/scaling/pin", Name: "scaling.pin", Access: Operator, Body: PinBody{}, Reply: scale.LogEntry{}, handle: a.scalingPin, Codes: codes(),
			Summary: "Pins the count to a number; 0 unpins it."},
	}
}

// PlanBody is a demand.
type PlanBody struct {
	scale.Demand
	Instances int             `json:"instances,omitempty" min:"0" doc:"Instances that run now: says which planning triggers this load would reach."`
	Capacity  *scale.Capacity `json:"capacity,omitempty" doc:"Of one instance, instead of what is best known."`
	Document  bool            `json:"document,omitempty" doc:"By the document's table, whatever was measured."`
}

// PlanReply is a plan.
type PlanReply struct {
	scale.Plan
	Reached []scale.Reached `json:"reached"`
	Text    string          `json:"text" doc:"The plan in words."`
}

func (a *API) scalingPlan(c *fiber.Ctx, _ *relay.Identity) error {
	var b PlanBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	planner := a.cfg.Scaling.Planner()
	switch {
	case b.Document:
		planner.Capacity = scale.Capacity{}
	case b.Capacity != nil:
		if !(b.Capacity.Connections >= 0 && b.Capacity.Messages >= 0 && b.Capacity.ScaleAt >= 0) {
			return &wire.Error{Code: wire.BadFrame, Message: "capacity: expected numbers from 0"}
		}
		planner.Capacity = *b.Capacity
		planner.Capacity.Source = "the question"
	}
	plan, err := planner.Plan(b.Demand)
	if err != nil {
		return &wire.Error{Code: wire.BadFrame, Message: err.Error()}
	}
	d := plan.Demand
	reached := planner.Reached(scale.Use{Users: d.Users, Connections: d.Connections, Messages: d.Messages, Instances: min(max(b.Instances, 0), scale.MaxInstances)})
	return writeJSON(c, http.StatusOK, PlanReply{Plan: plan, Reached: append([]scale.Reached{}, reached...), Text: plan.Text()})
}

// SimulateBody is what is to be simulated.
type SimulateBody struct {
	Scenario    scale.Scenario `json:"scenario" enum:"steady,daily,spike,storm,node_loss,region_loss"`
	Users       float64        `json:"users,omitempty" doc:"At the peak."`
	Connections float64        `json:"connections,omitempty" doc:"At the peak; two for each user when absent."`
	Messages    float64        `json:"messages,omitempty" doc:"A second, at the peak."`
	Hours       float64        `json:"hours,omitempty" doc:"Simulated time; absent: as long as the scenario is."`
	StepS       int            `json:"step_s,omitempty" min:"0" max:"10" doc:"Seconds between two looks of the engine; absent: 5."`
	Seed        uint64         `json:"seed,omitempty" doc:"Equal seeds give equal results."`
	Min         int            `json:"min,omitempty" min:"0" doc:"Fewest instances; absent: the policy's."`
	Max         int            `json:"max,omitempty" min:"0" doc:"Most instances; absent: the policy's, or what the peak needs."`
	Forecast    int            `json:"forecast,omitempty" min:"0" max:"56" doc:"Days of history by which is scaled ahead."`
	Regions     []string       `json:"regions,omitempty"`
}

func (a *API) scalingSimulate(c *fiber.Ctx, _ *relay.Identity) error {
	var b SimulateBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	s, err := a.simulation(&b)
	if err != nil {
		return &wire.Error{Code: wire.BadFrame, Message: err.Error()}
	}
	select {
	case a.heavy <- struct{}{}:
		defer func() { <-a.heavy }()
	default:
		return &wire.Error{Code: wire.Overloaded, Message: "two simulations run already; try again", RetryAfterMS: 2000}
	}
	ctx, cancel := context.WithTimeout(a.ctx, heavyTime)
	defer cancel()
	s.Stop = ctx.Err
	result, err := scale.Simulate(s)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &wire.Error{Code: wire.Timeout, Message: fmt.Sprintf("the simulation was not done within %v: make it shorter or smaller, or run agentnet simulate", heavyTime)}
	case err != nil && ctx.Err() == nil:
		return &wire.Error{Code: wire.BadFrame, Message: err.Error()}
	case err != nil:
		return err
	}
	switch c.Accepts(fiber.MIMEApplicationJSON, "image/svg+xml", fiber.MIMETextHTML) {
	case "image/svg+xml":
		c.Set(fiber.HeaderContentType, "image/svg+xml")
		return c.SendString(result.SVG())
	case fiber.MIMETextHTML:
		page, err := result.HTML()
		if err != nil {
			return err
		}
		c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
		c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'unsafe-inline'; sandbox")
		return c.Send(page)
	}
	return writeJSON(c, http.StatusOK, result)
}

// simulation is what is asked for, by the policy and the capacity of this fleet.
func (a *API) simulation(b *SimulateBody) (scale.Simulation, error) {
	planner, st := a.cfg.Scaling.Planner(), a.cfg.Scaling.Status()
	if b.Scenario == scale.ScenarioRecorded {
		return scale.Simulation{}, errors.New("scenario: a recorded load is for agentnet simulate")
	}
	if !(b.Hours >= 0 && b.Hours <= 24*400) || b.StepS < 0 || b.StepS > 10 {
		return scale.Simulation{}, errors.New("hours: expected 0 to 9600, and step_s 0 to 10")
	}
	s := scale.Simulation{Scenario: b.Scenario, Peak: scale.Demand{Users: b.Users, Connections: b.Connections, Messages: b.Messages},
		Length: time.Duration(b.Hours * float64(time.Hour)), Step: time.Duration(b.StepS) * time.Second, Seed: b.Seed,
		Capacity: planner.Capacity, Regions: b.Regions, History: b.Forecast, Prices: planner.Prices}
	if step := max(s.Step, time.Second); s.Length/step > maxSimulatedSteps {
		return s, fmt.Errorf("hours: more than %d steps; make the steps longer or the time shorter", maxSimulatedSteps)
	}
	s.Policy = scale.DefaultPolicy(planner.Capacity)
	s.Policy.Min, s.Policy.Max = max(st.Min, 1), st.Max
	if b.Min > 0 {
		s.Policy.Min = b.Min
	}
	plan, err := planner.Plan(s.Peak)
	if err != nil {
		return s, err
	}
	s.Policy.Max = max(s.Policy.Max, min(plan.MaxInstances*21/20, scale.MaxNodes), s.Policy.Min)
	if b.Max > 0 {
		s.Policy.Max = b.Max
	}
	return s, nil
}

// operate has the engine do what an admin asks.
func (a *API) operate(c *fiber.Ctx, id *relay.Identity, cmd watch.Command) error {
	cmd.Actor = actor(id)
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	e, err := a.cfg.Scaling.Do(ctx, cmd)
	if err != nil {
		return asScaling(err)
	}
	note(c, string(cmd.Op), e.Summary)
	return writeJSON(c, http.StatusOK, e)
}

// ModeBody is a mode.
type ModeBody struct {
	Mode   *scale.Mode `json:"mode,omitempty" enum:"observe,advise,act"`
	Reset  bool        `json:"reset,omitempty" doc:"Mode, pause and pinned count as configured again."`
	Reason string      `json:"reason,omitempty"`
}

func (a *API) scalingMode(c *fiber.Ctx, id *relay.Identity) error {
	var b ModeBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if b.Mode == nil && !b.Reset {
		return &wire.Error{Code: wire.BadFrame, Message: "mode: expected observe, advise or act, or reset"}
	}
	return a.operate(c, id, watch.Command{Op: watch.OpPolicy, Mode: b.Mode, Reset: b.Reset, Reason: b.Reason})
}

// PauseBody is a pause.
type PauseBody struct {
	Pause  *scale.Pause `json:"pause" enum:"none,all,in,out"`
	Reason string       `json:"reason,omitempty"`
}

func (a *API) scalingPause(c *fiber.Ctx, id *relay.Identity) error {
	var b PauseBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if b.Pause == nil {
		return &wire.Error{Code: wire.BadFrame, Message: "pause: expected none, all, in or out"}
	}
	return a.operate(c, id, watch.Command{Op: watch.OpPolicy, Pause: b.Pause, Reason: b.Reason})
}

// PinBody is a fixed count.
type PinBody struct {
	Count  *int   `json:"count" min:"0" doc:"Instances; 0: not pinned."`
	Reason string `json:"reason,omitempty"`
}

func (a *API) scalingPin(c *fiber.Ctx, id *relay.Identity) error {
	var b PinBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if b.Count == nil {
		return &wire.Error{Code: wire.BadFrame, Message: "count: expected a number of instances, 0 to unpin"}
	}
	return a.operate(c, id, watch.Command{Op: watch.OpPolicy, Pinned: b.Count, Reason: b.Reason})
}

// CapacityBody is what a load generator measured of this node.
type CapacityBody struct {
	BytesPerConnection float64 `json:"bytes_per_connection,omitempty"`
	BaseBytes          float64 `json:"base_bytes,omitempty" doc:"Memory without connections."`
	MicrosPerMessage   float64 `json:"cpu_us_per_message,omitempty" doc:"Processor time of one accepted and delivered message, in microseconds."`
	SeenConnections    float64 `json:"seen_connections,omitempty" doc:"The most that was really held."`
	SeenMessages       float64 `json:"seen_messages,omitempty" doc:"The most that was really carried, per second."`
	Reset              bool    `json:"reset,omitempty" doc:"The document's capacity again."`
}

func (a *API) scalingCapacity(c *fiber.Ctx, id *relay.Identity) error {
	var b CapacityBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	cmd := watch.Command{Op: watch.OpCapacity, Reset: b.Reset}
	if !b.Reset {
		m := scale.Measurement{BytesPerConnection: b.BytesPerConnection, BaseBytes: b.BaseBytes, SeenConnections: b.SeenConnections, SeenMessages: b.SeenMessages}
		capacity, err := a.cfg.Scaling.Calibrate(m, b.MicrosPerMessage/1e6, time.Now())
		if err != nil {
			return asScaling(err)
		}
		cmd.Capacity = &capacity
	}
	return a.operate(c, id, cmd)
}

// AnswersReply lists answers.
type AnswersReply struct {
	Answers []watch.Answer `json:"answers"`
}

func (a *API) adviceAnswers(c *fiber.Ctx, _ *relay.Identity) error {
	return writeJSON(c, http.StatusOK, AnswersReply{append([]watch.Answer{}, a.cfg.Scaling.Answers()...)})
}

// AnswerBody is an answer to a piece of advice.
type AnswerBody struct {
	Advice  string        `json:"advice" doc:"Which, such as memory@n1."`
	Verdict watch.Verdict `json:"verdict" enum:"snooze,dismiss,reopen"`
	Weight  string        `json:"weight,omitempty" doc:"Of the evidence that was seen; absent: the present one."`
	Until   time.Time     `json:"until,omitzero" doc:"Of a snooze; at most 90 days away."`
	For     string        `json:"for,omitempty" doc:"How long, such as 7d; instead of until."`
	Reason  string        `json:"reason,omitempty" doc:"Needed to dismiss."`
}

func (a *API) answerAdvice(c *fiber.Ctx, id *relay.Identity) error {
	var b AnswerBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if b.For != "" {
		length, err := span(b.For)
		if err != nil {
			return &wire.Error{Code: wire.BadFrame, Message: "for: " + err.Error()}
		}
		b.Until = time.Now().Add(length)
	}
	if b.Weight == "" {
		// An answer may come before the advice does: it has no weight to hold then.
		if p, err := a.advised(b.Advice); err == nil {
			b.Weight = p.Weight
		}
	}
	return a.operate(c, id, watch.Command{Op: watch.OpAnswer, Answer: &watch.Answer{Advice: b.Advice, Verdict: b.Verdict, Weight: b.Weight, Until: b.Until, Reason: b.Reason}})
}
