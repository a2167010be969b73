package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"agentnet/app/account"
	"agentnet/app/account/oidc"
	"agentnet/app/auth"
	"agentnet/app/backup"
	"agentnet/app/cluster"
	"agentnet/app/relay"
	"agentnet/app/replica"
	"agentnet/app/roster"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"
	"agentnet/embedded"
	"agentnet/embedded/journal"
	"agentnet/store"
	"agentnet/web"
	"agentnet/web/ws"

	"golang.org/x/sync/errgroup"
)

// stopTime bounds what comes after the drain: answering open requests, and
// writing what is still in memory.
const stopTime = 15 * time.Second

// An App is one node.
type App struct {
	cfg     Config
	version string
	// pagesEvery is the distance of two renderings of watched pages; 0: theirs.
	pagesEvery time.Duration
	log        *slog.Logger
	ready      chan struct{}
	ln         net.Listener

	store      *store.Store
	auth       *auth.Service
	desk       *account.Desk
	outside    *oidc.Provider // nil: none
	setup      string         // path of the link that makes the first admin; "" when there is one
	embedded   *embedded.Server
	broker     relay.Broker
	node       *cluster.Node       // nil: nobody beside this one
	replicator *replica.Replicator // nil likewise
	journal    *journal.Journal
	hub        *relay.Hub
	memory     func() (used, limit int64) // nil: not known
	scaling    *watch.Service
	calm       atomic.Pointer[Gate] // acting.gate, for what runs before it is made
	sockets    *ws.Server
	web        *web.Server
	acting     acting
	orders     orders
	roster     *roster.Book

	certificates *certificates // nil: no TLS
	supervisor   supervisor
	reloading    reloading

	// closers undo what New did, the last one first.
	closers []closer
}

// A closer ends one part within ctx.
type closer struct {
	name string
	f    func(ctx context.Context) error
}

// New opens everything that a node needs: the data directory, the database, the
// journal, the embedded or external Redis, and the listener's certificate. Nothing
// listens until Run. On an error all is closed again.
func New(ctx context.Context, cfg Config, log *slog.Logger, options ...Option) (_ *App, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a := &App{cfg: cfg, log: log, ready: make(chan struct{}), version: BuildVersion()}
	for _, option := range options {
		option(a)
	}
	a.reloading.now = cfg
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(context.WithoutCancel(ctx)))
		}
	}()
	for _, open := range []func(context.Context) error{a.openStore, a.openAuth, a.openAccounts, a.openBroker, a.openJournal, a.openHub, a.openActing, a.openScaling, a.openReplication, a.openOrders, a.openDoors} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// onClose has f called at the end, before what was opened earlier is closed.
func (a *App) onClose(name string, f func(ctx context.Context) error) {
	a.closers = append(a.closers, closer{name, f})
}

func (a *App) openStore(ctx context.Context) error {
	dir := a.dataDir()
	lock, err := store.Lock(dir)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	a.onClose("data directory", func(context.Context) error { return lock.Unlock() })
	settled, err := backup.Settle(dir)
	if err != nil {
		return err
	}
	if settled {
		a.log.Warn("a restore that was cut off was brought to its end", "data", dir)
	}
	a.onClose("note of the node", func(context.Context) error { return a.removeRecord() })
	a.store, err = store.Open(ctx, store.Config{Dir: dir, Lock: lock, Logger: a.log, MaxBytes: int64(a.cfg.Database.MaxBytes)})
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	a.onClose("database", func(context.Context) error { return a.store.Close() })
	return nil
}

func (a *App) openAuth(ctx context.Context) (err error) {
	issuers, err := a.cfg.issuers()
	if err != nil {
		return err
	}
	a.reloading.issuers = issuers
	a.auth, err = auth.New(auth.Config{Tokens: Tokens(a.store), Issuers: issuers, Logger: a.log, OnRevoke: a.endSessions})
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if err := a.auth.Load(ctx); err != nil {
		return fmt.Errorf("read tokens: %w", err)
	}
	return nil
}

func (a *App) openJournal(context.Context) (err error) {
	a.journal, err = journal.Open(journal.Config{Dir: filepath.Join(a.dataDir(), "journal"), Logger: a.log,
		MaxCount: a.cfg.Mailbox.Count, MaxBytes: 2 * int64(a.cfg.Mailbox.Bytes)})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	a.onClose("journal", func(context.Context) error { return a.journal.Close() })
	return nil
}

func (a *App) openHub(context.Context) (err error) {
	cfg := a.cfg.hub()
	cfg.Version = a.version
	cfg.Authorizer, cfg.Broker, cfg.Journal, cfg.Logger, cfg.MemoryLimit = a.auth, a.broker, a.journal, a.log, memory()
	a.memory = cfg.MemoryLimit
	a.joinFleet(&cfg)
	if a.hub, err = relay.New(cfg); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	if err := a.hub.Load(); err != nil {
		return fmt.Errorf("read parked messages: %w", err)
	}
	return nil
}

func (a *App) dataDir() string {
	if a.cfg.Data == "" {
		a.cfg.Data = DataDir(os.Getenv)
	}
	return a.cfg.Data
}

// Ready is closed when the node accepts connections; then Addr is known.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Addr is where the node listens, after Ready.
func (a *App) Addr() string { return a.ln.Addr().String() }

// CreateToken makes an opaque token and returns it; it is not kept anywhere.
func (a *App) CreateToken(ctx context.Context, spec auth.TokenSpec) (token string, err error) {
	token, _, err = a.auth.CreateToken(ctx, spec)
	return token, err
}

// Hub is the node's message path, for those that use it in the same process.
func (a *App) Hub() *relay.Hub { return a.hub }

// Cluster is the node among the others; nil when it is a lone one.
func (a *App) Cluster() *cluster.Node { return a.node }

// Run serves until ctx ends, then moves the clients away and stops. It returns
// nil after an orderly stop, and must be called once.
func (a *App) Run(ctx context.Context) error {
	err := a.listen()
	if err != nil {
		return errors.Join(err, a.close(context.WithoutCancel(ctx)))
	}
	if err := a.writeRecord(); err != nil {
		a.log.Warn("commands beside this node will not find it by itself", "error", err)
	}
	// The parts outlive ctx: they are needed to drain.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failed := errgroup.WithContext(work)
	relayEnded := make(chan struct{})
	g.Go(func() error { defer close(relayEnded); return a.hub.Run(work) })
	g.Go(func() error { return a.runFleet(work, relayEnded) })
	g.Go(func() error { return a.auth.Run(work) })
	g.Go(func() error { return a.runAccounts(work) })
	g.Go(func() error { return a.store.Watch(work, a.storeChanged) })
	g.Go(func() error { return a.runReplication(work) })
	g.Go(func() error { return a.runScaling(work) })
	g.Go(func() error { return a.web.Run(work) })
	g.Go(func() error { return a.runActing(work) })
	g.Go(func() error { return a.runOrders(work) })
	g.Go(func() error { return a.web.Serve(a.ln) })
	g.Go(func() error { return a.maintain(work) })
	g.Go(func() error { return a.supervise(work) })
	g.Go(func() error { return a.challenges(work) })
	close(a.ready)

	select {
	case <-ctx.Done():
		a.drain(work)
	case <-failed.Done(): // a part ended by itself
	}
	err = a.stopServing(work)
	stop()
	err = errors.Join(g.Wait(), err)
	return errors.Join(err, a.close(context.WithoutCancel(ctx)))
}

func (a *App) listen() error {
	ln, err := net.Listen("tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if a.certificates != nil {
		ln = tls.NewListener(ln, a.certificates.config())
	}
	a.ln = ln
	return nil
}

// drain moves the clients away. While it runs the node still serves those that
// are there and refuses new ones.
func (a *App) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.cfg.Drain.Timeout))
	defer cancel()
	a.haltOrders()
	n := a.hub.Stats().Connections
	if a.node != nil {
		a.node.SetState(cluster.Draining)
	}
	a.say("STOPPING=1", fmt.Sprintf("STATUS=asking %d connections to leave", n))
	a.log.Info("stopping: clients are asked to leave", "connections", n, "window", a.cfg.Drain.Window.String())
	if err := a.hub.Drain(ctx, time.Duration(a.cfg.Drain.Window)); err != nil {
		a.log.Warn("not all clients left in time", "connections", a.hub.Stats().Connections)
	}
}

// stopServing closes the doors and ends the sessions: what was delivered but never
// acknowledged, and may be parked, is parked.
func (a *App) stopServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	err := errors.Join(a.sockets.Close(ctx), a.web.Shutdown(ctx)) // in this order: HTTP does not see sockets that were taken over
	a.hub.EndSessions(func(*relay.Identity) bool { return true }, wire.CloseGoingAway, "this node is shutting down")
	return err
}

// close undoes what New did, the last part first, each within the time that is
// left.
func (a *App) close(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	for i := len(a.closers) - 1; i >= 0; i-- {
		c := a.closers[i]
		if e := c.f(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", c.name, e))
		}
	}
	a.closers = nil
	return err
}
