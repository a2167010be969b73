package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/wire"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// accessPages are the pages about who may come in.
var accessPages = []string{"/access", "/access/accounts", "/access/sessions", "/audit", "/account"}

// text is what a person reads in a part of the page.
func (b *browser) text(part string) (text string) {
	b.t.Helper()
	b.do("read "+part, chromedp.Text(part, &text, chromedp.ByQuery, chromedp.NodeVisible))
	return text
}

// send types into fields, sends the form that a button belongs to and waits for the
// page that follows.
func (b *browser) send(what, button string, fields ...string) {
	b.t.Helper()
	var actions []chromedp.Action
	for i := 0; i < len(fields); i += 2 {
		if !strings.Contains(fields[i], "select") && !strings.Contains(fields[i], "textarea") {
			actions = append(actions, chromedp.Clear(fields[i], chromedp.ByQuery))
		}
		actions = append(actions, chromedp.SendKeys(fields[i], fields[i+1], chromedp.ByQuery))
	}
	actions = append(actions, chromedp.ActionFunc(func(ctx context.Context) error {
		resp, err := chromedp.RunResponse(ctx, chromedp.Click(button, chromedp.ByQuery))
		if err == nil && resp != nil && resp.Status >= 500 {
			err = fmt.Errorf("the server answered %d", resp.Status)
		}
		return err
	}), chromedp.WaitReady("#main"))
	b.do(what, actions...)
}

// path is where the browser is.
func (b *browser) path() string {
	b.t.Helper()
	var at string
	b.do("ask for the address", chromedp.Location(&at))
	u, err := url.Parse(at)
	if err != nil {
		b.t.Fatal(err)
	}
	return u.Path
}

func (b *browser) wants(part, word string) {
	b.t.Helper()
	if got := b.text(part); !strings.Contains(got, word) {
		b.t.Errorf("%s: got %q, want %q in it", b.path(), got, word)
	}
}

// TestNewcomersPath goes from the first start to an agent that talks, as somebody
// does who has never seen the program.
func TestNewcomersPath(t *testing.T) {
	const password = "four words and more"
	n := apptest.Start(t, nil)
	if n.App.SetupPath() == "" {
		t.Fatal("a fresh server has no link for the first admin")
	}
	b := openBrowser(t, 2*time.Minute)
	b.resize(desktop)
	b.open(n.URL + "/")
	b.wants("#main", "relay runs here")
	b.shot("path-1-stranger")

	// The link makes the first admin, signs in and is dead.
	b.open(n.URL + n.App.SetupPath())
	b.shot("path-2-setup")
	b.expect("422")
	b.send("two passwords that differ", "form button.go", "input[name=name]", "anna", "input[name=password]", password, "input[name=again]", password+"!")
	b.wants(".fault", "not the same")
	b.send("the first admin", "form button.go", "input[name=name]", "anna", "input[name=password]", password, "input[name=again]", password)
	if b.path() != "/" {
		t.Fatalf("got to %s after the setup, want /", b.path())
	}
	b.shot("path-3-overview")
	b.check("setup")
	b.expect("404")
	b.open(n.URL + n.App.SetupPath())
	b.wants("#main", "No such link")
	b.check("a used link")

	// Sign out and in again, once wrongly.
	b.open(n.URL + "/account")
	b.shot("account")
	b.send("sign out", "header form button")
	if b.path() != "/login" {
		t.Errorf("got to %s after signing out", b.path())
	}
	b.shot("login")
	b.open(n.URL + "/access")
	if b.path() != "/login" {
		t.Errorf("got to %s without a session, want the sign-in", b.path())
	}
	b.expect("401")
	b.send("a wrong password", "form button.go", "input[name=name]", "anna", "input[name=password]", "wrong wrong wrong")
	b.wants(".fault", "not right")
	b.shot("login-wrong")
	b.send("sign in", "form button.go", "input[name=name]", "Anna", "input[name=password]", password)
	if b.path() != "/access" {
		t.Errorf("got to %s after the sign-in, want the page that was asked for", b.path())
	}

	// The first token; an agent comes in with it.
	b.send("a token", "form[action='/access/tokens'] button.go", "input[name=name]", "kitchen", "input[name=agents]", "alice/**")
	token := strings.TrimSpace(b.text("#secret"))
	b.shot("path-4-token")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URL: n.URL, Token: token, Agent: "alice/calendar"})
	if err != nil {
		t.Fatalf("connect with the token of the page: %v", err)
	}
	defer c.Close()
	b.open(n.URL + "/access")
	b.wants("table", "kitchen")
	var held bool
	b.eval(fmt.Sprintf("document.documentElement.outerHTML.includes(%q)", token), &held)
	if held {
		t.Error("the token is shown for the second time")
	}

	// Somebody else comes in by a link, as a viewer.
	b.open(n.URL + "/access/accounts")
	b.send("an account", "form[action='/access/accounts'] button.go", "input[name=name]", "vic")
	link := strings.TrimSpace(b.text("#secret"))
	if !strings.HasPrefix(link, n.URL+"/setup/") {
		t.Errorf("got link %q, want one of this server", link)
	}
	b.shot("accounts")
	b.open(n.URL + "/audit?check=1")
	b.wants("#main", "Whole")
	for _, want := range []string{"account.create", "token.create", "sign_in", "Refused", "wrong password"} {
		b.wants("table", want)
	}
	b.shot("audit")
	b.open(n.URL + "/account")
	b.send("sign out", "header form button")
	b.open(link)
	b.send("a password for vic", "form button.go", "input[name=password]", password, "input[name=again]", password)
	if b.path() != "/" {
		t.Errorf("got to %s, want vic to be signed in", b.path())
	}
	b.expect("403")
	b.open(n.URL + "/access")
	b.wants("#main", "needs the role admin")
	b.check("the whole path")
}

// TestAccessPagesWithoutScripts does with scripts off what an admin does.
func TestAccessPagesWithoutScripts(t *testing.T) {
	n := apptest.Start(t, nil)
	n.Account("vic", account.Viewer)
	b := openBrowser(t, time.Minute)
	b.noScripts()
	b.resize(phone)
	b.signIn(n.URL, n.SignIn(account.Admin))
	b.open(n.URL + "/access")
	b.send("a token", "form[action='/access/tokens'] button.go", "input[name=name]", "kitchen", "input[name=agents]", "alice")
	b.wants("#secret", "agn_")
	b.open(n.URL + "/access")
	b.send("revoke it", "form[action='/access/tokens/revoke'] button")
	b.wants("#main", "is revoked")
	b.open(n.URL + "/access/accounts")
	b.do("open the actions of vic", chromedp.Click("tbody tr:nth-child(2) summary", chromedp.ByQuery))
	b.send("make vic an operator", "tbody tr:nth-child(2) form[action$=role] button", "tbody tr:nth-child(2) select", "operator")
	b.wants("#main", "vic has the role operator")
	b.shot("accounts-noscript-390")
	b.open(n.URL + "/access/accounts")
	b.do("open the actions of vic", chromedp.Click("tbody tr:nth-child(2) summary", chromedp.ByQuery))
	b.send("delete without being sure", "tbody tr:nth-child(2) form[action$=delete] button")
	b.wants("#main", "write the name of the account")
	b.do("open the actions of vic", chromedp.Click("tbody tr:nth-child(2) summary", chromedp.ByQuery))
	b.send("delete", "tbody tr:nth-child(2) form[action$=delete] button", "tbody tr:nth-child(2) input[name=sure]", "vic")
	b.wants("#main", "vic is deleted")
	b.check("without scripts")
}

// TestHostileNamesOnAccessPages shows names that would like to be markup.
func TestHostileNamesOnAccessPages(t *testing.T) {
	n := apptest.Start(t, nil)
	desk := n.App.Desk()
	hostile := []string{`<script>document.title="owned"</script>`, `"><img src=x onerror=document.title="owned">`, `'><svg/onload=document.title='owned'>`, `{{7*7}}${7*7}`, `javascript:document.title="owned"`}
	for _, name := range hostile {
		if _, _, err := desk.CreateToken(t.Context(), account.TokenSpec{Name: name, Agents: []string{"alice"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := desk.SignInVouched(t.Context(), account.Vouched{Key: name, Name: name, Role: account.Viewer, How: "oidc"}, account.Attempt{Address: name, Browser: name}); err != nil {
			t.Fatal(err)
		}
		_ = desk.Record(t.Context(), account.Entry{Actor: name, Via: name, Action: name, Target: name, Outcome: account.Refused, Detail: name, Address: name})
	}
	c := n.Dial("evil/a", wire.JSON, func(c *client.Config) {
		c.Token = n.Token("evil/a", func(s *auth.TokenSpec) { s.Name = hostile[0] })
	})
	card, _ := json.Marshal(map[string]string{"name": hostile[0], "description": hostile[1], "url": hostile[4]})
	if err := c.Profile(t.Context(), wire.Profile{Card: card}); err != nil {
		t.Fatal(err)
	}
	b := openBrowser(t, 90*time.Second)
	b.resize(desktop)
	b.signIn(n.URL, n.SignIn(account.Admin))
	query := "?q=" + url.QueryEscape(hostile[1]) + "&agent=" + url.QueryEscape(hostile[0])
	var paths []string
	for _, path := range consolePages {
		paths = append(paths, path+query)
	}
	for _, path := range append(paths, "/agents?agent=evil%2Fa", "/login?next="+url.QueryEscape(hostile[0]), "/access", "/access/accounts", "/access/sessions", "/audit", "/access?q="+url.QueryEscape(hostile[1]), "/audit?actor="+url.QueryEscape(hostile[1])+"&from="+url.QueryEscape(hostile[0]),
		"/access/sessions?account="+url.QueryEscape(hostile[2]), "/access?said="+url.QueryEscape(hostile[0])) {
		b.open(n.URL + path)
		var title string
		b.eval(`document.title`, &title)
		var injected int
		b.eval(`document.querySelectorAll("main script, main img, main svg[onload], [onerror]").length`, &injected)
		if strings.Contains(title, "owned") || injected > 0 {
			t.Errorf("%s: a name became markup (title %q, %d elements)", path, title, injected)
		}
		b.check(path)
	}
}

// noScripts turns scripts off for all pages that follow.
func (b *browser) noScripts() {
	b.t.Helper()
	b.do("turn scripts off", emulation.SetScriptExecutionDisabled(true))
}
