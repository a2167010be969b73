package e2e

import (
	"os"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// An examiner has axe look at pages.
type examiner struct {
	*browser
	axe string
}

// look examines the page that is open: nothing serious may be in the way of somebody
// who does not see, hear or point.
func (x *examiner) look(where string) {
	x.t.Helper()
	x.do("load axe", chromedp.Evaluate(x.axe, nil))
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	x.do("run axe", chromedp.Evaluate(`axe.run({resultTypes: ["violations"]}).then(r => r.violations.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 3).map(n => ({html: n.html.slice(0, 200), failureSummary: n.failureSummary}))})))`,
		&found, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	for _, v := range found {
		if v.Impact != "serious" && v.Impact != "critical" {
			x.t.Logf("%s: %s (%s): %s", where, v.ID, v.Impact, v.Help)
			continue
		}
		x.t.Errorf("%s: %s (%s): %s: %+v", where, v.ID, v.Impact, v.Help, v.Nodes)
	}
	x.check(where)
}

// everyWay opens pages light and dark, at a desk and on the smallest phone.
func (x *examiner) everyWay(url string, paths ...string) {
	x.t.Helper()
	for _, s := range []screen{desktop, small} {
		x.resize(s)
		for _, scheme := range []string{"light", "dark"} {
			x.colours(scheme)
			for _, path := range paths {
				x.do("open "+path, chromedp.Navigate(url+path), chromedp.WaitReady("main"))
				x.look(s.name + " " + scheme + " " + path)
			}
		}
	}
}

// TestPagesForEverybody looks at every page in both colours and two sizes: those of
// the console, those before the sign-in, the public status and refusals.
func TestPagesForEverybody(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	n := apptest.Start(t, func(c *app.Config) { c.PublicPage = true })
	setup := n.App.SetupPath()
	x := &examiner{openBrowser(t, 8*time.Minute), string(axe)}
	x.expect("404")
	x.everyWay(n.URL, setup, "/setup/no-such-link", "/login", "/status")

	n.Account("vic", account.Viewer)
	inhabit(t, n, 4)
	x.signIn(n.URL, n.SignIn(account.Admin))
	x.everyWay(n.URL, append([]string{"/agents?agent=lab/worker-01", "/alerts?rule=cpu_warning", "/no/such/page"}, consolePages...)...)

	x.expect("403")
	x.do("forget the admin", network.ClearBrowserCookies())
	x.everyWay(n.URL, "/")
	x.signIn(n.URL, apptest.SignIn(t, n, "vic"))
	x.everyWay(n.URL, "/", "/access")
}
