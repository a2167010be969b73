package relay

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/relay/mailbox"
	"agentnet/app/relay/overload"
	"agentnet/app/wire"
)

// shards is the number of parts of each directory of the hub. Two messages meet
// on one lock only when their receivers share a part.
const shards = 64

// A Hub is the message path of one node. All methods may be called concurrently.
type Hub struct {
	// life is over when Run ends: what looks for a home ends with it.
	life    context.Context
	endLife context.CancelFunc

	// Fixed at construction.
	cfg         Config
	log         *slog.Logger
	started     time.Time
	hash        maphash.Seed
	dedupSeed   [2]maphash.Seed
	defaultRule ChannelRule
	turns       sync.Pool

	agents   [shards]agentShard
	channels [shards]channelShard
	requests [shards]requestShard
	receipts [shards]receiptShard
	dedup    [shards]dedupShard
	sessions [shards]sessionShard // by the hash of the session's secret

	// Of a fleet; nil and unused on a lone node.
	fleet      Fleet
	requestTag uint64 // the upper bits of this node's request numbers
	routes     [shards]routeShard
	crossings  [shards]crossShard
	farAsks    [shards]farShard
	routeN     atomic.Int64
	crossLast  atomic.Uint64
	landed     landed
	mark       string // stands for this node in the secrets of its sessions
	tickets    tickets
	questions  questions
	moves      moves
	departed   departures
	departedN  atomic.Int64

	wheels    wheels
	gate      *limit.Gate
	addresses *limit.Addresses
	mail      *mailbox.Box[*parkedMessage]
	ladder    *overload.Ladder
	load      load
	totals    totals
	delivery  histogram
	reply     histogram

	level         atomic.Uint32 // overload.Level
	bounds        atomic.Pointer[Bounds]
	draining      atomic.Bool
	leaving       atomic.Pointer[cause] // why it drains
	closing       atomic.Bool           // it drains, and no other node stays
	links         linkSet
	sessionN      atomic.Int64
	resumableN    atomic.Int64
	agentN        atomic.Int64 // with a session
	onlineN       atomic.Int64 // with a session that has a socket
	channelN      atomic.Int64
	subscriptionN atomic.Int64
	requestN      atomic.Int64
	requestLast   atomic.Uint64 // the last request number given
	waiting       chan struct{} // bounds the goroutines that wait for something outside
	historian     historian
	guests        guests
	ladderMu      sync.Mutex
	ready         readiness
	endings       endings
	tracing       tracing
	profileBytes  atomic.Int64 // cards and keys of all agents
}

type agentShard struct {
	mu sync.RWMutex
	m  map[string]*agent
}

type sessionShard struct {
	mu sync.Mutex
	m  map[secretHash]*Session
}

// maxWaiting bounds the commands that wait for the Authorizer or the Broker at
// one time. Others are refused as unavailable.
const maxWaiting = 4096

// New makes a Hub. Nothing runs until Run; Load comes before the first Accept.
func New(cfg Config) (*Hub, error) {
	cfg.setDefaults()
	if cfg.Authorizer == nil {
		return nil, fmt.Errorf("relay: no Authorizer is set")
	}
	h := &Hub{cfg: cfg, log: cfg.Logger, started: time.Now(), hash: maphash.MakeSeed(),
		gate: limit.NewGate(cfg.Gate), addresses: limit.NewAddresses(cfg.Addresses),
		mail: mailbox.New[*parkedMessage](cfg.Mailbox), ladder: overload.NewLadder(cfg.Overload),
		waiting: make(chan struct{}, maxWaiting)}
	h.life, h.endLife = context.WithCancel(context.Background())
	for i := range shards {
		h.agents[i].m = make(map[string]*agent)
		h.channels[i].m = make(map[string]*channel)
		h.requests[i].m = make(map[uint64]*pending)
		h.receipts[i].m = make(map[string]*receiptWait)
		h.dedup[i].m = make(map[dedupKey]*dedupEntry)
		h.sessions[i].m = make(map[secretHash]*Session)
		h.routes[i].m = make(map[string]*route)
		h.crossings[i].m = make(map[uint64]*crossing)
		h.farAsks[i].m = make(map[farKey]*pending)
	}
	h.bounds.Store(h.cfg.configured())
	h.turns.New = func() any { return h.NewTurn() }
	h.dedupSeed = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	h.defaultRule.setDefaults()
	h.links.init()
	h.historian.init()
	h.tickets.m = make(map[uint64]*ticket)
	h.questions.m = make(map[uint64]*question)
	h.joinFleet(cfg.Fleet)
	return h, nil
}

// Run drives clocks, load watching and history until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { h.runClock(ctx) })
	wg.Go(func() { h.runMonitor(ctx) })
	wg.Go(func() { h.runHistorian(ctx) })
	wg.Wait()
	h.endLife()
	return nil
}

// runClock expires timers and, once a second, what is swept rather than timed.
func (h *Hub) runClock(ctx context.Context) {
	beat := time.NewTicker(tick)
	defer beat.Stop()
	t, due, n := h.NewTurn(), []*timer(nil), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		due = h.wheels.advance(t, t.clock(), due)
		if n++; n%int(time.Second/tick) == 0 {
			h.sweep(t, n/int(time.Second/tick))
		}
		t.Flush(true)
	}
}

// sweep removes what has outlived its time, a part of each directory a second.
// round counts the seconds.
func (h *Hub) sweep(t *Turn, round int) {
	h.expireMail(t)
	h.expireDedup(t.clock())
	h.expireReceipts(t, round)
	h.expireChannels(t, round)
	if h.fleet != nil {
		h.expireDepartures(t.clock())
		h.moves.expire(t.clock())
		h.forwardAll(t, round)
	}
}

func (h *Hub) shardOf(name string) int      { return int(maphash.String(h.hash, name) % shards) }
func (h *Hub) shardOfBytes(name []byte) int { return int(maphash.Bytes(h.hash, name) % shards) }

func (h *Hub) seed() (s [32]byte) {
	rand.Read(s[:]) // never fails since Go 1.24
	return s
}

// agent returns the agent of that name, nil when it has no session.
func (h *Hub) agent(name []byte) *agent {
	sh := &h.agents[h.shardOfBytes(name)]
	sh.mu.RLock()
	a := sh.m[string(name)]
	sh.mu.RUnlock()
	return a
}

// later runs wait on a goroutine of its own, which may wait until ctx ends, and
// then what it returned, with a Turn. The Turn is taken only then: the time of the
// wait is no load of this node. It answers false when too many wait already.
func (h *Hub) later(limit time.Duration, wait func(ctx context.Context) func(t *Turn)) bool {
	select {
	case h.waiting <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-h.waiting }()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		then := wait(ctx)
		t := h.borrow()
		defer h.giveBack(t)
		then(t)
	}()
	return true
}

// Admit is asked before the upgrade. When err is nil the connection is counted
// in, and Accept or Unadmit must follow.
func (h *Hub) Admit(addr netip.Addr) *wire.Error {
	refuse := func(why string, e *wire.Error) *wire.Error {
		h.totals.refused.add(why)
		return e
	}
	now := int64(time.Since(h.started)) + 1
	if h.draining.Load() {
		wait := h.gate.Refuse(now, 2*time.Second)
		return refuse("drain", &wire.Error{Code: wire.Unavailable, Message: h.drainCause().refusal, RetryAfterMS: retryMS(wait)})
	}
	if lvl := h.overload(); lvl.RefusesConnections() {
		wait := h.gate.Refuse(now, lvl.RetryAfter())
		return refuse("overload", &wire.Error{Code: wire.Overloaded, Message: "the relay is overloaded and takes no new connections", RetryAfterMS: retryMS(wait)})
	}
	if wait := h.addresses.Blocked(now, addr); wait > 0 {
		return refuse("auth_failures", &wire.Error{Code: wire.RateLimited, Message: "too many failed logins from this address", RetryAfterMS: retryMS(wait)})
	}
	if wait, ok := h.addresses.Enter(now, addr); !ok {
		return refuse("address", &wire.Error{Code: wire.RateLimited, Message: "too many connections from this address", RetryAfterMS: retryMS(wait)})
	}
	wait, reason, ok := h.gate.Enter(now)
	if !ok {
		h.addresses.Leave(addr)
		return refuse(reason, &wire.Error{Code: wire.Overloaded, Message: "too many connections at the moment (" + reason + ")", RetryAfterMS: retryMS(wait)})
	}
	return nil
}

// Unadmit takes back an Admit whose upgrade failed.
func (h *Hub) Unadmit(addr netip.Addr) {
	h.addresses.Leave(addr)
	h.gate.Leave(false)
}

// Failed counts an authentication failure of a caller that has no connection.
func (h *Hub) Failed(addr netip.Addr) {
	h.addresses.Fail(int64(time.Since(h.started))+1, addr)
}

func retryMS(wait time.Duration) int64 { return max(wait.Milliseconds(), 1) }

func (h *Hub) overload() overload.Level { return overload.Level(h.level.Load()) }
