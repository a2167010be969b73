//go:build linux

package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A load is a running load generator.
type load struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startLoad(b *testing.B, n *node, conns, rounds int) *load {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	l := &load{cmd: exec.Command(exe)}
	l.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", loadJob, n.addr, conns, rounds))
	l.cmd.Stderr = os.Stderr
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	l.expect(b, "open\n")
	return l
}

func (l *load) expect(b *testing.B, want string) {
	if got, err := l.out.ReadString('\n'); got != want {
		b.Fatalf("load generator: got %q and %v, want %q", got, err, want)
	}
}

func (l *load) stop(b *testing.B) {
	l.in.Close()
	if err := l.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkIdle measures what 5,000 connections that do nothing cost.
func BenchmarkIdle(b *testing.B) {
	const conns = 5000
	for b.Loop() {
		n := startNode(b, false)
		settle()
		before := resident(b)
		begin, cpu := time.Now(), cpuTime(b)
		l := startLoad(b, n, conns, 0)
		b.ReportMetric(float64(conns)/time.Since(begin).Seconds(), "connects/s")
		b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/conns, "cpu-µs/connect")
		until(b, "all are connected", func() bool { return n.srv.Stats().Connections == conns })
		settle()
		b.ReportMetric(float64(resident(b)-before)/conns, "RSS-bytes/conn")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		l.stop(b)
	}
}

// BenchmarkEcho measures the processor time of the server for one message in and
// one out, on 200 connections.
func BenchmarkEcho(b *testing.B) {
	const conns, rounds = 200, 1000
	for b.Loop() {
		n := startNode(b, false)
		l := startLoad(b, n, conns, rounds)
		begin, cpu := time.Now(), cpuTime(b)
		io.WriteString(l.in, "\n")
		l.expect(b, "done\n")
		b.ReportMetric(conns*rounds/time.Since(begin).Seconds(), "msgs/s")
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/(conns*rounds), "cpu-ns/msg")
		l.stop(b)
	}
}

func settle() {
	runtime.GC()
	debug.FreeOSMemory()
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func resident(b *testing.B) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range bytes.Split(status, []byte("\n")) {
		if v, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(string(v), " kB")))
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// BenchmarkUnmask guards the speed of the one pass over every byte that comes in.
func BenchmarkUnmask(b *testing.B) {
	p := make([]byte, 4096)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		unmask(p, 0x12345678)
	}
}
