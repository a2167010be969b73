package dash

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/scale"
	"agentnet/app/wire"
	"agentnet/web/ui"

	"github.com/a-h/templ"
)

const (
	// simulateTime bounds one simulation for pages, and simulatedFor is how long its
	// result is kept.
	simulateTime = 15 * time.Second
	simulatedFor = time.Minute
	// outcomeWait is how long a page waits for a simulation, or for the trial of a
	// rule, before it is drawn without.
	outcomeWait = 700 * time.Millisecond
	// maxSteps bounds the length of one.
	maxSteps = 200_000
)

// simulatorView is the page of the simulator.
type simulatorView struct {
	r                     *request
	scenarios             []ui.Choice
	connections, messages string
	hours, seed, fewest   string
	most, forecast        string
	fault                 string
	running               bool // the result is not there yet
	result                *scale.Simulated
	took                  time.Duration
	svg                   templ.Component
	facts                 []Fact
	verdict               string
	scaling               bool
	capacity              string
}

var scenarioWords = map[scale.Scenario]string{scale.ScenarioSteady: "The peak all the time", scale.ScenarioDaily: "Working days and weekends", scale.ScenarioSpike: "Five times the load within a minute",
	scale.ScenarioStorm: "Every connection is cut and comes back", scale.ScenarioNodeLoss: "A quarter of the nodes die", scale.ScenarioRegionLoss: "A region dies for half an hour"}

func (b *Board) simulator(r *request) (*view, error) {
	q := r.query.Get
	v := &simulatorView{r: r, connections: q("connections"), messages: q("messages"), hours: q("hours"), seed: q("seed"), fewest: q("min"), most: q("max"), forecast: q("forecast")}
	sc := b.cfg.Sources.Scaling
	v.scaling = sc != nil
	chosen := scale.Scenario(q("scenario"))
	for _, s := range scale.Scenarios() {
		if s != scale.ScenarioRecorded {
			v.scenarios = append(v.scenarios, ui.Choice{Name: scenarioWords[s], Path: string(s), Current: s == chosen})
		}
	}
	if sc == nil {
		return &view{title: "Simulator", body: simulatorPage(v), plain: true}, nil
	}
	v.capacity = capacitySource(sc.Planner().Capacity)
	view := &view{title: "Simulator", body: simulatorPage(v), plain: true}
	if chosen != "" {
		b.simulate(r, sc, v, chosen, outcomeWait)
		view.parts = []part{{"simulated", simulatedPart(v)}}
	}
	if v.running {
		view.every, view.refresh = 1, soonRefresh
	}
	return view, nil
}

// simulation reads the form.
func (v *simulatorView) simulation(sc Scaling, chosen scale.Scenario) (s scale.Simulation, err error) {
	var numbers [6]float64
	for i, text := range []string{v.connections, v.messages, v.hours, v.fewest, v.most, v.forecast} {
		if numbers[i], err = number(text); err != nil {
			return s, err
		}
	}
	if numbers[0] > 1e7 || numbers[1] > 1e8 || numbers[2] > 24*60 || numbers[3] > scale.MaxNodes || numbers[4] > scale.MaxNodes || numbers[5] > 56 {
		return s, errors.New("at most 10 million connections, 100 million messages, 60 days, 1,024 nodes and 56 days of history")
	}
	planner, st := sc.Planner(), sc.Status()
	s = scale.Simulation{Scenario: chosen, Peak: scale.Demand{Connections: numbers[0], Messages: numbers[1]}, Length: time.Duration(numbers[2] * float64(time.Hour)),
		Seed: uint64(atoi(v.seed, 0, 1<<30)), Capacity: planner.Capacity, History: int(numbers[5]), Prices: planner.Prices}
	if s.Peak.Connections == 0 && s.Peak.Messages == 0 {
		return s, errors.New("say how many connections or messages there are at the peak")
	}
	if chosen == scale.ScenarioRegionLoss {
		s.Regions = []string{"one", "two"}
	}
	if s.Length/(5*time.Second) > maxSteps {
		return s, errors.New("the time is too long")
	}
	plan, err := planner.Plan(s.Peak)
	if err != nil {
		return s, err
	}
	s.Policy = scale.DefaultPolicy(planner.Capacity)
	s.Policy.Min, s.Policy.Max = max(st.Min, 1), max(st.Max, min(plan.MaxInstances*21/20, scale.MaxNodes))
	if numbers[3] > 0 {
		s.Policy.Min = int(numbers[3])
	}
	if numbers[4] > 0 {
		s.Policy.Max = int(numbers[4])
	}
	return s, nil
}

// A simulation that was run for a page.
type simulation struct {
	result scale.Simulated
	svg    string
	took   time.Duration
	fault  string
}

// simulate has what the form asks for run, and waits for it. The stream of a page
// only looks whether it is there.
func (b *Board) simulate(r *request, sc Scaling, v *simulatorView, chosen scale.Scenario, wait time.Duration) {
	key := strings.Join([]string{string(chosen), v.connections, v.messages, v.hours, v.fewest, v.most, v.forecast, v.seed}, "\n")
	var run func(context.Context) simulation
	if r.c != nil {
		s, err := v.simulation(sc, chosen)
		if err != nil {
			v.fault = err.Error()
			return
		}
		run = func(ctx context.Context) simulation { return simulated(ctx, s) }
	}
	p, err := b.simulations.get(key, wait, run)
	switch {
	case err != nil:
		v.fault = err.Error()
	case p == nil:
		v.running = true
	case p.outcome.fault != "":
		v.fault = p.outcome.fault
	default:
		v.result, v.took = &p.outcome.result, p.outcome.took
		v.svg = templ.Raw(p.outcome.svg) // drawn by the engine from numbers, in this page's own classes
		v.explain(v.result)
	}
}

// simulated runs one simulation until ctx ends.
func simulated(ctx context.Context, s scale.Simulation) (out simulation) {
	s.Stop = ctx.Err
	began := time.Now()
	result, err := scale.Simulate(s)
	if err != nil {
		out.fault = err.Error()
		if ctx.Err() != nil {
			out.fault = fmt.Sprintf("it was not done within %v: make it shorter or smaller, or run agentnet simulate", simulateTime)
		}
		return out
	}
	return simulation{result: result, svg: result.SVG(), took: time.Since(began)}
}

func (v *simulatorView) explain(s *scale.Simulated) {
	m := &s.Summary
	saved := ""
	if m.StaticHours > 0 {
		saved = fmt.Sprintf("%.0f%% less than a fleet that is always as large as the largest", 100*(1-m.InstanceHours/m.StaticHours))
	}
	v.verdict = fmt.Sprintf("%d to %d nodes, %s up and %s down. p95 at worst %s; above 200 ms for %s.", m.MinLive, m.MaxLive, ui.Plural(m.Ups, "step", "steps"), ui.Plural(m.Downs, "step", "steps"), write(scale.DeliveryP95, m.WorstP95), ui.Uptime(m.Slow))
	v.facts = []Fact{{"Node hours", ui.Rate(m.InstanceHours) + ", " + orNone(saved), false}, {"Slowest way up", ui.Uptime(m.SlowestUp), false}, {"Not served", share(m.Unserved) + " of the connection time", false},
		{"Error rate above 2%", ui.Uptime(m.Errors), false}, {"Alerts", ui.Plural(m.Alerts, "alert", "alerts") + ", " + ui.Plural(m.Walks, "walk", "walks"), false}, {"Simulated", ui.Plural(m.Steps, "step", "steps") + " in " + v.took.Round(time.Millisecond).String(), false}}
	if m.TotalCost > 0 {
		v.facts = append(v.facts, Fact{"Cost", fmt.Sprintf("%.2f %s instead of %.2f", m.TotalCost, m.Cost.Currency, m.StaticCost), false})
	}
}

// simulatedTable is the charts' numbers for machines.
func (b *Board) simulatedTable(r *request) (*table, error) {
	v, err := b.simulated(r)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"at", "connections", "messages", "live", "ready", "desired", "cpu", "p95_ms", "errors"}}
	for i := range v.result.Frames {
		f := &v.result.Frames[i]
		t.add(f.At, f.Connections.Avg, f.Messages.Avg, f.Live.Avg, f.Ready.Avg, f.Desired.Avg, f.CPU.Avg, f.P95.Avg*1000, f.Errors.Avg)
	}
	return t, nil
}

func (b *Board) simulated(r *request) (*simulatorView, error) {
	q := r.query.Get
	v := &simulatorView{r: r, connections: q("connections"), messages: q("messages"), hours: q("hours"), seed: q("seed"), fewest: q("min"), most: q("max"), forecast: q("forecast")}
	if b.cfg.Sources.Scaling != nil {
		b.simulate(r, b.cfg.Sources.Scaling, v, scale.Scenario(q("scenario")), simulateTime)
	}
	if v.running {
		return nil, &wire.Error{Code: wire.Overloaded, Message: "simulator: it is still at work", RetryAfterMS: 2000}
	}
	if v.result == nil {
		return nil, &wire.Error{Code: wire.BadFrame, Message: "simulator: " + orNone(v.fault)}
	}
	return v, nil
}
