package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agentnet/app/scale"
)

// simulateCommand is `agentnet simulate`.
type simulateCommand struct {
	Scenario    string        `default:"daily" enum:"steady,daily,spike,storm,node-loss,region-loss,recorded" help:"Load to run: ${enum}."`
	Users       float64       `help:"Users at the peak."`
	Connections float64       `help:"Connections at the peak; two for each user without it."`
	Messages    float64       `help:"Messages a second at the peak; one for ten connections without it."`
	Recorded    string        `help:"File with a recorded load: lines of time,connections,messages; - reads the input. Implies --scenario recorded."`
	Length      time.Duration `help:"Time to simulate, such as 168h; two hours, or a day of the daily scenario, without it."`
	Step        time.Duration `default:"5s" help:"Time between two looks of the engine, 1s to 10s."`
	Seed        uint64        `default:"1" help:"Equal seeds give equal results."`
	Min         int           `default:"2" help:"Fewest instances."`
	Max         int           `help:"Most instances; the document's 20, or as many as the peak needs, without it."`
	Initial     int           `help:"Instances at the start; as many as the load needs without it."`
	Regions     []string      `help:"Names of regions."`
	Boot        time.Duration `default:"30s" help:"Time until an instance is ready."`
	NoHealing   bool          `help:"The platform does not replace instances that die."`
	Forecast    int           `help:"Scale ahead by a forecast from so many days of history, up to 56."`

	measured
	priced
	Out  string `help:"Write a report with charts to this file: .html, or .svg for the charts alone."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// maxLoadFile bounds a recorded load, in bytes.
const maxLoadFile = 32 << 20

// Run simulates, prints what came of it and writes the report.
func (c *simulateCommand) Run(env *Env) error {
	s, raised, err := c.simulation(env)
	if err != nil {
		return err
	}
	format := strings.ToLower(filepath.Ext(c.Out))
	if c.Out != "" && format != ".html" && format != ".svg" {
		return usagef("--out: want a file that ends in .html or .svg, got %q", c.Out)
	}
	begun := time.Now()
	result, err := scale.Simulate(s)
	if err != nil {
		return usagef("%v", err)
	}
	took := time.Since(begun)
	if c.Out != "" {
		if err := writeReport(c.Out, format, &result); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(env.Stdout, result)
	}
	text := result.Text()
	if raised != "" {
		text += "\n" + raised
	}
	text += fmt.Sprintf("\n%v in %v: %.0f times real speed.\n", result.Simulation.Length, took.Round(time.Millisecond), result.Simulation.Length.Seconds()/took.Seconds())
	text += "Latency is that of a model: each instance is one queue. See the report for what it rests on.\n"
	if c.Out != "" {
		text += "Report: " + c.Out + "\n"
	}
	if _, err := fmt.Fprint(env.Stdout, text); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// simulation turns the flags into what is to be simulated. raised says that the
// upper bound is not the document's.
func (c *simulateCommand) simulation(env *Env) (s scale.Simulation, raised string, err error) {
	capacity, err := c.capacity()
	if err != nil {
		return s, "", err
	}
	prices, err := c.prices()
	if err != nil {
		return s, "", err
	}
	s = scale.Simulation{Scenario: scale.Scenario(c.Scenario), Peak: scale.Demand{Users: c.Users, Connections: c.Connections, Messages: c.Messages},
		Length: c.Length, Step: c.Step, Seed: c.Seed, Capacity: capacity, Initial: c.Initial, Regions: c.Regions,
		Model: scale.NodeModel{Boot: c.Boot, NoHealing: c.NoHealing}, History: c.Forecast, Prices: prices}
	if c.Recorded != "" {
		if s.Recorded, err = readLoad(env, c.Recorded); err != nil {
			return s, "", err
		}
		s.Scenario = scale.ScenarioRecorded
		for _, p := range s.Recorded {
			s.Peak.Connections, s.Peak.Messages = max(s.Peak.Connections, p.Connections), max(s.Peak.Messages, p.Messages)
		}
	} else if s.Scenario == scale.ScenarioRecorded {
		return s, "", usagef("--scenario recorded: name the file with --recorded")
	}
	s.Policy = scale.DefaultPolicy(capacity)
	s.Policy.Min, s.Policy.Max = c.Min, c.Max
	if c.Max == 0 {
		plan, err := scale.Planner{Capacity: capacity}.Plan(s.Peak)
		if err != nil {
			return s, "", usagef("%v", err)
		}
		s.Policy.Max = plan.MaxInstances
		if plan.MaxInstances > scale.DefaultMaxInstances {
			s.Policy.Max = int(math.Ceil(1.05 * float64(plan.MaxInstances))) // load has noise
			if s.Policy.Max > scale.MaxNodes {
				s.Policy.Max = scale.MaxNodes
			}
			raised = fmt.Sprintf("The upper bound was raised from the document's %d to %d, because the targets ask for so many at the peak; --max sets it.\n",
				scale.DefaultMaxInstances, s.Policy.Max)
		}
		s.Policy.Max = max(s.Policy.Max, c.Min)
	}
	return s, raised, nil
}

// readLoad reads a recorded load from a file or the input.
func readLoad(env *Env, name string) ([]scale.LoadPoint, error) {
	in := env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("--recorded: %v", err)
		}
		defer f.Close()
		in = f
	}
	points, err := scale.ReadLoad(io.LimitReader(in, maxLoadFile))
	if errors.Is(err, scale.ErrLoad) {
		return nil, usagef("--recorded: %s: %v", name, err)
	}
	return points, err
}

// writeReport writes the page or the charts alone.
func writeReport(name, format string, r *scale.Simulated) error {
	raw := []byte(r.SVG())
	if format == ".html" {
		var err error
		if raw, err = r.HTML(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
