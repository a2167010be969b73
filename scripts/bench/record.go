package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"agentnet/app/bench"
)

// record is the outcome as a Markdown page.
func (c *compareCommand) record(started time.Time, pinned bool, all []work, cells map[string]map[string]*cell) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, commit %s\n\n", started.UTC().Format("2006-01-02 15:04 UTC"), commit())
	fmt.Fprintf(&b, "- Machine: %s\n", machine())
	fmt.Fprintf(&b, "- Servers: agentnet at the commit above; %s\n", strings.Join(peerVersions(), "; "))
	placing := "server on core 0, load generator on core 1 (taskset)"
	if !pinned {
		placing = "not pinned"
	}
	fmt.Fprintf(&b, "- Method: %s; loopback, no TLS, JSON, 128-byte payloads; a fresh server for each run; medians of %d.\n", placing, c.Runs)
	b.WriteString("- The relay: all features on, every agent authenticated by token, every command answered; in the connect storm without its gate (by default 5,000 connects a second), which peers have not either. Peers: no authentication; NATS without answers (verbose off); " +
		"centrifuge publishes with answers, in its form for speed, and for idling in its form for memory.\n")
	fmt.Fprintf(&b, "- Load average when it ended: %s\n", loadAverage())
	fmt.Fprintf(&b, "- Command: `sh scripts/bench.sh` (`bench compare --runs %d`)\n\n", c.Runs)
	if n, of := disturbed(cells); n > 0 {
		fmt.Fprintf(&b, "**Not to be trusted: other processes disturbed %d of %d runs (more than %.0f%% of a core).** Rates, latencies and costs that depend on batching change with that.\n\n",
			n, of, 100*bench.Disturbed)
	}
	b.WriteString("Flat-out figures depend on how many publications are under way at once: the more wait, the more a server can write with one system call. " +
		"They compare servers under the same window in this table and with nothing outside it.\n\n")
	c.table(&b, all, cells)
	b.WriteString("\nEach run:\n\n")
	for i := range all {
		for _, server := range c.Servers {
			one := cells[all[i].name][server]
			if one == nil {
				continue
			}
			if one.err != nil {
				fmt.Fprintf(&b, "- %s, %s: failed: %v\n", all[i].name, server, one.err)
			}
			for _, r := range one.reports {
				fmt.Fprintf(&b, "- %s, %s: %s\n", all[i].name, server, line(&all[i], r))
			}
		}
	}
	return b.String()
}

// table writes the medians, and of each peer how the relay compares with it.
func (c *compareCommand) table(b *strings.Builder, all []work, cells map[string]map[string]*cell) {
	b.WriteString("| work | figure |")
	rule := "|---|---|"
	for _, server := range c.Servers {
		fmt.Fprintf(b, " %s |", server)
		rule += "---|"
	}
	for _, server := range c.Servers[1:] {
		fmt.Fprintf(b, " %s : %s |", c.Servers[0], server)
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n")
	for i := range all {
		for _, m := range all[i].measures {
			fmt.Fprintf(b, "| %s | %s |", all[i].name, m.name)
			first := middle(cells[all[i].name][c.Servers[0]], m)
			for _, server := range c.Servers {
				fmt.Fprintf(b, " %s |", number(middle(cells[all[i].name][server], m)))
			}
			for _, server := range c.Servers[1:] {
				fmt.Fprintf(b, " %s |", number(first/middle(cells[all[i].name][server], m)))
			}
			b.WriteString("\n")
		}
	}
}

// middle is the median of a figure; not a number where nothing was measured.
func middle(c *cell, m measure) float64 {
	if c == nil || len(c.reports) == 0 {
		return math.NaN()
	}
	var values []float64
	for _, r := range c.reports {
		values = append(values, m.of(r))
	}
	return median(values)
}

// number writes a figure with as many digits as mean something.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case math.Abs(v) >= 1000:
		return thousands(int64(math.Round(v)))
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// thousands writes n with commas.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// machine describes the machine in one line.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if _, value, ok := strings.Cut(line, "model name"); ok {
				model = strings.Trim(value, " \t:\n")
				break
			}
		}
	}
	kernel := ""
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%s, %d cores%s, %s", model, runtime.NumCPU(), kernel, runtime.Version())
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// peerVersions are the versions of the peers that this program was built with.
func peerVersions() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return []string{"versions not known"}
	}
	var versions []string
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/nats-io/nats-server/v2":
			versions = append(versions, "nats-server "+dep.Version)
		case "github.com/centrifugal/centrifuge":
			versions = append(versions, "centrifuge "+dep.Version)
		}
	}
	return versions
}

// commit is the short commit of the tree, marked when the tree has changes.
func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short=10", "HEAD").Output()
	if err != nil {
		return "uncommitted"
	}
	id := strings.TrimSpace(string(out))
	if changes, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(changes) > 0 {
		id += "-changed"
	}
	return id
}
