package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/wire"
)

// State is where the connection of a Client stands.
type State uint8

// The states. Connected and Reconnecting alternate until Closed, which is final.
const (
	Connecting State = iota
	Connected
	Reconnecting
	Closed
)

func (s State) String() string {
	return [...]string{"connecting", "connected", "reconnecting", "closed"}[s]
}

// A StateChange tells where the connection stands now and why.
type StateChange struct {
	State   State
	Cause   error         // why a connection was lost or could not be made; nil when connected
	RetryIn time.Duration // Reconnecting: the wait before the next attempt
	Resumed bool          // Connected: the former session goes on
}

// Info is what the relay said of itself when the connection was made.
type Info struct {
	Agent, Node, Region string
	ServerVersion       string
	Limits              wire.Limits
	Heartbeat           time.Duration
	ResumeWindow        time.Duration
}

// Client is an agent's connection to the relay. Make one with Dial.
type Client struct {
	// Fixed at construction.
	cfg    Config
	base   string // URL of the WebSocket
	keys   string // prefix of the dedup keys that this client makes
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // tells the writer that there is something; never closed
	ended  chan struct{} // closed when the connection's goroutines have ended
	tasks  sync.WaitGroup
	all    chan struct{} // closed when the handlers have ended too

	lastID  atomic.Uint64
	lastKey atomic.Uint64
	rtt     atomic.Int64 // nanoseconds, 0: not measured

	// Owned by the goroutine that connects.
	lastToken string
	again     plan
	places    places

	mu sync.Mutex
	// Guarded by mu.
	state   State
	cause   error // set once, when state becomes Closed
	closing bool
	link    *link // nil while not connected
	info    Info
	limits  wire.Limits
	session string // secret that resumes

	generation uint64 // counts sessions, from 1

	out      outbox
	got      window // seqs that were received
	handled  window // seqs that were handled
	lossTold bool   // a gap frame told of direct frames that may be missing above got
	acked    uint64
	ackTimer *time.Timer
	ackDue   bool      // the writer shall send one
	ackTimed bool      // ackTimer runs
	pingID   uint64    // of the last heartbeat; 0: it was answered
	pingAt   time.Time // when it was written
	pingMark uint64    // out.written at that time
	seen     recent    // ids of direct messages
	subs     map[string]*Subscription
	profile  *wire.Profile        // as last published; nil: never
	asked    map[uint64]*incoming // requests that are being answered
	inbox    inbox
}

// seenIDs is how many ids of direct messages are remembered.
const seenIDs = 4096

// Dial connects and returns when the relay has accepted the agent. ctx bounds
// only that; the Client lives until Close, or until the relay turns it away for
// good (see Err).
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("client config: %w", err)
	}
	c := newClient(ctx, cfg)
	l, err := c.firstLink(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.join(l)
	c.tasks.Go(c.dispatch)
	go c.run(l)
	return c, nil
}

// newClient makes a client that is not connected; cfg was checked.
func newClient(ctx context.Context, cfg Config) *Client {
	base, _ := socketURL(cfg.URL)
	given, _ := socketURLs(append([]string{cfg.URL}, cfg.URLs...))
	c := &Client{
		cfg: cfg, base: base, keys: rand.Text()[:16] + "-",
		wake: make(chan struct{}, 1), ended: make(chan struct{}), all: make(chan struct{}),
		out: newOutbox(cfg.QueueFrames, cfg.QueueBytes), seen: newRecent(seenIDs),
		inbox: newInbox(cfg.InboxFrames, cfg.InboxBytes),
		subs:  map[string]*Subscription{}, asked: map[uint64]*incoming{},
	}
	c.places.given = given
	c.got, c.handled = newWindow(0, c.seqWindow()), newWindow(0, c.seqWindow())
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

// seqWindow bounds how far direct frames may overtake each other and how many may
// be unhandled below a handled one: well above what the inbox and a relay keep.
func (c *Client) seqWindow() int { return 4 * max(c.cfg.InboxFrames, 8192) }

// firstLink makes the first connection.
func (c *Client) firstLink(ctx context.Context) (*link, error) {
	c.tell(StateChange{State: Connecting})
	for n := 0; ; n++ {
		l, err := c.attempt(ctx)
		if err == nil {
			return l, nil
		}
		if tried := c.places.rounds(n+1) > 0; ctx.Err() != nil || !c.cfg.Patient && tried || final(err, false) {
			return nil, err
		}
		wait := c.cfg.Backoff.delay(c.places.rounds(n), retryAfter(err))
		c.tell(StateChange{State: Connecting, Cause: err, RetryIn: wait})
		if !sleep(ctx, wait) {
			return nil, fmt.Errorf("%w (last attempt: %w)", context.Cause(ctx), err)
		}
	}
}

// run serves l and its successors until the client is closed or turned away.
func (c *Client) run(l *link) {
	defer c.finishAll()
	for failed := 0; ; {
		var err error
		if l != nil {
			since := time.Now()
			err = c.serve(l)
			if time.Since(since) > c.cfg.Backoff.Max {
				failed = 0 // it held: the next loss is not part of a series
			}
		}
		for l = nil; l == nil; failed++ {
			if c.isClosing() {
				c.setClosed(ErrClosed)
				return
			}
			if final(err, true) && !c.freshToken(err) {
				c.setClosed(fmt.Errorf("%w: %w", ErrClosed, err))
				return
			}
			wait := c.again.wait(c.cfg.Backoff, c.places.rounds(failed), err)
			c.setReconnecting(err, wait)
			if !sleep(c.ctx, wait) {
				continue
			}
			if l, err = c.attempt(c.ctx); err == nil {
				c.join(l)
			}
		}
	}
}

// freshToken says whether another token than the refused one is to be had.
func (c *Client) freshToken(err error) bool {
	if c.cfg.TokenSource == nil || !tokenExpired(err) {
		return false
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.AttemptTimeout)
	defer cancel()
	token, err := c.cfg.TokenSource(ctx)
	return err == nil && token != c.lastToken
}

// finishAll ends what hangs on the client after its last connection.
func (c *Client) finishAll() {
	c.cancel()
	c.mu.Lock()
	c.out.failAll(c.cause)
	c.cancelAskedLocked()
	if c.ackTimer != nil {
		c.ackTimer.Stop()
	}
	c.inbox.close()
	c.mu.Unlock()
	c.tell(StateChange{State: Closed, Cause: c.Err()})
	close(c.ended)
	go func() { c.tasks.Wait(); close(c.all) }()
}

// Close hands over what waits, within CloseTimeout, ends the session's connection
// and returns. Handlers that still run see their context end; Done tells when
// they have returned. Calls that were still waiting get ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closing
	c.closing = true
	l := c.link
	c.mu.Unlock()
	if first {
		if l == nil {
			c.cancel()
		}
		c.wakeWriter()
	}
	timer := time.AfterFunc(c.cfg.CloseTimeout, c.cancel)
	defer timer.Stop()
	<-c.ended
	return nil
}

// Done is closed when the client has ended and its handlers have returned.
func (c *Client) Done() <-chan struct{} { return c.all }

// Err is nil while the client lives, and says afterwards why it ended: ErrClosed,
// alone after Close, else with the refusal of the relay.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// State says where the connection stands.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Info returns what the relay said at the last connect.
func (c *Client) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// Agent is the name under which this client is known.
func (c *Client) Agent() string { return c.Info().Agent }

// RTT is the round trip measured by the last heartbeat; 0 before the first.
func (c *Client) RTT() time.Duration { return time.Duration(c.rtt.Load()) }

func (c *Client) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

func (c *Client) closedLocked() error {
	if c.cause != nil {
		return c.cause
	}
	return ErrClosed
}

func (c *Client) setClosed(cause error) {
	c.mu.Lock()
	c.state, c.cause = Closed, cause
	c.mu.Unlock()
}

func (c *Client) setReconnecting(cause error, wait time.Duration) {
	c.mu.Lock()
	c.state = Reconnecting
	c.mu.Unlock()
	c.cfg.Logger.Info("connection lost", "cause", cause, "retry_in", wait)
	c.tell(StateChange{State: Reconnecting, Cause: cause, RetryIn: wait})
}

func (c *Client) tell(s StateChange) {
	if c.cfg.OnState != nil {
		c.cfg.OnState(s)
	}
}

func (c *Client) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// newKey makes a dedup key that no other client makes.
func (c *Client) newKey() string {
	return c.keys + strconv.FormatUint(c.lastKey.Add(1), 36)
}

// sleep waits d and says whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
