package scale

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Host reads what this process may use of its machine and what it does use:
// the limits of its control groups where it has some, of the machine otherwise.
// It reads files only. It is not safe for concurrent use.
type Host struct {
	root       string
	processors float64

	last    time.Time
	seconds float64 // processor time of the process at last
}

// NewHost returns a reader of the files below root, which is "/" but in tests.
// processors is how many the process sees, such as runtime.NumCPU; a quota of
// the control group lowers it.
func NewHost(root string, processors int) *Host {
	return &Host{root: root, processors: float64(max(1, processors))}
}

// clockTicks is the unit of /proc/self/stat, 1/100 s on every Linux that Go runs on.
const clockTicks = 100

// Read sets the signals of the host. What cannot be read stays missing, and the
// error says what it was; all other signals are set all the same. The first call
// sets no processor share, which is a difference of two.
func (h *Host) Read(now time.Time, into *Readings) error {
	var errs []error
	seconds, err := h.processorTime()
	if err != nil {
		errs = append(errs, err)
	} else {
		if gone := now.Sub(h.last).Seconds(); !h.last.IsZero() && gone > 0 && seconds >= h.seconds {
			into.Set(CPU, min((seconds-h.seconds)/gone/h.Processors(), 1))
		}
		h.last, h.seconds = now, seconds
	}
	if err := h.memory(into); err != nil {
		errs = append(errs, err)
	}
	if err := h.descriptors(into); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("read host: %w", err)
	}
	return nil
}

// Processors is how many processors the process may use, in fractions where a
// control group sets a quota.
func (h *Host) Processors() float64 {
	n := h.processors
	for _, dir := range h.groups("cpu") {
		if quota, ok := h.quota(dir); ok {
			n = min(n, quota)
		}
	}
	return n
}

// quota reads the quota of one control group, of either version.
func (h *Host) quota(dir string) (float64, bool) {
	if fields := strings.Fields(h.text(dir + "/cpu.max")); len(fields) == 2 {
		quota, err1 := strconv.ParseFloat(fields[0], 64)
		period, err2 := strconv.ParseFloat(fields[1], 64)
		return quota / period, err1 == nil && err2 == nil && quota > 0 && period > 0
	}
	quota, ok1 := h.number(dir + "/cpu.cfs_quota_us")
	period, ok2 := h.number(dir + "/cpu.cfs_period_us")
	return quota / period, ok1 && ok2 && quota > 0 && period > 0
}

// processorTime is the processor time of the process so far, in seconds.
func (h *Host) processorTime() (float64, error) {
	const name = "/proc/self/stat"
	text := h.text(name)
	// The second field is the command in brackets and may hold anything.
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("%s: %d fields behind the command, want 13 or more", name, len(fields))
	}
	user, err1 := strconv.ParseUint(fields[11], 10, 63)
	system, err2 := strconv.ParseUint(fields[12], 10, 63)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return float64(user+system) / clockTicks, nil
}

// memory sets use, limit and the part that kernel socket buffers hold. Within a
// limited control group the use is that of the group without the page cache that
// the kernel can drop; otherwise it is the resident size and the socket buffers.
func (h *Host) memory(into *Readings) error {
	limit, dir := math.Inf(1), ""
	for _, d := range h.groups("memory") {
		if v, ok := h.memoryLimit(d); ok && v < limit {
			limit, dir = v, d
		}
	}
	total, ok := field(h.text("/proc/meminfo"), "MemTotal:")
	if total *= 1024; ok && total < limit {
		limit, dir = total, "" // a limit above the machine's memory is none
	}
	if math.IsInf(limit, 1) {
		return errors.New("/proc/meminfo: no MemTotal, and no limit of a control group")
	}
	kernel, haveKernel := h.socketMemory(dir)
	used, haveUsed := h.groupUse(dir)
	if dir == "" || !haveUsed {
		var rss float64
		rss, haveUsed = field(h.text("/proc/self/status"), "VmRSS:")
		used = rss*1024 + kernel
	}
	into.Set(MemoryLimit, limit)
	if haveKernel {
		into.Set(KernelMemory, min(kernel/limit, 1))
	}
	if !haveUsed {
		return errors.New("/proc/self/status: no VmRSS, and no use of a control group")
	}
	into.Set(MemoryBytes, used)
	into.Set(Memory, used/limit)
	return nil
}

// unlimited is what version 1 writes where there is no limit, about 2^63.
const unlimited = 1 << 60

func (h *Host) memoryLimit(dir string) (float64, bool) {
	for _, name := range [...]string{"/memory.max", "/memory.limit_in_bytes"} {
		if v, ok := h.number(dir + name); ok && v > 0 && v < unlimited {
			return v, true
		}
	}
	return 0, false
}

func (h *Host) groupUse(dir string) (float64, bool) {
	if dir == "" {
		return 0, false
	}
	stat := h.text(dir + "/memory.stat")
	if v, ok := h.number(dir + "/memory.current"); ok {
		cache, _ := field(stat, "inactive_file")
		return max(0, v-cache), true
	}
	if v, ok := h.number(dir + "/memory.usage_in_bytes"); ok {
		cache, _ := field(stat, "total_inactive_file")
		sockets, _ := h.number(dir + "/memory.kmem.tcp.usage_in_bytes") // not part of the use in version 1
		return max(0, v-cache) + sockets, true
	}
	return 0, false
}

// socketMemory is what the kernel holds in socket buffers: of the group, or of
// the machine, which counts pages.
func (h *Host) socketMemory(dir string) (float64, bool) {
	if dir != "" {
		if v, ok := field(h.text(dir+"/memory.stat"), "sock"); ok {
			return v, true
		}
		if v, ok := h.number(dir + "/memory.kmem.tcp.usage_in_bytes"); ok {
			return v, true
		}
	}
	for line := range strings.Lines(h.text("/proc/net/sockstat")) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i+1], 64); fields[i] == "mem" && err == nil && finite(v) && v >= 0 {
				return v * float64(os.Getpagesize()), true
			}
		}
	}
	return 0, false
}

// descriptors sets the share of the allowed file descriptors in use.
func (h *Host) descriptors(into *Readings) error {
	var allowed float64
	for line := range strings.Lines(h.text("/proc/self/limits")) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				allowed, _ = strconv.ParseFloat(fields[0], 64)
			}
		}
	}
	if !positive(allowed) {
		return errors.New("/proc/self/limits: no limit of open files")
	}
	dir := filepath.Join(h.root, "/proc/self/fd")
	// Since Linux 6.2 the size of the folder is the number of descriptors; before,
	// it is 0 and the names must be counted.
	if info, err := os.Stat(dir); err == nil && h.root == "/" && info.Size() > 0 {
		into.Set(Descriptors, float64(info.Size())/allowed)
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("/proc/self/fd: %w", err)
	}
	into.Set(Descriptors, float64(len(names))/allowed)
	return nil
}

// groups lists the folders of the process's control group and of all groups that
// it lies in, for one controller, innermost first. A limit of any of them holds.
func (h *Host) groups(controller string) []string {
	const mount = "/sys/fs/cgroup"
	var out []string
	for line := range strings.Lines(h.text("/proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base := ""
		switch {
		case parts[0] == "0" && parts[1] == "":
			base = mount
		case hasName(parts[1], controller):
			// Controllers that share a hierarchy are mounted under either name.
			if base = mount + "/" + parts[1]; !h.exists(base) {
				base = mount + "/" + controller
			}
		default:
			continue
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if d := path.Join(base, dir); h.exists(d) {
				out = append(out, d)
			}
			if dir == "/" {
				break
			}
		}
	}
	return out
}

func hasName(list, name string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if part == name {
			return true
		}
	}
	return false
}

func (h *Host) exists(name string) bool {
	_, err := os.Stat(filepath.Join(h.root, name))
	return err == nil
}

// maxHostFile bounds what is read of one file.
const maxHostFile = 1 << 20

// text returns a file, empty where it cannot be read or is larger than any of
// these files is.
func (h *Host) text(name string) string {
	b, err := os.ReadFile(filepath.Join(h.root, name))
	if err != nil || len(b) > maxHostFile {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

func (h *Host) number(name string) (float64, bool) {
	v, err := strconv.ParseFloat(cmp.Or(h.text(name), "none"), 64)
	return v, err == nil && finite(v)
}

// field returns the number behind a key at the start of a line.
func field(text, key string) (float64, bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == key {
			v, err := strconv.ParseFloat(fields[1], 64)
			return v, err == nil && finite(v) && v >= 0
		}
	}
	return 0, false
}
