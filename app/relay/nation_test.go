package relay

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// A nation is several nodes in one bubble.
type nation struct {
	t      testing.TB
	net    *simnet
	change func(*Config)
	grants *grants
	worlds []*world
	stops  []func()
	enc    wire.Encoding
}

// inNation runs f with n nodes, once for each encoding.
func inNation(t *testing.T, n int, seed uint64, change func(*Config), f func(v *nation)) {
	t.Helper()
	for enc, name := range []string{"json", "protobuf"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &nation{t: t, net: newSimnet(t, seed), change: change, enc: wire.Encoding(enc), grants: &grants{ids: map[string]*Identity{}}}
				v.grants.add(t, "all", &Identity{})
				for i := range n {
					v.found(fmt.Sprint("n", i+1))
				}
				v.settle()
				defer func() {
					for _, stop := range v.stops {
						stop()
					}
					close(v.net.done)
					v.net.wg.Wait()
				}()
				f(v)
			})
		})
	}
}

// found starts a node.
func (v *nation) found(name string) *world {
	cfg := Config{Node: name, Authorizer: v.grants, Version: "test", Fleet: v.net.fleet(name)}
	if os.Getenv("RELAY_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", name)
	}
	if v.change != nil {
		v.change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := h.Load(); err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { h.Run(ctx); close(done) }()
	w := &world{t: v.t, hub: h, enc: v.enc}
	v.worlds = append(v.worlds, w)
	v.stops = append(v.stops, sync.OnceFunc(func() { cancel(); <-done }))
	return w
}

// settle waits until everything on its way has arrived.
func (v *nation) settle() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}

// kill ends a node without a word: its sockets are gone.
func (v *nation) kill(i int) {
	w := v.worlds[i]
	v.net.remove(w.hub.cfg.Node, false)
	v.stops[i]()
}

func TestMessageToAnotherNode(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		if ok := alice.ok(send("bob", "hello")); ok.Outcome != wire.Delivered || ok.Sessions != 1 || ok.MessageID == "" {
			t.Errorf("got %+v, want delivered to one session", ok)
		}
		for i := range 50 {
			c := send("bob", fmt.Sprint(i))
			alice.tell(c)
		}
		v.settle()
		evs := only(bob.take(), wire.KindMessage)
		if len(evs) != 51 || evs[0].Message.From != "alice" || evs[0].Message.To != "bob" || string(evs[0].Message.Payload.Data) != `"hello"` {
			t.Fatalf("got %d: %+v", len(evs), evs)
		}
		for i, ev := range evs[1:] {
			if want := fmt.Sprintf("%q", fmt.Sprint(i)); string(ev.Message.Payload.Data) != want || ev.Message.Seq != uint64(i+2) {
				t.Fatalf("message %d: got %s seq %d", i, ev.Message.Payload.Data, ev.Message.Seq)
			}
		}
		alice.refused(send("nobody", "x"), wire.AgentOffline)
		if n := len(v.worlds[0].hub.routes[0].m) + int(v.worlds[0].hub.routeN.Load()); n != 0 {
			t.Errorf("%d routes are left", n)
		}
	})
}

func TestMessageToAllSessionsOfAllNodes(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		alice := v.worlds[0].join("alice")
		bobs := []*peer{v.worlds[0].join("bob"), v.worlds[1].join("bob"), v.worlds[2].join("bob"), v.worlds[2].join("bob")}
		v.settle()
		if ok := alice.ok(send("bob", "x")); ok.Outcome != wire.Delivered || ok.Sessions != 4 {
			t.Errorf("got %+v, want 4 sessions", ok)
		}
		bobs[1].drop()
		v.settle()
		if ok := alice.ok(send("bob", "y")); ok.Outcome != wire.Delivered || ok.Sessions != 3 {
			t.Errorf("got %+v, want 3 sessions", ok)
		}
		bobs[1] = v.worlds[1].back(bobs[1], 1)
		for i, b := range bobs {
			want := []string{`"x"`, `"y"`}
			if i == 1 {
				want = []string{`"y"`}
			}
			if got := datas(only(b.take(), wire.KindMessage)); !slices.Equal(got, want) {
				t.Errorf("session %d got %q, want %q", i, got, want)
			}
		}
	})
}

func TestMessageForAnAbsentAgentFollowsIt(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice := v.worlds[0].join("alice")
		for i := range 300 {
			c := send("bob", fmt.Sprint(i))
			c.TTLMS, c.Receipts = 60_000, i == 0
			if ok := alice.ok(c); ok.Outcome != wire.Parked {
				t.Fatalf("got %+v, want parked", ok)
			}
		}
		bob := v.worlds[1].join("bob")
		c := send("bob", "300")
		v.settle()
		alice.ok(c)
		time.Sleep(time.Second)
		v.settle()
		got := datas(only(bob.take(), wire.KindMessage))
		if len(got) != 301 {
			t.Fatalf("got %d messages, want 301", len(got))
		}
		for i, d := range got {
			if want := fmt.Sprintf("%q", fmt.Sprint(i)); d != want {
				t.Fatalf("message %d is %s, want %s", i, d, want)
			}
		}
		if r := only(alice.take(), wire.KindReceipt); len(r) != 1 || r[0].Receipt.State != wire.ReceiptDelivered || r[0].Receipt.From != "bob" {
			t.Errorf("receipts: %+v", r)
		}
		if n := v.worlds[0].hub.mail.Count(); n != 0 {
			t.Errorf("%d are still parked where they came from", n)
		}
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 301})
		if n := v.worlds[1].hub.mail.Count(); n != 0 {
			t.Errorf("%d are still parked after the ack", n)
		}
	})
}

func TestReceiptsCrossBack(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		c := send("bob", "x")
		c.Receipts = true
		id := alice.ok(c).MessageID
		bob.tell(&wire.Command{Kind: wire.KindReceipt, MessageID: []byte(id), State: wire.ReceiptDone, Note: []byte("thanks")})
		v.settle()
		r := only(alice.take(), wire.KindReceipt)
		if len(r) != 1 || r[0].Receipt.MessageID != id || r[0].Receipt.State != wire.ReceiptDone || r[0].Receipt.Note != "thanks" || r[0].Receipt.From != "bob" {
			t.Errorf("got %+v", r)
		}
		bob.refused(&wire.Command{Kind: wire.KindReceipt, MessageID: []byte("01J00000000000000000000000"), State: wire.ReceiptDone}, wire.NotFound)
	})
}

func TestRequestToAnotherNode(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		alice.start(request("bob", "m", "q", 5000))
		v.settle()
		asked := only(bob.take(), wire.KindRequest)
		if len(asked) != 1 || asked[0].Request.From != "alice" || asked[0].Request.Method != "m" {
			t.Fatalf("got %+v", asked)
		}
		number := asked[0].Request.Request
		for i := range 3 {
			bob.tell(&wire.Command{Kind: wire.KindReply, Request: number, More: i < 2, Payload: text(fmt.Sprint(i))})
		}
		v.settle()
		replies := only(alice.take(), wire.KindReply)
		if len(replies) != 3 || !replies[1].Reply.More || replies[2].Reply.More || string(replies[2].Reply.Payload.Data) != `"2"` || replies[0].Reply.From != "bob" || replies[0].ID == 0 {
			t.Fatalf("got %+v", replies)
		}
		bob.refused(&wire.Command{Kind: wire.KindReply, Request: number, Payload: text("late")}, wire.Gone)

		alice.start(request("bob", "m", "q", 5000))
		v.settle()
		alice.tell(&wire.Command{Kind: wire.KindCancel, Request: alice.id})
		v.settle()
		if c := only(bob.take(), wire.KindCancel); len(c) != 1 {
			t.Errorf("the cancel did not cross: %+v", c)
		}
		alice.start(request("bob", "m", "q", 1000))
		time.Sleep(1200 * time.Millisecond)
		v.settle()
		if r := only(alice.take(), wire.KindReply); len(r) != 1 || r[0].Reply.Err == nil || r[0].Reply.Err.Code != wire.Timeout {
			t.Errorf("got %+v, want a timeout", r)
		}
		v.settle()
		for i, w := range v.worlds {
			if n := w.hub.requestN.Load(); n != 0 {
				t.Errorf("node %d: %d requests are left", i+1, n)
			}
			for j := range w.hub.farAsks {
				if n := len(w.hub.farAsks[j].m); n != 0 {
					t.Errorf("node %d: %d requests of others are left", i+1, n)
				}
			}
		}
	})
}

func TestRequestChoosesByState(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		alice := v.worlds[0].join("alice")
		near, far, third := v.worlds[0].join("bob"), v.worlds[1].join("bob"), v.worlds[2].join("bob")
		v.settle()
		count := func() [3]int {
			for range 30 {
				alice.start(request("bob", "m", "q", 500))
			}
			v.settle()
			return [3]int{len(only(near.take(), wire.KindRequest)), len(only(far.take(), wire.KindRequest)), len(only(third.take(), wire.KindRequest))}
		}
		if got := count(); got != [3]int{30, 0, 0} {
			t.Errorf("equal ones: got %v, want all here", got)
		}
		near.ok(&wire.Command{Kind: wire.KindProfile, Profile: &wire.Profile{State: wire.Busy}})
		v.settle()
		if got := count(); got[0] != 0 || got[1] == 0 || got[2] == 0 {
			t.Errorf("busy here: got %v, want the others to share them", got)
		}
	})
}

func TestNodeThatDiesEndsWhatWaitsForIt(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		alice.start(request("bob", "m", "q", 60_000))
		v.settle()
		v.kill(1)
		alice.start(send("bob", "x"))
		kept := send("bob", "kept")
		kept.TTLMS = 60_000
		alice.start(kept)
		time.Sleep(1600 * time.Millisecond)
		v.settle()
		evs := alice.take()
		if r := only(evs, wire.KindReply); len(r) != 1 || r[0].Reply.Err == nil || r[0].Reply.Err.Code != wire.Unavailable {
			t.Errorf("request: got %+v, want unavailable", r)
		}
		if e := only(evs, wire.KindError); len(e) != 1 || e[0].Error.Err.Code != wire.Unavailable {
			t.Errorf("send: got %+v, want unavailable", e)
		}
		if o := only(evs, wire.KindOK); len(o) != 1 || o[0].OK.Outcome != wire.Parked {
			t.Errorf("send with a ttl: got %+v, want parked", o)
		}
		again := v.worlds[0].join("bob")
		v.settle()
		if got := datas(only(again.take(), wire.KindMessage)); !slices.Equal(got, []string{`"kept"`}) {
			t.Errorf("got %q", got)
		}
		_ = bob
	})
}

func TestLostParcelsAreTold(t *testing.T) {
	inNation(t, 2, 7, nil, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[1].join("bob")
		v.settle()
		v.net.lose(0.3)
		answers := map[uint64]wire.Event{}
		for i := range 200 {
			c := send("bob", fmt.Sprint(i))
			if i%2 == 0 {
				c.TTLMS = 60_000
			}
			alice.start(c)
		}
		time.Sleep(30 * time.Second)
		v.net.lose(0)
		time.Sleep(30 * time.Second)
		v.settle()
		for _, ev := range alice.take() {
			answers[ev.ID] = ev
		}
		got := map[string]int{}
		for _, d := range datas(only(bob.take(), wire.KindMessage)) {
			got[d]++
		}
		for i := range 200 {
			ev, n := answers[uint64(i+2)], got[fmt.Sprintf("%q", fmt.Sprint(i))]
			if n > 1 {
				t.Errorf("message %d came %d times", i, n)
			}
			if ev.Kind == wire.KindNone {
				t.Errorf("message %d was never answered", i)
			}
			if ev.Kind == wire.KindOK && n != 1 {
				t.Errorf("message %d was answered %+v and came %d times", i, ev.OK, n)
			}
			if i%2 == 0 && ev.Kind != wire.KindOK {
				t.Errorf("message %d could be parked, and was answered %+v", i, ev.Error.Err)
			}
		}
	})
}
