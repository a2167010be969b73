package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/cluster/redistest"

	"github.com/chromedp/chromedp"
)

// member waits until the page says so of a node: its row is what the stream brings.
func (b *browser) member(name, words string) {
	b.t.Helper()
	script := fmt.Sprintf(`[...document.querySelectorAll("#nodes-rows tbody tr")].find(r => r.querySelector("th")?.innerText.trim().startsWith(%q))?.innerText.replace(/\s+/g, " ") ?? ""`, name)
	var text string
	waitFor(20*time.Second, func() bool {
		return chromedp.Run(b.ctx, chromedp.Evaluate(script, &text)) == nil && strings.Contains(text, words)
	}, func() { b.t.Fatalf("%s: got %q on the page, want %q", name, text, words) })
}

// TestClusterNodesPage gives orders to two nodes over one Redis by the buttons of the
// page, and sees on the page what came of them.
func TestClusterNodesPage(t *testing.T) {
	url := redistest.Single(t).URL()
	join := func(name string) *apptest.Node {
		return apptest.Start(t, func(c *app.Config) {
			c.Node, c.Redis = name, url
			c.Drain.Timeout = app.Duration(3 * time.Second)
		}, app.WithPagesEvery(250*time.Millisecond))
	}
	one, two := join("n1"), join("n2")
	inhabit(t, one, 8)
	b := openBrowser(t, 2*time.Minute)
	b.accept()
	b.signIn(one.URL, one.SignIn(account.Operator))
	for _, s := range []screen{phone, desktop} {
		b.resize(s)
		b.open(one.URL + "/nodes")
		b.live()
		b.member("n1", "Ready")
		b.member("n2", "Ready")
		b.fits(s.name + " /nodes")
		b.shot("nodes-two-" + s.name)
	}
	connections := func(n *apptest.Node) int { return n.App.Hub().Stats().Connections }
	order := func(button, says string) {
		t.Helper()
		b.press(button)
		b.says(says)
		b.live()
	}

	before := connections(two)
	b.do("choose the node and how many", chromedp.SetValue("select[name=node]", "n1", chromedp.ByQuery), chromedp.SendKeys("input[name=clients]", "3", chromedp.ByQuery))
	order("form[action$='/nodes/rebalance'] button", "3")
	waitFor(20*time.Second, func() bool { return connections(two) >= before+3 }, func() {
		t.Fatalf("got %d connections at n2 after 3 were sent to it, %d before", connections(two), before)
	})

	order("button[aria-label='Drain n2']", "n2")
	b.member("n2", "Draining")
	b.member("n1", "Ready")
	waitFor(20*time.Second, func() bool { return connections(two) == 0 && connections(one) == 8 }, func() {
		t.Fatalf("n2 was drained: got %d connections there and %d at n1, want 0 and 8", connections(two), connections(one))
	})
	b.member("n1", " 8 ")
	b.shot("nodes-draining-" + b.screen.name)
	order("button[aria-label='Undrain n2']", "n2")
	b.member("n2", "Ready")

	// The node that serves the page gives its clients away and the page goes on.
	b.resize(phone)
	order("button[aria-label='Drain n1']", "n1")
	b.member("n1", "Draining")
	waitFor(20*time.Second, func() bool { return connections(two) == 8 }, func() { t.Fatalf("n1 was drained: got %d connections at n2, want 8", connections(two)) })
	order("button[aria-label='Undrain n1']", "n1")
	b.member("n1", "Ready")
	b.check("/nodes")
}
