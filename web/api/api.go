package api

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"agentnet/app/account"
	"agentnet/app/doctor"
	"agentnet/app/relay"
	"agentnet/app/roster"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// A Relay is what the API asks of a node. *relay.Hub is one. All methods may be
// called concurrently; their errors are *wire.Error.
type Relay interface {
	Send(ctx context.Context, id *relay.Identity, a relay.SendArgs) (relay.Sent, error)
	// Request calls each for every answer, in order, on the caller's goroutine,
	// and returns when the last has come, the time is over or each has failed. The
	// Answer is valid only during the call.
	Request(ctx context.Context, id *relay.Identity, a relay.RequestArgs, each func(relay.Answer) error) error
	Publish(ctx context.Context, id *relay.Identity, a relay.PublishArgs) (wire.Since, error)
	// Agents and Channels list what id may send to or subscribe to, by name, after
	// the name given, on all nodes. They may wait for other nodes, within ctx.
	Agents(ctx context.Context, id *relay.Identity, match, after string, limit int) ([]wire.AgentInfo, relay.Page, error)
	Channels(ctx context.Context, id *relay.Identity, match, after string, limit int) ([]relay.ChannelInfo, relay.Page, error)
	Stats() relay.Stats
	Ready() []relay.Reason
}

// A Guard slows down those who guess tokens.
type Guard interface {
	// Blocked is nil when a token from addr may be checked.
	Blocked(addr netip.Addr) *wire.Error
	// Failed counts a token from addr that was refused.
	Failed(addr netip.Addr)
}

// Load is how busy the node is, measured over the last seconds.
type Load struct {
	MessagesPerS float64       // accepted messages
	P95          time.Duration // delivery to local receivers
}

// Config is what an API needs. Relay, Authorizer, ClientAddr and Logger are
// required.
type Config struct {
	Relay      Relay
	Authorizer relay.Authorizer
	// Guard is asked before a token is checked. Nil: no throttling.
	Guard Guard
	// ClientAddr tells who is asking, as the trusted proxies say.
	ClientAddr func(*fiber.Ctx) netip.Addr
	// Local says that the request comes from this machine itself and was not passed
	// on by a proxy. Nil: nobody is local.
	Local func(*fiber.Ctx) bool
	// Limits are told in OpenAPI and bound bodies. The zero value means
	// wire.DefaultLimits.
	Limits wire.Limits
	// Base is the path that all routes are under, "" or "/relay".
	Base string
	// PublicURL is where clients reach the node, for the OpenAPI document and
	// /v1/regions, for example "https://relay.example.org/relay". "" leaves it out.
	PublicURL string
	// Version of the server.
	Version string
	// MetricsToken opens /metrics besides tokens of the relay. "" for none.
	MetricsToken string
	// MetricsPublic opens /metrics to everybody.
	MetricsPublic bool
	// Load is the node's load for /v1/regions. Nil: not told.
	Load func() Load
	// Fleet is all nodes. Nil: there is this one alone.
	Fleet func() Fleet
	// Readings are further metrics, such as those of the WebSocket door. May be nil.
	Readings func() []Reading
	// Orders has nodes do what operators want. Nil: its routes are not there.
	Orders Orders
	// Roster lists agents of all nodes. Nil: its route is not there.
	Roster Roster
	// Hold has an export wait while the node is under pressure, most at the longest.
	// Nil: none waits.
	Hold func(ctx context.Context, most time.Duration) error
	// Doctor examines the node. Nil: it cannot.
	Doctor func(context.Context) []doctor.Finding
	// Seen tells how a request arrived; its Peer is hidden from strangers. Nil: only
	// the client's address is told.
	Seen func(*fiber.Ctx) doctor.Seen
	// Notifier has the ways to tell people. Nil: its routes are not there.
	Notifier Notifier
	// NotifyLog keeps what was delivered. Nil: its route is not there.
	NotifyLog NotifyLog
	// Scaling answers /v1/scaling and /v1/alerts. Nil: there are no such routes.
	Scaling Scaling
	// Advice lists what the console advises, with what was put away. Nil: nothing is
	// advised here.
	Advice func() []watch.Piece
	// Tables are the rows of the console's pages. Nil: their routes are not there.
	Tables []Table
	// Tracer notes for a while what passes one agent, without content. Nil: its routes
	// are not there.
	Tracer Tracer
	// AgentSessions lists the sessions of one agent on all nodes, and the nodes that did not
	// answer. Nil: its route is not there.
	AgentSessions func(ctx context.Context, agent string) ([]roster.Session, []string)
	// Session answers who is signed in in the browser that asks, when it sent no
	// token; both nil: nobody. It refuses a change that another site sent. Nil: no
	// sessions are taken.
	Session func(*fiber.Ctx) (*relay.Identity, *wire.Error)
	// Record writes into the audit log what was changed through routes that need the
	// role operator or admin. Nil: nowhere.
	Record func(ctx context.Context, e account.Entry) error
	// Access keeps tokens, accounts, sessions and the audit log. Nil: their routes
	// are not there.
	Access AccessKeeper
	// Waiting bounds the requests that wait for a reply at one time. Defaults to
	// 4096.
	Waiting int
	// AuthTimeout bounds one check of a token. Defaults to 5 s.
	AuthTimeout time.Duration
	Logger      *slog.Logger
}

const (
	defaultWaiting     = 4096
	defaultAuthTimeout = 5 * time.Second
	// defaultRequestTimeout is the relay's own default for a request.
	defaultRequestTimeout = 30 * time.Second
	// operationTimeout bounds send and publish, which wait at most for a disk or
	// another node.
	operationTimeout = 10 * time.Second
)

// API answers the routes of Routes. Its methods may be called concurrently.
type API struct {
	cfg      Config
	routes   []Route
	registry *prometheus.Registry
	document []byte
	waiting  chan struct{} // one element for each request that waits
	times    responseTimes
	heavy    chan struct{} // one element for each request that computes for seconds
	probing  chan struct{} // one element for each stream of a probe
	examiner examiner

	// ctx ends with Close and ends all who wait.
	ctx  context.Context
	stop context.CancelFunc
}

// New checks the configuration and builds the metrics and the OpenAPI document.
func New(cfg Config) (*API, error) {
	if cfg.Relay == nil || cfg.Authorizer == nil || cfg.ClientAddr == nil || cfg.Logger == nil {
		return nil, errors.New("api: Relay, Authorizer, ClientAddr and Logger must be given")
	}
	if cfg.Limits == (wire.Limits{}) {
		cfg.Limits = wire.DefaultLimits()
	}
	if cfg.Waiting <= 0 {
		cfg.Waiting = defaultWaiting
	}
	if cfg.AuthTimeout <= 0 {
		cfg.AuthTimeout = defaultAuthTimeout
	}
	if cfg.Local == nil {
		cfg.Local = func(*fiber.Ctx) bool { return false }
	}
	a := &API{cfg: cfg, heavy: make(chan struct{}, heavyWork), waiting: make(chan struct{}, cfg.Waiting), probing: make(chan struct{}, probeStreams)}
	a.examiner.run = cfg.Doctor
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.routes = append(a.table(), a.doctorRoutes()...)
	a.routes = append(a.routes, a.notifyRoutes()...)
	a.routes = append(a.routes, a.scalingRoutes()...)
	a.routes = append(a.routes, a.orderRoutes()...)
	a.routes = append(a.routes, a.tableRoutes()...)
	a.routes = append(a.routes, a.traceRoutes()...)
	var err error
	if a.registry, err = newRegistry(cfg); err != nil {
		return nil, err
	}
	if a.document, err = a.openAPI(); err != nil {
		return nil, err
	}
	return a, nil
}

// Close ends all requests that wait for a reply; they are answered with
// `unavailable`. The server's listener is to be closed by its owner.
func (a *API) Close() { a.stop() }

// Register adds all routes to r, which is at the base path already.
func (a *API) Register(r fiber.Router) {
	for _, route := range a.routes {
		r.Add(route.Method, route.Path, a.serve(route))
	}
}

// Routes lists what Register adds, in the order of the OpenAPI document.
func (a *API) Routes() []Route { return a.routes }
