package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	"agentnet/app/wire"
)

// batchBytes is the most that the writer puts into one WebSocket message. Above
// some ten KiB a system call costs little beside the bytes; a small bound keeps
// urgent commands from waiting behind a long message.
const batchBytes = 64 << 10

// pongWait is how long past a heartbeat nothing may come before the connection is
// taken as dead.
const pongWait = 10 * time.Second

var (
	errHeartbeat = errors.New("nothing came from the relay within the heartbeat")
	errOverrun   = errors.New("the handlers could not keep up with what came; resuming now that they have")
)

// serve uses l until it is lost and returns why. It starts the writer and waits
// for it.
func (c *Client) serve(l *link) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	stop := context.AfterFunc(ctx, func() { l.ws.NetConn().Close() })
	var wg sync.WaitGroup
	wg.Go(func() { cancel(c.writeLoop(ctx, l)) })
	c.onDrained(func() { cancel(errOverrun) })
	err := c.readLoop(l)
	if ctx.Err() != nil && context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		err = context.Cause(ctx)
	}
	cancel(err)
	wg.Wait()
	stop()
	l.ws.Close()
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	return err
}

// join makes l the connection of the client and restores what the relay needs.
func (c *Client) join(l *link) {
	v := &l.connected
	c.mu.Lock()
	renewed := c.session != ""
	lost := renewed && !v.Resumed
	c.link, c.state, c.limits = l, Connected, v.Limits
	c.info = Info{
		Agent: v.Agent, Node: v.Node, Region: v.Region, ServerVersion: v.Version, Limits: v.Limits,
		Heartbeat: heartbeat(v), ResumeWindow: time.Duration(v.ResumeMS) * time.Millisecond,
	}
	c.session = v.Session
	if !v.Resumed {
		c.generation++
		c.got = newWindow(v.Seq, c.seqWindow())
		c.handled = newWindow(v.Seq, c.seqWindow())
		c.acked = v.Seq
		c.cancelAskedLocked()
	}
	broken := c.out.rejoin(v.Resumed, time.Now())
	c.resubscribeLocked(v.Resumed)
	c.mu.Unlock()
	c.again = plan{}
	c.places.connected()
	c.cfg.Logger.Info("connected", "agent", v.Agent, "node", v.Node, "resumed", v.Resumed)
	c.tell(StateChange{State: Connected, Resumed: v.Resumed})
	if lost {
		c.gap(Gap{SessionLost: true})
	}
	for _, r := range broken {
		r.breakOff()
	}
	c.wakeWriter()
}

func heartbeat(v *wire.Connected) time.Duration {
	if v.HeartbeatMS <= 0 {
		return 25 * time.Second
	}
	return time.Duration(v.HeartbeatMS) * time.Millisecond
}

// readLoop takes what the relay sends until the connection is lost.
func (c *Client) readLoop(l *link) error {
	ping := l.ws.PingHandler()
	l.ws.SetPingHandler(func(data string) error {
		c.extend(l)
		return ping(data)
	})
	msg := l.first
	l.first = nil
	for {
		if err := c.readFrames(l, msg); err != nil {
			return err
		}
		c.extend(l)
		var err error
		if msg, err = l.read(); err != nil {
			return lostBecause(err)
		}
	}
}

// extend moves the time at which silence means that the connection is dead.
func (c *Client) extend(l *link) {
	_ = l.ws.SetReadDeadline(time.Now().Add(c.heartbeat() + pongWait))
}

func (c *Client) heartbeat() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info.Heartbeat
}

func lostBecause(err error) error {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errHeartbeat
	}
	return err
}

// readFrames handles all frames of one WebSocket message.
func (c *Client) readFrames(l *link, msg []byte) error {
	var ev wire.Event
	for len(msg) > 0 {
		n, err := ev.Read(l.encoding, msg)
		if n <= 0 || errors.Is(err, wire.ErrMalformed) {
			return fmt.Errorf("the relay sent what is no frame: %w", err)
		}
		msg = msg[n:]
		if err != nil { // a kind of a later protocol version
			c.cfg.Logger.Warn("frame not understood", "err", err)
			continue
		}
		c.take(&ev)
	}
	return nil
}

// writeLoop writes what waits, many commands in one WebSocket message, and the
// heartbeats. It returns nil after the close frame of a closing client.
func (c *Client) writeLoop(ctx context.Context, l *link) error {
	var (
		batch []*call
		msg   []byte
	)
	interval := c.heartbeat()
	beat := time.NewTimer(beatAfter(interval))
	defer beat.Stop()
	for {
		select {
		case <-c.wake:
			if now := c.heartbeat(); now != interval { // the relay has adapted it
				interval = now
				beat.Reset(beatAfter(interval))
			}
		case <-beat.C:
			beat.Reset(beatAfter(interval))
			msg = appendFrame(msg[:0], l.encoding, c.pingFrame())
			if err := l.write(msg); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
		for {
			var more, closing bool
			batch, msg, more, closing = c.nextBatch(l, batch[:0], msg[:0])
			if len(msg) > 0 {
				if err := l.write(msg); err != nil {
					return fmt.Errorf("write: %w", err)
				}
			}
			clear(batch)
			if closing {
				return l.bye(ctx)
			}
			if !more {
				break
			}
		}
		if cap(msg) > 4*batchBytes {
			msg = nil
		}
	}
}

// nextBatch takes what waits and encodes it as one WebSocket message. more says
// that something was left, closing that the client is closed and nothing waits.
func (c *Client) nextBatch(l *link, batch []*call, msg []byte) (_ []*call, _ []byte, more, closing bool) {
	c.mu.Lock()
	limit := batchBytes
	if m := c.limits.MessageBytes; m > 0 {
		limit = min(limit, m)
	}
	batch = c.out.take(batch, limit, time.Now())
	ack := c.takeAckLocked()
	more = len(c.out.queue) > 0
	closing = c.closing && c.out.idle()
	c.mu.Unlock()
	for _, k := range batch {
		msg = appendFrame(msg, l.encoding, k.frame)
	}
	if ack > 0 {
		msg = appendFrame(msg, l.encoding, wire.AppendCommand(nil, l.encoding,
			&wire.Command{Kind: wire.KindAck, Seq: ack, Class: wire.Normal}))
	}
	return batch, msg, more, closing
}

// bye starts the close handshake and waits for the reader to meet the relay's
// part of it: closing the socket earlier could make the relay's system drop what
// it had not read yet.
func (l *link) bye(ctx context.Context) error {
	const patience = time.Second
	text := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if err := l.ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(patience)); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	sleep(ctx, patience)
	return nil
}

// beatAfter is the wait before a ping: somewhat less than the interval, drawn, so
// that clients that connected together do not stay in step.
func beatAfter(interval time.Duration) time.Duration {
	return interval - rand.N(interval/10+1)
}
