package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/wire"
)

// move brings a client back at another node.
func (v *nation) move(old *peer, to int, seq uint64, channels ...wire.ChannelPosition) *peer {
	v.t.Helper()
	p := v.worlds[to].dial()
	p.id = old.id
	p.connect(&wire.Connect{Token: "all", Agent: old.name, Resume: &wire.Resume{Session: old.session, Seq: seq, Channels: channels}})
	v.settle()
	return p
}

func TestResumeAtAnotherNode(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		for i := range 5 {
			alice.ok(send("bob", fmt.Sprint(i)))
		}
		if got := len(bob.take()); got != 5 {
			t.Fatalf("got %d messages", got)
		}
		bob.drop()
		v.settle()
		for i := range 5 {
			if ok := alice.ok(send("bob", fmt.Sprint(5+i))); ok.Outcome != wire.Parked {
				t.Errorf("got %+v, want parked: bob's session is away", ok)
			}
		}
		there := v.move(bob, 2, 3)
		if !there.hello.Resumed || there.hello.Seq != 3 || there.hello.Node != "n3" || there.hello.Session == bob.session {
			t.Fatalf("got %+v", there.hello)
		}
		if ok := alice.ok(send("bob", "10")); ok.Outcome != wire.Delivered || ok.Sessions != 1 {
			t.Errorf("got %+v, want delivered at the new node", ok)
		}
		evs := only(there.take(), wire.KindMessage)
		want := []string{`"3"`, `"4"`, `"5"`, `"6"`, `"7"`, `"8"`, `"9"`, `"10"`}
		if got := datas(evs); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for i, ev := range evs {
			if ev.Message.Seq != uint64(i+4) {
				t.Errorf("message %d has seq %d", i, ev.Message.Seq)
			}
		}
		there.tell(&wire.Command{Kind: wire.KindAck, Seq: 11})
		v.settle()
		for i, w := range v.worlds {
			if n := w.hub.mail.Count(); n != 0 {
				t.Errorf("node %d: %d messages are still parked", i+1, n)
			}
		}
		if n := v.worlds[1].hub.sessionN.Load(); n != 0 {
			t.Errorf("%d sessions are left at the old node", n)
		}
		// The old secret leads to the new place from everywhere.
		back := v.move(bob, 0, 11)
		if !back.hello.Resumed || there.code() != wire.CloseReplaced {
			t.Errorf("got %+v, and code %d", back.hello, there.code())
		}
		if ok := alice.ok(send("bob", "11")); ok.Outcome != wire.Delivered {
			t.Errorf("got %+v", ok)
		}
		if got := datas(only(back.take(), wire.KindMessage)); !slices.Equal(got, []string{`"11"`}) {
			t.Errorf("got %q", got)
		}
	})
}

func TestLiveSessionMovesWhileItIsTalkedTo(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		next := 0
		talk := func(n int) {
			for range n {
				alice.start(send("bob", fmt.Sprint(next)))
				next++
				time.Sleep(300 * time.Microsecond)
			}
		}
		at, seen := 1, []string{}
		take := func(p *peer) {
			for _, ev := range only(p.take(), wire.KindMessage) {
				seen = append(seen, string(ev.Message.Payload.Data))
			}
		}
		for range 20 {
			talk(20)
			take(bob)
			to := (at + 1) % 3
			p := v.worlds[to].dial()
			p.name = "bob"
			p.start(&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: "bob", Resume: &wire.Resume{Session: bob.session, Seq: uint64(len(seen))}}})
			talk(40)
			v.settle()
			take2 := p.take()
			hello := only(take2, wire.KindConnected)
			if len(hello) != 1 || !hello[0].Connected.Resumed {
				t.Fatalf("got %+v", take2)
			}
			p.session = hello[0].Connected.Session
			for _, ev := range only(take2, wire.KindMessage) {
				seen = append(seen, string(ev.Message.Payload.Data))
			}
			bob, at = p, to
		}
		talk(10)
		time.Sleep(3 * time.Second)
		v.settle()
		take(bob)
		if len(seen) != next {
			t.Errorf("got %d messages, want %d", len(seen), next)
		}
		for i, d := range seen {
			if want := fmt.Sprintf("%q", fmt.Sprint(i)); d != want {
				t.Fatalf("message %d is %s, want %s", i, d, want)
			}
		}
		answers := map[wire.Kind]int{}
		for _, ev := range alice.take() {
			answers[ev.Kind]++
			if ev.Kind == wire.KindError {
				t.Errorf("got %+v", ev.Error.Err)
			}
		}
		if answers[wire.KindOK] != next {
			t.Errorf("got %v, want %d answers", answers, next)
		}
	})
}

func TestRequestsFollowTheSession(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		id := alice.start(request("bob", "m", "q", 10_000))
		v.settle()
		number := only(bob.take(), wire.KindRequest)[0].Request.Request
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 1})
		bob = v.move(bob, 2, 1)     // who answers moves
		alice = v.move(alice, 1, 0) // and who asked
		bob.tell(&wire.Command{Kind: wire.KindReply, Request: number, More: true, Payload: text("1")})
		bob.tell(&wire.Command{Kind: wire.KindReply, Request: number, Payload: text("2")})
		v.settle()
		r := only(alice.take(), wire.KindReply)
		if len(r) != 2 || r[0].ID != id || string(r[1].Reply.Payload.Data) != `"2"` || r[1].Reply.More || r[1].Reply.Seq != 2 {
			t.Errorf("got %+v", r)
		}
		// A cancel finds its way too.
		id = alice.start(request("bob", "m", "q", 10_000))
		v.settle()
		only(bob.take(), wire.KindRequest)
		bob = v.move(bob, 0, 0)
		bob.take()
		alice = v.move(alice, 2, 2)
		alice.tell(&wire.Command{Kind: wire.KindCancel, Request: id})
		v.settle()
		if c := only(bob.take(), wire.KindCancel); len(c) != 1 {
			t.Errorf("the cancel did not arrive: %+v", c)
		}
		for i, w := range v.worlds {
			if n := w.hub.requestN.Load(); n != 0 {
				t.Errorf("node %d: %d requests are left", i+1, n)
			}
		}
	})
}

func TestKeysFollowTheSession(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		c := send("bob", "once")
		c.Key = []byte("k")
		first := alice.ok(c)
		alice = v.move(alice, 1, 0)
		if again := alice.ok(c); again.MessageID != first.MessageID || again.Outcome != wire.Delivered {
			t.Errorf("got %+v, want the first answer %+v", again, first)
		}
		if got := datas(only(bob.take(), wire.KindMessage)); len(got) != 1 {
			t.Errorf("bob got %q", got)
		}
	})
}

func TestSessionOfADeadNode(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		bob := v.worlds[1].join("bob")
		v.settle()
		v.kill(1)
		p := v.worlds[0].dial()
		p.start(&wire.Command{Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: "bob", Resume: &wire.Resume{Session: bob.session}}})
		time.Sleep(2 * time.Second)
		evs := p.take()
		if len(evs) != 2 || evs[0].Kind != wire.KindConnected || evs[0].Connected.Resumed || evs[1].Kind != wire.KindGap || evs[1].Gap.Channel != "" {
			t.Errorf("got %+v, want a new session and a gap", evs)
		}
	})
}
