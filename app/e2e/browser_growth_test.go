package e2e

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"

	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// A holding is what an open tab and the server hold on to.
type holding struct {
	updates  int // parts that were replaced since the tab was opened
	nodes    int64
	page     int64 // of them, those that stand in the page
	handlers int64
	heap     float64 // bytes of the tab's scripts
	server   uint64  // bytes of this process, which the node is a part of
}

func (h holding) String() string {
	return fmt.Sprintf("%d parts replaced, %d nodes (%d in the page), %d listeners, %.0f KiB of heap, server %d KiB", h.updates, h.nodes, h.page, h.handlers, h.heap/1024, h.server>>10)
}

// holds says what an open tab holds for good: the least of twelve readings, four
// renderings apart. Chromium now and then keeps the parts of one replaced rendering, five
// hundred nodes and four listeners, for up to two seconds; a leak is in every reading.
func (b *browser) holds() holding {
	b.t.Helper()
	least := b.reading()
	for range 11 {
		b.replaced(4, 10*time.Second)
		h := b.reading()
		least.updates = h.updates
		least.nodes, least.page = min(least.nodes, h.nodes), min(least.page, h.page)
		least.handlers, least.heap = min(least.handlers, h.handlers), min(least.heap, h.heap)
		least.server = min(least.server, h.server)
	}
	return least
}

// reading collects garbage on both sides and counts what is left.
func (b *browser) reading() (h holding) {
	b.t.Helper()
	b.eval(`updates`, &h.updates)
	b.eval(`(() => { let n = 1; for (const w = document.createTreeWalker(document); w.nextNode();) n++; return n })()`, &h.page)
	b.do("collect garbage and count", heapprofiler.CollectGarbage(), heapprofiler.CollectGarbage(), chromedp.ActionFunc(func(ctx context.Context) (err error) {
		if _, h.nodes, h.handlers, err = memory.GetDOMCounters().Do(ctx); err != nil {
			return err
		}
		metrics, err := performance.GetMetrics().Do(ctx)
		for _, m := range metrics {
			if m.Name == "JSHeapUsedSize" {
				h.heap = m.Value
			}
		}
		return err
	}))
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	h.server = mem.HeapAlloc
	return h
}

// replaced waits until so many more parts of the page have been replaced.
func (b *browser) replaced(more int, within time.Duration) {
	b.t.Helper()
	var from, now int
	b.eval(`updates`, &from)
	waitFor(within, func() bool {
		b.eval(`updates`, &now)
		return now >= from+more
	}, func() { b.t.Fatalf("got %d updates in %v, want %d", now-from, within, more) })
}

// TestATabLeftOpen leaves the Overview open for as many renderings as come in many
// minutes: they come twenty times as fast. Neither the tab nor the server may hold
// more at the end than after the first of them, when charts and lists have their
// full length.
func TestATabLeftOpen(t *testing.T) {
	renderings := number(t, "E2E_RENDERINGS", 400)
	n := apptest.Start(t, nil, app.WithPagesEvery(50*time.Millisecond))
	inhabit(t, n, 6)
	b := openBrowser(t, 2*time.Minute+time.Duration(renderings)*time.Second)
	b.signIn(n.URL, n.SignIn(account.Viewer))
	b.resize(desktop)
	b.do("measure the tab", performance.Enable())
	b.open(n.URL + "/")
	b.live()
	// What is swapped in counts once for each part; a rendering replaces several.
	b.eval(`window.updates = 0; document.addEventListener("htmx:sseBeforeMessage", (e) => { if (e.target.id === "tiles") updates++ }); true`, nil)
	b.replaced(80, time.Minute) // lines of a minute have 61 readings
	before := b.holds()
	b.replaced(renderings, 30*time.Second+time.Duration(renderings)*time.Second/2)
	after := b.holds()
	figure(t, "a tab left open: %v; then %v", before, after)
	if after.nodes > before.nodes+before.nodes/10+50 {
		t.Errorf("got %d DOM nodes after %d renderings, %d before", after.nodes, renderings, before.nodes)
	}
	if after.handlers > before.handlers+10 {
		t.Errorf("got %d listeners after %d renderings, %d before", after.handlers, renderings, before.handlers)
	}
	if after.heap > before.heap*1.15+256<<10 {
		t.Errorf("got %.0f bytes of heap in the tab after %d renderings, %.0f before", after.heap, renderings, before.heap)
	}
	b.check("a tab left open")

	// The node's own minutes of samples fill meanwhile; what it holds for the viewer is
	// what it gives back when the viewer goes.
	b.do("leave", chromedp.Navigate("about:blank"))
	waitFor(20*time.Second, func() bool { return n.App.Viewers() == 0 }, func() { t.Fatalf("%d viewers are left", n.App.Viewers()) })
	b.eval(`window.updates = 0`, nil)
	left := b.reading()
	figure(t, "the server held %d KiB for the viewer after %d renderings", (int64(after.server)-int64(left.server))>>10, renderings)
	if after.server > left.server+2<<20 {
		t.Errorf("the server holds %d bytes with a viewer of %d renderings, %d without", after.server, renderings, left.server)
	}
}
