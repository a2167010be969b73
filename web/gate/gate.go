package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"agentnet/app/account"

	"github.com/gofiber/fiber/v2"
)

// Access says who may use a route.
type Access string

// Who may use a route. The roles are those of package account.
const (
	Open     Access = "open" // everybody, also signed out
	Viewer   Access = Access(account.Viewer)
	Operator Access = Access(account.Operator)
	Admin    Access = Access(account.Admin)
)

func (a Access) known() bool { return a == Open || a == Viewer || a == Operator || a == Admin }

// A Route is a page, or a form that a page sends.
type Route struct {
	Method, Path string // the path below the base path
	Access       Access
	// Action is what a change is called in the audit log, such as "token.create".
	// Routes with a method other than GET have one; "-" is for those that write the
	// audit log themselves.
	Action  string
	Handler fiber.Handler
}

// Accounts is what the gate asks about people. *account.Service is one.
type Accounts interface {
	// Visit answers who holds a session's secret; account.ErrSignedOut: nobody.
	Visit(ctx context.Context, secret string) (account.Visitor, error)
	// Record writes into the audit log.
	Record(ctx context.Context, e account.Entry) error
}

// Config is what a Gate needs. Accounts, ClientAddr and Logger are required.
type Config struct {
	Accounts Accounts
	// Base is the path that everything is under: "" or such as "/relay".
	Base string
	// PublicURL is where browsers reach the server; "" when not known.
	PublicURL string
	// TLS says that the listener speaks TLS.
	TLS bool
	// ClientAddr tells who is asking, as the trusted proxies say.
	ClientAddr func(*fiber.Ctx) netip.Addr
	// Trusted says that the request came straight from a trusted proxy. Nil: never.
	Trusted func(*fiber.Ctx) bool
	// Forwarded signs in by what a trusted proxy says of the person, when that was
	// switched on. Nil: never.
	Forwarded func(c *fiber.Ctx) (account.Visitor, bool)
	// Page answers a person who may not see a page, with a status and a sentence.
	// Nil: the error goes to the server's error handler.
	Page   func(c *fiber.Ctx, status int, text string) error
	Logger *slog.Logger
}

// A Gate stands before pages. Its methods may be called concurrently, but Add only
// before the first request.
type Gate struct {
	cfg    Config
	origin string // of PublicURL, "" when not known
	routes []Route

	waiting atomic.Int32 // requests that wait for a fresh session
}

// New checks the configuration.
func New(cfg Config) (*Gate, error) {
	if cfg.Accounts == nil || cfg.ClientAddr == nil || cfg.Logger == nil {
		return nil, errors.New("gate: Accounts, ClientAddr and Logger must be given")
	}
	if cfg.Trusted == nil {
		cfg.Trusted = func(*fiber.Ctx) bool { return false }
	}
	g := &Gate{cfg: cfg}
	if u, err := url.Parse(cfg.PublicURL); err == nil && u.Host != "" {
		g.origin = originOf(u)
	}
	return g, nil
}

// SetPage says who answers a person that may not see a page, once that is known.
func (g *Gate) SetPage(page func(c *fiber.Ctx, status int, text string) error) { g.cfg.Page = page }

// Add adds routes to r, which is at the base path already. It panics when a route
// does not say who may use it, or a change has no name: that is a fault of the
// program, found at its first start.
func (g *Gate) Add(r fiber.Router, routes ...Route) {
	for _, route := range routes {
		if !route.Access.known() || route.Handler == nil || route.changes() && route.Action == "" {
			panic("gate: " + route.Method + " " + route.Path + " needs an access, a handler and, for a change, an action")
		}
		g.routes = append(g.routes, route)
		r.Add(route.Method, route.Path, g.guard(route))
	}
}

// Routes lists what was added.
func (g *Gate) Routes() []Route { return g.routes }

func (r *Route) changes() bool { return r.Method != fiber.MethodGet && r.Method != fiber.MethodHead }

// guard wraps a route's handler.
func (g *Gate) guard(route Route) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderCacheControl, "no-store")
		c.Append(fiber.HeaderVary, fiber.HeaderCookie)
		v, in, err := g.Visitor(c)
		if err != nil {
			return g.refuse(c, fiber.StatusServiceUnavailable, "Sessions cannot be read at this moment. Try again.")
		}
		if route.Access != Open && !in {
			return g.signIn(c, route)
		}
		if route.Access != Open && !v.Role.Allows(account.Role(route.Access)) {
			g.record(c, route, account.Refused, "the role "+string(v.Role)+" may not")
			return g.refuse(c, fiber.StatusForbidden, "This needs the role "+string(route.Access)+"; you have "+string(v.Role)+".")
		}
		if !route.changes() {
			return route.Handler(c)
		}
		if text := g.FromUs(c); text != "" {
			g.record(c, route, account.Refused, "the form did not come from a page of this server")
			return g.refuse(c, fiber.StatusForbidden, text)
		}
		err = route.Handler(c)
		g.recordOutcome(c, route, err)
		return err
	}
}

// signIn leads somebody who is not signed in to the page for it, and back.
func (g *Gate) signIn(c *fiber.Ctx, route Route) error {
	if route.changes() || !WantsPage(c) {
		return g.refuse(c, fiber.StatusUnauthorized, "Your session is over. Sign in again.")
	}
	to := g.cfg.Base + "/login"
	if next := string(c.Context().RequestURI()); g.SafeNext(next) != "" && next != g.cfg.Base+"/" {
		to += "?next=" + url.QueryEscape(next)
	}
	return c.Redirect(to, fiber.StatusSeeOther)
}

// WantsPage says that the client is a browser that shows pages.
func WantsPage(c *fiber.Ctx) bool {
	return strings.Contains(c.Get(fiber.HeaderAccept), "text/html")
}

// SafeNext returns a path of this server to go on to, or "" for anything else: a
// foreign address must not be reached through us.
func (g *Gate) SafeNext(next string) string {
	if len(next) > 1024 || !strings.HasPrefix(next, g.cfg.Base+"/") || strings.HasPrefix(next, "//") {
		return ""
	}
	for _, r := range next {
		if r <= ' ' || r == '\\' || r == 0x7f {
			return ""
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || strings.Contains(u.Path, "//") {
		return ""
	}
	// A path with dots in it may be another one to a browser.
	for part := range strings.SplitSeq(u.Path, "/") {
		if part == "." || part == ".." {
			return ""
		}
	}
	return next
}

func (g *Gate) refuse(c *fiber.Ctx, status int, text string) error {
	if g.cfg.Page != nil && WantsPage(c) {
		return g.cfg.Page(c, status, text)
	}
	return fiber.NewError(status, text)
}

// visit is what one request found out about its sender.
type visit struct {
	visitor account.Visitor
	in      bool
	err     error
	secret  string
	target  string // of a change, for the audit log
	detail  string
	outcome string
}

const visitKey = "agentnet.visit"

// look finds out who sent the request, once.
func (g *Gate) look(c *fiber.Ctx) *visit {
	if v, ok := c.Locals(visitKey).(*visit); ok {
		return v
	}
	v := &visit{}
	c.Locals(visitKey, v)
	if g.cfg.Forwarded != nil {
		if v.visitor, v.in = g.cfg.Forwarded(c); v.in {
			// There is no secret of ours in the browser: its form cookie stands in.
			v.secret = c.Cookies(g.CookieName(c, formCookie))
			return v
		}
	}
	secret := c.Cookies(g.CookieName(c, sessionCookie))
	if secret == "" {
		return v
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), 5*time.Second)
	defer cancel()
	v.visitor, v.err = g.visit(c, ctx, secret)
	switch {
	case v.err == nil:
		v.in, v.secret = true, secret
	case errors.Is(v.err, account.ErrSignedOut):
		v.err = nil
	default:
		g.cfg.Logger.Warn("a session could not be read", "error", v.err)
	}
	return v
}

// A browser that has just signed in may reach another node with its next request,
// a moment before that node has heard of the session: it is waited for, by so many
// requests at a time, for so long.
const (
	freshWaits = 32
	freshTime  = 1500 * time.Millisecond
	freshEvery = 50 * time.Millisecond
)

// visit looks a session up, with some patience right after a sign-in.
func (g *Gate) visit(c *fiber.Ctx, ctx context.Context, secret string) (account.Visitor, error) {
	v, err := g.cfg.Accounts.Visit(ctx, secret)
	if !errors.Is(err, account.ErrSignedOut) || c.Cookies(g.CookieName(c, freshCookie)) == "" {
		return v, err
	}
	if g.waiting.Add(1) > freshWaits {
		g.waiting.Add(-1)
		return v, err
	}
	defer g.waiting.Add(-1)
	tick := time.NewTicker(freshEvery)
	defer tick.Stop()
	for end := time.Now().Add(freshTime); errors.Is(err, account.ErrSignedOut) && time.Now().Before(end); {
		select {
		case <-tick.C:
			v, err = g.cfg.Accounts.Visit(ctx, secret)
		case <-ctx.Done():
			return v, err
		}
	}
	return v, err
}

// Visitor answers who is signed in. The error says that it cannot be known now.
func (g *Gate) Visitor(c *fiber.Ctx) (v account.Visitor, in bool, err error) {
	found := g.look(c)
	return found.visitor, found.in, found.err
}

// May says that the request is from somebody signed in with at least a role.
func (g *Gate) May(c *fiber.Ctx, need account.Role) bool {
	v := g.look(c)
	return v.in && v.visitor.Role.Allows(need)
}

// Note tells the audit log what a change was done to, in the words of a person.
func Note(c *fiber.Ctx, target, detail string) {
	if v, ok := c.Locals(visitKey).(*visit); ok {
		v.target, v.detail = target, detail
	}
}

// NoteFailed tells the audit log that a change was answered with a page but not
// done: account.Refused or account.Failed.
func NoteFailed(c *fiber.Ctx, outcome, detail string) {
	if v, ok := c.Locals(visitKey).(*visit); ok {
		v.outcome, v.detail = outcome, detail
	}
}

func (g *Gate) recordOutcome(c *fiber.Ctx, route Route, err error) {
	outcome := account.Done
	status := c.Response().StatusCode()
	if e, ok := errors.AsType[*fiber.Error](err); ok {
		status = e.Code
	}
	switch {
	case g.look(c).outcome != "":
		outcome = g.look(c).outcome
	case status >= 500 || err != nil && status < 400:
		outcome = account.Failed
	case status >= 400:
		outcome = account.Refused
	}
	g.record(c, route, outcome, g.look(c).detail)
}

// record writes into the audit log. A refused form of somebody who is signed out
// is not worth a row: anybody could fill the log with it.
func (g *Gate) record(c *fiber.Ctx, route Route, outcome, detail string) {
	v := g.look(c)
	if route.Action == "" || route.Action == "-" || !v.in {
		return
	}
	// The error is logged where it happens; what was done is done.
	_ = g.cfg.Accounts.Record(c.UserContext(), account.Entry{Actor: v.visitor.Name, Role: v.visitor.Role, Via: account.ViaPage,
		Address: g.cfg.ClientAddr(c).String(), Action: route.Action, Target: v.target, Outcome: outcome, Detail: detail})
}
