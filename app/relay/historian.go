package relay

import (
	"context"
	"sync"
	"time"
)

const (
	// unsavedMax bounds the publications of one channel that wait for the Broker.
	unsavedMax = 4096
	// saveBatch is how many are stored in one call.
	saveBatch = 512
	// openRetry is the first wait before the Broker is asked again.
	openRetry = 200 * time.Millisecond
	// announceEvery is how often the Broker is told which agents are here, and
	// announceTTL how long it believes it.
	announceEvery = 2 * time.Second
	announceTTL   = 10 * time.Second
	// announceMax bounds the changes that are collected between two calls.
	announceMax = 100_000
)

// A historian carries to the Broker what outlives a channel's window, and which
// agents are here. It works behind the message path and never delays it: what
// the Broker cannot take in time is dropped and counted, and the stored history
// of that channel ends there.
type historian struct {
	wake chan struct{}

	mu     sync.Mutex
	dirty  []*channel
	moves  map[string]bool // agents that came (true) or left (false) since the last call
	opened []*channel
}

func (w *historian) init() {
	w.wake = make(chan struct{}, 1)
	w.moves = make(map[string]bool)
}

func (h *Hub) wakeHistorian() {
	select {
	case h.historian.wake <- struct{}{}:
	default:
	}
}

func (w *historian) came(agent string) { w.note(agent, true) }
func (w *historian) left(agent string) { w.note(agent, false) }

func (w *historian) note(agent string, here bool) {
	w.mu.Lock()
	if len(w.moves) < announceMax {
		w.moves[agent] = here
	}
	w.mu.Unlock()
}

// open asks the Broker where the history of c stands. c is fresh and locked by
// nobody.
func (w *historian) open(h *Hub, c *channel) {
	w.mu.Lock()
	w.opened = append(w.opened, c)
	w.mu.Unlock()
	h.wakeHistorian()
}

// save queues a publication for the Broker. c.mu must be held.
func (c *channel) save(t *Turn, p Publication) {
	if c.holed {
		return
	}
	if len(c.unsaved) >= unsavedMax {
		t.count.dropped[dropHistoryFull] += uint64(len(c.unsaved)) + 1
		c.unsaved, c.holed = nil, true
		return
	}
	if len(c.unsaved) == 0 {
		w := &c.hub.historian
		w.mu.Lock()
		w.dirty = append(w.dirty, c)
		w.mu.Unlock()
	}
	c.unsaved = append(c.unsaved, p)
	t.history = true
}

// runHistorian works until ctx ends, then stores what is left.
func (h *Hub) runHistorian(ctx context.Context) {
	if h.cfg.Broker == nil {
		<-ctx.Done()
		return
	}
	beat := time.NewTicker(announceEvery)
	defer beat.Stop()
	var opening sync.WaitGroup
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			h.saveAll(last)
			cancel()
			opening.Wait()
			return
		case <-beat.C:
			h.announceAgents(ctx)
		case <-h.historian.wake:
		}
		w := &h.historian
		w.mu.Lock()
		opened := w.opened
		w.opened = nil
		w.mu.Unlock()
		for _, c := range opened {
			opening.Go(func() { h.openChannel(ctx, c) })
		}
		h.saveAll(ctx)
	}
}

// openChannel finds where the stored history stands and lets the commands go on
// that waited for it. While the Broker does not answer they wait for brokerTime;
// then the channel goes on with a new epoch and no stored history.
func (h *Hub) openChannel(ctx context.Context, c *channel) {
	ctx, cancel := context.WithTimeout(ctx, brokerTime)
	defer cancel()
	at, err := h.openStored(ctx, c, c.epoch)
	h.finishOpen(c, func(*Turn) {
		if err != nil {
			c.holed = true
			return
		}
		c.epoch = at.Epoch
		c.window.Reset(at.Offset)
	})
}

// openStored asks the Broker where the history of a channel stands until it answers
// or ctx ends.
func (h *Hub) openStored(ctx context.Context, c *channel, epoch string) (Position, error) {
	wait := openRetry
	for {
		call, done := context.WithTimeout(ctx, brokerTime/4)
		at, err := h.cfg.Broker.Open(call, c.name, epoch)
		done()
		if err == nil {
			return at, nil
		}
		select {
		case <-ctx.Done():
			h.log.Warn("stored history cannot be reached; the channel goes on without it", "channel", c.name, "error", err)
			return Position{}, err
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		}
	}
}

// finishOpen runs the deferred commands in their order and opens the channel when
// none is left.
func (h *Hub) finishOpen(c *channel, set func(t *Turn)) {
	t := h.borrow()
	defer h.giveBack(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	set(t)
	c.runDeferred(t)
}

// runDeferred opens the channel. c.mu must be held.
func (c *channel) runDeferred(t *Turn) {
	for len(c.deferred) > 0 {
		f := c.deferred[0]
		c.deferred = c.deferred[1:]
		f(t)
	}
	c.deferred, c.opening = nil, false
}

// saveAll stores what the channels queued.
func (h *Hub) saveAll(ctx context.Context) {
	w := &h.historian
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = nil
	w.mu.Unlock()
	whole := len(dirty) > 0
	for _, c := range dirty {
		whole = h.saveChannel(ctx, c) && whole
	}
	if whole {
		h.ready.broker(nil)
	}
}

func (h *Hub) saveChannel(ctx context.Context, c *channel) bool {
	c.mu.Lock()
	pubs := c.unsaved
	c.unsaved = nil
	epoch, holed := c.epoch, c.holed
	c.mu.Unlock()
	if holed {
		return h.forgetHistory(ctx, c)
	}
	for len(pubs) > 0 {
		n := min(len(pubs), saveBatch)
		call, cancel := context.WithTimeout(ctx, brokerTime/4)
		err := h.cfg.Broker.Append(call, c.name, epoch, c.rule.Keep, pubs[:n])
		cancel()
		if err != nil {
			h.historyLost(c, len(pubs), err)
			return false
		}
		pubs = pubs[n:]
	}
	return true
}

// forgetHistory makes sure that a later life of the channel does not take the
// stored history, which has a hole, for whole.
func (h *Hub) forgetHistory(ctx context.Context, c *channel) bool {
	call, cancel := context.WithTimeout(ctx, brokerTime/4)
	defer cancel()
	if err := h.cfg.Broker.Forget(call, c.name); err != nil {
		h.ready.broker(err)
		h.log.Warn("stored history with a hole could not be dropped", "channel", c.name, "error", err)
		return false
	}
	return true
}

// historyLost ends the stored history of a channel.
func (h *Hub) historyLost(c *channel, n int, err error) {
	h.ready.broker(err)
	h.totals.dropped[dropHistoryFull].Add(uint64(n))
	h.log.Warn("history could not be stored; the channel's stored history ends here", "channel", c.name, "publications", n, "error", err)
	c.mu.Lock()
	c.holed, c.unsaved = true, nil
	c.mu.Unlock()
}

// announceAgents tells the Broker which agents came and left.
func (h *Hub) announceAgents(ctx context.Context) {
	w := &h.historian
	w.mu.Lock()
	changes := w.moves
	w.moves = make(map[string]bool)
	w.mu.Unlock()
	var came, left []string
	for name, here := range changes {
		if here {
			came = append(came, name)
		} else {
			left = append(left, name)
		}
	}
	call, cancel := context.WithTimeout(ctx, announceEvery)
	defer cancel()
	if err := h.cfg.Broker.Announce(call, h.cfg.Node, came, left, announceTTL); err != nil {
		h.ready.broker(err)
		w.mu.Lock()
		for name, here := range changes {
			if _, newer := w.moves[name]; !newer && len(w.moves) < announceMax {
				w.moves[name] = here
			}
		}
		w.mu.Unlock()
		return
	}
	h.ready.broker(nil)
}
