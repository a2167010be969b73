package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU time in /proc/PID/stat on every Linux there is.
const clockTick = 10 * time.Millisecond

// A usage is what a process has used so far.
type usage struct {
	cpu time.Duration // of all its threads, user and system
	rss int64         // bytes in memory
}

// machineCPU is the CPU time that all processes of this machine have used.
func machineCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the machine's usage: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return busyCPU(line)
}

// busyCPU sums the first line of /proc/stat without idle, waiting and stolen time.
func busyCPU(line string) (time.Duration, error) {
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, errors.New("read the machine's usage: /proc/stat does not start with cpu")
	}
	var ticks int64
	for i, field := range fields[1:8] { // user nice system idle iowait irq softirq
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the machine's usage: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick, nil
}

// readUsage reads the usage of a process from /proc.
func readUsage(pid int) (usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, fmt.Errorf("read the server's usage: %w", err)
	}
	cpu, err := statCPU(stat)
	if err != nil {
		return usage{}, err
	}
	// Scheduler statistics count nanoseconds where the kernel keeps them.
	// They miss threads that have ended, which the coarse count has.
	if exact, ok := schedCPU(dir); ok && exact+2*clockTick >= cpu {
		cpu = exact
	}
	rss, err := statusRSS(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, err
	}
	return usage{cpu: cpu, rss: rss}, nil
}

// statCPU reads user and system time from the text of /proc/PID/stat.
func statCPU(stat []byte) (time.Duration, error) {
	// The name in parentheses may hold anything: fields are counted behind it.
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("read the server's usage: /proc/PID/stat has no name")
	}
	fields := strings.Fields(string(stat[i+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read the server's usage: /proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("read the server's usage: %w", err)
	}
	return time.Duration(user+system) * clockTick, nil
}

// schedCPU sums the run time of all threads that there are.
func schedCPU(dir string) (time.Duration, bool) {
	files, err := filepath.Glob(filepath.Join(dir, "task", "*", "schedstat"))
	if err != nil || len(files) == 0 {
		return 0, false
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, false
		}
		sum += time.Duration(ns)
	}
	return sum, sum > 0
}

// statusRSS reads the resident memory from /proc/PID/status, in bytes.
func statusRSS(file string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read the server's usage: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		value, found := strings.CutPrefix(lines.Text(), "VmRSS:")
		if !found {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the server's usage: VmRSS: %w", err)
		}
		return kb << 10, nil
	}
	return 0, errors.New("read the server's usage: no VmRSS: has the process ended?")
}

// errNoListener says that no process of this machine listens at the address.
var errNoListener = errors.New("no process here listens at that port (on another machine, or another user's): server CPU and memory are left out; --pid names it")

// findServer finds the process that listens at addr on this machine.
func findServer(addr netip.AddrPort) (pid int, err error) {
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, inode := range listeners(string(text), addr.Port()) {
			inodes["socket:["+inode+"]"] = true
		}
	}
	if len(inodes) == 0 {
		return 0, errNoListener
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, fmt.Errorf("find the server: %w", err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && inodes[target] {
			return strconv.Atoi(strings.Split(link, "/")[2])
		}
	}
	return 0, errNoListener
}

// listeners returns the inodes of the sockets in a table of /proc/net/tcp that
// listen at port.
func listeners(table string, port uint16) (inodes []string) {
	const stateListen = "0A"
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != stateListen {
			continue
		}
		_, hex, ok := strings.Cut(fields[1], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); ok && err == nil && uint16(p) == port {
			inodes = append(inodes, fields[9])
		}
	}
	return inodes
}
