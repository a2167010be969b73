package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/wire"
)

func TestSendReachesItsReceiverAlone(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob, carol := w.join("alice"), w.join("bob"), w.join("carol")
		ok := alice.ok(send("bob", "hello"))
		if ok.Outcome != wire.Delivered || ok.Sessions != 1 || len(ok.MessageID) != 26 {
			t.Errorf("got %+v, want delivered to one session with a ULID", ok)
		}
		got := bob.take()
		if len(got) != 1 || got[0].Kind != wire.KindMessage || got[0].Message.From != "alice" || got[0].Message.To != "bob" || got[0].Message.Seq != 1 {
			t.Fatalf("bob got %+v", got)
		}
		if string(got[0].Message.Payload.Data) != `"hello"` || got[0].Message.MessageID != ok.MessageID {
			t.Errorf("bob got %+v", got[0].Message)
		}
		if n := len(carol.take()) + len(alice.take()); n != 0 {
			t.Errorf("%d frames reached others", n)
		}
	})
}

func TestSendOrderAndBatch(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		var batch []*wire.Command
		var want []string
		for i := range 500 {
			batch = append(batch, send("bob", fmt.Sprint(i)))
			want = append(want, fmt.Sprintf("%q", fmt.Sprint(i)))
		}
		alice.tell(batch...)
		got := bob.take()
		if !slices.Equal(datas(got), want) {
			t.Fatalf("got %d messages out of order", len(got))
		}
		for i, ev := range got {
			if ev.Message.Seq != uint64(i+1) {
				t.Fatalf("message %d has seq %d", i, ev.Message.Seq)
			}
		}
		if n := len(alice.take()); n != 0 {
			t.Errorf("%d answers to sends without id", n)
		}
	})
}

func TestSendToNobody(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice := w.join("alice")
		alice.refused(send("nobody", "x"), wire.AgentOffline)
		c := send("nobody", "x")
		c.Key = []byte("k1")
		alice.tell(c)
		evs := alice.take()
		if len(evs) != 1 || evs[0].Kind != wire.KindError || evs[0].Error.Key != "k1" {
			t.Errorf("a failed send without id: got %+v, want an error with its key", evs)
		}
	})
}

func TestParkedWaitsForItsAgent(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice := w.join("alice")
		for i := range 3 {
			c := send("bob", fmt.Sprint(i))
			c.TTLMS = 60_000
			c.Receipts = i == 0
			if ok := alice.ok(c); ok.Outcome != wire.Parked {
				t.Fatalf("got %+v, want parked", ok)
			}
		}
		bob := w.join("bob")
		got := bob.take()
		if !slices.Equal(datas(got), []string{`"0"`, `"1"`, `"2"`}) {
			t.Fatalf("bob got %v", datas(got))
		}
		if r := only(alice.take(), wire.KindReceipt); len(r) != 1 || r[0].Receipt.State != wire.ReceiptDelivered {
			t.Errorf("alice got receipts %+v, want one delivered", r)
		}
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 3})
		if n := w.hub.mail.Count(); n != 0 {
			t.Errorf("%d messages are still parked after the ack", n)
		}
	})
}

func TestParkedExpires(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice := w.join("alice")
		c := send("bob", "x")
		c.TTLMS, c.Receipts = 5000, true
		alice.ok(c)
		time.Sleep(8 * time.Second)
		if r := only(alice.take(), wire.KindReceipt); len(r) != 1 || r[0].Receipt.State != wire.ReceiptExpired {
			t.Errorf("got receipts %+v, want one expired", r)
		}
		bob := w.join("bob")
		if got := bob.take(); len(got) != 0 {
			t.Errorf("bob got %+v after the end of the ttl", got)
		}
	})
}

func TestResumeReplaysOnceInOrder(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		for i := range 5 {
			alice.ok(send("bob", fmt.Sprint(i)))
		}
		bob.drop() // having handled up to 2
		for i := 5; i < 8; i++ {
			if ok := alice.ok(send("bob", fmt.Sprint(i))); ok.Outcome != wire.Parked {
				t.Fatalf("to a session without socket: got %+v, want parked", ok)
			}
		}
		again := w.back(bob, 2)
		if !again.hello.Resumed || again.hello.Seq != 2 || again.hello.Session != bob.session {
			t.Fatalf("got %+v, want the session resumed", again.hello)
		}
		got := again.take()
		if want := []string{`"2"`, `"3"`, `"4"`, `"5"`, `"6"`, `"7"`}; !slices.Equal(datas(got), want) {
			t.Fatalf("replayed %v, want %v", datas(got), want)
		}
		for i, ev := range got {
			if ev.Message.Seq != uint64(i+3) {
				t.Errorf("replayed seq %d, want %d", ev.Message.Seq, i+3)
			}
		}
		again.tell(&wire.Command{Kind: wire.KindAck, Seq: 8})
		if n := w.hub.mail.Count(); n != 0 {
			t.Errorf("%d messages are still parked after the ack", n)
		}
		alice.ok(send("bob", "live"))
		if got := again.take(); len(got) != 1 || got[0].Message.Seq != 9 {
			t.Errorf("after resume got %+v", got)
		}
	})
}

func TestResumeReplacesOlderSocket(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob := w.join("bob")
		again := w.back(bob, 0)
		if bob.code() != wire.CloseReplaced {
			t.Errorf("the older socket got code %d, want %d", bob.code(), wire.CloseReplaced)
		}
		alice := w.join("alice")
		if ok := alice.ok(send("bob", "x")); ok.Sessions != 1 {
			t.Errorf("got %+v, want one session", ok)
		}
		if got := again.take(); len(got) != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestResumeTooLate(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		c := send("bob", "kept")
		c.TTLMS = 3_600_000
		alice.ok(c) // delivered, never acked
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 0})
		bob.drop()
		time.Sleep(3 * time.Minute)
		again := w.back(bob, 0)
		if again.hello.Resumed || again.hello.Session == bob.session {
			t.Errorf("got %+v, want a new session", again.hello)
		}
		if got := again.take(); !slices.Equal(datas(got), []string{`"kept"`}) {
			t.Errorf("got %v, want the unacknowledged message with time left", datas(got))
		}
	})
}

func TestSeveralSessions(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, one, two := w.join("alice"), w.join("bob"), w.join("bob")
		if ok := alice.ok(send("bob", "x")); ok.Sessions != 2 {
			t.Errorf("got %+v, want two sessions", ok)
		}
		if len(one.take()) != 1 || len(two.take()) != 1 {
			t.Error("not both sessions got the message")
		}
		one.drop()
		if ok := alice.ok(send("bob", "y")); ok.Outcome != wire.Delivered || ok.Sessions != 1 {
			t.Errorf("got %+v, want delivered to one", ok)
		}
		if got := w.back(one, 1).take(); !slices.Equal(datas(got), []string{`"y"`}) {
			t.Errorf("the session that was away got %v", datas(got))
		}
	})
}

func TestDedup(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		c := send("bob", "x")
		c.Key = []byte("once")
		first, second := alice.ok(c), alice.ok(c)
		if first.MessageID != second.MessageID || first.Outcome != second.Outcome {
			t.Errorf("got %+v then %+v, want the same answer", first, second)
		}
		if n := len(bob.take()); n != 1 {
			t.Errorf("bob got %d messages, want 1", n)
		}
		time.Sleep(3 * time.Minute)
		alice.ok(c)
		if n := len(bob.take()); n != 1 {
			t.Errorf("after the window bob got %d messages, want 1", n)
		}
		p := publish("a/b", "x")
		p.Key = []byte("p")
		if a, b := alice.ok(p), alice.ok(p); a.Offset != 1 || b.Offset != 1 {
			t.Errorf("publish twice with one key: offsets %d and %d", a.Offset, b.Offset)
		}
	})
}
