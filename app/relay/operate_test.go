package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/relay/overload"
	"agentnet/app/wire"
)

// codeOf is the code of an operation's error, "" for none.
func codeOf(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func (w *world) identity(token string) *Identity {
	id, _ := w.grants().Cached([]byte(token))
	return id
}

func TestOperations(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		ctx, id := context.Background(), w.identity("all")
		only := w.grants().add(t, "only x", &Identity{Agents: allGlobs(t, "x"), Send: allGlobs(t, "bob"), Publish: allGlobs(t, "ok"), Subscribe: allGlobs(t, "ok")})
		bob := w.join("bob")
		bob.ok(subscribe("ok"))
		sentOne, err := w.hub.Send(ctx, only, SendArgs{To: "bob", Payload: wire.Payload{Data: []byte("{\n\"a\": 1\r\n}")}, Class: wire.Normal})
		if err != nil || sentOne.Outcome != wire.Delivered || sentOne.Sessions != 1 {
			t.Errorf("send: got %+v, %v", sentOne, err)
		}
		if got := datas(bob.take()); !slices.Equal(got, []string{`{"a": 1}`}) {
			t.Errorf("bob got %q, want one line without line ends", got)
		}
		parked, err := w.hub.Send(ctx, id, SendArgs{From: "x", To: "away", Payload: text("p"), TTL: time.Hour, Class: wire.Normal})
		if err != nil || parked.Outcome != wire.Parked {
			t.Errorf("send to nobody with a ttl: got %+v, %v", parked, err)
		}
		at, err := w.hub.Publish(ctx, only, PublishArgs{Channel: "ok", Payload: text("p"), Class: wire.Normal})
		if err != nil || at.Offset != 1 || at.Epoch == "" {
			t.Errorf("publish: got %+v, %v", at, err)
		}
		for what, got := range map[string]error{
			"forbidden":     second(w.hub.Send(ctx, only, SendArgs{To: "carol", Payload: text("x")})),
			"agent_offline": second(w.hub.Send(ctx, id, SendArgs{From: "x", To: "nobody", Payload: text("x")})),
			"bad_frame":     second(w.hub.Send(ctx, id, SendArgs{From: "x", To: "bob", Payload: wire.Payload{Data: []byte(`{"broken`)}})),
			"bad_frame ":    second(w.hub.Send(ctx, id, SendArgs{From: "x", To: "no//name", Payload: text("x")})),
			"bad_frame  ":   second(w.hub.Send(ctx, id, SendArgs{From: "x", To: "bob", TTL: -time.Second})),
			"too_large":     second(w.hub.Send(ctx, id, SendArgs{From: "x", To: "bob", TTL: 365 * 24 * time.Hour})),
			"too_large ":    second(w.hub.Publish(ctx, id, PublishArgs{From: "x", Channel: "c", Payload: wire.Payload{Data: make([]byte, 70_000), Binary: true}})),
			"forbidden ":    second(w.hub.Publish(ctx, only, PublishArgs{Channel: "no", Payload: text("x")})),
			"bad_frame   ":  second(w.hub.Send(ctx, id, SendArgs{To: "bob"})),
		} {
			if want := wire.Code(slices.Collect(func(y func(string) bool) { y(what) })[0]); string(codeOf(got)) != trimmed(string(want)) {
				t.Errorf("got %v, want %s", got, want)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func trimmed(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

func TestRequestOperationStreams(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob := w.join("bob")
		ask := func(ctx context.Context, timeout time.Duration, each func(Answer) error) chan error {
			done := make(chan error, 1)
			go func() {
				done <- w.hub.Request(ctx, w.identity("all"), RequestArgs{From: "x", To: "bob", Method: "m", Payload: text("q"), Timeout: timeout, Class: wire.Normal}, each)
			}()
			synctest.Wait()
			return done
		}
		var got []string
		done := ask(context.Background(), time.Minute, func(a Answer) error { got = append(got, string(a.Payload.Data)+a.From); return nil })
		n := only(bob.take(), wire.KindRequest)[0].Request.Request
		for i := range 3 {
			bob.tell(&wire.Command{Kind: wire.KindReply, Request: n, Payload: text(fmt.Sprint(i)), More: i < 2})
		}
		if err := <-done; err != nil || !slices.Equal(got, []string{`"0"bob`, `"1"bob`, `"2"bob`}) {
			t.Errorf("got %v, %v", got, err)
		}
		// Given up by the caller: the agent hears of it.
		ctx, cancel := context.WithCancel(context.Background())
		done = ask(ctx, time.Minute, func(Answer) error { return nil })
		bob.take()
		cancel()
		if err := <-done; codeOf(err) != wire.Timeout {
			t.Errorf("after cancel: got %v", err)
		}
		if evs := bob.take(); len(evs) != 1 || evs[0].Kind != wire.KindCancel {
			t.Errorf("bob got %+v, want cancel", evs)
		}
		// Not answered.
		var last Answer
		done = ask(context.Background(), time.Second, func(a Answer) error { last = a; return nil })
		if err := <-done; err != nil || last.Err == nil || last.Err.Code != wire.Timeout {
			t.Errorf("after the timeout: got %+v, %v", last, err)
		}
		// More than the caller reads.
		stuck := make(chan struct{})
		done = ask(context.Background(), time.Minute, func(Answer) error { <-stuck; return nil })
		for _, ev := range only(bob.take(), wire.KindRequest) {
			n = ev.Request.Request
		}
		for range answersMax + 10 {
			bob.tell(&wire.Command{Kind: wire.KindReply, Request: n, Payload: text("x"), More: true})
		}
		close(stuck)
		if err := <-done; codeOf(err) != wire.Overloaded {
			t.Errorf("a caller that does not read: got %v", err)
		}
		if w.hub.requestN.Load() != 0 {
			t.Errorf("%d requests left", w.hub.requestN.Load())
		}
	})
}

func TestListsArePaged(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		var want []string
		for i := range 25 {
			name := fmt.Sprintf("agent%02d", i)
			want = append(want, name)
			p := w.join(name)
			p.ok(publish("room/"+name, "x"))
			p.ok(&wire.Command{Kind: wire.KindProfile, Profile: &wire.Profile{Card: []byte(`"` + string(make40k()) + `"`)}})
		}
		id := w.identity("all")
		var agents, channels []string
		for after, pages := "", 0; pages == 0 || after != ""; pages++ {
			list, page, err := w.hub.Agents(context.Background(), id, "agent*", after, 7)
			if err != nil || len(list) == 0 || len(list) > 7 {
				w.t.Fatalf("got %d agents, %v", len(list), err)
			}
			for _, a := range list {
				agents = append(agents, a.Agent)
			}
			after = page.Next
		}
		for after, pages := "", 0; pages == 0 || after != ""; pages++ {
			list, page, err := w.hub.Channels(context.Background(), id, "room/*", after, 10)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, c := range list {
				channels = append(channels, c.Channel[len("room/"):])
			}
			after = page.Next
		}
		if !slices.Equal(agents, want) || !slices.Equal(channels, want) {
			t.Errorf("pages gave %v and %v", agents, channels)
		}
		// By frame the answer also has to fit: 25 cards of 40 KB do not.
		p := w.join("zoe")
		agents = nil
		for after := ""; ; {
			ok := p.ok(&wire.Command{Kind: wire.KindAgents, Match: []byte("agent*"), After: []byte(after), Limit: 100})
			if len(ok.Agents) == 0 || len(ok.Agents) > 14 {
				w.t.Fatalf("one answer has %d agents", len(ok.Agents))
			}
			for _, a := range ok.Agents {
				agents = append(agents, a.Agent)
			}
			if after = ok.Next; after == "" {
				break
			}
		}
		if !slices.Equal(agents, want) || p.code() != 0 {
			t.Errorf("got %v, code %d", agents, p.code())
		}
		if n := w.hub.profileBytes.Load(); n < 25*40_000 {
			t.Errorf("profiles count %d bytes", n)
		}
	})
}

func make40k() []byte {
	b := make([]byte, 40_000)
	for i := range b {
		b[i] = 'a'
	}
	return b
}

func TestQueriesAndAbuseAreLimited(t *testing.T) {
	inWorld(t, func(c *Config) { c.MessageRate = limit.NewRate(10, 10) }, func(w *world) {
		p := w.join("alice")
		refused := 0
		for range 70 {
			if ev := p.ask(&wire.Command{Kind: wire.KindAgents}); ev.Kind == wire.KindError && ev.Error.Err.Code == wire.RateLimited {
				refused++
			}
		}
		if refused != 10 {
			t.Errorf("%d of 70 queries at once were refused, want 10", refused)
		}
		time.Sleep(11 * time.Second)
		w.join("bob")
		for i := range 600 {
			if p.code() != 0 {
				break
			}
			p.start(send("bob", fmt.Sprint(i)))
		}
		n := only(p.take(), wire.KindNotice)
		if p.code() != wire.ClosePolicy || len(n) != 1 || n[0].Notice.Kind != "limit" {
			t.Errorf("code %d, notices %+v; want 1008 after one notice", p.code(), n)
		}
	})
}

func TestSheddingLevels(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		bob.ok(subscribe("c"))
		at := func(lag time.Duration) {
			for i := range 8 { // between two readings of the hub's own monitor
				w.hub.observe(time.Now().Add(time.Duration(i)*100*time.Millisecond), overload.Signals{Lag: lag})
			}
			synctest.Wait()
		}
		at(600 * time.Millisecond)
		if lvl := w.hub.Stats().Level; lvl != "critical" {
			w.t.Fatalf("the level is %s, want critical", lvl)
		}
		low := send("bob", "low")
		low.Class = wire.Low
		alice.refused(low, wire.Overloaded)
		alice.refused(publish("c", "normal"), wire.Overloaded)
		critical := send("bob", "critical")
		critical.Class = wire.Critical
		if ok := alice.ok(critical); ok.Outcome != wire.Delivered {
			t.Errorf("critical: got %+v", ok)
		}
		waits := map[int64]bool{}
		for range 20 {
			if e := w.hub.Admit(netip.MustParseAddr("10.0.0.1")); e == nil || e.Code != wire.Overloaded || e.RetryAfterMS <= 0 {
				w.t.Fatalf("admitted at level critical: %v", e)
			} else {
				waits[e.RetryAfterMS] = true
			}
		}
		if len(waits) < 10 {
			t.Errorf("20 refused clients were told %d different waits", len(waits))
		}
		if n := only(alice.take(), wire.KindNotice); len(n) == 0 || n[0].Notice.Kind != "degraded" {
			t.Errorf("notices: %+v", n)
		}
		time.Sleep(time.Minute)
		alice.ok(publish("c", "normal"))
	})
}

func TestAdmitIsGivenBack(t *testing.T) {
	set := func(c *Config) {
		c.Gate = limit.GateLimits{Connections: 3, Pending: 2}
		c.Addresses = limit.AddressLimits{Concurrent: 10, FailPerSecond: 0.1, FailBurst: 3}
	}
	inWorld(t, set, func(w *world) {
		counts := func(connections, pending int) {
			t.Helper()
			if c, p := w.hub.gate.Counts(); c != connections || p != pending {
				t.Errorf("the gate counts %d and %d pending, want %d and %d", c, p, connections, pending)
			}
		}
		addr := netip.MustParseAddr("127.0.0.1")
		a, b := w.join("a"), w.dial()
		counts(2, 1)
		if e := w.hub.Admit(addr); e != nil {
			w.t.Fatal(e)
		}
		counts(3, 2)
		if e := w.hub.Admit(addr); e == nil || e.Code != wire.Overloaded || e.RetryAfterMS <= 0 {
			t.Errorf("a fourth: got %v", e)
		}
		w.hub.Unadmit(addr)
		counts(2, 1)
		b.tell(&wire.Command{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{Token: "wrong", Agent: "x"}})
		counts(1, 0)
		a.drop()
		counts(0, 0)
		for range 3 {
			w.hub.Failed(addr)
		}
		if e := w.hub.Admit(addr); e == nil || e.Code != wire.RateLimited {
			t.Errorf("after failed logins: got %v", e)
		}
		counts(0, 0)
	})
}

func TestTooManySessions(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		var all []*peer
		for range maxSessions {
			all = append(all, w.join("a"))
		}
		p := w.dial()
		p.name = "a"
		ev := p.ask(&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: "a"}})
		if ev.Kind != wire.KindError || ev.Error.Err.Code != wire.RateLimited || p.code() != wire.ClosePolicy {
			w.t.Fatalf("the %dth session: got %s %+v, code %d", maxSessions+1, ev.Kind, ev.Error.Err, p.code())
		}
		if ok := w.join("b").ok(send("a", "x")); ok.Sessions != maxSessions {
			t.Errorf("got %+v, want all %d sessions", ok, maxSessions)
		}
		all[5].drop()
		time.Sleep(time.Second)
		all[3].drop()
		w.join("a") // takes the place of the one that was away longest
		if q := w.back(all[3], 0); !q.hello.Resumed {
			t.Error("the session that was away shorter is gone")
		}
		if st := w.hub.Stats(); st.Sessions != maxSessions+1 {
			t.Errorf("%d sessions, want %d", st.Sessions, maxSessions+1)
		}
	})
}
