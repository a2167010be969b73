package relay

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"agentnet/app/wire"
)

// A secretHash stands for the secret that resumes a session. The secret itself
// is known to its client alone.
type secretHash [16]byte

func hashSecret(secret string) (h secretHash) {
	sum := sha256.Sum256([]byte(secret))
	copy(h[:], sum[:])
	return h
}

// newSecret makes 144 random bits that name a session.
func newSecret() string {
	var b [18]byte
	rand.Read(b[:])
	return "s_" + base64.RawURLEncoding.EncodeToString(b[:])
}

func badf(format string, args ...any) wire.Error {
	return wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf(format, args...)}
}

// connect handles the first frame. l.mu must be held.
func (l *link) connect(t *Turn, c *wire.Command) {
	id, hello := c.ID, c.Connect
	if hello.Token == "" {
		if l.info.Identity == nil {
			l.refuseConnect(t, id, &wire.Error{Code: wire.Unauthorized, Message: "connect: `token` is missing"}, wire.CloseAuthFailed)
			return
		}
		l.open(t, id, l.info.Identity, hello)
		return
	}
	l.authorize(t, id, hello.Token, func(t *Turn, who *Identity) { l.open(t, id, who, hello) })
}

// open attaches a new or a resumed session. l.mu must be held.
func (l *link) open(t *Turn, id uint64, who *Identity, hello *wire.Connect) {
	if !who.Expires.IsZero() && !time.Now().Before(who.Expires) {
		l.refuseConnect(t, id, &wire.Error{Code: wire.Unauthorized, Message: ErrTokenExpired.Error()}, wire.CloseTokenExpired)
		return
	}
	name, e := agentName(who, hello.Agent)
	if e != nil {
		l.hub.Failed(l.info.Addr)
		l.refuseConnect(t, id, e, wire.CloseAuthFailed)
		return
	}
	l.hub.gate.Authenticated()
	l.authenticated = true
	l.state = linkOpen
	if hello.Resume != nil {
		if s := l.hub.resumable(hello.Resume, name); s != nil && s.resume(t, l, id, who, hello.Resume) {
			l.hub.totals.connects.add("resumed")
			l.armBeat(t)
			return
		}
	}
	l.begin(t, id, who, name)
	l.hub.totals.connects.add("opened")
	l.armBeat(t)
}

// agentName decides which agent a connection acts as.
func agentName(who *Identity, want string) (string, *wire.Error) {
	if want == "" {
		if len(who.Agents) == 1 {
			if only := who.Agents[0].String(); wire.ValidAgent(only) {
				return only, nil
			}
		}
		return "", &wire.Error{Code: wire.BadFrame, Message: "connect: `agent` is needed, because the token covers several"}
	}
	if !who.Agents.Match(want) {
		return "", &wire.Error{Code: wire.Forbidden, Message: fmt.Sprintf("the token does not cover the agent %q", want)}
	}
	return strings.Clone(want), nil
}

// begin opens a new session on l. l.mu must be held.
func (l *link) begin(t *Turn, id uint64, who *Identity, name string) {
	h := l.hub
	secret := newSecret()
	s := &Session{hub: h, secret: hashSecret(secret), who: who, enc: l.info.Encoding, link: l, conn: l.conn,
		state: wire.Available, beat: h.cfg.Heartbeat, opened: t.clock()}
	s.timer.owner, s.timer.shard = s, s.secret[0]
	l.session = s
	// The answer is written before the agent can be reached, so that it comes first.
	s.mu.Lock()
	s.agent = h.join(name, s)
	t.join = s.greet(t, t.join[:0], id, secret, false, 0)
	s.out(t, t.join)
	s.mail = true // until deliverMail has looked: parked messages come before new ones
	s.mu.Unlock()
	sh := h.sessionShard(s.secret)
	sh.mu.Lock()
	sh.m[s.secret] = s
	sh.mu.Unlock()
	h.sessionN.Add(1)
	s.agent.deliverMail(t, s)
}

// greet appends `connected` to dst. s.mu must be held.
func (s *Session) greet(t *Turn, dst []byte, id uint64, secret string, resumed bool, seq uint64) []byte {
	hello := wire.Connected{ID: id, Session: secret, Agent: s.agent.name, Node: s.hub.cfg.Node, Region: s.hub.cfg.Region,
		Resumed: resumed, Seq: seq, HeartbeatMS: s.beat.Milliseconds(), ResumeMS: s.hub.cfg.Resume.Milliseconds(),
		Limits: s.hub.cfg.Limits, Version: s.hub.cfg.Version}
	t.frame = wire.AppendConnected(t.room(), s.enc, &hello)
	t.count.framesOut++
	return append(dst, wire.Seal(s.enc, t.frame)...)
}

// resumable finds the session that a client wants back.
func (h *Hub) resumable(want *wire.Resume, agent string) *Session {
	secret := hashSecret(want.Session)
	sh := h.sessionShard(secret)
	sh.mu.Lock()
	s := sh.m[secret]
	sh.mu.Unlock()
	if s == nil || s.agent.name != agent {
		return nil
	}
	return s
}

func (h *Hub) sessionShard(secret secretHash) *sessionShard { return &h.sessions[secret[1]%shards] }

// resume moves the session to l and replays what was missed. It answers false
// when it cannot go on. l.mu must be held.
func (s *Session) resume(t *Turn, l *link, id uint64, who *Identity, want *wire.Resume) bool {
	s.mu.Lock()
	old := s.link
	s.mu.Unlock()
	if old != nil {
		old.end(wire.CloseReplaced, "the session was resumed by another connection")
	}
	s.mu.Lock()
	if s.ended || want.Seq > s.replay.last {
		s.mu.Unlock()
		return false
	}
	s.unplug(t)
	s.who, s.link, s.conn, s.endWait = who, l, l.conn, false
	l.session = s
	if s.enc != l.info.Encoding {
		s.transcode(l.info.Encoding)
	}
	if s.goneAt != 0 {
		s.goneAt = 0
		s.hub.resumableN.Add(-1)
		s.hub.wheels.stop(&s.timer)
	}
	s.rebeat()
	missed := uint64(0)
	if first := s.replay.first(); want.Seq+1 < first {
		missed = first - 1 - want.Seq
	}
	s.acks = true
	s.acked(want.Seq)
	t.join = s.greet(t, t.join[:0], id, want.Session, true, want.Seq+missed)
	s.replayAll(t, missed)
	s.mail = true
	subs := append([]*subscription(nil), s.subs...)
	s.mu.Unlock()
	for _, sub := range subs {
		sub.rejoin(t, l, want)
	}
	s.agent.deliverMail(t, s)
	s.agent.announce(t, s)
	return true
}

// replayAll writes t.join, the gap and all unacknowledged frames in one go: their
// size is bounded by ReplayBytes. s.mu must be held.
func (s *Session) replayAll(t *Turn, missed uint64) {
	gap := func(n uint64) {
		if n > 0 {
			t.frame = wire.AppendGap(t.room(), s.enc, &wire.Gap{Missed: n})
			t.join = append(t.join, wire.Seal(s.enc, t.frame)...)
			t.count.gaps++
		}
	}
	gap(missed)
	for i := range s.replay.len() {
		t.join = append(t.join, s.replay.at(i).sealed...)
	}
	gap(s.lost)
	s.lost = 0
	t.count.framesOut += uint64(s.replay.len())
	s.out(t, t.join)
	if cap(t.join) > 256<<10 {
		t.join = nil
	}
}

// unplug forgets the socket and what was queued for it. Direct frames are in the
// replay, channel messages in the channel's window. s.mu must be held.
func (s *Session) unplug(t *Turn) {
	s.link, s.conn, s.full, s.fullAt, s.endWait = nil, nil, false, 0, false
	s.queue.Clear()
	s.account(t)
	s.hub.wheels.stop(&s.timer)
}

// detach begins the time in which the session may be resumed.
func (s *Session) detach(t *Turn, l *link) {
	now := t.clock()
	s.mu.Lock()
	if s.link != l || s.ended {
		s.mu.Unlock()
		return
	}
	s.unplug(t)
	s.goneAt, s.wentAt = now, s.replay.last
	s.hub.resumableN.Add(1)
	s.hub.wheels.arm(&s.timer, now+int64(s.hub.cfg.Resume))
	subs := append([]*subscription(nil), s.subs...)
	s.mu.Unlock()
	for _, sub := range subs {
		sub.ch.leave(t, sub, false)
	}
	s.agent.announce(t, s)
}

// end removes the session for good. What it did not acknowledge and may still be
// parked goes to the mailbox, unless the agent has another session.
func (s *Session) end(t *Turn) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	if s.conn == nil {
		s.hub.resumableN.Add(-1)
	} else {
		s.wentAt = s.replay.last
	}
	s.unplug(t)
	left := s.replay
	s.replay = replay{last: left.last}
	subs := s.subs
	s.subs, s.slab, s.asks = nil, nil, nil
	s.mu.Unlock()

	h := s.hub
	sh := h.sessionShard(s.secret)
	sh.mu.Lock()
	delete(sh.m, s.secret)
	sh.mu.Unlock()
	h.sessionN.Add(-1)
	for _, sub := range subs {
		sub.ch.leave(t, sub, true)
	}
	last := s.agent.part(s)
	h.inherit(t, s, &left, last)
}

// transcode rewrites the kept frames for a client that came back with the other
// encoding. s.mu must be held.
func (s *Session) transcode(enc wire.Encoding) {
	old := s.enc
	s.enc, s.slab = enc, nil
	s.replay.bytes = 0
	for i := range s.replay.len() {
		e := s.replay.at(i)
		e.sealed = transcode(e.sealed, old, enc)
		s.replay.bytes += len(e.sealed)
	}
}

// transcode turns one sealed direct frame into the other encoding.
func transcode(sealed []byte, from, to wire.Encoding) []byte {
	var ev wire.Event
	if _, err := ev.Read(from, wire.Body(sealed)); err != nil {
		return sealed // our own frame can always be read
	}
	buf := make([]byte, wire.HeaderRoom, wire.HeaderRoom+len(sealed)*2)
	switch ev.Kind {
	case wire.KindMessage:
		buf = wire.AppendMessage(buf, to, &ev.Message)
	case wire.KindRequest:
		buf = wire.AppendRequest(buf, to, &ev.Request)
	case wire.KindReply:
		buf = wire.AppendReply(buf, to, &ev.Reply)
	case wire.KindReceipt:
		buf = wire.AppendReceipt(buf, to, &ev.Receipt)
	}
	return wire.Seal(to, buf)
}
