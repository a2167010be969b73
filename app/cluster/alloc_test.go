//go:build !race

package cluster

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// TestNoAllocations guards the calls that the relay makes for each message.
func TestNoAllocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newSimFleet(t, 1, 2)
		a, b := f.nodes[0], f.nodes[1]
		a.fleet.AgentHere("alice", wire.Available, 1)
		a.fleet.ChannelHere("news")
		b.fleet.ChannelHere("news")
		time.Sleep(5 * time.Second)
		if _, err := b.fleet.Claim(t.Context(), "news", "E"); err != nil {
			t.Fatal(err)
		}
		hosts, nodes := make([]relay.Host, 0, 4), make([]string, 0, 4)
		calls := map[string]func(){
			"Hosts":      func() { hosts = b.fleet.Hosts(hosts[:0], "alice") },
			"Hosts none": func() { hosts = b.fleet.Hosts(hosts[:0], "nobody") },
			"Interested": func() { nodes = b.fleet.Interested(nodes[:0], "news") },
			"Claim":      func() { b.fleet.Claim(t.Context(), "news", "E") },
		}
		for name, call := range calls {
			if n := testing.AllocsPerRun(1000, call); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
		if len(b.fleet.Hosts(nil, "alice")) != 1 || len(b.fleet.Interested(nil, "news")) != 1 {
			t.Error("the other node is not known")
		}
		var o outbox
		o.wake = make(chan struct{}, flights)
		o.reset(&link{}, appendHeader(nil, "a", 1, 1, 2))
		p := make([]byte, 200)
		post := func() {
			for range 1000 {
				o.push(TopicRelay, p)
			}
			for batch, _, _ := o.take(); batch != nil; batch, _, _ = o.take() {
				o.ack(1 << 60)
				o.acked = o.sent
				o.recycle(batch)
			}
			o.asleep = 0 // nobody waits here
		}
		post()
		if n := testing.AllocsPerRun(100, post); n > 20 {
			t.Errorf("1000 parcels take %v allocations, want a few for their batches", n)
		}
		a.stop()
		b.stop()
	})
}

// TestInterestMemory states what one agent of another node costs in the table.
func TestInterestMemory(t *testing.T) {
	const agents = 200_000
	names := make([]string, agents)
	for i := range names {
		names[i] = fmt.Sprintf("customer-%06d/agent", i)
	}
	var before, after runtime.MemStats
	var in table
	runtime.GC()
	runtime.ReadMemStats(&before)
	in.init()
	for i, name := range names {
		in.set(string([]byte(name)), host{slot: uint16(1 + i%10), sessions: 1})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / agents
	t.Logf("%.0f bytes an agent (its name has %d), %.1f MiB for %d", each, len(names[0]), float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), agents)
	if each > 160 {
		t.Errorf("%.0f bytes an agent, want 160 at most", each)
	}
	if got := in.size(); got != agents {
		t.Errorf("%d entries, want %d", got, agents)
	}
	runtime.KeepAlive(names)
}
