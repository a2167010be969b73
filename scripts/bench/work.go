package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"agentnet/app/bench"
)

// A measure is one figure of a run.
type measure struct {
	name   string // with its unit
	higher bool   // more is better
	of     func(*bench.Report) float64
}

// A work is one kind of load that all servers are put to.
type work struct {
	name     string
	args     []string // of the load command
	serve    []string // more arguments for agentnet serve
	servers  []string // empty: all
	nodes    int      // several nodes with a Redis (NATS: routes of its own) between them; 0: one
	small    bool     // run centrifuge in its form for many idle connections
	measures []measure
}

// ungated lets everybody in at once, as the peers do. By itself the relay admits
// so many a second as leave those who are connected undisturbed (soak.sh storm
// measures that), which is what a storm would measure otherwise.
var ungated = []string{"--limits-connects-per-s=0"}

var (
	deliveriesPS = measure{"deliveries/s", true, func(r *bench.Report) float64 { return r.DeliveriesPS }}
	cpuDelivery  = measure{"server CPU µs a delivery", false, perDelivery}
	cpuMessage   = measure{"server CPU µs a message", false, perDelivery}
	latencyP99   = measure{"p99 ms", false, func(r *bench.Report) float64 {
		if len(r.Parts) == 0 {
			return 0
		}
		return r.Parts[0].Latency.P99 / 1000
	}}
	memoryEach = measure{"KB RSS a connection", false, func(r *bench.Report) float64 {
		if r.Memory == nil {
			return 0
		}
		return r.Memory.PerConnection / 1000
	}}
	idleCPU = measure{"server CPU % of a core", false, func(r *bench.Report) float64 {
		if r.CPU == nil {
			return 0
		}
		return 100 * r.CPU.Share
	}}
	connectsPS = measure{"connects/s", true, func(r *bench.Report) float64 { return r.Connect.PerS }}
	cpuConnect = measure{"server CPU µs a connect", false, func(r *bench.Report) float64 { return r.Connect.CPUMicros }}
)

// with counts in what the nodes' Redis used.
func (m measure) with() measure {
	return measure{m.name + ", Redis included", m.higher, func(r *bench.Report) float64 {
		if r.With == nil {
			return m.of(r)
		}
		return m.of(r) + r.With.PerDelivery
	}}
}

func perDelivery(r *bench.Report) float64 {
	if r.CPU == nil {
		return 0
	}
	return r.CPU.PerDelivery
}

// works are what is measured; quick makes all of it smaller and shorter.
func works(quick bool) []work {
	many, storm, length := 15_000, 10_000, 5*time.Second
	if quick {
		many, storm, length = 3_000, 3_000, 2*time.Second
	}
	n, d := strconv.Itoa, []string{"--duration", length.String()}
	load := func(args ...string) []string { return slices.Concat(args, d) }
	fast := []measure{deliveriesPS, cpuDelivery}
	paced := []measure{cpuDelivery, latencyP99}
	return []work{
		{name: "fan-out to 1,000, one under way", args: load("fanout", "--window", "1"), measures: fast},
		{name: "fan-out to 1,000, 8 under way", args: load("fanout", "--window", "8"), measures: fast},
		{name: "fan-out to 1,000, flat out (64 under way)", args: load("fanout", "--window", "64"), measures: fast},
		{name: "fan-out to 1,000, 50 messages/s", args: load("fanout", "--rate", "50"), measures: paced},
		{name: fmt.Sprintf("fan-out to %d, 3 messages/s", many), args: load("fanout", "-n", n(many), "--rate", "3"), measures: paced},
		{name: "ping-pong, 200 pairs", args: load("direct"), measures: []measure{cpuMessage, deliveriesPS, latencyP99}},
		{name: "request and reply, 200 pairs", args: load("request"), servers: []string{"agentnet"}, measures: []measure{cpuMessage, deliveriesPS, latencyP99}},
		{name: fmt.Sprintf("idle, %d connections with one subscription", many), args: load("idle", "-n", n(many), "--subscribe", "--settle", "3s"), small: true,
			measures: []measure{memoryEach, idleCPU}},
		{name: fmt.Sprintf("idle, %d connections, inbox only", many), args: load("idle", "-n", n(many), "--settle", "3s"), servers: []string{"agentnet"},
			measures: []measure{memoryEach, idleCPU}},
		{name: "two nodes, ping-pong across, 200 pairs", args: load("direct"), nodes: 2, measures: []measure{cpuMessage.with(), cpuMessage, deliveriesPS, latencyP99}},
		{name: "two nodes, 20,000 messages/s across, 1,000 pairs", args: load("direct", "--pairs", "1000", "--rate", "20000"), nodes: 2,
			measures: []measure{cpuMessage.with(), cpuMessage, deliveriesPS, latencyP99}},
		{name: "two nodes, fan-out to 500 on each, 50 messages/s", args: load("fanout", "--rate", "50"), nodes: 2, measures: []measure{cpuDelivery.with(), latencyP99}},
		{name: "two nodes, fan-out to 500 on each, 64 under way", args: load("fanout", "--window", "64"), nodes: 2, measures: []measure{deliveriesPS, cpuDelivery.with()}},
		{name: fmt.Sprintf("connect storm, %d", storm), args: []string{"connect", "-n", n(storm)}, serve: ungated, measures: []measure{connectsPS, cpuConnect}},
	}
}

// runs says whether server takes part in the work.
func (w *work) runs(server string) bool {
	return len(w.servers) == 0 || slices.Contains(w.servers, server)
}

// median is the middle one of values; the lower of the two where there is none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
