package relay

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"agentnet/app/wire"
)

// A secretHash stands for the secret that resumes a session. The secret itself
// is known to its client alone.
type secretHash [16]byte

func hashSecret(secret string) (h secretHash) {
	sum := sha256.Sum256([]byte(secret[:min(len(secret), secretBytes)]))
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
	result := "opened"
	switch {
	case l.goOn(t, id, who, name, hello.Resume):
		result = "resumed"
	case l.fetch(t, id, who, name, hello.Resume):
		return // it goes on when another node has answered
	case !l.begin(t, id, who, name):
		return
	}
	l.opened(t, result)
}

// opened counts a session that was attached and starts its heartbeat. l.mu must be
// held.
func (l *link) opened(t *Turn, result string) {
	l.hub.totals.connects.add(result)
	l.armBeat(t)
	l.heedEndings(t)
}

// goOn resumes the session that the client names, if it can be. One whose client
// knows a seq that was never sent is ended: nobody will come back to it, and what
// may be parked of it goes to the new session.
func (l *link) goOn(t *Turn, id uint64, who *Identity, name string, want *wire.Resume) bool {
	if want == nil {
		return false
	}
	s := l.hub.resumable(want, name)
	if s == nil {
		return false
	}
	if s.resume(t, l, id, who, want) {
		return true
	}
	s.closeFor(t, wire.CloseReplaced, "the session cannot be resumed any more")
	return false
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

// begin opens a new session on l. It answers false when it refused to, because
// the agent has as many connected sessions as it may. l.mu must be held.
func (l *link) begin(t *Turn, id uint64, who *Identity, name string) bool {
	h := l.hub
	secret := h.secretHere(newSecret())
	s := &Session{hub: h, secret: hashSecret(secret), who: who, enc: l.info.Encoding, link: l, conn: l.conn,
		state: wire.Available, beat: h.cfg.Heartbeat, bornMS: t.wallMS(), tally: tally{born: t.clock()}}
	s.timer.owner, s.timer.shard = s, s.secret[0]
	// The answer is written before the agent can be reached, so that it comes first.
	s.mu.Lock()
	for s.agent = h.join(name, s); s.agent == nil; s.agent = h.join(name, s) {
		s.mu.Unlock()
		if !h.endOldest(t, name) {
			l.refuseConnect(t, id, &wire.Error{Code: wire.RateLimited, Message: fmt.Sprintf("agent %q has %d connected sessions, which is the limit; close one of them", name, maxSessions),
				RetryAfterMS: retryMS(h.cfg.Heartbeat)}, wire.ClosePolicy)
			return false
		}
		s.mu.Lock()
	}
	l.session = s
	s.agent.connected(1)
	t.join = s.greet(t, t.join[:0], id, secret, false, 0)
	s.out(t, t.join)
	s.mail = h.mail.Len(name) > 0 // parked messages come before new ones
	s.mu.Unlock()
	sh := h.sessionShard(s.secret)
	sh.mu.Lock()
	sh.m[s.secret] = s
	sh.mu.Unlock()
	h.sessionN.Add(1)
	s.agent.declare()
	s.agent.deliverMail(t, s)
	return true
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
	var old *link
	s.mu.Lock()
	for s.link != nil && s.link != old { // others may resume it at the same time: the last one has it
		old = s.link
		s.mu.Unlock()
		old.end(t, wire.CloseReplaced, "the session was resumed by another connection")
		s.mu.Lock()
	}
	if s.ended || want.Seq > s.replay.last {
		s.mu.Unlock()
		return false
	}
	s.unplug(t)
	s.leaving = nil // its client came back before another node had it
	s.who, s.link, s.conn = who, l, l.conn
	l.session = s
	if s.enc != l.info.Encoding {
		s.transcode(l.info.Encoding)
	}
	if s.goneAt != 0 {
		s.goneAt = 0
		s.hub.resumableN.Add(-1)
		s.agent.connected(1)
	}
	s.rebeat()
	missed := uint64(0)
	if first := s.replay.first(); want.Seq+1 < first {
		missed = first - 1 - want.Seq
	}
	s.acks = true
	s.acked(want.Seq)
	t.join = s.greet(t, t.join[:0], id, s.hub.secretHere(want.Session), true, want.Seq+missed)
	s.replayAll(t, missed)
	if s.blind {
		s.tellBlind(t)
	}
	s.mail, s.replayed = true, true
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	s.rejoinAll(t, l, who, want, subs)
	s.agent.declare()
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
