package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/cluster/redistest"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// observe notes in each new page when its largest part was painted, what moved
// without a hand, and how long after each click or key the next picture came.
const observe = `window.seen = { lcp: 0, cls: 0, inp: 0, hands: new Set(), slowest: "", shifts: [] };
	const placed = (s) => [s.node?.nodeName, s.node?.id, s.node?.className?.baseVal ?? s.node?.className].filter(Boolean).join(".") + " " + s.previousRect.y + "+" + s.previousRect.height + " to " + s.currentRect.y + "+" + s.currentRect.height;
	new PerformanceObserver(l => { for (const e of l.getEntries()) seen.lcp = Math.max(seen.lcp, e.startTime) }).observe({ type: "largest-contentful-paint", buffered: true });
	new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) { seen.cls += e.value; if (seen.shifts.length < 5) seen.shifts.push(Math.round(e.startTime) + " ms: " + e.value.toFixed(3) + " by " + e.sources.map(placed).join(", ")) } }).observe({ type: "layout-shift", buffered: true });
	new PerformanceObserver(l => { for (const e of l.getEntries()) if (e.interactionId) { seen.hands.add(e.interactionId); if (e.duration > seen.inp) { seen.inp = e.duration; seen.slowest = e.name + " " + (e.target?.tagName ?? "") + ", " + Math.round(e.processingStart - e.startTime) + " ms until its script, which took " + Math.round(e.processingEnd - e.processingStart) } } }).observe({ type: "event", durationThreshold: 16, buffered: true });`

// A pace is how a page felt: milliseconds but for the shift.
type pace struct {
	LCP, CLS, INP float64
	Hands         int // interactions that took 16 ms or more
	Weight        int // compressed bytes of the page and all that it loads
	Slowest       string
	Shifts        []string // the first five, each with when and what moved from where to where
	done          int      // interactions in all
}

// use does by real input what can be done on a page without leaving it: keys that
// move the focus, letters into the filter and the fields, clicks on what unfolds,
// sliders, the zoom of trends. It says how many there were.
func (b *browser) use() (done int) {
	b.t.Helper()
	act := func(what string, actions ...chromedp.Action) {
		b.do(what, append(actions, chromedp.Sleep(60*time.Millisecond))...)
		done++
	}
	for range 4 {
		act("move the focus", chromedp.KeyEvent("\t"))
	}
	act("click on nothing", chromedp.ActionFunc(func(ctx context.Context) error {
		return chromedp.MouseClickXY(float64(b.screen.width)-40, float64(b.screen.height)-20).Do(ctx)
	}))
	b.do("choose what to use", chromedp.Evaluate(`{
		const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 1;
		for (const [name, list] of Object.entries({ summary: document.querySelectorAll("main summary"), field: document.querySelectorAll("main input:not([type]), main input[type=text], main input[type=search], main textarea"), range: document.querySelectorAll("main input[type=range]"), zoom: document.querySelectorAll("#zoomer") }))
			[...list].filter(shown).slice(0, 2).forEach((e) => e.setAttribute("data-use", name));
	} true`, nil))
	for _, kind := range []string{"summary", "field", "range", "zoom"} {
		for i := range 2 {
			// A live page may have replaced what was marked: its place is asked for now.
			var at []float64
			b.eval(fmt.Sprintf(`{
				const e = document.querySelectorAll("[data-use=%s]")[%d];
				e?.scrollIntoView({ block: "center", behavior: "instant" });
				const r = e?.getBoundingClientRect();
				r ? [r.x + r.width / 2, r.y + r.height / 2] : [];
			}`, kind, i), &at)
			if len(at) == 0 {
				break
			}
			act("click on "+kind, chromedp.MouseClickXY(at[0], at[1]))
			switch kind {
			case "field":
				for _, letter := range "abc" {
					act("type", chromedp.KeyEvent(string(letter)))
				}
			case "range":
				act("push a slider", input.DispatchKeyEvent(input.KeyDown).WithKey("ArrowRight").WithCode("ArrowRight").WithWindowsVirtualKeyCode(39),
					input.DispatchKeyEvent(input.KeyUp).WithKey("ArrowRight").WithCode("ArrowRight").WithWindowsVirtualKeyCode(39))
			}
		}
	}
	return done
}

// pace loads a page without a cache, watches it live, uses it, and says how it was.
func (b *browser) pace(url string) (p pace) {
	b.t.Helper()
	b.do("forget", network.ClearBrowserCache())
	b.open(url)
	b.live()
	b.do("watch for a while", chromedp.Sleep(1200*time.Millisecond))
	b.eval(`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((n, e) => n + e.encodedBodySize, 0)`, &p.Weight)
	weight, done := p.Weight, b.use()
	b.do("let the last picture come", chromedp.Sleep(300*time.Millisecond))
	b.eval(`({ LCP: seen.lcp, CLS: seen.cls, INP: seen.inp, Hands: seen.hands.size, Slowest: seen.slowest, Shifts: seen.shifts })`, &p)
	p.Weight, p.done = weight, done
	return p
}

// TestPagesWithALongHistory measures each page of a fleet that has a past: its
// weight, how soon its largest part is painted (LCP), what moves by itself (CLS) and
// how soon it answers clicks and keys (INP). Each is the median of some rounds. The
// bounds hold in the long form, where nothing else should run; the short one has a
// tenth of the data and only sees to it that nothing is out of all proportion.
func TestPagesWithALongHistory(t *testing.T) {
	days, nodes, rounds := number(t, "E2E_DAYS", 3), number(t, "E2E_NODES", 2), number(t, "E2E_ROUNDS", 1)
	slack := 5.0
	if long() {
		slack = 1
	}
	dir := t.TempDir()
	began := time.Now()
	fill(t, dir, days, nodes)
	n, size := startWithPast(t, dir, nodes)
	figure(t, "%d days of %d nodes: %d MiB of samples and log, written in %.0f s; all nodes run, with 40 agents", days, nodes, size>>20, time.Since(began).Seconds())
	inhabit(t, n, 40)
	b := openBrowser(t, 5*time.Minute+time.Duration(rounds)*5*time.Minute)
	b.signIn(n.URL, n.SignIn(account.Admin))
	b.resize(desktop)
	b.do("measure from the start", chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(observe).Do(ctx)
		return err
	}))
	b.open(n.URL + "/") // what is made once is made
	for _, path := range append([]string{"/?range=30d", "/trends?range=24h", "/trends?range=30d", "/trends?range=400d", "/trends?range=400d&node=n1", "/capacity?range=30d", "/log?range=30d", "/agents?agent=lab/worker-01", "/alerts?rule=cpu_warning"}, consolePages...) {
		var all []pace
		for range rounds {
			all = append(all, b.pace(n.URL+path))
		}
		judge(t, path, all, slack)
		b.check(path)
	}
}

// judge reports the medians of one page, and fails the test when one is too high.
func judge(t *testing.T, path string, all []pace, slack float64) {
	t.Helper()
	median := func(of func(pace) float64) float64 {
		var list []float64
		for _, p := range all {
			list = append(list, of(p))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	lcp, cls, inp := median(func(p pace) float64 { return p.LCP }), median(func(p pace) float64 { return p.CLS }), median(func(p pace) float64 { return p.INP })
	weight := median(func(p pace) float64 { return float64(p.Weight) })
	felt := fmt.Sprintf("INP %.0f ms", inp)
	if inp == 0 {
		felt = "INP under 16 ms"
	}
	if inp > 100 {
		felt += " (" + all[0].Slowest + ")"
	}
	figure(t, "`%s`: %.1f KB compressed, LCP %.0f ms, %s of %d interactions, CLS %.3f", path, weight/1000, lcp, felt, all[0].done, cls)
	most := 100_000.0
	if path == "/" {
		most = 60_000
	}
	if weight < 1000 || weight > most {
		t.Errorf("%s: got %.0f bytes compressed, want 1000 to %.0f", path, weight, most)
	}
	if lcp == 0 || lcp > 2000*slack || cls > 0.1 || inp > 200*slack {
		t.Errorf("%s: got LCP %.0f ms, INP %.0f ms (%s), CLS %.3f (%s), want at most %.0f, %.0f and 0.1", path, lcp, inp, all[0].Slowest, cls, strings.Join(all[len(all)-1].Shifts, "; "), 2000*slack, 200*slack)
	}
}

// startWithPast starts the first node on a directory with a past, and further ones
// beside it, over one Redis.
func startWithPast(t *testing.T, dir string, nodes int) (first *apptest.Node, size int64) {
	t.Helper()
	url := redistest.Single(t).URL()
	for i := range nodes {
		n := apptest.Start(t, func(c *app.Config) {
			c.Redis, c.Node = url, fmt.Sprintf("n%d", i+1)
			if i == 0 {
				c.Data = dir
			}
		})
		if i == 0 {
			first = n
		}
	}
	return first, folderSize(t, dir)
}
