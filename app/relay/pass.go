package relay

import (
	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

// passFrames are the sealed frames of one pass in one encoding: one for each run
// of publications of one class.
type passFrames struct {
	made  bool
	items []queue.Item
}

// deliver gives the publications of a pass to one subscriber.
func (sub *subscription) deliver(t *Turn, epoch string, batch []Publication, shared *[wire.Encodings]passFrames) {
	s := sub.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.dead || sub.paused || !s.live() || sub.epoch != epoch {
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
	if s.hub.tracing.on.Load() != nil {
		sub.tracePublications(t, batch)
	}
	sub.hand(t, f.items, last)
	t.delivered += uint64(len(batch))
}

// hand offers the items that go up to the offset last. Session.mu must be held.
func (sub *subscription) hand(t *Turn, items []queue.Item, last uint64) {
	for i := range items {
		if !sub.offer(t, items[i]) {
			return // the socket was given up: a resume goes on from before these
		}
	}
	sub.sent = last
	if !sub.behind {
		sub.wrote = last
	}
}

// deliverSome gives single publications to a subscriber, which others have had.
// Session.mu must be held.
func (sub *subscription) deliverSome(t *Turn, batch []Publication) {
	var f passFrames
	f.make(t, sub.ch, sub.s.enc, batch)
	if sub.s.hub.tracing.on.Load() != nil {
		sub.tracePublications(t, batch)
	}
	sub.hand(t, f.items, batch[len(batch)-1].Offset)
	t.delivered += uint64(len(batch))
}

// offer writes one item at once when nothing is before it, else queues it by the
// channel's policy. false says that the socket takes nothing any more.
// Session.mu must be held.
func (sub *subscription) offer(t *Turn, it queue.Item) bool {
	s := sub.s
	if !s.live() {
		return false
	}
	s.easeQueue(t, len(it.Sealed))
	if !s.full && s.queue.Empty() {
		t.count.framesOut += uint64(it.Messages)
		s.out(t, it.Sealed)
		return true
	}
	it.Source = sub
	sub.fallBehind()
	res := s.queue.Push(s.hub.bounds.Load().Queue, it, sub.ch.rule.Policy)
	t.count.dropped[dropQueueFull] += uint64(res.Missed)
	if res.Outcome == queue.Full {
		s.cutSlow(t)
		return false
	}
	s.accountFull()
	if !s.full {
		t.markUrgent(s)
	}
	return true
}

// fallBehind notes that something for the subscription waits in the queue.
// Session.mu must be held.
func (sub *subscription) fallBehind() {
	if !sub.behind {
		sub.behind = true
		sub.s.late = append(sub.s.late, sub)
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
