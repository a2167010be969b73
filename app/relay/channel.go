package relay

import (
	"slices"
	"strings"
	"sync"

	"agentnet/app/relay/history"
	"agentnet/app/wire"
)

const (
	// waitingBytes bounds what a channel collects while a pass is under way.
	waitingBytes = 4 << 20
	// passChunk is how many subscribers a pass takes at a time; in between others
	// may join and leave.
	passChunk = 256
	// deferredMax bounds the commands that wait for a channel's stored history.
	deferredMax = 1024
	// publicationOverhead is what a publication costs in memory besides its bytes.
	publicationOverhead = 160
)

type channelShard struct {
	mu sync.RWMutex
	m  map[string]*channel
}

// A channel gives its publications offsets, keeps the recent ones and delivers
// them to its subscribers in passes: what comes during one pass leaves together
// in the next.
type channel struct {
	// Fixed at construction.
	hub  *Hub
	name string
	rule *ChannelRule

	// mu guards the rest. It comes after link.mu and before agent.mu and
	// Session.mu. It is not held while a pass writes to sockets.
	mu       sync.Mutex
	epoch    string
	window   history.Window[Publication] // its last offset is the channel's
	waiting  []Publication               // not yet taken by a pass
	spare    []Publication               // the last pass's slice, for reuse
	waitSize int
	passing  bool // one goroutine is delivering
	queued   bool // some Turn has it in its list
	subs     []*subscription
	holes    int // subs that left during a pass, nil until it ends
	awaited  int // subscriptions of sessions that lost their socket and may come back
	watchers int // subs that want presence events
	lastMS   int64
	count    uint64 // publications since the rate was last worked out
	rate     float64
	quiet    int // looks in a row at which nobody used it

	opening  bool            // the Broker is being asked where the history stands
	deferred []func(t *Turn) // commands that wait for it
	unsaved  []Publication   // not yet stored by the Broker
	holed    bool            // something could not be stored: the stored history ended
	dead     bool            // removed from the directory
	footing
}

// A subscription is one session's place in one channel.
type subscription struct {
	ch *channel
	s  *Session

	// Guarded by channel.mu.
	index    int // in channel.subs; -1 while it is not there
	presence bool
	awaited  bool // counted in channel.awaited
	resumes  bool // it took the place of another that was asked for without `since`

	// Guarded by Session.mu.
	dead   bool   // the session left the channel
	paused bool   // the socket that it was for is gone, or it is not in its place yet
	behind bool   // some of what it was handed is still in the queue
	sent   uint64 // the last offset that was handed to the session, or was not for it
	wrote  uint64 // the last of these before which nothing was left in the queue
	turned bool   // among what is still in the queue is the beginning of the epoch
	epoch  string // of sent; "" before it was in its place for the first time
}

// channel returns the channel of that name, made if need be, with mu held. nil
// when there are too many.
func (h *Hub) lockChannel(name []byte) *channel {
	sh := &h.channels[h.shardOfBytes(name)]
	for {
		sh.mu.RLock()
		c := sh.m[string(name)]
		sh.mu.RUnlock()
		if c == nil {
			if c = h.addChannel(sh, string(name)); c == nil {
				return nil
			}
		}
		c.mu.Lock()
		if !c.dead {
			c.quiet = 0
			return c
		}
		c.mu.Unlock()
	}
}

func (h *Hub) addChannel(sh *channelShard, name string) *channel {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c := sh.m[name]; c != nil {
		return c
	}
	if h.channelN.Load() >= int64(h.cfg.MaxChannels) {
		return nil
	}
	rule := h.ruleFor(name)
	c := &channel{hub: h, name: name, rule: rule, epoch: newEpoch(),
		window: history.New[Publication](h.recent(rule))}
	switch {
	case h.fleet != nil:
		c.find()
	case h.cfg.Broker != nil && rule.Keep.Count > 0:
		c.opening = true
		h.historian.open(h, c)
	}
	sh.m[name] = c
	h.channelN.Add(1)
	return c
}

// newEpoch names one life of a channel.
func newEpoch() string { return strings.ToLower(newSecret()[2:12]) }

func (h *Hub) ruleFor(name string) *ChannelRule {
	for i := range h.cfg.Channels {
		if h.cfg.Channels[i].Match.Match(name) {
			return &h.cfg.Channels[i]
		}
	}
	return &h.defaultRule
}

// whenOpen runs f with c.mu held: now, or in turn when the channel's stored
// history is known. c.mu must be held, and is released. false says that too much
// waits already.
func (c *channel) whenOpen(t *Turn, f func(t *Turn)) bool {
	if !c.opening {
		f(t)
		c.mu.Unlock()
		return true
	}
	defer c.mu.Unlock()
	if len(c.deferred) >= deferredMax {
		return false
	}
	c.deferred = append(c.deferred, f)
	return true
}

var errChannels = wire.Error{Code: wire.Overloaded, Message: "the relay has as many channels as it may", RetryAfterMS: 10_000}
var errOpening = wire.Error{Code: wire.Overloaded, Message: "too much waits for the history of this channel", RetryAfterMS: 1000}

// publish handles a publication of a session.
func (s *Session) publish(t *Turn, l *link, c *wire.Command) {
	t.by = caller{link: l, session: s, id: c.ID, key: c.Key}
	s.hub.publishFrom(t, s.who, s.agent.name, c, &t.by,
		func() *wire.Error { return s.admitMessage(t, l, c) })
}

// publishFrom is publish for every kind of caller.
func (h *Hub) publishFrom(t *Turn, who *Identity, from string, c *wire.Command, by *caller, admit func() *wire.Error) {
	if !who.Publish.MatchBytes(c.Channel) {
		by.fail(t, forbidden("publish to", c.Channel))
		return
	}
	once, first := h.once(t, from, c, by)
	if !first {
		return
	}
	refuse := func(e wire.Error) {
		h.undo(t, once, &e)
		by.fail(t, e)
	}
	if e := admit(); e != nil {
		refuse(*e)
		return
	}
	ch := h.lockChannel(c.Channel)
	if ch == nil {
		refuse(errChannels)
		return
	}
	p := newPublication(t, from, c)
	if ch.opening {
		by = by.keep()
		if !ch.whenOpen(t, func(t *Turn) { ch.accept(t, p, by, once) }) {
			refuse(errOpening)
		}
		return
	}
	ch.accept(t, p, by, once)
	ch.mu.Unlock()
}

// newPublication copies what a publication keeps into one piece of memory.
func newPublication(t *Turn, from string, c *wire.Command) Publication {
	id := t.newID(nil)
	buf := make([]byte, 0, len(id)+len(c.Payload.Data))
	buf = append(append(buf, id...), c.Payload.Data...)
	data := buf[len(id):]
	if c.Payload.Data == nil { // no payload is not an empty one
		data = nil
	}
	return Publication{MessageID: ownString(buf[:len(id):len(id)]), From: from, TimeMS: t.wallMS(), Class: c.Class,
		Headers: slices.Clone(c.Headers), Payload: wire.Payload{Data: data, Binary: c.Payload.Binary}}
}

func (p *Publication) size() int {
	n := publicationOverhead + len(p.From) + len(p.Payload.Data)
	for _, h := range p.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// accept gives p its offset and queues it for the next pass. c.mu must be held.
func (c *channel) accept(t *Turn, p Publication, by *caller, once *dedupEntry) {
	switch {
	case c.astray:
		c.find()
		c.hub.undo(t, once, &errNoHome)
		by.fail(t, errNoHome)
		return
	case c.home != "":
		c.postPub(t, &p, by, once)
		return
	}
	size := p.size()
	if c.waitSize > 0 && c.waitSize+size > waitingBytes {
		e := wire.Error{Code: wire.Overloaded, Message: "the channel delivers slower than this is published", RetryAfterMS: 100}
		c.hub.undo(t, once, &e)
		by.fail(t, e)
		return
	}
	p.Offset = c.window.Last() + 1
	c.window.Append(p.Offset, size, p.TimeMS, p)
	c.lastMS, c.quiet = p.TimeMS, 0
	c.count++
	t.count.messages++
	if len(c.subs) > 0 || c.hub.fleet != nil {
		c.queuePass(t, p, size)
	}
	if c.rule.Keep.Count > 0 && c.hub.cfg.Broker != nil {
		c.save(t, p)
	}
	ok := wire.OK{For: wire.KindPublish, Epoch: c.epoch, Offset: p.Offset}
	c.hub.settle(t, once, &ok)
	by.ok(t, &ok)
}

// pass delivers what waits to all subscribers. Only one goroutine passes at a
// time; another leaves its work to that one.
func (c *channel) pass(t *Turn) {
	c.mu.Lock()
	c.queued = false
	if c.passing || len(c.waiting) == 0 {
		c.mu.Unlock()
		return
	}
	c.passing = true
	batch := c.waiting
	c.waiting, c.spare, c.waitSize = c.spare[:0], nil, 0
	n, epoch, home := len(c.subs), c.epoch, c.home == ""
	c.mu.Unlock()
	if home && c.hub.fleet != nil {
		c.postPubs(t, epoch, batch)
	}

	var shared [wire.Encodings]passFrames
	for from := 0; from < n; from += passChunk {
		c.mu.Lock()
		t.subs = append(t.subs[:0], c.subs[from:min(from+passChunk, n)]...)
		c.mu.Unlock()
		for _, sub := range t.subs {
			if sub != nil {
				sub.deliver(t, epoch, batch, &shared)
			}
		}
	}
	clear(t.subs[:cap(t.subs)])

	clear(batch)
	c.mu.Lock()
	c.passing = false
	if cap(batch) <= 4096 {
		c.spare = batch[:0]
	}
	c.fillHoles()
	if len(c.waiting) > 0 && !c.queued {
		c.queued = true
		t.channels = append(t.channels, c)
	}
	c.mu.Unlock()
}
