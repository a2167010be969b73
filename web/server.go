package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"agentnet/app/account"
	"agentnet/app/doctor"
	"agentnet/app/relay"
	"agentnet/app/wire"
	"agentnet/web/api"
	"agentnet/web/dash"
	"agentnet/web/gate"
	"agentnet/web/login"
	"agentnet/web/static"

	"github.com/gofiber/fiber/v2"
)

// Config is what a Server needs. Relay, Authorizer and Logger are required.
type Config struct {
	Relay      api.Relay
	Authorizer relay.Authorizer
	// Access is who may sign in, and what admins manage. Nil: nobody can, and the
	// pages and routes for it are not there.
	Access *account.Desk
	// SessionLifetime is how long a browser keeps its session's cookie; 0 is 30 days.
	SessionLifetime time.Duration
	// Forward takes a trusted proxy's word for who somebody is. Nil: never.
	Forward *Forward
	// Outside signs people in at an OpenID provider. Nil: none.
	Outside login.Provider
	// Guard throttles those who guess tokens. Nil: nobody does.
	Guard api.Guard
	// Socket answers GET {Base}/ws. Nil: there is no such route.
	Socket fiber.Handler
	// Prepare is called once with the fiber app before its first request, for what
	// Socket needs of it (ws.Configure). May be nil.
	Prepare func(*fiber.App)
	// Notifier has the ways to tell people, for /v1/notify. May be nil.
	Notifier api.Notifier
	// NotifyLog keeps what was delivered, for /v1/notify/deliveries. May be nil.
	NotifyLog api.NotifyLog
	// Fleet is all nodes. Nil: there is this one alone.
	Fleet func() api.Fleet
	// Readings are further metrics. May be nil.
	Readings func() []api.Reading
	// Scaling answers /v1/scaling and /v1/alerts. Nil: there are no such routes.
	Scaling api.Scaling

	// Hold has exports wait while the node is under pressure, most at the longest. May be nil.
	Hold func(ctx context.Context, most time.Duration) error
	// Doctor examines the node for /v1/doctor. May be nil.
	Doctor func(context.Context) []doctor.Finding

	// Base is the path that everything is under: "" or such as "/relay".
	Base string
	// PublicURL is where clients reach the server, with Base, such as
	// "https://example.org/relay". "" when that is not known.
	PublicURL string
	// TLS says that the listener speaks TLS.
	TLS bool
	// Proxies says which peers may tell a client's address.
	Proxies Proxies
	// Limits bound bodies. The zero value means wire.DefaultLimits.
	Limits wire.Limits
	// Version of the server.
	Version string
	// Pages are what the console shows beside the relay.
	Pages dash.Sources
	// PagesEvery is the distance of two readings and renderings of what is watched. 0
	// is a second.
	PagesEvery time.Duration
	// PublicPage shows the numbers of the first page to everybody, not only to those
	// who are signed in.
	PublicPage bool
	// Commands are the lines that the first page offers to a newcomer. Nil: token,
	// listen and send.
	Commands []string
	// MetricsToken opens /metrics besides tokens of the relay. "" for none.
	MetricsToken string
	// MetricsPublic opens /metrics to everybody.
	MetricsPublic bool
	// AccessLog writes a line for each request: method, route, status, time.
	AccessLog bool

	// HeaderBytes bounds a request's line and headers. Defaults to 8 KiB, which a
	// JWT fits in.
	HeaderBytes int
	// Connections bounds the sockets that HTTP holds at one time; those that became
	// WebSockets do not count. Defaults to 16384.
	Connections int
	// ReadTimeout bounds the reading of one request. Defaults to 10 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds the writing of one answer. Defaults to 10 s.
	WriteTimeout time.Duration
	// IdleTimeout bounds the wait for the next request. Defaults to 30 s.
	IdleTimeout time.Duration

	Logger *slog.Logger
}

const (
	defaultHeaderBytes = 8 << 10
	defaultConnections = 16384
	defaultTimeout     = 10 * time.Second
	defaultIdle        = 30 * time.Second
	// bodySlack is how much more than a frame a body may have before the server
	// stops reading: enough for the API to say what is wrong itself.
	bodySlack = 4 << 10
)

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

// Server is the HTTP server. Its methods may be called concurrently.
type Server struct {
	cfg        Config
	publicHost string
	app        *fiber.App
	api        *api.API
	page       *dash.Page
	board      *dash.Board  // nil without Access
	gate       *gate.Gate   // nil without Access
	login      *login.Pages // nil without Access

	mu     sync.Mutex
	closed bool // Shutdown was called. Guarded by mu.
}

// New builds the server; Serve starts it.
func New(cfg Config) (*Server, error) {
	if cfg.Relay == nil || cfg.Authorizer == nil || cfg.Logger == nil {
		return nil, errors.New("web: Relay, Authorizer and Logger must be given")
	}
	if !basePath.MatchString(cfg.Base) {
		return nil, fmt.Errorf("web: base path %q: expected \"\" or a path such as /relay without a slash at its end", cfg.Base)
	}
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg}
	if cfg.PublicURL != "" {
		u, err := url.Parse(cfg.PublicURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("web: public url %q: expected such as https://example.org", cfg.PublicURL)
		}
		s.publicHost = strings.ToLower(u.Hostname())
	}
	files, err := static.New(cfg.Base + "/static")
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if err := s.openGate(files); err != nil {
		return nil, err
	}
	s.page, err = dash.New(dash.Config{
		Source: cfg.Relay, Files: files, Base: cfg.Base, PublicURL: cfg.PublicURL, TLS: cfg.TLS, Version: cfg.Version,
		Commands: cfg.Commands, Local: s.signedIn, Public: cfg.PublicPage, SignIn: s.gate != nil, Every: cfg.PagesEvery,
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if err := s.openBoard(files); err != nil {
		return nil, err
	}
	served := api.Config{
		Relay: cfg.Relay, Authorizer: cfg.Authorizer, Guard: cfg.Guard, ClientAddr: s.ClientAddr, Local: s.local,
		Limits: cfg.Limits, Base: cfg.Base, PublicURL: cfg.PublicURL, Version: cfg.Version,
		MetricsToken: cfg.MetricsToken, MetricsPublic: cfg.MetricsPublic, Readings: cfg.Readings, Fleet: cfg.Fleet, Scaling: cfg.Scaling,
		Load: func() api.Load {
			now := s.page.Now()
			return api.Load{MessagesPerS: now.AcceptedPerS, P95: now.P95}
		},
		Hold: cfg.Hold, Doctor: cfg.Doctor, Seen: s.seen, Orders: cfg.Pages.Orders, Roster: cfg.Pages.Agents, Tracer: cfg.Pages.Traces,
		Session: s.session, Access: s.keeper(), Record: s.recorder(),
		Notifier: cfg.Notifier, NotifyLog: cfg.NotifyLog,
		Logger: cfg.Logger,
	}
	s.shareConsole(&served)
	if s.api, err = api.New(served); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.app = s.newApp()
	s.app.Server().Handler = s.known(s.app.Server().Handler)
	s.route(files)
	if cfg.Prepare != nil {
		cfg.Prepare(s.app)
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Limits == (wire.Limits{}) {
		c.Limits = wire.DefaultLimits()
	}
	c.HeaderBytes = cmp.Or(max(c.HeaderBytes, 0), defaultHeaderBytes)
	c.Connections = cmp.Or(max(c.Connections, 0), defaultConnections)
	c.ReadTimeout = cmp.Or(max(c.ReadTimeout, 0), defaultTimeout)
	c.WriteTimeout = cmp.Or(max(c.WriteTimeout, 0), defaultTimeout)
	c.IdleTimeout = cmp.Or(max(c.IdleTimeout, 0), defaultIdle)
	return c
}

func (s *Server) newApp() *fiber.App {
	return fiber.New(fiber.Config{
		AppName:               "agentnet",
		DisableStartupMessage: true,
		// Strings that leave a handler would be rewritten by a later request.
		Immutable:                    true,
		CaseSensitive:                true,
		ReadTimeout:                  s.cfg.ReadTimeout,
		WriteTimeout:                 s.cfg.WriteTimeout,
		IdleTimeout:                  s.cfg.IdleTimeout,
		ReadBufferSize:               s.cfg.HeaderBytes,
		BodyLimit:                    s.cfg.Limits.FrameBytes + bodySlack,
		Concurrency:                  s.cfg.Connections,
		DisablePreParseMultipartForm: true, // would write files
		DisableDefaultContentType:    true,
		ErrorHandler:                 s.fail,
	})
}

func (s *Server) route(files *static.Files) {
	s.app.Use(s.guard)
	root := s.app.Group(s.cfg.Base)
	s.api.Register(root)
	root.Get("/static/:file", files.Handler)
	if s.cfg.Socket != nil {
		root.Get("/ws", s.cfg.Socket)
	}
	if s.board != nil {
		s.gate.Add(root, s.boardRoutes()...)
	} else {
		root.Get("/", s.page.Handler)
	}
	books := dash.NewRunbooks(s.cfg.Base, files)
	root.Get("/runbooks", books.List)
	root.Get("/runbooks/:name", books.One)
	if s.gate != nil {
		s.gate.Add(root, s.login.Routes()...)
	}
}

// Run measures what the first page and /v1/regions show, until ctx ends. It
// returns nil.
func (s *Server) Run(ctx context.Context) error {
	var pages sync.WaitGroup
	if s.board != nil {
		pages.Go(func() { s.board.Run(ctx) })
	}
	s.page.Run(ctx)
	pages.Wait()
	return nil
}

// Serve answers on ln until Shutdown, and then returns nil. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ln.Close()
	}
	if err := s.app.Listener(&pacedListener{Listener: ln}); err != nil {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// Shutdown stops accepting, ends the requests that wait for a reply, and returns
// when all others are answered or ctx ends. A connection that has not said a word
// yet delays it by up to 5 s. WebSockets are not its own: their owner closes them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.api.Close()
	if s.board != nil {
		s.board.Close()
	}
	if err := s.app.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("stop http: %w", err)
	}
	return nil
}

// Latency reads the response times of the API.
func (s *Server) Latency() relay.Histogram { return s.api.Latency() }

// Metrics lists the metrics of this node.
func (s *Server) Metrics() []api.Metric { return s.api.Metrics() }

// ClientAddr is the address of the client, as the trusted proxies tell it.
func (s *Server) ClientAddr(c *fiber.Ctx) netip.Addr { return s.cfg.Proxies.ClientAddr(c) }
