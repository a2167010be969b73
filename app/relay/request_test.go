package relay

import (
	"testing"
	"time"

	"agentnet/app/wire"
)

func request(to, method, data string, timeout int64) *wire.Command {
	return &wire.Command{Kind: wire.KindRequest, To: []byte(to), Method: []byte(method), Payload: text(data), TimeoutMS: timeout, Class: wire.Normal}
}

func (p *peer) start(c *wire.Command) uint64 {
	p.id++
	c.ID = p.id
	p.tell(c)
	return c.ID
}

func TestRequestReply(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		id := alice.start(request("bob", "book", "15:30", 5000))
		got := bob.take()
		if len(got) != 1 || got[0].Kind != wire.KindRequest || got[0].Request.From != "alice" || got[0].Request.Method != "book" || got[0].Request.Seq != 1 || got[0].Request.DeadlineMS != 5000 {
			t.Fatalf("bob got %+v", got)
		}
		n := got[0].Request.Request
		bob.tell(&wire.Command{Kind: wire.KindReply, Request: n, Payload: text("one"), More: true}, &wire.Command{Kind: wire.KindReply, Request: n, Payload: text("two")})
		got = alice.take()
		if len(got) != 2 || got[0].ID != id || !got[0].Reply.More || got[1].Reply.More || got[1].Reply.Seq != 2 || got[1].Reply.From != "bob" {
			t.Errorf("alice got %+v", got)
		}
		bob.tell(&wire.Command{Kind: wire.KindReply, Request: n, Payload: text("three")})
		if got := bob.take(); len(got) != 1 || got[0].Error.Err.Code != wire.Gone {
			t.Errorf("a reply too many: got %+v, want gone", got)
		}
		if w.hub.requestN.Load() != 0 {
			t.Errorf("%d requests still wait", w.hub.requestN.Load())
		}
	})
}

func TestRequestEnds(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob, eve := w.join("alice"), w.join("bob"), w.join("eve")
		alice.refused(request("nobody", "m", "x", 1000), wire.AgentOffline)

		id := alice.start(request("bob", "m", "x", 1000))
		n := bob.take()[0].Request.Request
		eve.tell(&wire.Command{Kind: wire.KindReply, Request: n, Payload: text("forged")})
		if got := alice.take(); len(got) != 0 {
			t.Errorf("a forged reply arrived: %+v", got)
		}
		time.Sleep(1200 * time.Millisecond)
		got := alice.take()
		if len(got) != 1 || got[0].ID != id || got[0].Reply.Err == nil || got[0].Reply.Err.Code != wire.Timeout {
			t.Errorf("after the deadline: got %+v", got)
		}
		if got := bob.take(); len(got) != 1 || got[0].Kind != wire.KindCancel || got[0].CancelRequest != n {
			t.Errorf("bob got %+v, want cancel %d", got, n)
		}

		id = alice.start(request("bob", "m", "x", 60_000))
		n = bob.take()[0].Request.Request
		alice.tell(&wire.Command{Kind: wire.KindCancel, Request: id})
		if got := bob.take(); len(got) != 1 || got[0].Kind != wire.KindCancel {
			t.Errorf("bob got %+v, want cancel", got)
		}
		bob.tell(&wire.Command{Kind: wire.KindReply, Request: n, Err: &wire.Error{Code: wire.Conflict, Message: "late"}})
		if got := alice.take(); len(got) != 0 {
			t.Errorf("after cancel: got %+v", got)
		}
	})
}

func TestRequestPicksAvailable(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, busy, free := w.join("alice"), w.join("bob"), w.join("bob")
		busy.ok(&wire.Command{Kind: wire.KindProfile, Profile: &wire.Profile{State: wire.Busy}})
		alice.start(request("bob", "m", "x", 1000))
		if len(only(busy.take(), wire.KindRequest)) != 0 || len(only(free.take(), wire.KindRequest)) != 1 {
			t.Error("the request did not go to the available session")
		}
	})
}

func TestReplyIsReplayed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		id := alice.start(request("bob", "m", "x", 60_000))
		n := bob.take()[0].Request.Request
		alice.drop()
		bob.tell(&wire.Command{Kind: wire.KindReply, Request: n, Payload: text("answer")})
		got := w.back(alice, 0).take()
		if len(got) != 1 || got[0].ID != id || got[0].Kind != wire.KindReply {
			t.Errorf("after resume got %+v", got)
		}
	})
}
