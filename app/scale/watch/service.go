package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/scale"

	"golang.org/x/sync/errgroup"
)

// A Store keeps what must survive a restart. *store.Store is one. An error of
// AppendScaleLog means that none of the entries was stored, or that nobody knows.
type Store interface {
	PutRollups(ctx context.Context, rows []scale.NodeRollup, promote []scale.Promotion, now time.Time, bytes int64) error
	// MissingRollups lists spans of a node that were not summed up, from a time on, and
	// where to go on.
	MissingRollups(ctx context.Context, node string, span time.Duration, from, until time.Time, limit int) ([]scale.Promotion, time.Time, error)
	Rollups(ctx context.Context, q scale.RollupQuery, each func(node string, r *scale.Rollup) error) error
	SampleNodes(ctx context.Context) ([]string, error)

	// AppendScaleLog seals entries into this data directory's own chain, whose origin
	// is named after the node.
	AppendScaleLog(ctx context.Context, node string, entries []scale.Entry) ([]scale.LogEntry, error)
	ScaleLogPage(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error)
	ScaleLogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, error)
	ScaleLogCaused(ctx context.Context, origin string, seq uint64) ([]scale.LogEntry, error)
	ScaleLogOrigins(ctx context.Context) ([]string, error)
	VerifyScaleLog(ctx context.Context, origin string) (scale.LogReport, error)

	PutAlerts(ctx context.Context, changed []scale.Alert, rest []string) error
	Alerts(ctx context.Context) ([]scale.Alert, error)
	PutSilences(ctx context.Context, all []scale.Silence) error
	Silences(ctx context.Context) ([]scale.Silence, error)
	// Setting answers with an empty value where there is none.
	Setting(ctx context.Context, name string) (string, error)
	PutSetting(ctx context.Context, name, value string) error
}

// A Fleet is the other nodes. No method waits; all may be called concurrently.
type Fleet interface {
	// Share hands a parcel to all other nodes, which get it by Service.Receive.
	Share(parcel []byte)
	// Tell hands a parcel to one node; false: it cannot go.
	Tell(node string, parcel []byte) bool
	// Leader is the node that decides, with the number of its leadership, which grows
	// with each new leader. An empty name: nobody does.
	Leader() (node string, fence uint64, mine bool)
	// Cut says that the other nodes cannot be reached.
	Cut() bool
}

// Config is what a Service needs. Node, Sources.Stats, Store and Logger are
// required.
type Config struct {
	Node, Region, Version string
	Engine                scale.Config
	View                  scale.FleetConfig
	Sources               Sources
	Store                 Store
	// Others are the other nodes. Nil: this node is alone and leads.
	Others Fleet
	// Actuator carries decisions out in the mode act. Nil: nothing does.
	Actuator scale.Actuator
	// Notifier tells people. Nil: nobody is told.
	Notifier scale.Notifier
	// Prices are what the admin pays, for plans.
	Prices scale.Prices
	// HistoryBytes bounds the database, from where on rows of single nodes go early.
	// 0: only age does.
	HistoryBytes int64
	// Busy says that what is not urgent is to wait: history, forecasts, comparisons.
	// Nil: never. Storing waits a minute at most, comparisons ten, forecasts an hour.
	Busy func() bool
	// Deferrals lists what waits for calm now, for Status. Nil: nothing does.
	Deferrals func() []Deferral
	Logger    *slog.Logger
}

// A Service runs the engine. Its methods may be called concurrently.
//
// Locks: mu guards what its comment names and is held for computations in memory
// only, never while the store, the engine's entries or another node is waited for.
// The engine has a lock of its own, taken after mu or alone.
type Service struct {
	cfg     Config
	log     *slog.Logger
	engine  *scale.Engine
	sampler *Sampler // used by the tick only
	scribe  *scribe
	hand    *hand
	asks    asks

	summed atomic.Bool // every span of the longest resolution that has ended is stored

	own atomic.Pointer[string] // origin of this node's log, known after its first entry

	mu      sync.Mutex
	view    *scale.View
	fleet   scale.Fleet
	rings   map[string]*scale.Ring // "" is the fleet
	rollers map[string]*rolling
	rows    []scale.NodeRollup // that are to be stored
	dirty   map[scale.Promotion]bool
	lost    uint64 // rows that never were
	// regional says that the fleet has, or had, several regions: see region.go.
	regional bool
	leader   string
	fence    uint64
	leads    bool
	held     string // why nobody decides; "" when somebody does
	cost     time.Duration
	ticks    uint64

	// What admins changed, and what was measured. Guarded by mu.
	override   Override
	ownRules   bool      // the rules were changed at run time
	rulesAt    time.Time // when that was last done, here or by the leader's word; zero: not in this life
	calibrated scale.Capacity
	answers    []Answer // to advice; never changed in place
	outlook    outlook
	measured   Measured

	commands chan asked // of other nodes, for the goroutine that carries them out

	configured scale.Config // as it was given; fixed
	stored     stored
	told       time.Time // used by the tick only
}

// maxRings bounds the nodes whose seconds are kept; the fleet's always are.
const maxRings = 64

// New checks the configuration and recalls what was stored.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Node == "" || cfg.Sources.Stats == nil || cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("watch: Node, Sources.Stats, Store and Logger must be given")
	}
	if cfg.Others != nil {
		cfg.Engine.Region = cfg.Region // each region has a leader and a demand of its own
	}
	engine, err := scale.NewEngine(cfg.Engine)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, configured: cfg.Engine, log: cfg.Logger, engine: engine, sampler: NewSampler(cfg.Sources, cfg.Logger), view: scale.NewView(cfg.View),
		rings: make(map[string]*scale.Ring), rollers: make(map[string]*rolling), dirty: make(map[scale.Promotion]bool), commands: make(chan asked, 64)}
	s.scribe = newScribe(cfg.Store, cfg.Node, cfg.Logger, &s.own)
	s.hand = newHand(s)
	s.asks.init()
	if err := s.recall(ctx, time.Now()); err != nil {
		return nil, fmt.Errorf("scaling: %w", err)
	}
	return s, nil
}

// Engine is the engine that this node runs or follows.
func (s *Service) Engine() *scale.Engine { return s.engine }

// Intervals of what is not done each second.
const (
	tickEvery  = time.Second
	storeEvery = 10 * time.Second
	// stopTime bounds what is written at the end.
	stopTime = 5 * time.Second
)

// Run works until ctx ends and then writes what is still in memory. It returns nil.
func (s *Service) Run(ctx context.Context) error {
	s.begin(time.Now())
	g, work := errgroup.WithContext(ctx)
	g.Go(func() error { return s.scribe.run(work) })
	g.Go(func() error { return s.hand.run(work) })
	g.Go(func() error { return s.keep(work) })
	g.Go(func() error { return s.catchUp(work) })
	g.Go(func() error { return s.look(work) })
	g.Go(func() error { return s.serve(work) })
	g.Go(func() error {
		every := time.NewTicker(tickEvery)
		defer every.Stop()
		for {
			select {
			case <-work.Done():
				return nil
			case now := <-every.C:
				s.tick(now)
			}
		}
	})
	err := g.Wait()
	s.end(context.WithoutCancel(ctx))
	return err
}

// tick looks at the fleet once.
func (s *Service) tick(now time.Time) {
	begun := time.Now()
	now = now.UTC().Round(0)
	sample := s.sampler.Sample(now)
	sample.Node, sample.Region = s.cfg.Node, s.cfg.Region
	s.share(appendSample(nil, &sample))
	node, fence, mine := s.lead()

	s.mu.Lock()
	s.view.Observe(sample)
	f := s.view.Fleet(now)
	f.Leader, f.Fence, f.Requested, f.Ahead = node, fence, s.hand.requested(), s.ahead(now)
	switch {
	case s.cfg.Others != nil && s.cfg.Others.Cut():
		f.Partial = "the other nodes cannot be reached"
	case node == "":
		f.Partial = "the nodes have no leader"
	}
	began := mine && !s.leads
	s.fleet, s.leader, s.fence, s.leads, s.held = f, node, fence, mine, f.Partial
	s.record(now, &f)
	s.mu.Unlock()

	if mine {
		s.decide(now, s.part(f), began)
	}
	took := time.Since(begun)
	s.mu.Lock()
	s.cost += took
	s.ticks++
	s.mu.Unlock()
}

// part is what this node's leader decides for: its region.
func (s *Service) part(f scale.Fleet) scale.Fleet {
	if s.cfg.Others == nil || len(f.Regions()) < 2 {
		return f
	}
	out := f.Region(s.cfg.Region)
	out.Leader, out.Fence, out.Requested, out.Dark = f.Leader, f.Fence, f.Requested, f.DarkBeside(s.cfg.Region)
	out.Ahead = f.Ahead // of this region: see region.go
	return out
}

// lead says who decides. A lone node does.
func (s *Service) lead() (node string, fence uint64, mine bool) {
	if s.cfg.Others == nil {
		return s.cfg.Node, 0, true
	}
	return s.cfg.Others.Leader()
}

// Lease says whether this node decides now, and under which number, for those who
// carry an order out and must stop when another node leads.
func (s *Service) Lease() (fence uint64, mine bool) {
	_, fence, mine = s.lead()
	return fence, mine
}

// decide runs the engine and hands on what it came to.
func (s *Service) decide(now time.Time, f scale.Fleet, began bool) {
	if began && s.cfg.Others != nil {
		s.scribe.write(s.nodeEntry(now, fmt.Sprintf("%s leads, number %d", s.cfg.Node, f.Fence), nil))
	}
	out, err := s.engine.Tick(now, f)
	if err != nil {
		s.log.Error("the scaling engine could not write part of what it decided", "error", err)
	}
	if len(out.Entries) > 0 {
		s.scribe.put(note{entries: out.Entries, then: func(sealed []scale.LogEntry) { s.act(&out, sealed, f) }})
	}
	for _, n := range out.Notices {
		s.hand.notify(n)
	}
	s.tellKnowledge(now)
}

// act asks the actuator once the decision is on disk.
func (s *Service) act(out *scale.Outcome, sealed []scale.LogEntry, f scale.Fleet) {
	if !out.Decision.Act || s.cfg.Actuator == nil {
		return
	}
	for i := range sealed {
		if sealed[i].Kind == scale.KindDecision {
			s.hand.order(scale.OrderOf(&out.Decision, s.cfg.Region, sealed[i].Origin, f.Fence, sealed[i].Seq, &f), sealed[i].Seq)
			return
		}
	}
}

// origin names this node's log; empty before its first entry.
func (s *Service) origin() string {
	if p := s.own.Load(); p != nil {
		return *p
	}
	return ""
}

// nodeEntry tells of this node itself.
func (s *Service) nodeEntry(now time.Time, text string, data any) scale.Entry {
	e, err := scale.NewEntry(scale.KindNode, now, s.cfg.Node, s.cfg.Region, text, data)
	if err != nil {
		s.log.Error("an entry of the scaling log could not be made", "error", err)
	}
	return e
}

func (s *Service) share(parcel []byte) {
	if s.cfg.Others != nil {
		s.cfg.Others.Share(parcel)
	}
}

// busy says that what is not urgent is to wait.
func (s *Service) busy() bool { return s.cfg.Busy != nil && s.cfg.Busy() }

// Left forgets a node that said goodbye, so that it is not taken for a silent one.
func (s *Service) Left(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.Remove(node)
}

// Fleet is the fleet as it was last seen. It must not be changed.
func (s *Service) Fleet() scale.Fleet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fleet
}
