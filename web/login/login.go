package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/web/gate"
	"agentnet/web/static"

	"github.com/a-h/templ"
	"github.com/gofiber/fiber/v2"
)

// Accounts is what the pages ask about people. *account.Service is one.
type Accounts interface {
	SignIn(ctx context.Context, name, password string, from account.Attempt) (account.Ticket, error)
	Code(ctx context.Context, secret, code string, from account.Attempt) (account.Ticket, error)
	SignOut(ctx context.Context, secret string, from account.Attempt) error
	CheckLink(ctx context.Context, secret string, from account.Attempt) (account.Link, error)
	UseLink(ctx context.Context, secret, name, password string, from account.Attempt) (account.Ticket, error)

	Account(ctx context.Context, name string) (account.Account, error)
	ChangePassword(ctx context.Context, session, old, new string, from account.Attempt) error
	NewSecond() string
	ConfirmSecond(ctx context.Context, name, secret, code string) (recovery []string, err error)
	DropSecond(ctx context.Context, name, password string) error
	RecoveryLeft(ctx context.Context, name string) (int, error)
	Sessions(ctx context.Context, f account.SessionFilter) ([]account.Session, error)
	EndSessions(ctx context.Context, f account.SessionFilter) (int, error)
}

// A Provider signs people in at somebody else's place (OpenID Connect).
type Provider interface {
	// Name is what its button says.
	Name() string
	// Begin returns where to send the browser and what to remember until it comes
	// back, which is kept in a cookie.
	Begin(ctx context.Context, back string) (to, remember string, err error)
	// Finish takes what the browser came back with.
	Finish(ctx context.Context, back, remember string, query func(string) string, from account.Attempt) (account.Ticket, error)
}

// Config is what the pages need. Accounts, Gate, Files and Logger are required.
type Config struct {
	Accounts Accounts
	Gate     *gate.Gate
	Files    *static.Files
	// Base is the path that everything is under: "" or such as "/relay".
	Base string
	// PublicURL is where browsers reach the server; "" when not known.
	PublicURL string
	// Node and Version are shown at the foot.
	Node, Version string
	// Lifetime of a session's cookie; what it opens may end earlier. 0 is 30 days.
	Lifetime time.Duration
	// Outside is an OpenID provider. Nil: none.
	Outside Provider
	Logger  *slog.Logger
}

// Pages are the pages. Their methods may be called concurrently.
type Pages struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Pages, error) {
	if cfg.Accounts == nil || cfg.Gate == nil || cfg.Files == nil || cfg.Logger == nil {
		return nil, errors.New("login: Accounts, Gate, Files and Logger must be given")
	}
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = 30 * 24 * time.Hour
	}
	return &Pages{cfg}, nil
}

// Routes are the pages for the gate.
func (p *Pages) Routes() []gate.Route {
	routes := []gate.Route{
		{Method: "GET", Path: "/login", Access: gate.Open, Handler: p.form},
		{Method: "POST", Path: "/login", Access: gate.Open, Action: "-", Handler: p.signIn},
		{Method: "GET", Path: "/login/code", Access: gate.Open, Handler: p.codeForm},
		{Method: "POST", Path: "/login/code", Access: gate.Open, Action: "-", Handler: p.code},
		{Method: "POST", Path: "/logout", Access: gate.Open, Action: "-", Handler: p.signOut},
		{Method: "GET", Path: "/setup/:link", Access: gate.Open, Handler: p.linkForm},
		{Method: "POST", Path: "/setup/:link", Access: gate.Open, Action: "-", Handler: p.useLink},
		{Method: "GET", Path: "/account", Access: gate.Viewer, Handler: p.own},
		{Method: "POST", Path: "/account/password", Access: gate.Viewer, Action: "-", Handler: p.changePassword},
		{Method: "POST", Path: "/account/second", Access: gate.Viewer, Action: "second_factor.on", Handler: p.confirmSecond},
		{Method: "POST", Path: "/account/second/drop", Access: gate.Viewer, Action: "second_factor.off", Handler: p.dropSecond},
		{Method: "GET", Path: "/account/sessions.csv", Access: gate.Viewer, Handler: p.ownTable},
		{Method: "GET", Path: "/account/sessions.json", Access: gate.Viewer, Handler: p.ownTable},
		{Method: "POST", Path: "/account/sessions", Access: gate.Viewer, Action: "session.end", Handler: p.endSessions},
	}
	if p.cfg.Outside != nil {
		routes = append(routes,
			gate.Route{Method: "GET", Path: "/login/outside", Access: gate.Open, Handler: p.beginOutside},
			gate.Route{Method: "GET", Path: "/login/outside/back", Access: gate.Open, Handler: p.finishOutside})
	}
	return routes
}

// frame is what every page of this package has around it.
type frame struct {
	title, style, icon, home string
	node, version            string
	form                     string // token of its forms
	base                     string
}

func (p *Pages) frame(c *fiber.Ctx, title string) frame {
	return frame{title: title, style: p.cfg.Files.URL("app.css"), icon: p.cfg.Files.URL("mark.svg"), home: p.cfg.Base + "/",
		node: p.cfg.Node, version: p.cfg.Version, form: p.cfg.Gate.FormToken(c), base: p.cfg.Base}
}

// show sends a page. What it holds is for one person and this moment.
func (p *Pages) show(c *fiber.Ctx, status int, page templ.Component) error {
	var body bytes.Buffer
	if err := page.Render(context.Background(), &body); err != nil {
		return fmt.Errorf("draw a page: %w", err)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(status).Send(body.Bytes())
}

// Refuse answers a person who may not see a page.
func (p *Pages) Refuse(c *fiber.Ctx, status int, text string) error {
	return p.show(c, status, refusedPage(p.frame(c, "Not allowed"), "Not allowed", text, status == fiber.StatusUnauthorized))
}

// Fault answers a person whose page is not there or could not be made.
func (p *Pages) Fault(c *fiber.Ctx, status int, text string) error {
	heading := "That did not work"
	if status == fiber.StatusNotFound {
		heading = "No such page"
	}
	return p.show(c, status, refusedPage(p.frame(c, heading), heading, text, false))
}

// loginView is the sign-in page.
type loginView struct {
	name, next, fault, outside string
}

func (p *Pages) form(c *fiber.Ctx) error {
	next := p.cfg.Gate.SafeNext(c.Query("next"))
	if _, in, _ := p.cfg.Gate.Visitor(c); in {
		return c.Redirect(p.after(next), fiber.StatusSeeOther)
	}
	return p.showForm(c, fiber.StatusOK, loginView{next: next})
}

func (p *Pages) showForm(c *fiber.Ctx, status int, v loginView) error {
	if p.cfg.Outside != nil {
		v.outside = p.cfg.Outside.Name()
	}
	return p.show(c, status, loginPage(p.frame(c, "Sign in"), v))
}

// after is where to go when signed in.
func (p *Pages) after(next string) string {
	if next == "" {
		return p.cfg.Base + "/"
	}
	return next
}

// explain is what a person is told, with the status that goes with it. It is "" for
// an error that only the log may know.
func explain(err error) (status int, text string) {
	if e, ok := errors.AsType[*account.WaitError](err); ok {
		return fiber.StatusTooManyRequests, "Too many attempts. Try again in " + waitWords(e.For) + "."
	}
	if e, ok := errors.AsType[*account.Invalid](err); ok {
		return fiber.StatusUnprocessableEntity, sentence(e.Text)
	}
	switch {
	case errors.Is(err, account.ErrRefused):
		return fiber.StatusUnauthorized, "The name or the password is not right."
	case errors.Is(err, account.ErrCode):
		return fiber.StatusUnauthorized, "The code is not right, or was used before. Take the next one."
	case errors.Is(err, account.ErrLink):
		return fiber.StatusNotFound, "This link was used, is too old, or was never given out."
	case errors.Is(err, account.ErrBusy):
		return fiber.StatusServiceUnavailable, "Too many people sign in at this moment. Try again in a few seconds."
	}
	return 0, ""
}

func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func waitWords(d time.Duration) string {
	if s := int(d.Round(time.Second) / time.Second); s < 120 {
		return strconv.Itoa(max(s, 1)) + " s"
	}
	return strconv.Itoa(int(d.Round(time.Minute)/time.Minute)) + " min"
}

func (p *Pages) signIn(c *fiber.Ctx) error {
	v := loginView{name: c.FormValue("name"), next: p.cfg.Gate.SafeNext(c.FormValue("next"))}
	t, err := p.cfg.Accounts.SignIn(c.UserContext(), v.name, c.FormValue("password"), p.cfg.Gate.Attempt(c))
	if err != nil {
		status, text := explain(err)
		if text == "" {
			return err
		}
		p.retryAfter(c, err)
		v.fault = text
		return p.showForm(c, status, v)
	}
	return p.admit(c, t, v.next)
}

func (p *Pages) retryAfter(c *fiber.Ctx, err error) {
	if e, ok := errors.AsType[*account.WaitError](err); ok {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(e.For/time.Second)+1))
	}
}

// admit gives the browser its session. One that it had before is ended: nobody
// goes on as somebody else.
func (p *Pages) admit(c *fiber.Ctx, t account.Ticket, next string) error {
	if old := p.cfg.Gate.Secret(c); old != "" && old != t.Session {
		if err := p.cfg.Accounts.SignOut(c.UserContext(), old, p.cfg.Gate.Attempt(c)); err != nil {
			p.cfg.Logger.Warn("the session before a sign-in could not be ended", "error", err)
		}
	}
	p.cfg.Gate.Admit(c, t, p.cfg.Lifetime)
	if t.NeedsCode {
		to := p.cfg.Base + "/login/code"
		if next != "" {
			to += "?next=" + url.QueryEscape(next)
		}
		return c.Redirect(to, fiber.StatusSeeOther)
	}
	return c.Redirect(p.after(next), fiber.StatusSeeOther)
}

func (p *Pages) codeForm(c *fiber.Ctx) error {
	next := p.cfg.Gate.SafeNext(c.Query("next"))
	if _, in, _ := p.cfg.Gate.Visitor(c); in || p.cfg.Gate.Secret(c) == "" {
		return c.Redirect(p.cfg.Base+"/login", fiber.StatusSeeOther)
	}
	return p.show(c, fiber.StatusOK, codePage(p.frame(c, "Second step"), loginView{next: next}))
}

func (p *Pages) code(c *fiber.Ctx) error {
	v := loginView{next: p.cfg.Gate.SafeNext(c.FormValue("next"))}
	t, err := p.cfg.Accounts.Code(c.UserContext(), p.cfg.Gate.Secret(c), c.FormValue("code"), p.cfg.Gate.Attempt(c))
	if errors.Is(err, account.ErrSignedOut) {
		p.cfg.Gate.Forget(c)
		return p.showForm(c, fiber.StatusUnauthorized, loginView{next: v.next, fault: "That took too long, or there were too many wrong codes. Begin again."})
	}
	if err != nil {
		status, text := explain(err)
		if text == "" {
			return err
		}
		p.retryAfter(c, err)
		v.fault = text
		return p.show(c, status, codePage(p.frame(c, "Second step"), v))
	}
	return p.admit(c, t, v.next)
}

func (p *Pages) signOut(c *fiber.Ctx) error {
	if err := p.cfg.Accounts.SignOut(c.UserContext(), p.cfg.Gate.Secret(c), p.cfg.Gate.Attempt(c)); err != nil {
		return err
	}
	p.cfg.Gate.Forget(c)
	// What the browser keeps of our pages goes too.
	c.Set("Clear-Site-Data", `"cache"`)
	return c.Redirect(p.cfg.Base+"/login", fiber.StatusSeeOther)
}

// linkView is the page behind a one-time link.
type linkView struct {
	path, name, fault string
	reset             bool
	ends              string
}

func (p *Pages) link(c *fiber.Ctx) (v linkView, err error) {
	secret := c.Params("link")
	l, err := p.cfg.Accounts.CheckLink(c.UserContext(), secret, p.cfg.Gate.Attempt(c))
	if err != nil {
		return v, err
	}
	left := strconv.Itoa(int(time.Until(l.Expires).Round(time.Minute)/time.Minute)) + " min"
	if h := time.Until(l.Expires).Round(time.Hour); h >= 2*time.Hour {
		left = strconv.Itoa(int(h/time.Hour)) + " hours"
	}
	return linkView{path: p.cfg.Base + "/setup/" + secret, name: l.Account, reset: l.Kind == account.LinkReset,
		ends: l.Expires.UTC().Format("2 January 15:04") + " UTC, in " + left}, nil
}

func (p *Pages) linkForm(c *fiber.Ctx) error {
	v, err := p.link(c)
	if err != nil {
		return p.deadLink(c, err)
	}
	return p.showLink(c, fiber.StatusOK, v)
}

func (p *Pages) showLink(c *fiber.Ctx, status int, v linkView) error {
	title := "Create the first admin"
	if v.reset {
		title = "Choose a password"
	}
	return p.show(c, status, linkPage(p.frame(c, title), v))
}

func (p *Pages) deadLink(c *fiber.Ctx, err error) error {
	status, text := explain(err)
	if text == "" {
		return err
	}
	p.retryAfter(c, err)
	return p.show(c, status, deadPage(p.frame(c, "No such link"), text))
}

func (p *Pages) useLink(c *fiber.Ctx) error {
	v, err := p.link(c)
	if err != nil {
		return p.deadLink(c, err)
	}
	if !v.reset {
		v.name = c.FormValue("name")
	}
	password := c.FormValue("password")
	if password != c.FormValue("again") {
		v.fault = "The two passwords are not the same."
		return p.showLink(c, fiber.StatusUnprocessableEntity, v)
	}
	t, err := p.cfg.Accounts.UseLink(c.UserContext(), c.Params("link"), v.name, password, p.cfg.Gate.Attempt(c))
	if errors.Is(err, account.ErrLink) {
		return p.deadLink(c, err)
	}
	if err != nil {
		status, text := explain(err)
		if text == "" {
			return err
		}
		v.fault = text
		return p.showLink(c, status, v)
	}
	return p.admit(c, t, "")
}
