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

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// accept answers yes to whatever a page asks once more.
func (b *browser) accept() {
	chromedp.ListenTarget(b.ctx, func(event any) {
		if _, ok := event.(*page.EventJavascriptDialogOpening); ok {
			go func() { _ = chromedp.Run(b.ctx, page.HandleJavaScriptDialog(true)) }()
		}
	})
}

// shows waits until a part of the page has some words, or has them no more. A page
// that is being left cannot be asked: then the next one is.
func (b *browser) shows(part, words string, want bool) {
	b.t.Helper()
	var text string
	var err error
	waitFor(20*time.Second, func() bool {
		err = chromedp.Run(b.ctx, chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, part), &text))
		return err == nil && strings.Contains(text, words) == want
	}, func() { b.t.Fatalf("%s: got %q, %v; want %q in it: %v", part, text, err, words, want) })
}

// until waits until a page says yes to a question. A page that is being left cannot
// be asked: then the next one is.
func (b *browser) until(what, question string) {
	b.t.Helper()
	var yes bool
	var err error
	waitFor(20*time.Second, func() bool {
		err = chromedp.Run(b.ctx, chromedp.Evaluate("!!("+question+")", &yes))
		return err == nil && yes
	}, func() { b.t.Fatalf("%s: the page says no: %v", what, err) })
}

// press clicks what the stream may replace at any time, and waits for the page that
// follows: what is asked next is not asked of the page that is being left.
func (b *browser) press(button string) {
	b.t.Helper()
	b.until("find "+button, fmt.Sprintf(`document.querySelector(%q)`, button))
	b.do("press "+button, chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, chromedp.Evaluate(fmt.Sprintf(`setTimeout(() => document.querySelector(%q).click(), 0); true`, button), nil))
		return err
	}), chromedp.WaitReady("#main"))
}

// TestAnOperatorInABrowser judges advice, makes a rule and types while the page lives,
// on a node that wants more nodes and has an alert that fires.
func TestAnOperatorInABrowser(t *testing.T) {
	n := apptest.Start(t, func(c *app.Config) {
		c.Scaling.Mode, c.Scaling.Min, c.Scaling.Max = "advise", 3, 5
		c.Actuate.Kind, c.Actuate.Command = "command", []string{"/bin/true"}
		c.Alerts.Rules = app.AlertRules{{Name: "somebody", Class: "operation", Severity: "critical", Signal: "connections", Reduce: "sum", Threshold: 0.5,
			NoData: "hold", NoDataAfter: app.Duration(time.Minute), Response: "Say hello"}}
	}, app.WithPagesEvery(250*time.Millisecond))
	inhabit(t, n, 3)
	b := openBrowser(t, 2*time.Minute)
	b.accept()
	b.signIn(n.URL, n.SignIn(account.Operator))
	b.resize(desktop)
	typing(t, n, b)
	advice(t, n, b)
	ownRule(t, n, b)
	b.check("an operator")
}

// advice puts the one card off, turns it down and makes its change, each with a reason
// that stays.
func advice(t *testing.T, n *apptest.Node, b *browser) {
	t.Helper()
	capacity := func(s screen) {
		t.Helper()
		b.resize(s)
		b.open(n.URL + "/capacity")
		b.fits(s.name + " /capacity")
	}
	waitFor(20*time.Second, func() bool {
		capacity(desktop)
		var there bool
		b.eval(`document.getElementById("A-1") !== null`, &there)
		return there
	}, func() { t.Fatal("the page does not advise three nodes") })
	for _, turn := range []struct {
		verdict, why, stays string
		at                  screen
	}{{"snooze", "after the fair", "snoozed by operator until", desktop}, {"dismiss", "one node is enough", "dismissed by operator", phone}} {
		capacity(turn.at)
		b.wants("#A-1", "1 → 3")
		b.shot("advice-" + turn.verdict + "-" + turn.at.name)
		b.send(turn.verdict, "#A-1 button[value="+turn.verdict+"]", "#A-1 input[name=reason]", turn.why)
		b.says("Done.")
		capacity(turn.at) // once more, from the server
		b.wants("section[aria-labelledby=h-held]", turn.stays)
		b.wants("section[aria-labelledby=h-held]", turn.why)
		b.shot("advice-" + turn.verdict + "-held-" + turn.at.name)
		b.shows("#A-1", "1 → 3", false)
		b.open(n.URL + "/log?kind=notes")
		b.wants(".log", turn.why)
		capacity(turn.at)
		b.send("show it again", "section[aria-labelledby=h-held] button")
		b.says("Done.")
	}
	capacity(desktop)
	b.do("apply", chromedp.SendKeys("#A-1 input[name=reason]", "the fair begins", chromedp.ByQuery), chromedp.Click("#A-1 button[data-ask]", chromedp.ByQuery))
	b.says("The change is in force")
	capacity(phone)
	b.wants(".head", "mode act")
	b.shows("#A-1", "1 → 3", false)
	b.open(n.URL + "/log")
	b.wants(".log", "mode advise to act: advice was applied: the fair begins")
}

// ownRule makes a rule, sees what it would have done, and has it listed, stopped, run
// and gone.
func ownRule(t *testing.T, n *apptest.Node, b *browser) {
	t.Helper()
	b.resize(desktop)
	b.open(n.URL + "/alerts?new=1")
	b.send("try a rule", "#rule form[method=get] button", "#rule input[name=rule]", "few.agents", "#rule input[name=threshold]", "2", "#rule input[name=clear]", "1")
	b.shows("#tried", "Last 30 days", true)
	for _, s := range []screen{phone, desktop} {
		b.resize(s)
		var drawn int
		b.eval(`Math.round(document.querySelector("#tried svg.chart")?.getBoundingClientRect().width ?? 0)`, &drawn)
		if drawn < 150 {
			t.Errorf("%s: the trial's chart is %d px wide", s.name, drawn)
		}
		b.fits(s.name + " a new rule")
		b.shot("rule-new-" + s.name)
	}
	b.send("save the rule", "form[action$='/alerts/rules'] button.go")
	b.says("The rule is in force")
	const row = `#alerts-rules tr:has(a[href*="few.agents"])`
	rule := n.URL + "/alerts?rule=few.agents"
	b.open(n.URL + "/alerts")
	b.wants(row, "made here")
	for _, able := range []struct{ press, says, word string }{{"no", "kept and not run", "Enable"}, {"yes", "runs again", "Disable"}} {
		b.open(rule)
		b.send("able "+able.press, "form[action$='/alerts/rules/able'] button")
		b.says(able.says)
		b.open(rule)
		b.wants("form[action$='/alerts/rules/able']", able.word)
	}
	b.press("form[action$='/alerts/rules/drop'] button")
	b.says("Done.")
	b.open(n.URL + "/alerts")
	b.shows("#alerts-rules", "few.agents", false)
}

// typing writes into fields beside and inside of what the stream replaces: the text,
// the focus and the caret stay while the rest of the page goes on.
func typing(t *testing.T, n *apptest.Node, b *browser) {
	t.Helper()
	for _, s := range []screen{desktop, phone} {
		for _, place := range []struct{ path, field, ready string }{
			{"/agents", "main input[name=q]", ""},
			{"/alerts", ".firing input[name=reason]", ".firing"},
		} {
			where := s.name + " " + place.path
			b.resize(s)
			b.open(n.URL + place.path)
			b.live()
			if place.ready != "" {
				b.do("wait for "+place.ready, chromedp.WaitVisible(place.ready, chromedp.ByQuery))
			}
			b.eval(`window.updates = 0; document.addEventListener("htmx:sseBeforeMessage", () => updates++); true`, nil)
			b.do("type half a sentence", chromedp.SendKeys(place.field, "half a sntence"+strings.Repeat(kb.ArrowLeft, 6), chromedp.ByQuery))
			b.replaced(4, 20*time.Second)
			b.do("type on", chromedp.KeyEvent("e"))
			b.replaced(2, 20*time.Second)
			var got string
			b.eval(fmt.Sprintf(`(() => { const f = document.querySelector(%q), a = document.activeElement; return f.value + "|" + (a === f) + "|" + f.selectionStart + "|" + f.selectionEnd })()`, place.field), &got)
			if want := "half a sentence|true|9|9"; got != want {
				t.Errorf("%s: got %q after the page went on, want %q", where, got, want)
			}
		}
	}
}
