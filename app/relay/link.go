package relay

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/wire"
)

// closedByPeer is what Stats.Closed counts connections under that the relay did
// not end: the peer or the network did, with a code that only the socket's owner
// knows.
const closedByPeer = wire.CloseCode(0)

const (
	// backlogMessages and backlogBytes bound what a client may send while its
	// token is being checked.
	backlogMessages = 16
	backlogBytes    = 64 << 10
	// badFrames is how many malformed frames in badWindow close a connection.
	badFrames = 50
	badWindow = int64(10 * time.Second)
)

type linkState uint8

const (
	linkNew            linkState = iota // no `connect` yet
	linkAuthenticating                  // `connect` came, the Authorizer is working
	linkOpen                            // a session is attached
	linkClosed                          // the socket is gone or was told to go
)

// A link is the relay's side of one connection, from the upgrade to its end. The
// session that it carries may outlive it.
type link struct {
	// Fixed at construction.
	hub  *Hub
	conn Conn
	info ConnInfo

	seen   atomic.Int64 // when the peer was heard last, ns since the hub's start
	beat   timer        // authentication deadline, then the heartbeat
	pinged atomic.Bool
	cut    atomic.Bool // the session closed it as a slow consumer: nothing more is read from it
	shard  uint8       // its place in the hub's linkSet

	// mu is held while frames of this connection are handled. It comes before
	// every other lock.
	mu            sync.Mutex
	state         linkState
	gone          bool // Closed was called
	authenticated bool // counted so by the gate
	bad           int32
	badSince      int64
	session       *Session
	backlog       [][]byte
	refused       strikes
	heard         uint64 // frames that were understood, for the census
	known         uint64 // the last of the hub's endings that the identity can have been checked against
}

// Accept begins a connection that Admit let in. The socket's owner calls the
// Receiver from then on.
func (h *Hub) Accept(c Conn, info ConnInfo) Receiver {
	l := &link{hub: h, conn: c, info: info, known: h.endings.last.Load()}
	h.totals.accepted.Add(1)
	h.links.add(l)
	now := int64(time.Since(h.started)) + 1
	l.seen.Store(now)
	l.beat.owner, l.beat.shard = l, l.shard
	h.wheels.arm(&l.beat, now+int64(h.cfg.AuthTimeout))
	return l
}

// Seen notes that the peer is alive.
func (l *link) Seen(t *Turn) {
	l.seen.Store(t.clock())
	l.pinged.Store(false)
}

// Writable goes on with what waits for this socket.
func (l *link) Writable(t *Turn) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.writable(t, l)
	}
}

// Closed detaches the session, which waits to be resumed.
func (l *link) Closed(t *Turn) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return
	}
	l.gone = true
	if l.state != linkClosed && !l.cut.Load() {
		l.hub.totals.closed.add(closedByPeer)
	}
	l.state, l.backlog = linkClosed, nil
	s := l.session
	l.session = nil
	l.mu.Unlock()

	h := l.hub
	h.wheels.stop(&l.beat)
	h.links.remove(l)
	h.addresses.Leave(l.info.Addr)
	h.gate.Leave(l.authenticated)
	if s != nil {
		s.detach(t, l)
	}
}

// Receive handles one WebSocket message.
func (l *link) Receive(t *Turn, msg []byte) {
	l.seen.Store(t.clock())
	l.pinged.Store(false)
	t.count.bytesIn += uint64(len(msg))
	l.mu.Lock()
	l.handle(t, msg)
	l.mu.Unlock()
	t.relieve()
}

// handle goes through the frames of msg. l.mu must be held.
func (l *link) handle(t *Turn, msg []byte) {
	for len(msg) > 0 && !l.cut.Load() {
		switch l.state {
		case linkClosed:
			return
		case linkAuthenticating:
			l.keepBacklog(t, msg)
			return
		}
		c := &t.cmd
		n, err := c.Read(l.info.Encoding, msg, &l.hub.cfg.Limits)
		if err != nil {
			if !l.badFrame(t, err) {
				return
			}
		} else if c.Kind != wire.KindNone {
			t.count.framesIn[c.Kind]++
			l.heard++
			if l.hub.tracing.on.Load() != nil && l.session != nil {
				l.hub.traceCommand(t, l.session.agent.name, l.session, c)
			}
			l.dispatch(t, c)
		}
		msg = msg[max(n, 1):]
	}
}

// keepBacklog stores what came while the token is being checked.
func (l *link) keepBacklog(t *Turn, msg []byte) {
	size := len(msg)
	for _, b := range l.backlog {
		size += len(b)
	}
	if len(l.backlog) >= backlogMessages || size > backlogBytes {
		l.shut(t, wire.ClosePolicy, "too much was sent before `connected`")
		return
	}
	l.backlog = append(l.backlog, append([]byte(nil), msg...))
}

// badFrame answers a frame that could not be read; false ends the connection.
func (l *link) badFrame(t *Turn, err error) bool {
	var fe *wire.FrameError
	if !errors.As(err, &fe) {
		l.shut(t, wire.CloseProtocolError, "malformed message: "+err.Error())
		return false
	}
	if l.state == linkNew {
		l.refuseConnect(t, fe.ID, &fe.Err, wire.CloseAuthFailed)
		return false
	}
	l.fail(t, fe.ID, fe.Key, fe.Err)
	now := t.clock()
	if now-l.badSince > badWindow {
		l.badSince, l.bad = now, 0
	}
	if l.bad++; l.bad >= badFrames {
		l.shut(t, wire.ClosePolicy, "too many malformed frames")
		return false
	}
	return true
}

// dispatch carries out one command. l.mu must be held.
func (l *link) dispatch(t *Turn, c *wire.Command) {
	if l.state == linkNew {
		if c.Kind != wire.KindConnect {
			l.refuseConnect(t, c.ID, &wire.Error{Code: wire.Unauthorized, Message: "the first frame must be `connect`"}, wire.CloseAuthFailed)
			return
		}
		l.connect(t, c)
		return
	}
	s := l.session
	switch c.Kind {
	case wire.KindSend:
		s.send(t, l, c)
	case wire.KindPublish:
		s.publish(t, l, c)
	case wire.KindRequest:
		s.request(t, l, c)
	case wire.KindReply:
		s.replyTo(t, l, c)
	case wire.KindAck:
		s.ack(t, l, c)
	case wire.KindPing:
		l.ping(t, c)
	case wire.KindCancel:
		s.cancel(t, c)
	case wire.KindReceipt:
		s.receipt(t, l, c)
	case wire.KindSubscribe:
		s.subscribe(t, l, c)
	case wire.KindUnsubscribe:
		s.unsubscribe(t, l, c)
	case wire.KindHistory:
		s.history(t, l, c)
	case wire.KindPresence:
		s.presence(t, l, c)
	case wire.KindAgents:
		s.agents(t, l, c)
	case wire.KindProfile:
		s.profile(t, l, c)
	case wire.KindConnect:
		l.fail(t, c.ID, "", wire.Error{Code: wire.Conflict, Message: "this connection is connected already"})
	default:
		l.fail(t, c.ID, "", wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("a client does not send %q", c.Kind)})
	}
}

// fail refuses a command. It is answered even without an id.
func (l *link) fail(t *Turn, id uint64, key string, e wire.Error) {
	l.hub.totals.errors.add(string(e.Code))
	if l.hub.tracing.on.Load() != nil {
		l.hub.traceOutcome(l.session, id, nil, &e)
	}
	frame := wire.ErrorFrame{ID: id, Err: e}
	if id == 0 {
		frame.Key = key
	}
	t.frame = wire.AppendError(t.room(), l.info.Encoding, &frame)
	l.answer(t, wire.Seal(l.info.Encoding, t.frame))
}

// answer queues an answer for this connection's session.
func (l *link) answer(t *Turn, sealed []byte) {
	if s := l.session; s != nil {
		s.pushAnswer(t, l, sealed)
		return
	}
	l.conn.Write(sealed)
}

// ok answers a command that has an id.
func (l *link) ok(t *Turn, ok *wire.OK) {
	if ok.ID == 0 {
		return
	}
	t.frame = wire.AppendOK(t.room(), l.info.Encoding, ok)
	l.answer(t, wire.Seal(l.info.Encoding, t.frame))
}

// shut ends the connection with code. What its session has for it is written
// first, so that the client learns why; from then on the session counts as away.
// l.mu must be held.
func (l *link) shut(t *Turn, code wire.CloseCode, reason string) {
	if l.state == linkClosed {
		return
	}
	l.state, l.backlog = linkClosed, nil
	if l.session != nil {
		l.session.letGo(t, l)
	}
	if !l.cut.Load() {
		l.hub.totals.closed.add(code)
	}
	l.conn.Close(code, reason)
}

// end is shut for callers that do not hold l.mu.
func (l *link) end(t *Turn, code wire.CloseCode, reason string) {
	l.mu.Lock()
	l.shut(t, code, reason)
	l.mu.Unlock()
}

func (l *link) ping(t *Turn, c *wire.Command) {
	beat := l.session.beatAfter(l, c.RTTMS)
	pong := wire.Pong{ID: c.ID, TimeMS: t.wallMS(), HeartbeatMS: beat.Milliseconds()}
	t.frame = wire.AppendPong(t.room(), l.info.Encoding, &pong)
	l.answer(t, wire.Seal(l.info.Encoding, t.frame))
}
