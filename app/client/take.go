package client

import (
	"bytes"
	"time"

	"agentnet/app/wire"
)

// A Message came to this agent, or through a channel that it listens to.
type Message struct {
	wire.Message
	client *Client
	direct uint64 // session's generation and seq are only for direct messages
}

// Ack tells that a direct message is handled, where Config.ManualAck is set. The
// relay forgets a message when it and all before it are acknowledged. It does
// nothing for channel messages.
func (m *Message) Ack() {
	if m.direct > 0 {
		m.client.settle(m.direct, m.Seq)
	}
}

// take handles one frame. Only the reader calls it; payloads alias its buffer.
func (c *Client) take(ev *wire.Event) {
	switch ev.Kind {
	case wire.KindOK:
		c.takeOK(ev)
	case wire.KindError:
		c.takeError(&ev.Error)
	case wire.KindReply:
		c.takeReply(&ev.Reply)
	case wire.KindMessage:
		if ev.Message.Channel != "" {
			c.takeChannelMessage(&ev.Message)
		} else {
			c.takeMessage(&ev.Message)
		}
	case wire.KindRequest:
		c.takeRequest(&ev.Request)
	case wire.KindCancel:
		c.cancelAsked(ev.CancelRequest)
	case wire.KindReceipt:
		c.takeReceipt(ev.Receipt)
	case wire.KindPresence:
		c.takePresence(ev.Presence)
	case wire.KindGap:
		c.takeGap(ev.Gap)
	case wire.KindNotice:
		c.takeNotice(ev.Notice)
		ev.Notice = wire.Notice{} // its slice is the handler's now
	case wire.KindPong:
		c.takePong(&ev.Pong)
	}
}

func (c *Client) takeOK(ev *wire.Event) {
	for i := range ev.OK.Messages {
		p := &ev.OK.Messages[i].Payload
		p.Data = bytes.Clone(p.Data)
	}
	for i := range ev.OK.Agents {
		a := &ev.OK.Agents[i]
		a.Card, a.Keys = bytes.Clone(a.Card), bytes.Clone(a.Keys)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.out.pending[ev.OK.ID]
	if k == nil {
		return // its caller no longer waits
	}
	c.out.confirm(k.number)
	k.ok = ev.OK
	ev.OK = wire.OK{} // its slices are the caller's now
	if k.subscription != nil {
		k.subscription.acceptedLocked(&k.ok)
	}
	c.out.finish(k, nil)
	c.wakeClosingLocked()
}

func (c *Client) takeError(e *wire.ErrorFrame) {
	refused := e.Err
	c.mu.Lock()
	k := c.out.pending[e.ID]
	if k != nil && e.ID != 0 {
		c.out.confirm(k.number)
		if k.subscription != nil {
			k.subscription.refusedLocked(&refused)
		}
		c.out.finish(k, &refused)
		c.wakeClosingLocked()
	}
	c.mu.Unlock()
	if e.ID == 0 {
		c.cfg.Logger.Warn("the relay refused something", "code", refused.Code, "message", refused.Message)
		if c.cfg.OnError != nil {
			c.deliver(0, func() { c.cfg.OnError(refused) })
		}
	}
}

// wakeClosingLocked lets the writer see that a closing client has nothing left.
func (c *Client) wakeClosingLocked() {
	if c.closing && c.out.idle() {
		c.wakeWriter()
	}
}

// admit says whether a direct frame is new, and notes it. generation tells this
// session from later ones, whose seqs begin anew.
func (c *Client) admit(seq uint64) (generation uint64, fresh bool) {
	if seq == 0 {
		return 0, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh = c.got.add(seq)
	if c.lossTold && !c.inbox.overrun {
		c.skipLostLocked()
	}
	return c.generation, fresh
}

// settle notes that a direct frame is handled; an acknowledgement follows.
func (c *Client) settle(generation, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation || seq == 0 || !c.handled.add(seq) {
		return
	}
	c.ackSoonLocked()
}

func (c *Client) ackSoonLocked() {
	switch n := c.handled.base - c.acked; {
	case n == 0 || c.ackDue:
	case n >= uint64(c.cfg.AckEvery):
		c.ackDue = true
		c.wakeWriter()
	case !c.ackTimed:
		c.ackTimed = true
		if c.ackTimer == nil {
			c.ackTimer = time.AfterFunc(c.cfg.AckDelay, c.ackNow)
		} else {
			c.ackTimer.Reset(c.cfg.AckDelay)
		}
	}
}

func (c *Client) ackNow() {
	c.mu.Lock()
	c.ackTimed = false
	c.ackDue = c.handled.base > c.acked
	c.mu.Unlock()
	c.wakeWriter()
}

// takeAckLocked returns the seq to acknowledge now; 0 for none.
func (c *Client) takeAckLocked() uint64 {
	if !c.ackDue && (!c.closing || c.handled.base == c.acked) {
		return 0
	}
	c.ackDue = false
	if c.ackTimed {
		c.ackTimer.Stop()
		c.ackTimed = false
	}
	c.acked = c.handled.base
	return c.acked
}

func (c *Client) takeMessage(m *wire.Message) {
	if !c.room() {
		return // it stays unacknowledged and comes again
	}
	generation, fresh := c.admit(m.Seq)
	if !fresh {
		return
	}
	c.mu.Lock()
	fresh = c.seen.add(m.MessageID)
	c.mu.Unlock()
	if !fresh || c.cfg.OnMessage == nil {
		c.settle(generation, m.Seq)
		return
	}
	own := c.own(m)
	own.direct = generation
	c.deliver(len(own.Payload.Data), func() {
		c.cfg.OnMessage(c.ctx, own)
		if !c.cfg.ManualAck {
			own.Ack()
		}
	})
}

// own copies what aliases the reader's buffer.
func (c *Client) own(m *wire.Message) *Message {
	own := &Message{Message: *m, client: c}
	own.Payload.Data = bytes.Clone(m.Payload.Data)
	own.Headers = append([]wire.Header(nil), m.Headers...)
	return own
}

func (c *Client) takeReceipt(r wire.Receipt) {
	if !c.room() {
		return
	}
	generation, fresh := c.admit(r.Seq)
	if !fresh {
		return
	}
	if c.cfg.OnReceipt == nil {
		c.settle(generation, r.Seq)
		return
	}
	c.deliver(0, func() {
		c.cfg.OnReceipt(r)
		c.settle(generation, r.Seq)
	})
}

func (c *Client) takePresence(p wire.PresenceEvent) {
	if c.cfg.OnPresence != nil && c.room() {
		c.deliver(0, func() { c.cfg.OnPresence(p) })
	}
}

func (c *Client) takeGap(g wire.Gap) {
	c.mu.Lock()
	if g.Channel == "" {
		c.lossTold = true
		if !c.inbox.overrun { // else the holes are those of the overrun
			c.skipLostLocked()
		}
	} else if s := c.subs[g.Channel]; s != nil {
		s.lostLocked(&g)
	}
	c.mu.Unlock()
	c.gap(Gap{Channel: g.Channel, Missed: g.Missed})
}

// skipLostLocked takes the direct frames that are missing below the newest as
// handled, since they will not come; else they would hold up acknowledgements.
func (c *Client) skipLostLocked() {
	var lost []uint64
	c.got.holes(func(n uint64) { lost = append(lost, n) })
	for _, n := range lost {
		c.got.add(n)
		c.handled.add(n)
	}
	if len(lost) > 0 {
		c.lossTold = false
		c.ackSoonLocked()
	}
}

func (c *Client) gap(g Gap) {
	c.cfg.Logger.Warn("something was lost and will not come", "channel", g.Channel, "missed", g.Missed, "session_lost", g.SessionLost)
	if c.cfg.OnGap != nil {
		c.deliver(0, func() { c.cfg.OnGap(g) })
	}
}

func (c *Client) takeNotice(n wire.Notice) {
	c.again.note(n, c.base)
	c.cfg.Logger.Info("notice", "kind", n.Kind, "level", n.Level, "message", n.Message)
	if c.cfg.OnNotice != nil {
		c.deliver(0, func() { c.cfg.OnNotice(n) })
	}
}

// pingFrame makes a heartbeat and notes when it leaves.
func (c *Client) pingFrame() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pingID, c.pingAt, c.pingMark = c.lastID.Add(1), time.Now(), c.out.written
	return wire.AppendCommand(nil, c.cfg.Encoding, &wire.Command{
		ID: c.pingID, Kind: wire.KindPing, RTTMS: c.RTT().Milliseconds(), Class: wire.Normal,
	})
}

func (c *Client) takePong(p *wire.Pong) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if told := time.Duration(p.HeartbeatMS) * time.Millisecond; told > 0 && told != c.info.Heartbeat {
		c.info.Heartbeat = told
		c.wakeWriter()
	}
	if p.ID != 0 && p.ID == c.pingID {
		c.rtt.Store(int64(time.Since(c.pingAt)))
		c.out.confirm(c.pingMark + 1)
		c.pingID = 0
	}
}
