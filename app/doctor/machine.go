package doctor

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	// ownFiles is what a node opens besides its sockets.
	ownFiles = 256
	// wantFiles is what a node without a limit of its own should be able to open.
	wantFiles = 65536
)

func (c *Config) process(name string) string {
	pid := "self"
	if c.PID > 0 {
		pid = strconv.Itoa(c.PID)
	}
	return filepath.Join(c.Proc, pid, name)
}

func (c *Config) whose() string {
	if c.Running {
		return fmt.Sprintf("the server (process %d)", c.PID)
	}
	return "a process started here"
}

func fileDescriptors(_ context.Context, c *Config) outcome {
	text, err := os.ReadFile(c.process("limits"))
	if err != nil {
		return skip("the limits of the process cannot be read: %v", err)
	}
	soft, hard, ok := openFiles(string(text))
	if !ok {
		return skip("%s holds no line \"Max open files\"", c.process("limits"))
	}
	open := -1
	if c.Running {
		if entries, err := os.ReadDir(c.process("fd")); err == nil {
			open = len(entries)
		}
	}
	need, why := wantFiles, "for some tens of thousands of agents"
	if c.Connections > 0 {
		need, why = c.Connections+ownFiles, fmt.Sprintf("for limits.connections = %d", c.Connections)
	}
	evidence := fmt.Sprintf("%s may open %d files (hard limit %d)", c.whose(), soft, hard)
	if open >= 0 {
		evidence += fmt.Sprintf(", %d are open", open)
	}
	fix := fmt.Sprintf("systemd: LimitNOFILE=%d in the unit; containers: --ulimit nofile=%d:%d; a shell: ulimit -n %d", max(262144, need), max(262144, need), max(262144, need), max(262144, need))
	switch {
	case open >= 0 && open > soft*9/10:
		return fail(evidence+"; new connections are about to be refused", fix)
	case soft < need && c.Connections > 0:
		return fail(fmt.Sprintf("%s; %d are needed %s", evidence, need, why), fix)
	case soft < need:
		return warn(fmt.Sprintf("%s; %d are wanted %s", evidence, need, why), fix)
	}
	return good("%s", evidence)
}

// openFiles reads the line of /proc/PID/limits.
func openFiles(text string) (soft, hard int, ok bool) {
	for line := range strings.SplitSeq(text, "\n") {
		rest, found := strings.CutPrefix(line, "Max open files")
		fields := strings.Fields(rest)
		if !found || len(fields) < 2 {
			continue
		}
		return limitNumber(fields[0]), limitNumber(fields[1]), true
	}
	return 0, 0, false
}

func limitNumber(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil { // "unlimited", or more than fits
		return 1<<31 - 1
	}
	return n
}

// number reads the first number of a file.
func number(path string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	return n, err == nil
}

// kernel looks at queues of half-open and unaccepted connections, which a
// reconnect storm fills, and at the memory of TCP.
func kernel(_ context.Context, c *Config) outcome {
	sys := func(name string) string {
		return filepath.Join(c.Proc, "sys", filepath.FromSlash(strings.ReplaceAll(name, ".", "/")))
	}
	var seen, low, fixes []string
	for _, want := range []struct {
		name string
		min  int64
	}{{"net.core.somaxconn", 1024}, {"net.ipv4.tcp_max_syn_backlog", 1024}} {
		n, ok := number(sys(want.name))
		if !ok {
			continue
		}
		seen = append(seen, fmt.Sprintf("%s %d", want.name, n))
		if n < want.min {
			low = append(low, fmt.Sprintf("%s is %d, below %d", want.name, n, want.min))
			fixes = append(fixes, fmt.Sprintf("sysctl -w %s=4096", want.name))
		}
	}
	if fields, err := os.ReadFile(sys("net.ipv4.tcp_mem")); err == nil {
		if f := strings.Fields(string(fields)); len(f) == 3 {
			if pages, err := strconv.ParseInt(f[2], 10, 64); err == nil {
				limit := pages * int64(os.Getpagesize())
				seen = append(seen, "memory for TCP at most "+bytes(limit))
				// An idle socket costs next to nothing; 16 KiB each is a crowd that is
				// written to at once.
				if want := int64(max(c.Connections, 10_000)) * 16 << 10; limit < want {
					low = append(low, fmt.Sprintf("TCP may use %s, below the %s of %d busy connections", bytes(limit), bytes(want), max(c.Connections, 10_000)))
					fixes = append(fixes, fmt.Sprintf("sysctl -w net.ipv4.tcp_mem=\"%d %d %d\"", want/8192, want/6144, want/4096))
				}
			}
		}
	}
	if used, ok := number(sys("net.netfilter.nf_conntrack_count")); ok {
		if most, ok := number(sys("net.netfilter.nf_conntrack_max")); ok {
			seen = append(seen, fmt.Sprintf("connection tracking %d of %d", used, most))
			if used > most*8/10 || most < int64(c.Connections) {
				low = append(low, fmt.Sprintf("connection tracking has room for %d, %d are used", most, used))
				fixes = append(fixes, fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", max(262144, 2*c.Connections)))
			}
		}
	}
	switch {
	case len(seen) == 0:
		return skip("this system does not show its network settings below %s", filepath.Join(c.Proc, "sys"))
	case len(low) > 0:
		return warn(strings.Join(low, "; "), strings.Join(fixes, "; ")+"; and the same in /etc/sysctl.d/agentnet.conf, to last over a restart")
	}
	return good("%s", strings.Join(seen, ", "))
}

// group returns the folder of the process in the unified hierarchy.
func (c *Config) group() string {
	root := filepath.Join(c.Sys, "fs", "cgroup")
	text, err := os.ReadFile(c.process("cgroup"))
	if err != nil {
		return root
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			if dir := filepath.Join(root, filepath.FromSlash(strings.TrimSpace(path))); exists(dir) {
				return dir
			}
		}
	}
	return root
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func cgroup(_ context.Context, c *Config) outcome {
	dir := c.group()
	var seen []string
	if n, ok := number(filepath.Join(dir, "memory.max")); ok {
		seen = append(seen, "memory "+bytes(n))
	}
	if n, ok := number(filepath.Join(dir, "pids.max")); ok {
		seen = append(seen, fmt.Sprintf("%d tasks", n))
		if n < 64 {
			return fail(fmt.Sprintf("only %d tasks are allowed; the Go runtime needs some dozens of threads", n), "raise TasksMax= of the unit, or --pids-limit of the container, to 512")
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "cpu.max")); err == nil {
		if f := strings.Fields(string(text)); len(f) == 2 && f[0] != "max" {
			quota, _ := strconv.ParseFloat(f[0], 64)
			period, _ := strconv.ParseFloat(f[1], 64)
			if quota > 0 && period > 0 {
				seen = append(seen, fmt.Sprintf("%.2f processors", quota/period))
				if quota/period < 0.5 {
					return warn(fmt.Sprintf("only %.2f of a processor is allowed; each use of more is followed by a pause that shows in delivery times", quota/period), "allow at least one processor: CPUQuota=100% or --cpus 1")
				}
			}
		}
	}
	if periods, throttled := statValue(dir, "nr_periods"), statValue(dir, "nr_throttled"); periods > 100 && throttled*20 > periods {
		return warn(fmt.Sprintf("the process was stopped for its processor limit in %.0f %% of %d periods; messages waited meanwhile", 100*float64(throttled)/float64(periods), periods),
			"allow more processor time (CPUQuota=, --cpus, resources.limits.cpu), or none but a request for it")
	}
	if len(seen) == 0 {
		return good("no limits; %d processors", runtime.NumCPU())
	}
	return good("%s", strings.Join(seen, ", "))
}

func statValue(dir, key string) int64 {
	f, err := os.Open(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name == key {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

// memoryLimit is what the process may use: the least limit of its groups, else
// what the machine has.
func (c *Config) memoryLimit() (limit int64, from string) {
	if text, err := os.ReadFile(filepath.Join(c.Proc, "meminfo")); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
				if f := strings.Fields(rest); len(f) > 0 {
					kib, _ := strconv.ParseInt(f[0], 10, 64)
					limit, from = kib<<10, "of the machine"
				}
			}
		}
	}
	root := filepath.Join(c.Sys, "fs", "cgroup")
	for dir := c.group(); ; dir = filepath.Dir(dir) {
		if n, ok := number(filepath.Join(dir, "memory.max")); ok && n > 0 && (limit == 0 || n < limit) {
			limit, from = n, "of the container or unit"
		}
		if dir == root || len(dir) <= len(root) {
			return limit, from
		}
	}
}

func memoryBounds(_ context.Context, c *Config) outcome {
	if len(c.Bounds) == 0 {
		return skip("the configuration is not known here")
	}
	limit, from := c.memoryLimit()
	if limit == 0 {
		return skip("how much memory there is cannot be read")
	}
	var sum int64
	var parts []string
	for _, b := range c.Bounds {
		sum += b.Bytes
		parts = append(parts, b.Key+" "+bytes(b.Bytes))
	}
	evidence := fmt.Sprintf("configured bounds add up to %s (%s); the memory %s is %s", bytes(sum), strings.Join(parts, ", "), from, bytes(limit))
	fix := "give it more memory (MemoryMax=, --memory), or lower these keys; bounds should be at most 60 % of it, because the runtime and the sockets need the rest"
	switch {
	case sum > limit:
		return fail(evidence+"; under load the process would be killed before they are reached", fix)
	case float64(sum) > 0.6*float64(limit):
		return warn(evidence, fix)
	}
	return good("%s", evidence)
}

// timeZone only matters for people who read logs and set quiet hours: everything
// that is kept is in UTC.
func timeZone(_ context.Context, c *Config) outcome {
	if name := os.Getenv("TZ"); name != "" {
		if _, err := time.LoadLocation(strings.TrimPrefix(name, ":")); err != nil {
			return warn(fmt.Sprintf("TZ is %q, which is not known here; UTC is used", name), "install the package tzdata, or write the name as in TZ=Europe/Berlin")
		}
	}
	name, offset := c.Now().Zone()
	return good("local time is %s (UTC%+03d:%02d); the database keeps UTC", name, offset/3600, abs(offset)%3600/60)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
