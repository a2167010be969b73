package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// dialect makes the dialect of one worker.
func (o *Options) dialect() (Dialect, error) {
	if o.NewDialect != nil {
		return o.NewDialect()
	}
	return newAgentNet(o.Encoding, o.Token), nil
}

// Run makes the load that the options say and writes the report to stdout: a
// table, or JSON. It returns the report too. When ctx ends first there is none.
func Run(ctx context.Context, o Options, stdout io.Writer) (*Report, error) {
	if runtime.GOOS != "linux" {
		return nil, ErrPlatform
	}
	if err := o.Resolve(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if o.Run == "" {
		o.Run = strings.ToLower(rand.Text()[:8])
	}
	team, err := newCrew(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer team.close()
	report, err := lead(ctx, &o, team)
	if err != nil {
		return nil, fmt.Errorf("bench %s: %w", o.Mode, err)
	}
	if o.JSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		_, err = io.WriteString(stdout, report.Table())
	}
	if err != nil {
		return nil, fmt.Errorf("bench: write report: %w", err)
	}
	return report, nil
}

// newCrew makes one worker here, or several processes.
func newCrew(ctx context.Context, o *Options) (crew, error) {
	if o.Processes == 1 {
		return newWorker(o, 0)
	}
	return newProcesses(ctx, o)
}

// lead takes a crew through one run.
func lead(ctx context.Context, o *Options, team crew) (*Report, error) {
	d, err := o.dialect()
	if err != nil {
		return nil, err
	}
	report := newReport(o, d.Name())
	watch, err := newWatch(o, report)
	if err != nil {
		return nil, err
	}
	watch.workers = team.pids()
	watch.mark(&watch.idle)
	connects, err := team.connect(ctx)
	if err != nil {
		return nil, err
	}
	watch.mark(&watch.open)
	report.connected(&connects)
	if err := rest(team, o.Settle); err != nil {
		return nil, err
	}
	watch.mark(&watch.settled)

	if o.Mode != ModeConnect {
		if err := load(ctx, o, team, watch, report); err != nil {
			return nil, err
		}
	}
	sent, err := team.drain(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := team.finish(sent)
	if err != nil {
		return nil, err
	}
	report.finish(parts, watch)
	return report, nil
}

// load runs warm-up and the measured time.
func load(ctx context.Context, o *Options, team crew, watch *watch, report *Report) error {
	if err := team.start(); err != nil {
		return err
	}
	if err := team.run(ctx, o.Warmup); err != nil {
		return err
	}
	if err := team.measure(true); err != nil {
		return err
	}
	watch.mark(&watch.from)
	if err := team.run(ctx, o.Duration); err != nil {
		return err
	}
	watch.mark(&watch.to)
	report.Seconds = watch.to.at.Sub(watch.from.at).Seconds()
	return team.measure(false)
}

// rest serves the connections for d.
func rest(team crew, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := team.rest(); err != nil {
			return err
		}
	}
	return nil
}

// A watch reads what the server uses at the turns of a run.
type watch struct {
	pids, with, workers           []int
	idle, open, settled, from, to moment
}

// A moment is the usage of the server and of the generator at one time.
type moment struct {
	at     time.Time
	server usage // of all nodes together
	with   usage // of what they use
	self   time.Duration
	all    time.Duration // of every process on this machine
}

// newWatch finds the server; not finding it is a remark in the report, unless
// its process id was given.
func newWatch(o *Options, report *Report) (*watch, error) {
	w := &watch{pids: o.PID, with: o.With}
	for _, pid := range slices.Concat(o.PID, o.With) {
		if _, err := readUsage(pid); err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	if len(w.pids) > 0 {
		return w, nil
	}
	for _, base := range o.urls() {
		e, err := newTarget(base, "/", nil)
		if err != nil {
			return nil, err
		}
		pid, err := findServer(e.addr)
		if errors.Is(err, errNoListener) {
			report.Remarks, w.pids = append(report.Remarks, err.Error()), nil
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		w.pids = append(w.pids, pid)
	}
	return w, nil
}

// together is the usage of several processes. One that has ended counts nothing.
func together(pids []int) (sum usage) {
	for _, pid := range pids {
		if u, err := readUsage(pid); err == nil {
			sum.cpu += u.cpu
			sum.rss += u.rss
		}
	}
	return sum
}

// mark notes the usage of now. A server that has ended leaves zeroes.
func (w *watch) mark(m *moment) {
	m.at = time.Now()
	m.server, m.with = together(w.pids), together(w.with)
	m.self = selfCPU() + together(w.workers).cpu
	m.all, _ = machineCPU()
}
