package scale

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// tree writes files below a folder of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// machine is the part of every tree that is the same: 8 GB, 100 MB resident,
// 10 pages of TCP buffers, 4 of 64 descriptors.
func machine(extra map[string]string) map[string]string {
	files := map[string]string{
		"proc/self/stat":    "42 (a (strange) name) S 1 42 42 0 -1 4194560 1 0 0 0 300 100 0 0 20 0 9 0 100 1000 100 18446744073709551615 0 0",
		"proc/self/status":  "Name:\tagentnet\nVmRSS:\t  102400 kB\nThreads:\t9\n",
		"proc/meminfo":      "MemTotal:        8000000 kB\nMemFree:  1 kB\n",
		"proc/net/sockstat": "sockets: used 9\nTCP: inuse 3 orphan 0 tw 0 alloc 5 mem 10\nUDP: inuse 1 mem 7\n",
		"proc/self/limits":  "Limit                     Soft Limit           Hard Limit           Units\nMax open files            64                   4096                 files\n",
		"proc/self/fd/0":    "", "proc/self/fd/1": "", "proc/self/fd/2": "", "proc/self/fd/7": "",
	}
	maps.Copy(files, extra)
	return files
}

func TestHost(t *testing.T) {
	page := float64(os.Getpagesize())
	const v1Unlimited = "9223372036854771712\n"
	tests := []struct {
		name                       string
		files                      map[string]string
		processors                 float64
		limit, used, kernel, share float64
	}{
		{"no control groups", machine(nil), 4, 8e6 * 1024, 102400*1024 + 10*page, 10 * page, 0},
		{"version 2, container", machine(map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000000\n", "sys/fs/cgroup/memory.current": "700000000\n",
			"sys/fs/cgroup/memory.stat": "anon 500000000\nsock 50000000\ninactive_file 100000000\n", "sys/fs/cgroup/cpu.max": "150000 100000\n",
		}), 1.5, 1e9, 6e8, 5e7, 0},
		{"version 2, the outer group is tighter", machine(map[string]string{
			"proc/self/cgroup":                                           "0::/system.slice/agentnet.service\n",
			"sys/fs/cgroup/system.slice/memory.max":                      "500000000\n",
			"sys/fs/cgroup/system.slice/memory.current":                  "400000000\n",
			"sys/fs/cgroup/system.slice/memory.stat":                     "sock 1000\ninactive_file 0\n",
			"sys/fs/cgroup/system.slice/cpu.max":                         "max 100000\n",
			"sys/fs/cgroup/system.slice/agentnet.service/memory.max":     "max\n",
			"sys/fs/cgroup/system.slice/agentnet.service/memory.current": "300000000\n",
			"sys/fs/cgroup/system.slice/agentnet.service/cpu.max":        "50000 100000\n",
		}), 0.5, 5e8, 4e8, 1000, 0},
		{"version 2, no limit", machine(map[string]string{
			"proc/self/cgroup": "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "max\n", "sys/fs/cgroup/user.slice/memory.current": "7\n",
		}), 4, 8e6 * 1024, 102400*1024 + 10*page, 10 * page, 0},
		{"version 1, container", machine(map[string]string{
			"proc/self/cgroup":                                    "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":          "2000000000\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":          "900000000\n",
			"sys/fs/cgroup/memory/memory.stat":                    "total_inactive_file 100000000\n",
			"sys/fs/cgroup/memory/memory.kmem.tcp.usage_in_bytes": "30000000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":          "200000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":         "100000\n",
		}), 2, 2e9, 8.3e8, 3e7, 0},
		{"version 1, no limit", machine(map[string]string{
			"proc/self/cgroup": "4:memory:/\n2:cpu:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": v1Unlimited,
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}), 4, 8e6 * 1024, 102400*1024 + 10*page, 10 * page, 0},
		{"a limit above the machine", machine(map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "99000000000000\n", "sys/fs/cgroup/memory.current": "5\n",
		}), 4, 8e6 * 1024, 102400*1024 + 10*page, 10 * page, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.files)
			h := NewHost(root, 4)
			if got := h.Processors(); got != tt.processors {
				t.Errorf("got %v processors, want %v", got, tt.processors)
			}
			var r Readings
			if err := h.Read(start, &r); err != nil {
				t.Fatal(err)
			}
			if r[CPU].State != Missing {
				t.Errorf("got %+v after one reading, want no processor share", r[CPU])
			}
			// 2 more seconds of processor time within 4 seconds.
			stat := strings.Replace(tt.files["proc/self/stat"], " 300 100 ", " 450 150 ", 1)
			if err := os.WriteFile(filepath.Join(root, "proc/self/stat"), []byte(stat), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := h.Read(start.Add(4*time.Second), &r); err != nil {
				t.Fatal(err)
			}
			for s, want := range map[Signal]float64{CPU: min(0.5/tt.processors, 1), MemoryLimit: tt.limit, MemoryBytes: tt.used,
				Memory: tt.used / tt.limit, KernelMemory: tt.kernel / tt.limit, Descriptors: 4.0 / 64} {
				if got, ok := r.Get(s); !ok || math.Abs(got-want) > 1e-9*math.Max(1, want) {
					t.Errorf("%v: got %v (%v), want %v", s, got, r[s].State, want)
				}
			}
		})
	}
}

// TestHostBroken leaves files out or breaks them: what cannot be read is missing,
// and the rest is there.
func TestHostBroken(t *testing.T) {
	tests := []struct {
		name, file, text string // an empty text removes the file
		missing          Signal
		there            Signal
	}{
		{"no stat", "proc/self/stat", "", CPU, Memory},
		{"short stat", "proc/self/stat", "42 (x) S 1", CPU, Memory},
		{"stat of words", "proc/self/stat", strings.Repeat("x ) ", 30), CPU, Memory},
		{"no status", "proc/self/status", "", Memory, MemoryLimit},
		{"status of words", "proc/self/status", "VmRSS: many kB", Memory, Descriptors},
		{"no meminfo", "proc/meminfo", "", MemoryLimit, Descriptors},
		{"no limits", "proc/self/limits", "", Descriptors, Memory},
		{"limits unlimited", "proc/self/limits", "Max open files unlimited unlimited files", Descriptors, Memory},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := machine(map[string]string{tt.file: tt.text})
			if tt.text == "" {
				delete(files, tt.file)
			}
			h := NewHost(tree(t, files), 2)
			var r Readings
			if err := h.Read(start, &r); err == nil || !strings.Contains(err.Error(), tt.file) {
				t.Errorf("got %v, want an error that names %s", err, tt.file)
			}
			if r[tt.missing].State != Missing || r[tt.there].State != Fresh {
				t.Errorf("got %v %+v and %v %+v, want the first missing and the second fresh", tt.missing, r[tt.missing], tt.there, r[tt.there])
			}
		})
	}
}

// TestHostReal reads this machine.
func TestHostReal(t *testing.T) {
	h := NewHost("/", runtime.NumCPU())
	var r Readings
	if err := h.Read(time.Now(), &r); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(50 * time.Millisecond); time.Now().Before(deadline); {
		// Burn a little, so that there is something to measure.
	}
	if err := h.Read(time.Now(), &r); err != nil {
		t.Fatal(err)
	}
	if cpu, ok := r.Get(CPU); !ok || cpu > 1 {
		t.Errorf("got a processor share of %v, want one up to 1", cpu)
	}
	if m, ok := r.Get(Memory); !ok || m <= 0 || m > 1 {
		t.Errorf("got a memory share of %v, want one between 0 and 1", m)
	}
	if b, _ := r.Get(MemoryBytes); b < 1e6 {
		t.Errorf("got %v bytes in use, want those of a Go process", b)
	}
	if d, ok := r.Get(Descriptors); !ok || d <= 0 {
		t.Errorf("got a descriptor share of %v, want some", d)
	}
}
