package relay

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// TestResumeWithANarrowerToken: what the token that resumes a session does not
// grant is dropped, and told.
func TestResumeWithANarrowerToken(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.grants().add(t, "narrow", &Identity{Agents: allGlobs(t, "bob"), Subscribe: allGlobs(t, "open/*"), Send: allGlobs(t, "nobody")})
		alice, bob := w.join("alice"), w.join("bob")
		bob.ok(subscribe("open/a"))
		bob.ok(subscribe("shut/a"))
		bob.drop()
		p := w.dial()
		p.connect(&wire.Connect{Token: "narrow", Agent: "bob", Resume: &wire.Resume{Session: bob.session}})
		if !p.hello.Resumed {
			w.t.Fatal("not resumed")
		}
		alice.ok(publish("open/a", "1"))
		alice.ok(publish("shut/a", "2"))
		got := p.take()
		if len(got) != 2 || got[0].Kind != wire.KindGap || got[0].Gap.Channel != "shut/a" || got[1].Message.Channel != "open/a" {
			t.Errorf("got %+v, want a gap for shut/a and then only open/a", got)
		}
		p.refused(send("alice", "x"), wire.Forbidden)
		if n := w.hub.subscriptionN.Load(); n != 1 {
			t.Errorf("%d subscriptions, want 1", n)
		}
		q := w.dial()
		q.name = "alice"
		ev := q.ask(&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "narrow", Agent: "alice", Resume: &wire.Resume{Session: alice.session}}})
		if ev.Kind != wire.KindError || ev.Error.Err.Code != wire.Forbidden || alice.code() != 0 {
			t.Errorf("another agent's session: got %s, alice's code %d", ev.Kind, alice.code())
		}
	})
}

func TestSubscribeTwice(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob, watch := w.join("alice"), w.join("bob"), w.join("watch")
		c := subscribe("c")
		c.Presence = true
		watch.ok(c)
		first := bob.ok(subscribe("c"))
		for i := range 3 {
			alice.ok(publish("c", fmt.Sprint(i)))
		}
		if ok := bob.ok(subscribe("c")); ok.Epoch != first.Epoch || ok.Offset != 3 {
			t.Errorf("again: got %+v", ok)
		}
		alice.ok(publish("c", "3"))
		if got := datas(bob.take()); !slices.Equal(got, []string{`"0"`, `"1"`, `"2"`, `"3"`}) {
			t.Errorf("bob got %v, want each once", got)
		}
		again := subscribe("c")
		again.HasSince, again.Since = true, wire.Since{Epoch: first.Epoch, Offset: 2}
		if ok := bob.ok(again); !ok.Recovered || ok.Offset != 4 {
			t.Errorf("again with since: got %+v", ok)
		}
		if got := datas(bob.take()); !slices.Equal(got, []string{`"2"`, `"3"`}) {
			t.Errorf("since 2: got %v", got)
		}
		if n := w.hub.subscriptionN.Load(); n != 2 {
			t.Errorf("%d subscriptions, want 2", n)
		}
		if got := only(watch.take(), wire.KindPresence); len(got) != 1 {
			t.Errorf("presence: got %+v, want one join", got)
		}
		bob.ok(&wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte("c")})
		bob.refused(&wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte("c")}, wire.NotFound)
	})
}

// TestQueuedPublicationsAreReplayed: what waited for a socket that was lost comes
// again, also when the client does not say where it stands.
func TestQueuedPublicationsAreReplayed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		bob.ok(subscribe("c"))
		bob.block()
		for i := range 5 {
			alice.ok(publish("c", fmt.Sprint(i)))
		}
		if got := datas(bob.take()); len(got) != 1 {
			t.Fatalf("a blocked socket took %v", got)
		}
		bob.drop()
		if got := datas(w.back(bob, 0).take()); !slices.Equal(got, []string{`"1"`, `"2"`, `"3"`, `"4"`}) {
			t.Errorf("after resume: %v", got)
		}
	})
}

// TestChannelWaitsForItsSubscribers: a channel that nobody uses is not removed
// while a session may come back to it, so that its epoch goes on.
func TestChannelWaitsForItsSubscribers(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob := w.join("bob")
		at := bob.ok(subscribe("quiet"))
		bob.drop()
		time.Sleep(110 * time.Second)
		bob = w.back(bob, 0, wire.ChannelPosition{Channel: "quiet", Epoch: at.Epoch})
		if got := bob.take(); len(got) != 0 {
			t.Errorf("got %+v, want nothing: nothing was lost", got)
		}
		bob.drop()
		time.Sleep(10 * time.Minute)
		if n := w.hub.channelN.Load(); n != 0 {
			t.Errorf("%d channels are left", n)
		}
	})
}

// TestEndedSessionCancelsItsRequests: nobody goes on working for an asker that is
// gone for good.
func TestEndedSessionCancelsItsRequests(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		alice.start(request("bob", "m", "x", 600_000))
		bob.take()
		alice.drop()
		time.Sleep(3 * time.Minute)
		if got := only(bob.take(), wire.KindCancel); len(got) != 1 || w.hub.requestN.Load() != 0 {
			t.Errorf("bob got %+v, %d requests wait", got, w.hub.requestN.Load())
		}
	})
}

// TestUnknownSeqBeginsAnew: a client that knows a seq that was never sent gets a new
// session, and what the old one had for it.
func TestUnknownSeqBeginsAnew(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		alice.ok(lasting("bob", "x"))
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 0})
		bob.drop()
		p := w.back(bob, 99)
		if p.hello.Resumed {
			t.Error("resumed from a seq that was never sent")
		}
		if got := datas(p.take()); !slices.Equal(got, []string{`"x"`}) {
			t.Errorf("the new session got %v", got)
		}
		if st := w.hub.Stats(); st.Sessions != 2 || st.Resumable != 0 {
			t.Errorf("%d sessions, %d resumable; want 2 and 0", st.Sessions, st.Resumable)
		}
	})
}

// TestInheritedByLaterSession: a session that began after the message gets it when
// the one that had it ends; a session that had it too does not get it twice.
func TestInheritedByLaterSession(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, one, two := w.join("alice"), w.join("bob"), w.join("bob")
		time.Sleep(time.Second)
		alice.ok(lasting("bob", "both"))
		two.take()
		one.tell(&wire.Command{Kind: wire.KindAck, Seq: 0})
		two.tell(&wire.Command{Kind: wire.KindAck, Seq: 0})
		one.drop()
		time.Sleep(3 * time.Minute)
		if got := two.take(); len(got) != 0 {
			t.Errorf("the other session got %v again", datas(got))
		}
		three := w.join("bob")
		two.drop()
		time.Sleep(3 * time.Minute)
		if got := datas(three.take()); !slices.Equal(got, []string{`"both"`}) {
			t.Errorf("the later session got %v", got)
		}
	})
}

// TestShutConnectionTakesNothing: from the moment that the relay closes a
// connection its session counts as away, and its frames are not heard.
func TestShutConnectionTakesNothing(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		turn := w.hub.NewTurn()
		bob.sock.mu.Lock() // so that Closed cannot come in between
		l := bob.sock.link.(*link)
		bob.sock.mu.Unlock()
		l.mu.Lock()
		go func() { l.shut(turn, wire.CloseDrain, "test"); l.mu.Unlock() }()
		synctest.Wait()
		if ok := alice.ok(send("bob", "x")); ok.Outcome != wire.Parked {
			t.Errorf("got %+v, want parked", ok)
		}
		bob.sock.link.Receive(turn, frames(w.enc, send("alice", "late")))
		turn.Flush(true)
		if got := only(alice.take(), wire.KindMessage); len(got) != 0 {
			t.Errorf("a closed connection still sends: %v", datas(got))
		}
		if st := w.hub.Stats(); st.Closed[wire.CloseDrain] != 1 || st.Closed[closedByPeer] != 0 {
			t.Errorf("closed: %v", st.Closed)
		}
		alice.drop()
		if st := w.hub.Stats(); st.Closed[closedByPeer] != 1 {
			t.Errorf("closed: %v, want one by the peer", st.Closed)
		}
	})
}

// TestCommandsWaitWhileAChannelOpens: publish and subscribe are carried out in
// their order once the Broker has told where the history stands, each answered once.
func TestCommandsWaitWhileAChannelOpens(t *testing.T) {
	inWorld(t, withBroker(func() Broker { b := newChronicle(); b.fail = true; return b }), func(w *world) {
		b := w.hub.cfg.Broker.(*chronicle)
		alice, bob := w.join("alice"), w.join("bob")
		b.mu.Lock()
		b.fail = true
		b.mu.Unlock()
		first := publish("c", "0")
		first.Key = []byte("k")
		ids := []uint64{alice.start(first), alice.start(first), alice.start(publish("c", "1"))}
		bob.start(subscribe("c"))
		alice.start(publish("c", "2"))
		gone := w.join("gone")
		gone.start(subscribe("c"))
		gone.drop()
		b.mu.Lock()
		b.fail = false
		b.at["c"] = Position{Epoch: "old", Offset: 7}
		b.mu.Unlock()
		time.Sleep(5 * time.Second)
		offsets := map[uint64]uint64{}
		for _, ev := range only(alice.take(), wire.KindOK) {
			offsets[ev.ID] = ev.OK.Offset
		}
		if len(offsets) != 4 || offsets[ids[0]] != 8 || offsets[ids[1]] != 8 || offsets[ids[2]] != 9 {
			t.Errorf("offsets %v, want 8, 8, 9, 10", offsets)
		}
		if got := bob.take(); len(got) != 2 || got[0].OK.Offset != 9 || got[1].Message.Offset != 10 {
			t.Errorf("bob got %+v, want ok at 9 and then 10", got)
		}
		if n := w.hub.subscriptionN.Load(); n != 1 {
			t.Errorf("%d subscriptions, want bob's alone", n)
		}
	})
}
