package dash

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/relay"
	"agentnet/app/roster"
	"agentnet/web/static"
	"agentnet/web/ui"

	"github.com/a-h/templ"
	"github.com/gofiber/fiber/v2"
)

// Relay is the node that the pages speak of. *relay.Hub is one.
type Relay interface {
	Source
	Census(channels bool, match func(agent string) bool) []relay.SessionInfo
	Channels(ctx context.Context, id *relay.Identity, match, after string, limit int) ([]relay.ChannelInfo, relay.Page, error)
	Disconnect(agent, reason string) int
}

// Sources are the parts that pages show beside the relay. A nil part is one that
// this server does not have: its page says so.
type Sources struct {
	Scaling Scaling
	Notify  Notifications
	Nodes   Nodes
	Orders  Orders
	Agents  Agents // nil: those of this node
	Traces  Traces // nil: nobody is traced
	Broker  Broker
	Config  Settings
	Memory  Memory
	Access  Access
}

// BoardConfig is what the console needs. Page, Relay, Files, Who and Logger are
// required.
type BoardConfig struct {
	Page  *Page // the first page, for strangers; its measurements are used by all
	Relay Relay
	Files *static.Files
	// Who says who sent a request.
	Who     func(*fiber.Ctx) Visitor
	Base    string
	Name    string // of the instance
	Version string
	Sources Sources
	// Links are pages of other packages for the rail.
	Links []Link
	// Note tells the audit log what a change was done to. Nil: it is not told.
	Note func(c *fiber.Ctx, target, detail string)
	// PublicStatus shows everybody whether the server works, at /status and as
	// /badge.svg.
	PublicStatus bool
	// Viewers bounds the open streams. Defaults to 512.
	Viewers int
	// Every is the distance of two renderings of what is watched. 0 is a second.
	Every  time.Duration
	Logger *slog.Logger
}

// Board is the console: all pages for those who may see numbers. Its methods may
// be called concurrently.
type Board struct {
	cfg          BoardConfig
	stream       *stream
	cache        cache
	learnt       learnt
	pack         packer
	examination  examination
	first        firstLook
	shop         *workshop
	simulations  *slow[simulation]
	trials       *slow[trial]
	examinations *slow[struct{}]
	book         *roster.Book // of this node
	channelCache channelCache
	shown        map[string]func(*request) (*view, error) // pages by path
}

// NewBoard checks the configuration.
func NewBoard(cfg BoardConfig) (*Board, error) {
	if cfg.Page == nil || cfg.Relay == nil || cfg.Files == nil || cfg.Who == nil || cfg.Logger == nil {
		return nil, errors.New("dash: Page, Relay, Files, Who and Logger must be given")
	}
	if cfg.Viewers <= 0 {
		cfg.Viewers = 512
	}
	if cfg.Every <= 0 {
		cfg.Every = renderEvery
	}
	b := &Board{cfg: cfg, shop: newWorkshop(cfg.Logger), first: firstLook{asked: make(chan struct{}, 1)}}
	b.simulations = newSlow[simulation](b.shop, simulatedFor, simulateTime)
	b.trials = newSlow[trial](b.shop, triedFor, trialTime)
	b.examinations = newSlow[struct{}](b.shop, examinedFor, examineTime)
	s := cfg.Relay.Stats()
	b.book = roster.New(s.Node, s.Region, cfg.Relay.Census)
	b.shown = b.pages()
	maps.Copy(b.shown, b.accessPages())
	b.stream = newStream(b, cfg.Viewers, cfg.Every)
	return b, nil
}

// Run renders what is watched once a second, until ctx ends. Then all streams are
// closed and work that pages wait for has ended.
func (b *Board) Run(ctx context.Context) {
	var look sync.WaitGroup
	look.Go(func() { b.lookFirst(ctx) })
	b.stream.run(ctx)
	b.shop.close()
	look.Wait()
}

// Close ends all streams and what pages wait for; new ones are refused.
func (b *Board) Close() {
	b.stream.close()
	b.shop.close()
}

// Streams tells how many streams are open, and why viewers were sent away.
func (b *Board) Streams() StreamStats { return b.stream.stats() }

// A Route is one address of the console with the role that it needs. Those that
// are not GET change something; whoever serves them checks that the change was
// sent from a page of this server.
type Route struct {
	Method, Path string
	Need         Role
	Action       string // of a change, for the audit log; "-" for one not worth a row
	Handler      fiber.Handler
}

// Routes lists all addresses, below the base path. "/" answers everybody: a
// stranger gets the first page.
func (b *Board) Routes() []Route {
	var out []Route
	add := func(method, path string, need Role, action string, handle func(*request) error) {
		out = append(out, Route{method, path, need, action, func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderCacheControl, "no-store")
			return handle(b.ask(c))
		}})
	}
	for path := range b.shown {
		add("GET", path, b.need(path), "", b.show)
	}
	add("GET", "/live", Viewer, "", b.watch)
	add("POST", "/theme", Nobody, "-", b.theme)
	b.addTables(add)
	b.addActs(add)
	b.addAccessActs(add)
	b.addStatus(add)
	return out
}

// A view is a page that is ready to be drawn.
type view struct {
	title string
	body  templ.Component
	parts []part // what changes while somebody looks
	every int    // seconds between two renderings; 0: the page does not live
	plain bool   // without a time range
	// refresh is after how many seconds a page that lives is loaded again where there
	// are no scripts. 0: 10.
	refresh int
}

// A part is a piece of a page that is replaced as a whole.
type part struct {
	id   string
	body templ.Component
}

// show draws a page.
func (b *Board) show(r *request) error {
	if r.who.Role == Nobody {
		return b.cfg.Page.Handler(r.c)
	}
	make, ok := b.shown[r.path]
	if !ok {
		return fiber.ErrNotFound
	}
	v, err := make(r)
	if err != nil {
		return err
	}
	if v == nil { // the maker has answered
		return nil
	}
	return b.draw(r, v)
}

// draw writes a page with its frame.
func (b *Board) draw(r *request, v *view) error {
	page := b.frame(r, v)
	var body bytes.Buffer
	ctx := templ.WithChildren(context.Background(), v.body)
	if err := ui.App(page).Render(ctx, &body); err != nil {
		return fmt.Errorf("draw %s: %w", r.path, err)
	}
	return b.pack.send(r.c, fiber.MIMETextHTMLCharsetUTF8, body.Bytes())
}

// nav is the rail.
func (b *Board) nav(r *request, n *notices) []ui.NavItem {
	base := b.cfg.Base
	items := []ui.NavItem{
		{Path: "/", Name: "Overview", Icon: "overview", Phone: true},
		{Path: "/trends", Name: "Trends", Icon: "trends"},
		{Path: "/capacity", Name: "Capacity", Icon: "capacity", Phone: true},
		{Path: "/log", Name: "Scaling log", Short: "Log", Icon: "log", Phone: true},
		{Path: "/alerts", Name: "Alerts", Icon: "bell", Phone: true, Count: n.firing, Kind: n.worst},
		{Path: "/simulator", Name: "Simulator", Icon: "simulator"},
		{Path: "/agents", Name: "Agents", Icon: "agents", Phone: true, Gap: true},
		{Path: "/channels", Name: "Channels", Icon: "channels"},
		{Path: "/nodes", Name: "Nodes", Icon: "nodes"},
		{Path: "/broker", Name: "Broker", Icon: "broker"},
		{Path: "/settings", Name: "Settings", Icon: "settings", Gap: true},
		{Path: "/privacy", Name: "Privacy", Icon: "lock"},
	}
	items = slices.DeleteFunc(items, func(i ui.NavItem) bool { _, ok := b.shown[i.Path]; return !ok })
	for i := range items {
		items[i].Current = items[i].Path == r.path || items[i].Path != "/" && strings.HasPrefix(r.path, items[i].Path+"/")
		items[i].Path = base + items[i].Path
	}
	if b.cfg.Sources.Access != nil && r.who.Role == Admin {
		for _, item := range []ui.NavItem{{Path: "/access", Name: "Access", Icon: "key", Gap: true}, {Path: "/audit", Name: "Audit", Icon: "audit"}} {
			item.Current = item.Path == r.path || strings.HasPrefix(r.path, item.Path+"/")
			item.Path = base + item.Path
			items = append(items, item)
		}
	}
	for _, l := range b.cfg.Links {
		items = append(items, ui.NavItem{Path: base + l.Path, Name: l.Name, Icon: "key", Current: l.Path == r.path})
	}
	return items
}

// frame fills in what all pages share.
func (b *Board) frame(r *request, v *view) *ui.Page {
	n := b.notices()
	f := b.cfg.Files
	p := &ui.Page{Title: v.title, Name: b.cfg.Name, Base: b.cfg.Base, Theme: r.theme(), Style: f.URL("app.css"), Icon: f.URL("mark.svg"),
		Nav: b.nav(r, &n), Alerts: n.firing, Pending: n.pending, Worst: n.worst,
		User: r.who.Name, Role: r.who.Role.String(), Account: r.who.Account, Token: r.who.Token, Back: r.back(), Foot: b.foot()}
	p.Verdict = n.verdict
	p.Verdict.Path = b.cfg.Base + "/"
	if !v.plain {
		p.Ranges = r.ranges()
	}
	p.Said, p.SaidBad = r.said()
	p.Scripts = []string{f.URL("live.js")}
	if v.every > 0 {
		p.Scripts = []string{f.URL("htmx.min.js"), f.URL("htmx-sse.min.js"), f.URL("live.js")}
		p.Stream, p.Refresh = b.cfg.Base+"/live?"+r.streamQuery(), cmp.Or(v.refresh, 10)
	}
	if r.path == "/trends" {
		p.Sheets = []string{f.URL("uplot.min.css")}
		p.Scripts = append(p.Scripts, f.URL("uplot.min.js"), f.URL("trends.js"))
	}
	return p
}

// foot is the last line of each page.
func (b *Board) foot() []string {
	now := b.cfg.Page.Now()
	out := []string{"Agentnet " + orNone(b.cfg.Version), "Node " + now.Stats.Node + ", up " + ui.Uptime(now.Stats.Now.Sub(now.Stats.Started))}
	if b.cfg.Sources.Config != nil {
		out = append(out, b.cfg.Sources.Config.Footer()...)
	}
	return out
}

// theme keeps the visitor's choice of colours: as the system says, light, dark.
func (b *Board) theme(r *request) error {
	next := map[string]string{"": "dark", "dark": "light", "light": ""}[r.theme()]
	cookie := &fiber.Cookie{Name: themeCookie, Value: next, Path: b.cfg.Base + "/", SameSite: fiber.CookieSameSiteLaxMode, HTTPOnly: true, MaxAge: int((365 * 24 * time.Hour).Seconds())}
	r.c.Cookie(cookie)
	return r.goTo(r.c.FormValue("back"))
}

func (b *Board) note(c *fiber.Ctx, target, detail string) {
	if b.cfg.Note != nil {
		b.cfg.Note(c, target, detail)
	}
}
