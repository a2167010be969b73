package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/client"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// inhabit fills a node with agents that talk until the test ends.
func inhabit(t *testing.T, n *apptest.Node, agents int) {
	t.Helper()
	inhabitAt(t, n, n.URL, agents)
}

func inhabitAt(t *testing.T, n *apptest.Node, url string, agents int) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{}, agents)
	token := n.Token("**")
	for i := range agents {
		c, err := client.Dial(ctx, client.Config{URL: url, Token: token, Agent: fmt.Sprintf("lab/worker-%02d", i)})
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
	b := openBrowser(t, 3*time.Minute)
	b.signIn(n.URL, n.SignIn(account.Admin))
	for _, s := range []screen{desktop, laptop, phone, small} {
		b.resize(s)
		for _, path := range consolePages {
			b.open(n.URL + path)
			if s == desktop || s == phone {
				b.live()
				b.shot(shotName(path) + "-" + s.name)
			}
			b.check(s.name + " " + path)
			b.fits(s.name + " " + path)
		}
	}
	b.colours("dark")
	b.resize(desktop)
	b.open(n.URL + "/")
	b.live()
	b.shot("overview-1440-dark")
	b.check("dark overview")
}

// fits fails the test when a page can be pushed sideways.
func (b *browser) fits(where string) {
	b.t.Helper()
	var over int
	b.eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &over)
	if over > 0 {
		var wide string
		b.eval(`[...document.querySelectorAll("main *, header *, nav *")].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.closest(".scroll,.seg,nav.btns,pre") && !e.closest("svg svg")).map(e => e.tagName + "." + e.getAttribute("class") + " " + Math.round(e.getBoundingClientRect().right)).slice(0, 5).join("; ")`, &wide)
		b.t.Errorf("%s: the page is %d px too wide: %s", where, over, wide)
	}
	var out []string
	b.eval(`[...document.querySelectorAll("main .panel table")].filter(t => !t.closest(".scroll") && t.getBoundingClientRect().right > t.closest(".panel").getBoundingClientRect().right - 1).map(t => t.closest(".panel").querySelector("h2")?.textContent ?? t.textContent.slice(0, 40))`, &out)
	if len(out) > 0 {
		b.t.Errorf("%s: tables stick out of their panels: %q", where, out)
	}
}

// live waits until the page says that it is live, if it has a stream.
func (b *browser) live() {
	b.t.Helper()
	b.until("wait for the stream", `!document.getElementById("live") || document.getElementById("live").textContent.startsWith("Live")`)
}

// says waits until the page says what became of an action.
func (b *browser) says(words string) {
	b.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; {
		var text string // a page that is being left cannot be asked: ask the next one
		err := chromedp.Run(b.ctx, chromedp.Evaluate(`document.querySelector("[role=status]")?.textContent ?? ""`, &text))
		if err == nil && strings.Contains(text, words) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("got %q, %v, want %q on the page", text, err, words)
		}
	}
}

// TestActionsInABrowser does what an operator does on the pages.
func TestActionsInABrowser(t *testing.T) {
	n := apptest.Start(t, nil)
	inhabit(t, n, 2)
	b := openBrowser(t, 2*time.Minute)
	b.signIn(n.URL, n.SignIn(account.Admin))
	b.resize(desktop)
	b.open(n.URL + "/log")
	b.do("write a note", chromedp.SendKeys(`textarea[name=text]`, "The proxy was reloaded <b>twice</b>"), chromedp.Click(`form.panel button`, chromedp.NodeVisible))
	b.says("The note is row")
	b.open(n.URL + "/log?kind=notes")
	var text string
	b.do("read the log", chromedp.Text(`.log .what`, &text))
	if !strings.Contains(text, "<b>twice</b>") {
		t.Errorf("got %q in the log, want the note as it was written", text)
	}

	b.open(n.URL + "/alerts?rule=cpu_warning&test=1&threshold=75&clear=60&hold=60&keep=60#rule")
	b.do("save the rule", chromedp.Click(`form[action$="/alerts/rules"] button`, chromedp.NodeVisible))
	b.says("The rule is in force")
	b.open(n.URL + "/alerts?rule=cpu_warning")
	var value string
	b.do("read the rule", chromedp.Value(`input[name=threshold]`, &value))
	if value != "75" {
		t.Errorf("got threshold %s after saving 75", value)
	}

	chromedp.ListenTarget(b.ctx, func(event any) {
		if _, ok := event.(*page.EventJavascriptDialogOpening); ok {
			go func() { _ = chromedp.Run(b.ctx, page.HandleJavaScriptDialog(true)) }()
		}
	})
	b.open(n.URL + "/agents?agent=lab/worker-01")
	b.do("disconnect", chromedp.Click(`form[action$="/agents/disconnect"] button`, chromedp.NodeVisible))
	b.says("1 session of lab/worker-01 ended")

	b.open(n.URL + "/")
	b.do("change the colours", chromedp.Click(`.theme button`, chromedp.NodeVisible), chromedp.WaitReady(`html[data-theme=dark]`))
	b.open(n.URL + "/trends?range=15m")
	b.live()
	b.do("zoom", chromedp.Click(`#zoomer`, chromedp.NodeVisible), chromedp.WaitVisible(`#zoom .uplot`))
	b.check("actions")
}

// TestPagesWithoutScripts loads each page as a browser that runs no scripts.
func TestPagesWithoutScripts(t *testing.T) {
	n := apptest.Start(t, func(c *app.Config) { c.BasePath = "/relay" })
	inhabitAt(t, n, n.URL+"/relay", 2)
	b := openBrowser(t, 2*time.Minute)
	cookie := n.SignIn(account.Viewer)
	cookie.Path = "/relay/"
	b.signIn(n.URL, cookie)
	b.resize(phone)
	b.do("switch scripts off", emulation.SetScriptExecutionDisabled(true))
	for _, path := range []string{"/", "/trends", "/capacity", "/log", "/alerts", "/simulator", "/agents", "/channels", "/nodes", "/broker", "/settings", "/privacy", "/more"} {
		b.do("open "+path, chromedp.Navigate(n.URL+"/relay"+path), chromedp.WaitReady("#main"))
		var title string
		b.do("read the heading", chromedp.Text("h1", &title))
		if strings.TrimSpace(title) == "" {
			t.Errorf("%s: there is no heading", path)
		}
		b.check(path)
	}
}

// enter types into a field, sends its form by the key and waits for the page that
// follows.
func (b *browser) enter(what, field, words string) {
	b.t.Helper()
	b.do(what, chromedp.Clear(field, chromedp.ByQuery), chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, chromedp.SendKeys(field, words+"\r", chromedp.ByQuery))
		return err
	}), chromedp.WaitReady("#main"))
}

// TestFormsWithoutScripts sends every form of the console that is not about access
// as a browser that runs no scripts.
func TestFormsWithoutScripts(t *testing.T) {
	n := apptest.Start(t, nil)
	inhabit(t, n, 3)
	b := openBrowser(t, 3*time.Minute)
	b.noScripts()
	b.resize(phone)
	b.signIn(n.URL, n.SignIn(account.Admin))
	at := func(want string) {
		t.Helper()
		var got string
		b.do("ask for the address", chromedp.Location(&got))
		if !strings.Contains(got, want) {
			t.Errorf("got to %s, want %s in it", got, want)
		}
	}
	for _, form := range []struct {
		page, button, want, says string
		fields                   []string
	}{
		{"/agents", "", "q=worker-01", "lab/worker-01", []string{"input[name=q]", "worker-01"}},
		{"/channels", "", "q=ci", "ci/builds", []string{"input[name=q]", "ci"}},
		{"/log", "", "q=started", "started", []string{"form[role=search] input[name=q]", "started"}},
		{"/log", "form[action$='/log/notes'] button", "said=", "The note is row", []string{"textarea[name=text]", "without scripts"}},
		{"/settings", "", "q=queue", "queue", []string{"form[role=search] input[name=q]", "queue"}},
		{"/capacity", "form[action$='#planner'] button", "connections=4000", "", []string{"input[name=connections]", "4000"}},
		{"/capacity", "form[action$='#what-if'] button", "agents=", "", nil},
		{"/simulator", "form[action$='/simulator'] button", "connections=700", "steps up", []string{"input[name=connections]", "700"}},
		{"/alerts?rule=cpu_warning", "#rule form[method=get] button", "threshold=75", "Last 30 days", []string{"input[name=threshold]", "75", "input[name=clear]", "60"}},
		{"/alerts?rule=cpu_warning&test=1&threshold=75&clear=60&hold=60&keep=60", "form[action$='/alerts/rules'] button", "said=", "The rule is in force", nil},
		{"/trends", "form[action$='/trends'] button", "from=", "", nil},
		{"/agents?agent=lab/worker-01", "form[action$='/agents/disconnect'] button", "said=", "1 session of lab/worker-01 ended", nil},
		{"/", ".theme button", "/", "", nil},
	} {
		b.open(n.URL + form.page)
		if form.button == "" { // a filter is sent by Enter
			b.enter(form.page, form.fields[0], form.fields[1])
		} else {
			b.send(form.page+" "+form.button, form.button, form.fields...)
		}
		at(form.want)
		if form.says != "" {
			b.wants("body", form.says)
		}
		b.check(form.page + " " + form.button)
	}
	b.do("see the colours", chromedp.WaitReady(`html[data-theme=dark]`))
}

func shotName(path string) string {
	if path == "/" {
		return "overview"
	}
	return strings.NewReplacer("/", "-", "?", "-", "=", "-", "&", "-").Replace(strings.TrimPrefix(path, "/"))
}
