//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/wire"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// TestEveryPageBehindProxies opens each page of the console below a path, in a
// browser, through the real nginx, Caddy and HAProxy with the files of
// packaging/proxies. Each page must load with nothing refused or blocked, its live
// parts must change, forms must pass the check of where they come from, and an
// agent that connects through the proxy must appear on the page by itself.
func TestEveryPageBehindProxies(t *testing.T) {
	// The certificate of the stage is known to Go's clients only.
	b := openBrowser(t, 5*time.Minute, chromedp.Flag("ignore-certificate-errors", true))
	b.resize(desktop)
	for _, p := range proxies() {
		t.Run(p.name, func(t *testing.T) {
			outer := b.t
			b.t = t
			defer func() { b.t = outer }()
			s := play(t, p, "subpath")
			inhabitAt(t, s.node, s.node.URL+s.base, 3)
			b.do("forget the proxy before", network.ClearBrowserCookies()) // cookies know no ports
			cookie := s.node.SignIn(account.Admin)
			cookie.Name, cookie.Path, cookie.Secure = "__Secure-"+cookie.Name, s.base+"/", true
			b.signIn(s.url+"/", cookie)
			for _, path := range consolePages {
				b.open(s.url + path)
				b.live()
				var at string
				b.do("ask for the address", chromedp.Location(&at))
				if at != s.url+path {
					t.Errorf("%s: got to %s", path, at)
				}
				b.check(path)
			}
			b.updates(s)
			b.forms(s)
			b.scripts(s)
			b.do("leave before the proxy ends", chromedp.Navigate("about:blank"))
		})
	}
}

// updates looks at the list of agents while one connects through the proxy: events
// are not held back, and what they say is put in its place.
func (b *browser) updates(s *stage) {
	b.t.Helper()
	b.open(s.url + "/agents")
	b.live()
	b.eval(`window.ticks = 0; document.addEventListener("htmx:sseBeforeMessage", () => { ticks++ }); true`, nil)
	newcomer := s.join("lab/newcomer", s.node.Token("**"), wire.JSON)
	s.speaks(newcomer, "lab/newcomer")
	var last string
	waitFor(20*time.Second, func() bool {
		b.eval(`ticks + " " + document.getElementById("main").innerText`, &last)
		return !strings.HasPrefix(last, "0 ") && strings.Contains(last, "newcomer")
	}, func() { b.t.Errorf("the newcomer did not appear by itself; updates and page: %s", last) })
	b.check("/agents, live")
}

// forms writes a note, whose form carries the session's token, and changes the
// colours of the page, whose form is of another handler.
func (b *browser) forms(s *stage) {
	b.t.Helper()
	b.open(s.url + "/log")
	b.do("write a note", chromedp.SendKeys(`textarea[name=text]`, "written through the proxy"), chromedp.Click(`form.panel button`, chromedp.NodeVisible))
	b.says("The note is row")
	b.open(s.url + "/log?kind=notes")
	var text string
	b.do("read the log", chromedp.Text(`.log .what`, &text))
	if !strings.Contains(text, "written through the proxy") {
		b.t.Errorf("got %q in the log, want the note", text)
	}
	b.do("change the colours", chromedp.Click(`.theme button`, chromedp.NodeVisible), chromedp.WaitReady(`html[data-theme=dark]`))
	if at := b.path(); !strings.HasPrefix(at, s.base+"/log") {
		b.t.Errorf("got to %s after changing the colours, want %s/log", at, s.base)
	}
	b.check("forms")
}

// scripts lets a script of the page open a WebSocket, as the browser's client does:
// the content policy and the proxy must both let it.
func (b *browser) scripts(s *stage) {
	b.t.Helper()
	b.open(s.url + "/privacy")
	b.eval(fmt.Sprintf(`window.answer = ""; {
		const ws = new WebSocket(location.origin.replace("http", "ws") + %q, ["agentnet.v1.json"]);
		ws.onopen = () => ws.send(JSON.stringify({ id: 1, connect: { agent: "lab/tab", token: %q } }));
		ws.onmessage = (e) => { answer = e.data; ws.close() };
		ws.onerror = () => { answer = "refused" };
	} true`, s.base+"/ws", s.node.Token("lab/tab")), nil)
	b.until("wait for an answer", `answer !== ""`)
	var answer string
	b.eval(`answer`, &answer)
	if !strings.Contains(answer, "connected") {
		b.t.Errorf("got %q from the WebSocket of a page, want connected", answer)
	}
	b.check("WebSocket of a page")
}
