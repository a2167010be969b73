package relay

import (
	"slices"
	"strings"
	"sync"

	"agentnet/app/relay/history"
	"agentnet/app/relay/queue"
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
}

// A subscription is one session's place in one channel.
type subscription struct {
	ch *channel
	s  *Session

	// Guarded by channel.mu.
	index    int // in channel.subs; -1 while it is not there
	presence bool

	// Guarded by Session.mu.
	dead  bool   // the session left the channel
	sent  uint64 // the last offset that was handed to the session, or was not for it
	epoch string // of sent
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
		window: history.New[Publication](history.Limits{Count: rule.Recent.Count, Bytes: rule.Recent.Bytes, Age: rule.Recent.Age})}
	if h.cfg.Broker != nil && rule.Keep.Count > 0 {
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
	s.hub.publishFrom(t, s.who, s.agent.name, c, &caller{link: l, session: s, id: c.ID, key: c.Key},
		func() *wire.Error { return s.admitMessage(t, c) })
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
	id := t.newID()
	buf := make([]byte, 0, len(id)+len(c.Payload.Data))
	buf = append(append(buf, id...), c.Payload.Data...)
	return Publication{MessageID: ownString(buf[:len(id):len(id)]), From: from, TimeMS: t.wallMS(), Class: c.Class,
		Headers: slices.Clone(c.Headers), Payload: wire.Payload{Data: buf[len(id):], Binary: c.Payload.Binary}}
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
	if len(c.subs) > 0 {
		c.waiting = append(c.waiting, p)
		c.waitSize += size
		if !c.queued {
			c.queued = true
			t.channels = append(t.channels, c)
		}
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
	n := len(c.subs)
	c.mu.Unlock()

	var shared [wire.Encodings]passFrames
	for from := 0; from < n; from += passChunk {
		c.mu.Lock()
		t.subs = append(t.subs[:0], c.subs[from:min(from+passChunk, n)]...)
		c.mu.Unlock()
		for _, sub := range t.subs {
			if sub != nil {
				sub.deliver(t, batch, &shared)
			}
		}
	}
	clear(t.subs)

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

// passFrames are the sealed frames of one pass in one encoding: one for each run
// of publications of one class.
type passFrames struct {
	made  bool
	items []queue.Item
}

// deliver gives the publications of a pass to one subscriber.
func (sub *subscription) deliver(t *Turn, batch []Publication, shared *[wire.Encodings]passFrames) {
	s := sub.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.dead || s.conn == nil || s.endWait {
		return
	}
	last := batch[len(batch)-1].Offset
	if sub.sent >= last {
		return
	}
	if first := batch[0].Offset; sub.sent >= first {
		sub.deliverSome(t, batch[sub.sent-first+1:])
		return
	}
	f := &shared[s.enc]
	if !f.made {
		f.make(t, sub.ch, s.enc, batch)
	}
	for i := range f.items {
		sub.offer(t, f.items[i])
	}
	sub.sent = last
	t.delivered += uint64(len(batch))
}

// deliverSome gives single publications to a subscriber, which others have had.
// Session.mu must be held.
func (sub *subscription) deliverSome(t *Turn, batch []Publication) {
	var f passFrames
	f.make(t, sub.ch, sub.s.enc, batch)
	for i := range f.items {
		sub.offer(t, f.items[i])
	}
	sub.sent = batch[len(batch)-1].Offset
	t.delivered += uint64(len(batch))
}

// offer writes one item at once when nothing is before it, else queues it by the
// channel's policy. Session.mu must be held.
func (sub *subscription) offer(t *Turn, it queue.Item) {
	s := sub.s
	if !s.full && s.queue.Empty() && s.conn != nil && !s.endWait {
		t.count.framesOut += uint64(it.Messages)
		s.out(t, it.Sealed)
		if s.full {
			s.noteFull(t)
		}
		return
	}
	it.Source = sub
	res := s.queue.Push(s.hub.cfg.Queue, it, sub.ch.rule.Policy)
	t.count.dropped[dropQueueFull] += uint64(res.Missed)
	if res.Outcome == queue.Full {
		s.cutSlow(t)
		return
	}
	s.account(t)
	if !s.full {
		t.markUrgent(s)
	}
}

// make encodes a batch: publications of one class that follow each other become
// one WebSocket message, up to joinBytes.
func (f *passFrames) make(t *Turn, c *channel, enc wire.Encoding, batch []Publication) {
	f.made = true
	for len(batch) > 0 {
		n, size := 0, 0
		parts := t.parts[:0]
		slab := t.join[:0]
		for n < len(batch) && batch[n].Class == batch[0].Class && (n == 0 || size < joinBytes) {
			sealed := t.sealPublication(c, enc, &batch[n])
			at := len(slab)
			slab = append(slab, sealed...)
			parts = append(parts, slab[at:len(slab):len(slab)])
			size += len(sealed)
			n++
		}
		var out []byte
		if n == 1 {
			out = append([]byte(nil), parts[0]...)
		} else {
			out = wire.AppendJoined(make([]byte, 0, size+16), enc, parts)
		}
		f.items = append(f.items, queue.Item{Sealed: out, Messages: n, Class: batch[0].Class})
		clear(parts)
		t.parts, t.join = parts[:0], slab[:0]
		batch = batch[n:]
	}
}

// sealPublication encodes one channel message. The result is valid until the next
// frame of this turn.
func (t *Turn) sealPublication(c *channel, enc wire.Encoding, p *Publication) []byte {
	msg := wire.Message{Channel: c.name, Offset: p.Offset, From: p.From, Payload: p.Payload, MessageID: p.MessageID, TimeMS: p.TimeMS, Class: p.Class, Headers: p.Headers}
	t.frame = wire.AppendMessage(t.room(), enc, &msg)
	return wire.Seal(enc, t.frame)
}
