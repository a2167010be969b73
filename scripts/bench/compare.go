package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"agentnet/app/bench"
)

// compareCommand runs every server through every work.
type compareCommand struct {
	Agentnet        string   `default:"./agentnet" help:"The relay's program."`
	Servers         []string `default:"agentnet,nats,centrifuge" help:"Which servers to measure."`
	Only            string   `help:"Only work whose name has this in it."`
	Runs            int      `default:"3" help:"Runs of each; the medians count."`
	Quick           bool     `help:"One short run of smaller work, not recorded."`
	RecordDisturbed bool     `help:"Record even when other processes disturbed some runs; the record says so."`
	Results         string   `help:"Folder for the record; empty prints only."`
	Serve           []string `sep:"none" help:"Further argument for agentnet serve; may be repeated."`
}

// A cell is what one server did in one work.
type cell struct {
	reports []*bench.Report
	err     error
}

// Run measures, prints the table and writes the record.
func (c *compareCommand) Run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if c.Quick {
		c.Runs = 1
	}
	s := &stage{self: self, agentnet: c.Agentnet, extra: c.Serve}
	if _, err := exec.LookPath("taskset"); err == nil && runtime.NumCPU() > 1 {
		s.pin = true
	}
	started := time.Now()
	var all []work
	for _, w := range works(c.Quick) {
		if strings.Contains(w.name, c.Only) {
			all = append(all, w)
		}
	}
	cells := map[string]map[string]*cell{}
	for i := range all {
		if err := c.measure(ctx, s, &all[i], cells); err != nil {
			return err
		}
	}
	record := c.record(started, s.pin, all, cells)
	fmt.Println(record)
	if c.Results == "" || c.Quick {
		return faults(cells)
	}
	if n, of := disturbed(cells); n > 0 && !c.RecordDisturbed {
		return fmt.Errorf("not recorded: %d of %d runs were disturbed by other processes: run it on a quiet machine (--record-disturbed records all the same, and says so)", n, of)
	}
	name := filepath.Join(c.Results, started.UTC().Format("2006-01-02")+"-"+commit()+".md")
	if err := os.MkdirAll(c.Results, 0o755); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := os.WriteFile(name, []byte(record), 0o644); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	fmt.Println("recorded in", name)
	return faults(cells)
}

// measure puts all servers to one work, in turns, so that what changes on the
// machine meanwhile meets all of them.
func (c *compareCommand) measure(ctx context.Context, s *stage, w *work, cells map[string]map[string]*cell) error {
	cells[w.name] = map[string]*cell{}
	for run := range c.Runs {
		for _, server := range c.Servers {
			if !w.runs(server) {
				continue
			}
			one := cells[w.name][server]
			if one == nil {
				one = &cell{}
				cells[w.name][server] = one
			}
			report, err := calm(func() (*bench.Report, error) { return s.load(ctx, server, w) }, func(r *bench.Report) {
				fmt.Fprintf(os.Stderr, "%s, %s, run %d, once more: %s\n", w.name, server, run+1, line(w, r))
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				one.err = err
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", w.name, server, err)
				continue
			}
			one.reports = append(one.reports, report)
			fmt.Fprintf(os.Stderr, "%s, %s, run %d: %s\n", w.name, server, run+1, line(w, report))
		}
	}
	return nil
}

// again is how often a run is made once more because others disturbed it.
const again = 2

// calm makes a run, and makes it once more when other processes disturbed it: one of
// them is no reason to lose the twenty minutes of all runs. What is repeated is
// decided by the CPU that others took, never by the result.
func calm(run func() (*bench.Report, error), repeated func(*bench.Report)) (*bench.Report, error) {
	for n := 0; ; n++ {
		r, err := run()
		if err != nil || r.Others <= bench.Disturbed || n == again {
			return r, err
		}
		repeated(r)
	}
}

// line is one report in short.
func line(w *work, r *bench.Report) string {
	var parts []string
	for _, m := range w.measures {
		parts = append(parts, number(m.of(r))+" "+m.name)
	}
	if r.Others > bench.Disturbed {
		parts = append(parts, fmt.Sprintf("DISTURBED by others (%.0f%% of a core)", 100*r.Others))
	}
	if r.Self > 0.9 {
		parts = append(parts, fmt.Sprintf("generator at its limit (%.0f%% of a core)", 100*r.Self))
	}
	n := r.Total
	if n.Lost+n.Doubled+n.OutOfOrder+n.Strange+n.Broken+n.Refused+n.Stalls > 0 {
		parts = append(parts, fmt.Sprintf("lost %d, doubled %d, out of order %d, strange %d, broken %d, refused %d, stalls %d %v",
			n.Lost, n.Doubled, n.OutOfOrder, n.Strange, n.Broken, n.Refused, n.Stalls, n.Codes))
	}
	return strings.Join(parts, ", ")
}

// disturbed counts the runs during which other processes took too much CPU.
func disturbed(cells map[string]map[string]*cell) (n, of int) {
	for _, servers := range cells {
		for _, one := range servers {
			for _, r := range one.reports {
				of++
				if r.Others > bench.Disturbed {
					n++
				}
			}
		}
	}
	return n, of
}

// faults is an error when some run could not be made.
func faults(cells map[string]map[string]*cell) error {
	for name, servers := range cells {
		for server, one := range servers {
			if one.err != nil {
				return fmt.Errorf("%s, %s: %w", name, server, one.err)
			}
		}
	}
	return nil
}
