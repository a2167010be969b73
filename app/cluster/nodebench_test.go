//go:build unix

package cluster

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
	"agentnet/app/relay"
)

// A sink counts parcels.
type sink struct {
	recorder
	parcels atomic.Int64
}

func (s *sink) Receive(_ string, parcels [][]byte) { s.parcels.Add(int64(len(parcels))) }
func (s *sink) Joined(string)                      {}
func (s *sink) Left(string, bool)                  {}
func (s *sink) Lost(string, uint64)                {}

// BenchmarkPost carries parcels of 256 bytes from one node to another over one
// redis-server, as fast as they go. CPU is that of both nodes (which are in this
// process) and that of Redis, for each parcel.
//
//	go test -run '^$' -bench Post -benchtime 2000000x ./app/cluster
func BenchmarkPost(b *testing.B) {
	for _, size := range []int{64, 256, 1024} {
		b.Run(strconv.Itoa(size), func(b *testing.B) { benchPost(b, size, 0) })
	}
}

// BenchmarkPostPaced carries 20,000 parcels a second, the whole-fleet aim, one by
// one.
//
//	go test -run '^$' -bench Paced -benchtime 100000x ./app/cluster
func BenchmarkPostPaced(b *testing.B) { benchPost(b, 256, 20_000) }

func benchPost(b *testing.B, size, rate int) {
	r := redistest.Single(b)
	start := func(name string) (*Node, *sink, relay.Fleet) {
		n, err := New(b.Context(), Config{Name: name, Region: "local", URL: r.URL(), Lease: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		s := &sink{}
		f := n.Fleet(s)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		b.Cleanup(func() {
			cancel()
			<-ended
			n.Close()
		})
		return n, s, f
	}
	_, _, from := start("a")
	_, to, _ := start("b")
	eventually(b, 10*time.Second, func() bool { return len(from.Nodes(nil)) == 1 })
	p := make([]byte, size)
	used, redisUsed := processor(), redisProcessor(r)
	begin := time.Now()
	b.ResetTimer()
	for i := range b.N {
		if rate > 0 {
			for time.Since(begin) < time.Duration(i)*time.Second/time.Duration(rate) {
				time.Sleep(50 * time.Microsecond)
			}
		}
		for !from.Post("b", p) {
			time.Sleep(100 * time.Microsecond)
		}
	}
	eventually(b, time.Minute, func() bool { return to.parcels.Load() == int64(b.N) })
	took := time.Since(begin)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/took.Seconds(), "parcels/s")
	b.ReportMetric(float64((processor()-used).Nanoseconds())/float64(b.N)/1000, "node-µs/parcel")
	b.ReportMetric(float64((redisProcessor(r)-redisUsed).Nanoseconds())/float64(b.N)/1000, "redis-µs/parcel")
}

// processor is what this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // only fails for a wrong argument
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// redisProcessor is what a server has used.
func redisProcessor(r *redistest.Server) time.Duration {
	var sum float64
	for _, field := range []string{"used_cpu_sys", "used_cpu_user"} {
		v, _ := strconv.ParseFloat(strings.TrimSpace(r.Info(field)), 64)
		sum += v
	}
	return time.Duration(sum * float64(time.Second))
}

// BenchmarkJoin lets a node join one that hosts 200,000 agents and 20,000 channels,
// and waits until it is ready.
//
//	go test -run '^$' -bench Join -benchtime 3x ./app/cluster
func BenchmarkJoin(b *testing.B) {
	s := &store{config: BrokerConfig{URL: redistest.Single(b).URL()}}
	first := startNode(b, nodeConfig(b, s, "first"))
	for i := range 200_000 {
		first.fleet.AgentHere("customer/"+strconv.Itoa(i), "available", 1)
	}
	for i := range 20_000 {
		first.fleet.ChannelHere("room/" + strconv.Itoa(i))
	}
	settle(b, first)
	b.ResetTimer()
	for i := range b.N {
		m := startNode(b, nodeConfig(b, s, "second"+strconv.Itoa(i)))
		settle(b, m, first)
		if st := m.Stats(); st.Agents != 200_000 || st.Channels != 20_000 {
			b.Fatalf("it knows of %d agents and %d channels", st.Agents, st.Channels)
		}
		b.StopTimer()
		m.stop()
		eventually(b, 5*time.Second, func() bool { return first.Stats().Nodes == 0 })
		b.StartTimer()
	}
}
