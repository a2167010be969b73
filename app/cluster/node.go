package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/redis"
	"agentnet/app/relay"
)

// Config says who a Node is and which Redis it shares with the others.
type Config struct {
	// Name of this node, unique among all; Region that it is in. Both are 1 to 64 of
	// A-Z a-z 0-9 . _ -
	Name, Region string
	// Addr is where clients reach this node, told to clients of others. May be empty.
	Addr string
	// Version of the program, for people.
	Version string
	// Fingerprint stands for the settings that must be equal in all nodes. Settings
	// names them one by one, so that what differs can be named: setting: hash.
	Fingerprint string
	Settings    map[string]string

	// URL is the Redis of this region; see ParseURL. Or Dial makes connections to
	// the embedded one, with Password.
	URL      string
	Dial     func(context.Context) (net.Conn, error)
	Password string
	// TLS names the files for each Redis whose URL begins with rediss.
	TLS redis.TLS
	// Regions are the Redis servers of all regions, this one's own may be among them.
	Regions []Region

	// Beat is how often a node says that it lives, Lease for how long that is
	// believed. Default 500 ms and 2 s.
	Beat, Lease time.Duration
	// LeaderLease is for how long a leader is one without renewing it. Default 3 s.
	LeaderLease time.Duration

	Logger *slog.Logger
	// media makes the way to a region's Redis, for tests.
	media func(Region) medium
}

// A Region is a Redis and the nodes that listen there. Regions without a Redis of
// their own need not be named.
type Region struct {
	Name string
	URL  string
}

var placeName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (c *Config) check() error {
	if !placeName.MatchString(c.Name) || !placeName.MatchString(c.Region) {
		return errors.New("name and region of a node must be 1 to 64 of A-Z a-z 0-9 . _ -")
	}
	if c.Beat <= 0 {
		c.Beat = 500 * time.Millisecond
	}
	if c.Lease <= 0 {
		c.Lease = 2 * time.Second
	}
	if c.Lease < 2*c.Beat {
		return fmt.Errorf("a lease of %v is too short for a beat of %v", c.Lease, c.Beat)
	}
	if c.LeaderLease <= 0 {
		c.LeaderLease = 3 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// maxPeers bounds how many names of nodes are remembered.
const maxPeers = 1000

// forgetPeer is after how long a node that is gone is forgotten.
const forgetPeer = 10 * time.Minute

// A Node is this node among the others. All methods may be called concurrently.
type Node struct {
	// Fixed by New and before Run.
	cfg      Config
	log      *slog.Logger
	started  time.Time
	own      *link
	settings string           // of the configuration, as they are told
	links    map[string]*link // by region, own among them
	relay    relay.Peers      // nil: nobody listens
	handlers [256]func(from string, parcel []byte)
	watchers []func(Member, Event)
	broker   *lateBroker
	balance  Balance
	shed     func(ctx context.Context, count int, endpoints []string) // nil: never

	named string // the life under which this node last had its name; of New, then of keep

	ctx    context.Context // of Run; ends all goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup
	beats  chan struct{} // asks for a beat at once
	ran    atomic.Bool
	closed sync.Once

	life        atomic.Uint64
	epochs      atomic.Uint32
	peers       atomic.Pointer[map[string]*peer] // copied at each change
	slots       atomic.Pointer[[]*peer]          // by slot; 0 is nobody
	joinMu      sync.Mutex                       // held while peers and slots change
	cut         atomic.Bool
	shedding    atomic.Bool
	settledFlag atomic.Bool // ready or cut: claims may be decided

	local    local
	interest interest
	homes    homes
	leader   leadership
	count    counters
	tide     tide

	mu            sync.Mutex
	addr          string
	load          Load
	ready         bool
	draining      bool
	left          bool
	waitsFor      string              // why it is not ready
	listening     map[string]struct{} // channels to which the subscription stands
	echoed        time.Time           // when the first beat of this life was heard back
	silent        time.Duration
	fatal         error
	redis         RedisHealth
	redisCommands int64 // that it had done then
	drift         map[string][]string
}

// New makes a node and tries to reach Redis. When Redis is down it goes on trying in
// Run; a wrong URL, a refused password, and another node of the same name are errors.
func New(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	n := &Node{cfg: cfg, log: cfg.Logger, started: time.Now(), addr: cfg.Addr, listening: map[string]struct{}{}, links: map[string]*link{}, beats: make(chan struct{}, 1), waitsFor: "it has not reached redis yet"}
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.peers.Store(&map[string]*peer{})
	n.slots.Store(&[]*peer{nil})
	n.life.Store(newLife(0))
	n.local.init()
	n.interest.agents.init()
	n.interest.channels.init()
	n.homes.init(n)
	n.leader.drop(cfg.LeaderLease)
	for _, k := range slices.Sorted(maps.Keys(cfg.Settings)) {
		n.settings += k + "=" + cfg.Settings[k] + " "
	}
	if err := n.makeLinks(); err != nil {
		n.cancel()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if err := n.firstConnect(ctx); err != nil {
		_ = n.Close() // the fault is what counts
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return n, nil
}

// newLife returns the number of a new incarnation, which is higher than the last, so
// that what an older one said is told apart. Should the clock have gone back between
// two runs, the older one's lease runs out first.
func newLife(last uint64) uint64 { return max(last+1, uint64(max(time.Now().UnixNano(), 0))) }

// makeLinks makes a way into each region.
func (n *Node) makeLinks() error {
	media := n.cfg.media
	if media == nil {
		media = func(r Region) medium { return newRedisMedium(r.URL, &n.cfg) }
	}
	mine := Region{n.cfg.Region, n.cfg.URL}
	for _, r := range n.cfg.Regions {
		if r.Name == n.cfg.Region && mine.URL == "" && n.cfg.Dial == nil {
			mine.URL = r.URL
		}
	}
	if n.cfg.media == nil && (mine.URL != "") == (n.cfg.Dial != nil) {
		return errors.New("give the redis URL of the node's own region or an embedded store, and not both")
	}
	n.own = &link{region: mine.Name, own: true, medium: media(mine)}
	n.links[mine.Name] = n.own
	for _, r := range n.cfg.Regions {
		if r.Name == n.cfg.Region {
			continue
		}
		if n.links[r.Name] != nil || !placeName.MatchString(r.Name) {
			return fmt.Errorf("region %q is named twice or wrongly", r.Name)
		}
		n.links[r.Name] = &link{region: r.Name, medium: media(r)}
	}
	for _, l := range n.links {
		if m, ok := l.medium.(*redisMedium); ok && m.fault != nil {
			return fmt.Errorf("region %s: %w", l.region, m.fault)
		}
	}
	n.broker = newLateBroker(n)
	return nil
}

// firstConnect tries the region's own Redis once, to find what only a person can
// mend.
func (n *Node) firstConnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*commandTime)
	defer cancel()
	err := n.own.medium.connect(ctx)
	if isRefusal(err) {
		return fmt.Errorf("redis of region %s: %w", n.cfg.Region, err)
	}
	if err != nil {
		n.log.Warn("cluster: redis cannot be reached; the node starts alone and joins when it can", "error", err)
		return nil
	}
	n.own.mu.Lock()
	n.own.connected = true
	n.own.mu.Unlock()
	n.tellShortcoming(n.own)
	return n.takeName(ctx)
}

// Handle has h called for each parcel of a topic, in order for each sender. It must
// be called before Run. h must return soon and may keep parcel, which shares its
// memory with up to 256 KiB of others.
func (n *Node) Handle(t Topic, h func(from string, parcel []byte)) { n.handlers[t] = h }

// Run takes part until ctx ends, then leaves in order. It returns an error when
// another node took this one's name.
func (n *Node) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return errors.New("cluster: Run was called before")
	}
	for _, l := range n.links {
		n.wg.Go(func() { n.serveLink(l) })
	}
	n.wg.Go(func() { n.listen(nodeChannel(n.cfg.Name)) })
	n.wg.Go(func() { n.listen(allChannel) })
	n.wg.Go(n.keep)
	n.wg.Go(n.broker.connect)
	n.wg.Go(n.ticks)
	n.wg.Go(n.balanceLoad)
	select {
	case <-ctx.Done():
		n.leave()
	case <-n.ctx.Done():
	}
	n.end()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fatal
}

// leaveTime bounds the goodbye.
const leaveTime = 2 * time.Second

// leave says goodbye to all, behind everything that was posted before.
func (n *Node) leave() {
	n.mu.Lock()
	n.left = true
	n.mu.Unlock()
	n.announce(topicBye, nil)
	end := time.Now().Add(leaveTime)
	for _, p := range *n.peers.Load() {
		for p.alive.Load() != 0 && time.Now().Before(end) {
			if !p.out.busy() {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	ctx, cancel := context.WithTimeout(n.ctx, leaveTime)
	defer cancel()
	n.release(ctx)
}

// end stops everything but the Broker.
func (n *Node) end() {
	n.closed.Do(func() {
		n.cancel()
		for _, l := range n.links {
			l.medium.close()
		}
		n.wg.Wait()
	})
}

// Close ends everything at once, and the Broker in order. Call it after Run.
func (n *Node) Close() error {
	n.end()
	return n.broker.Close()
}

// fail ends Run with an error.
func (n *Node) fail(err error) {
	n.mu.Lock()
	if n.fatal == nil {
		n.fatal = err
	}
	n.mu.Unlock()
	n.cancel()
}

// clock is a monotonic time of this node alone.
func (n *Node) clock() int64 { return int64(time.Since(n.started)) }

// Post queues one parcel for a node. It never waits and does not keep the parcel;
// false says that it cannot go, which is counted by reason. True promises nothing:
// parcels are lost with their node or with the way.
func (n *Node) Post(t Topic, node string, parcel []byte) bool {
	p := n.peer(node)
	if p == nil || !p.routed.Load() {
		n.count.refused.add(ReasonUnknown, 1)
		return false
	}
	return n.post(p, t, parcel)
}

func (n *Node) post(p *peer, t Topic, parcel []byte) bool {
	if n.cut.Load() {
		n.count.refused.add(ReasonCut, 1)
		return false
	}
	if refused := p.out.push(t, parcel); refused != "" {
		n.count.refused.add(refused, 1)
		return false
	}
	n.count.posted.Add(1)
	return true
}

// Broadcast posts a parcel to all other nodes, and returns to how many it goes.
func (n *Node) Broadcast(t Topic, parcel []byte) (sent int) {
	for _, p := range *n.peers.Load() {
		if p.routed.Load() && n.post(p, t, parcel) {
			sent++
		}
	}
	return sent
}

// peer returns a node by name, nil when it was never heard.
func (n *Node) peer(name string) *peer { return (*n.peers.Load())[name] }

// reaches reports whether a node is this one or has a relationship with it.
func (n *Node) reaches(name string) bool {
	if name == n.cfg.Name {
		return true
	}
	p := n.peer(name)
	return p != nil && p.alive.Load() != 0
}

// settled reports whether this node knows who else is there.
func (n *Node) settled() bool { return n.settledFlag.Load() }

// linkTo returns the way into a region. One that is not configured, and of which a
// node was heard all the same, shares this region's Redis.
func (n *Node) linkTo(region string) *link {
	if l := n.links[region]; l != nil {
		return l
	}
	return n.own
}

// ownURL is the Redis of this node's region, "" for an embedded one.
func (n *Node) ownURL() string {
	if n.cfg.URL != "" || n.cfg.Dial != nil {
		return n.cfg.URL
	}
	for _, r := range n.cfg.Regions {
		if r.Name == n.cfg.Region {
			return r.URL
		}
	}
	return ""
}
