//go:build linux

package e2e

import (
	"fmt"
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
	talk := talkApart(t, p, pairs, 100*time.Millisecond, wire.Normal)
	c := gather(t, p, clients)
	time.Sleep(time.Second)
	talk.take()
	time.Sleep(calm)
	before, quiet := p.usage(), talk.take().Took
	c.refused.Store(0)
	c.noHint.Store(0)
	c.failed.Store(0)

	begun := time.Now()
	c.cutAll()
	waitFor(patience, func() bool { return int(c.connected.Load()) < clients/2 || c.refused.Load() > 0 }, func() { t.Error("the cut was not noticed") })
	c.back(t, 2*time.Minute)
	took := time.Since(begun)
	storm := talk.take().Took
	time.Sleep(calm)
	settled, soon := talk.take().Took, p.usage()
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
	if r := talk.end(); r.Closed > 0 || r.Refused > 0 || r.Got != r.Sent {
		t.Errorf("those that stayed sent %d messages and got %d; %d were refused and %d connections closed", r.Sent, r.Got, r.Refused, r.Closed)
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
	if long() && storm.at(.99) > max(60*time.Millisecond, 3*quiet.at(.99)) {
		t.Errorf("those that stayed: p99 %v in the storm, %v before", storm.at(.99), quiet.at(.99))
	}
	figure(t, "%d agents cut at once, %d connects a second allowed (burst %d): all back and resumed after %v; %d upgrades refused with 503 and Retry-After, %d attempts failed otherwise",
		clients, perSecond, burst, took.Round(10*time.Millisecond), c.refused.Load(), c.failed.Load())
	figure(t, "%d pairs that stayed, 10 messages a second each: before %v; in the storm %v; after %v", pairs, quiet, storm, settled)
	figure(t, "relay: RSS %d MiB before, %d MiB %v after, %d MiB %v after; CPU of the storm %v; delivery inside the relay p99 %.2f ms; level %s", before.rss>>20, soon.rss>>20, calm, after.rss>>20, returned.Round(time.Second), soon.cpu-before.cpu, s.Delivery.P99MS, s.Level)

	c.leave()
	base.returned(30 * time.Second)
	p.stop(40 * time.Second)
}
