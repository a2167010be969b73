package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/wire"
)

func TestConnectRefusals(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grants().add(w.t, "bobs", &Identity{Agents: allGlobs(w.t, "bob")})
		w.grants().add(w.t, "old", &Identity{Expires: time.Now().Add(-time.Second)})
		for name, c := range map[string]struct {
			cmd  *wire.Command
			code wire.CloseCode
		}{
			"wrong token":   {&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "wrong", Agent: "bob"}}, wire.CloseAuthFailed},
			"other agent":   {&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "bobs", Agent: "alice"}}, wire.CloseAuthFailed},
			"no agent":      {&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all"}}, wire.CloseAuthFailed},
			"expired":       {&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "old", Agent: "bob"}}, wire.CloseTokenExpired},
			"send first":    {send("bob", "x"), wire.CloseAuthFailed},
			"without token": {&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Agent: "bob"}}, wire.CloseAuthFailed},
		} {
			p := w.dial()
			c.cmd.ID = 1
			p.tell(c.cmd)
			if p.code() != c.code {
				t.Errorf("%s: closed with %d, want %d", name, p.code(), c.code)
			}
			if got := p.take(); len(got) != 1 || got[0].Kind != wire.KindError || got[0].ID != 1 {
				t.Errorf("%s: got %+v, want an error first", name, got)
			}
		}
		p := w.dial()
		p.connect(&wire.Connect{Token: "bobs"})
		if p.hello.Agent != "bob" {
			t.Errorf("a token for one agent: got %q", p.hello.Agent)
		}
	})
}

func TestConnectTimeout(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		p := w.dial()
		time.Sleep(6 * time.Second)
		if p.code() != wire.CloseAuthFailed {
			t.Errorf("got code %d, want 4000", p.code())
		}
	})
}

func TestSlowAuthorizerKeepsWhatFollows(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grants().add(w.t, "slow one", &Identity{})
		bob := w.join("bob")
		p := w.dial()
		c := send("bob", "early")
		c.ID = 2
		p.tell(&wire.Command{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{Token: "slow one", Agent: "alice"}}, c)
		c.ID = 3
		p.tell(c)
		time.Sleep(2 * time.Second)
		got := p.take()
		if len(got) != 3 || got[0].Kind != wire.KindConnected || got[1].ID != 2 || got[2].ID != 3 {
			t.Errorf("got %+v", got)
		}
		if n := len(bob.take()); n != 2 {
			t.Errorf("bob got %d messages, want 2", n)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		p, mute := w.join("alice"), w.join("mute")
		mute.sock.goMute()
		time.Sleep(10 * time.Minute)
		if p.code() != 0 || p.sock.pinged() == 0 {
			t.Errorf("an answering peer: code %d after %d pings", p.code(), p.sock.pinged())
		}
		if mute.code() != wire.CloseHeartbeatMissed {
			t.Errorf("a mute peer: code %d, want 4006", mute.code())
		}
		first := p.hello.HeartbeatMS
		var last int64
		for range 20 {
			last = p.ask(&wire.Command{Kind: wire.KindPing, RTTMS: 5}).Pong.HeartbeatMS
		}
		if last <= first {
			t.Errorf("a good connection's interval went from %d to %d ms", first, last)
		}
		if bad := p.ask(&wire.Command{Kind: wire.KindPing, RTTMS: 5000}).Pong.HeartbeatMS; bad >= last {
			t.Errorf("a bad round trip: interval %d ms, before %d", bad, last)
		}
	})
}

func TestTokenEndsOnALiveSession(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grants().add(w.t, "short", &Identity{Expires: time.Now().Add(30 * time.Second)})
		p := w.dial()
		p.connect(&wire.Connect{Token: "short", Agent: "a"})
		time.Sleep(31 * time.Second)
		if p.code() != wire.CloseTokenExpired {
			t.Errorf("got code %d, want 4001", p.code())
		}
	})
}

func TestRevoked(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grants().add(w.t, "t1", &Identity{})
		p, other := w.dial(), w.join("b")
		p.connect(&wire.Connect{Token: "t1", Agent: "a"})
		if n := w.hub.EndSessions(func(id *Identity) bool { return id.Token == "t1" }, wire.CloseAuthFailed, "revoked"); n != 1 {
			t.Errorf("ended %d sessions, want 1", n)
		}
		if p.code() != wire.CloseAuthFailed || other.code() != 0 {
			t.Errorf("codes %d and %d, want 4000 and 0", p.code(), other.code())
		}
		if q := w.back(p, 0); q.hello.Resumed {
			t.Error("a revoked session was resumed")
		}
	})
}

func TestForbidden(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		g := allGlobs(w.t, "ok/*")
		w.grants().add(w.t, "narrow", &Identity{Agents: allGlobs(w.t, "n"), Send: g, Subscribe: g, Publish: g})
		p := w.dial()
		p.connect(&wire.Connect{Token: "narrow", Agent: "n"})
		w.join("bob")
		for _, c := range []*wire.Command{send("bob", "x"), publish("c", "x"), subscribe("c"), request("bob", "m", "x", 100),
			{Kind: wire.KindHistory, Channel: []byte("c")}, {Kind: wire.KindPresence, Channel: []byte("c")}, {Kind: wire.KindPresence, Agent: []byte("bob")}} {
			p.refused(c, wire.Forbidden)
		}
		if list := p.ok(&wire.Command{Kind: wire.KindAgents}).Agents; len(list) != 1 || list[0].Agent != "n" {
			t.Errorf("the directory shows %+v, want only itself", list)
		}
	})
}

func TestRateLimit(t *testing.T) {
	inWorld(t, func(c *Config) { c.MessageRate = limit.NewRate(10, 20) }, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		refused := 0
		for range 30 {
			if ev := alice.ask(send("bob", "x")); ev.Kind == wire.KindError {
				refused++
				if ev.Error.Err.Code != wire.RateLimited || ev.Error.Err.RetryAfterMS <= 0 {
					t.Fatalf("got %+v", ev.Error)
				}
			}
		}
		if n := len(bob.take()); refused == 0 || n+refused != 30 || n < 20 {
			t.Errorf("%d refused, %d delivered, want 30 together with at least the burst of 20", refused, n)
		}
		time.Sleep(2 * time.Second)
		alice.ok(send("bob", "x"))
	})
}

// TestDrain: clients, new ones and the readiness check are told why the node drains.
func TestDrain(t *testing.T) {
	tests := []struct {
		name  string
		drain func(*Hub) error
		level string
		words string
	}{
		{"stop", func(h *Hub) error { return h.Drain(context.Background(), 2*time.Second) }, "stop", "shutting down"},
		{"order", func(h *Hub) error { return h.DrainByOrder(context.Background(), 2*time.Second) }, "order", "operator"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { drainOf(t, tt.drain, tt.level, tt.words) })
	}
}

func drainOf(t *testing.T, drain func(*Hub) error, level, words string) {
	inWorld(t, nil, func(w *world) {
		var peers []*peer
		for _, name := range []string{"a", "b", "c", "d"} {
			peers = append(peers, w.join(name))
		}
		start := time.Now()
		if err := drain(w.hub); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("the drain of four took %v, want the window of 2 s and little more", took)
		}
		for _, p := range peers {
			if n := only(p.take(), wire.KindNotice); p.code() != wire.CloseDrain || len(n) != 1 || n[0].Notice.Kind != "drain" || n[0].Notice.Level != level || !strings.Contains(n[0].Notice.Message, words) {
				t.Errorf("%s: code %d, notices %+v, want 4004 after one of level %q with %q", p.name, p.code(), n, level, words)
			}
		}
		if e := w.hub.Admit(peers[0].sock.link.(*link).info.Addr); e == nil || e.Code != wire.Unavailable || !strings.Contains(e.Message, words) {
			t.Errorf("a new connection while draining: got %v, want %q in it", e, words)
		}
		if r := w.hub.Ready()[0]; r.OK || !strings.Contains(r.Message, words) {
			t.Errorf("the readiness check says %+v, want %q in it", r, words)
		}
	})
}

func TestBadFramesDoNotHurt(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		p := w.join("a")
		p.tell(&wire.Command{ID: 7, Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: "b"}})
		if got := p.take(); len(got) != 1 || got[0].Error.Err.Code != wire.Conflict {
			t.Errorf("connect twice: got %+v", got)
		}
		if w.enc == wire.JSON {
			p.raw([]byte(`{"id":9,"nonsense":{}}` + "\n" + `{"id":10,"ping":{}}`))
			got := p.take()
			if len(got) != 2 || got[0].Error.Err.Code != wire.BadFrame || got[1].Kind != wire.KindPong {
				t.Errorf("got %+v", got)
			}
			for range 100 {
				p.raw([]byte(`{"bad`))
			}
			if p.code() != wire.ClosePolicy {
				t.Errorf("after 100 malformed frames: code %d, want 1008", p.code())
			}
			return
		}
		p.raw([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		if p.code() != wire.CloseProtocolError {
			t.Errorf("a bad length prefix: code %d, want 1002", p.code())
		}
	})
}
