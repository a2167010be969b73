package dash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"agentnet/app/relay"
	"agentnet/web/static"
	"agentnet/web/ui"

	"github.com/gofiber/fiber/v2"
)

// A Source is the node that the page speaks of. *relay.Hub is one.
type Source interface {
	Stats() relay.Stats
	Ready() []relay.Reason
}

// Config is what the page needs. Source, Files and Local are required.
type Config struct {
	Source Source
	Files  *static.Files
	// Base is the path that the server is under, "" or "/relay".
	Base string
	// PublicURL is where clients reach the server, with Base; "" when not known.
	PublicURL string
	// TLS says that the listener speaks TLS.
	TLS     bool
	Version string
	// Commands are the lines that a newcomer is offered. Nil: listen and send.
	Commands []string
	// Local says that whoever asks may see the numbers: is signed in.
	Local func(*fiber.Ctx) bool
	// SignIn says that there is a page to sign in.
	SignIn bool
	// Public shows the numbers to everybody.
	Public bool
	// Every is the distance of two readings of the relay. 0 is a second; tests that
	// wait for many of them use less.
	Every time.Duration
}

// Page is the first page. Its methods may be called concurrently.
type Page struct {
	cfg     Config
	sampler sampler
}

// New checks the configuration.
func New(cfg Config) (*Page, error) {
	if cfg.Source == nil || cfg.Files == nil || cfg.Local == nil {
		return nil, errors.New("dash: Source, Files and Local must be given")
	}
	if cfg.Every <= 0 {
		cfg.Every = sampleEvery
	}
	return &Page{cfg: cfg, sampler: sampler{read: cfg.Source.Stats, every: cfg.Every}}, nil
}

// Run reads the relay again and again until ctx ends.
func (p *Page) Run(ctx context.Context) { p.sampler.run(ctx) }

// Now is how busy the node is.
func (p *Page) Now() Now { return p.sampler.latest() }

// Handler answers GET {base}/.
func (p *Page) Handler(c *fiber.Ctx) error {
	endpoint := p.endpoint(string(c.Context().Request.Host()))
	view, local := p.stranger(endpoint), p.cfg.Local(c)
	if local || p.cfg.Public {
		reasons := p.cfg.Source.Ready()
		if !local { // an error's text may name files and addresses of this machine
			for i := range reasons {
				reasons[i].Message = ""
			}
		}
		view = p.view(endpoint, p.Now(), reasons)
	}
	var body bytes.Buffer
	if err := first(view).Render(context.Background(), &body); err != nil {
		return fmt.Errorf("draw the first page: %w", err)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Send(body.Bytes())
}

// View is what the first page shows, ready to be shown.
type View struct {
	Frame    ui.Frame
	Kind     string // state: ok, warn, crit, info
	Word     string
	Headline string
	Lead     string
	Reasons  []relay.Reason // what is wrong
	Tiles    []ui.Tile      // none for a stranger
	Facts    []Fact
	Connect  []Fact
	Commands []string
	Links    []Link
	Foot     string
}

// A Fact is a name and a value.
type Fact struct {
	Name, Value string
	Code        bool // set in the machine's type
}

// A Link is a path of this server and what is there.
type Link struct{ Path, Name string }

// hostPort is what a Host header may hold before it is shown to anybody.
var hostPort = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// endpoint is the URL that agents connect to.
func (p *Page) endpoint(host string) string {
	if u, err := url.Parse(p.cfg.PublicURL); err == nil && u.Host != "" {
		return "ws" + strings.TrimPrefix(u.Scheme, "http") + "://" + u.Host + strings.TrimSuffix(u.Path, "/") + "/ws"
	}
	if !hostPort.MatchString(host) || len(host) > 260 {
		host = "127.0.0.1"
	}
	scheme := "ws"
	if p.cfg.TLS {
		scheme = "wss"
	}
	return scheme + "://" + host + p.cfg.Base + "/ws"
}

// stranger is the view for those who see no numbers.
func (p *Page) stranger(endpoint string) View {
	v := p.unlinked(endpoint)
	if p.cfg.SignIn {
		v.Links = append([]Link{{p.cfg.Base + "/account", "Your account"}}, v.Links...)
	}
	return v
}

func (p *Page) unlinked(endpoint string) View {
	return View{
		Frame: ui.Frame{Title: "Agentnet", Home: p.cfg.Base + "/", Style: p.cfg.Files.URL("app.css"), Icon: p.cfg.Files.URL("mark.svg")},
		Kind:  "ok", Word: "Running",
		Headline: "An Agentnet relay runs here.",
		Lead:     "Agents connect with a token that its operator gives them.",
		Connect:  p.connect(endpoint),
		Commands: p.commands(endpoint),
		Links:    []Link{{p.cfg.Base + "/openapi.json", "HTTP API"}, {p.cfg.Base + "/readyz", "Readiness"}},
	}
}

func (p *Page) connect(endpoint string) []Fact {
	web := "http" + strings.TrimPrefix(strings.TrimSuffix(endpoint, "/ws"), "ws")
	return []Fact{
		{"WebSocket", endpoint, true},
		{"Subprotocols", "agentnet.v1.json, agentnet.v1.protobuf", true},
		{"HTTP", web + "/v1/send", true},
		{"Token", "in the first frame, or as Authorization: Bearer", false},
	}
}

// commands are the two lines that make agents talk, each for a terminal of its
// own.
func (p *Page) commands(endpoint string) []string {
	if p.cfg.Commands != nil {
		return p.cfg.Commands
	}
	at := ""
	if server := "http" + strings.TrimPrefix(strings.TrimSuffix(endpoint, "/ws"), "ws"); server != "http://127.0.0.1:8080" {
		at = "AGENTNET_URL=" + server + " "
	}
	return []string{
		at + "AGENTNET_TOKEN=$(agentnet token create --agent alice) agentnet listen",
		at + `AGENTNET_TOKEN=$(agentnet token create --agent bob) agentnet send alice '{"text":"hello"}'`,
	}
}

// view is the page with numbers.
func (p *Page) view(endpoint string, now Now, reasons []relay.Reason) View {
	v := p.stranger(endpoint)
	s := &now.Stats
	v.Frame.Name = s.Node
	v.Frame.Script = p.cfg.Files.URL("poll.js")
	v.Lead = ""
	for _, r := range reasons {
		if !r.OK {
			v.Reasons = append(v.Reasons, r)
		}
	}
	v.judge(s)
	v.Frame.Title = v.Word + " · " + s.Node + " · Agentnet"
	v.Tiles = tiles(now)
	v.Facts = []Fact{
		{"Node", s.Node, false}, {"Region", s.Region, false}, {"Version", orNone(p.cfg.Version), false},
		{"Running for", ui.Uptime(s.Now.Sub(s.Started)), false},
		{"Load", level(s.Level), false},
		{"Sessions", ui.Count(s.Sessions) + ", " + ui.Count(s.Resumable) + " of them away", false},
		{"Channels", ui.Count(s.Channels) + " with " + ui.Plural(s.Subscriptions, "subscription", "subscriptions"), false},
		{"Waiting", ui.Plural(int(s.MailboxCount), "message", "messages") + " for absent agents", false},
	}
	v.Links = append(v.Links, Link{p.cfg.Base + "/metrics", "Metrics"})
	v.Foot = "read " + s.Now.UTC().Format(time.TimeOnly) + " UTC"
	return v
}

// judge says in one sentence how the node is.
func (v *View) judge(s *relay.Stats) {
	v.Kind, v.Word = "ok", "Running"
	v.Headline = "The relay is running and quiet. No agent is connected yet."
	if s.Agents > 0 {
		v.Headline = "The relay is running. " + ui.Plural(s.Agents, "agent is", "agents are") + " connected."
	}
	switch {
	case s.Draining:
		v.Kind, v.Word, v.Headline = "info", "Draining", "The relay is stopping and sends its agents away."
	case len(v.Reasons) > 0:
		v.Kind, v.Word, v.Headline = "crit", "Not ready", "The relay runs, but should get no new agents now."
	case s.Level != "" && s.Level != "normal":
		v.Kind, v.Word = "warn", "Under load"
		v.Headline = "The relay is busy: its level is " + s.Level + "."
		v.Lead = "It holds back what matters least first. Critical direct messages go last."
	}
}

func level(word string) string {
	if word == "" {
		return "normal"
	}
	return word
}

func orNone(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// tiles are the four numbers.
func tiles(now Now) []ui.Tile {
	s := &now.Stats
	p95, unit := ui.Latency(now.P95)
	queued, queuedUnit := ui.Bytes(s.QueueBytes)
	latency := "nothing delivered in the last minute"
	if now.P95 > 0 {
		p50, p50unit := ui.Latency(now.P50)
		latency = "p50 " + p50 + " " + p50unit + ", last minute"
	}
	return []ui.Tile{
		{Name: "Agents connected", Value: ui.Count(s.Agents), Note: ui.Plural(s.Connections, "connection", "connections"),
			Line: spark(now.Minute.Agents, "agents", ui.Rate)},
		{Name: "Messages", Value: ui.Rate(now.AcceptedPerS), Unit: "per second", Note: ui.Rate(now.DeliveredPerS) + " delivered per second",
			Line: spark(now.Minute.Accepted, "messages a second", ui.Rate)},
		{Name: "Delivery p95", Value: p95, Unit: unit, Note: latency,
			Line: spark(now.Minute.P95, "milliseconds", ui.Rate)},
		{Name: "Waiting in queues", Value: queued, Unit: queuedUnit, Note: ui.Plural(s.Requests, "request", "requests") + " without a reply yet",
			Line: spark(now.Minute.Queued, "bytes", ui.Rate)},
	}
}

// spark puts the range of a line into words.
func spark(points []float64, what string, write func(float64) string) ui.Spark {
	if len(points) == 0 {
		return ui.Spark{}
	}
	low, high := points[0], points[0]
	for _, p := range points {
		low, high = min(low, p), max(high, p)
	}
	label := "Last minute: between " + write(low) + " and " + write(high) + " " + what
	if write(low) == write(high) {
		label = "Last minute: steady at " + write(low) + " " + what
	}
	return ui.Spark{Points: points, Label: label}
}
