//go:build linux

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// TestStorm cuts all agents of a crowd at once and lets them come back, while
// others talk on.
func TestStorm(t *testing.T) {
	clients := number(t, "E2E_CLIENTS", 1500)
	pairs := number(t, "E2E_PAIRS", 20)
	calm := time.Duration(number(t, "E2E_CALM_SECONDS", 2)) * time.Second
	perSecond, burst := number(t, "E2E_CONNECTS_PER_S", 500), number(t, "E2E_CONNECTS_BURST", 200)
	p := newHouse(t, fmt.Sprintf("drain: {window: 200ms}\nsession: {resume: 90s}\nlimits: {connects_per_s: %d, connects_burst: %d}\nlog: {level: warn, format: text}\n", perSecond, burst)).start()
	base := p.baseline()
	base.resumable = true
	started := time.Now()
	talk := &conversation{class: wire.Normal, started: started, took: &latencies{}}
	var working sync.WaitGroup
	for i := range pairs {
		talk.talk(p, i, 100*time.Millisecond, &working)
	}
	c := gather(t, p, clients)
	time.Sleep(time.Second)
	talk.took.take()
	time.Sleep(calm)
	before, quiet := p.usage(), talk.took.take()
	c.refused.Store(0)
	c.noHint.Store(0)
	c.failed.Store(0)

	begun := time.Now()
	c.cutAll()
	waitFor(patience, func() bool { return int(c.connected.Load()) < clients/2 || c.refused.Load() > 0 }, func() { t.Error("the cut was not noticed") })
	c.back(t, 2*time.Minute)
	took := time.Since(begun)
	storm := talk.took.take()
	time.Sleep(calm)
	settled, soon := talk.took.take(), p.usage()
	after := soon // what the upgrades needed is given back by and by
	waitFor(45*time.Second, func() bool { after = p.usage(); return after.rss <= before.rss+before.rss/4+16<<20 }, func() {})
	returned := time.Since(begun) - took
	s := p.stats()

	if n := c.fresh.Load(); n > 0 {
		t.Errorf("%d agents came back without their session", n)
	}
	if n := c.noHint.Load(); n > 0 {
		t.Errorf("%d refusals were not 503 with Retry-After", n)
	}
	if talk.closed.Load() > 0 || talk.refused.Load() > 0 {
		t.Errorf("of those that stayed %d were closed and %d messages refused", talk.closed.Load(), talk.refused.Load())
	}
	counted := uint64(0)
	for _, n := range s.Counters.Refused {
		counted += n
	}
	if refused := c.refused.Load(); refused == 0 || counted < uint64(refused) {
		t.Errorf("%d agents were told to come later (the relay counts %v): no storm", refused, s.Counters.Refused)
	}
	if grown, allowed := after.rss-before.rss, before.rss/4+16<<20; !raced() && grown > allowed {
		t.Errorf("memory grew by %d MiB in the storm, from %d MiB", grown>>20, before.rss>>20)
	}
	if long() && storm.at(.99) > max(200*time.Millisecond, 3*quiet.at(.99)) {
		t.Errorf("those that stayed: p99 %v in the storm, %v before", storm.at(.99), quiet.at(.99))
	}
	figure(t, "%d agents cut at once, %d connects a second allowed (burst %d): all back and resumed after %v; %d upgrades refused with 503 and Retry-After, %d attempts failed otherwise",
		clients, perSecond, burst, took.Round(10*time.Millisecond), c.refused.Load(), c.failed.Load())
	figure(t, "%d pairs that stayed, 10 messages a second each: before %v; in the storm %v; after %v", pairs, quiet, storm, settled)
	figure(t, "relay: RSS %d MiB before, %d MiB %v after, %d MiB %v after; CPU of the storm %v; delivery inside the relay p99 %.2f ms; level %s", before.rss>>20, soon.rss>>20, calm, after.rss>>20, returned.Round(time.Second), soon.cpu-before.cpu, s.Delivery.P99MS, s.Level)

	talk.stopping.Store(true)
	working.Wait()
	if talk.got.Load() != talk.sent.Load() {
		t.Errorf("those that stayed sent %d messages and got %d", talk.sent.Load(), talk.got.Load())
	}
	c.leave()
	base.returned(30 * time.Second)
	p.stop(40 * time.Second)
}
