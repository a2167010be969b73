package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/client"

	"github.com/chromedp/chromedp"
)

// inhabit fills a node with agents that talk until the test ends.
func inhabit(t *testing.T, n *apptest.Node, agents int) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{}, agents)
	token := n.Token("**")
	for i := range agents {
		c, err := client.Dial(ctx, client.Config{URL: n.URL, Token: token, Agent: fmt.Sprintf("lab/worker-%02d", i)})
		if err != nil {
			t.Fatalf("connect agent %d: %v", i, err)
		}
		go func() {
			defer func() { done <- struct{}{} }()
			talk(ctx, c, i)
		}()
	}
	t.Cleanup(func() {
		stop()
		for range agents {
			<-done
		}
	})
}

// talk publishes and sends until ctx ends.
func talk(ctx context.Context, c *client.Client, i int) {
	defer c.Close()
	rooms := []string{"lab/frames", "ci/builds", "home/sensors", "shop/orders"}
	if _, err := c.Subscribe(ctx, rooms[i%len(rooms)], client.SubscribeOptions{}, func(context.Context, *client.Message) {}); err != nil {
		return
	}
	tick := time.NewTicker(time.Duration(20+7*i) * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := c.Publish(ctx, rooms[i%len(rooms)], client.RawJSON([]byte(`{"n":1}`))); err != nil {
			return
		}
	}
}

// consolePages are all pages of the console.
var consolePages = append([]string{"/", "/trends", "/capacity", "/log", "/alerts", "/simulator", "/simulator?scenario=daily&connections=3000", "/agents", "/channels",
	"/nodes", "/broker", "/settings", "/settings?examine=1", "/privacy", "/more"}, accessPages...)

func TestEveryPageInABrowser(t *testing.T) {
	n := apptest.Start(t, nil)
	inhabit(t, n, 12)
	cookie := n.SignIn(account.Admin)
	b := openBrowser(t, 3*time.Minute)
	b.signIn(n.URL, cookie)
	for _, s := range []screen{desktop, phone, small} {
		b.resize(s)
		for _, path := range consolePages {
			b.open(n.URL + path)
			b.do("wait for the stream", chromedp.Sleep(1500*time.Millisecond))
			b.check(s.name + " " + path)
			var over int
			b.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &over)
			if over > 0 {
				var wide string
				b.eval(`[...document.querySelectorAll("main *, header *, nav *")].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.closest(".scroll,.seg,nav.btns,pre") && !e.closest("svg svg")).map(e => e.tagName + "." + e.getAttribute("class") + " " + Math.round(e.getBoundingClientRect().right)).slice(0, 5).join("; ")`, &wide)
				t.Errorf("%s at %s: the page is %d px too wide: %s", path, s.name, over, wide)
			}
			if s != small {
				b.shot(shotName(path) + "-" + s.name)
			}
		}
	}
}

func shotName(path string) string {
	if path == "/" {
		return "overview"
	}
	return strings.NewReplacer("/", "-", "?", "-", "=", "-", "&", "-").Replace(strings.TrimPrefix(path, "/"))
}
