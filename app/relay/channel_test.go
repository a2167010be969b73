package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

func TestChannelReachesSubscribersOnly(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob, carol := w.join("alice"), w.join("bob"), w.join("carol")
		if ok := bob.ok(subscribe("news/today")); ok.Offset != 0 || ok.Epoch == "" {
			t.Errorf("subscribe: got %+v", ok)
		}
		alice.ok(subscribe("news/today"))
		carol.ok(subscribe("news/other"))
		ok := alice.ok(publish("news/today", "one"))
		if ok.Offset != 1 || ok.Epoch == "" {
			t.Errorf("publish: got %+v", ok)
		}
		for _, p := range []*peer{alice, bob} {
			got := p.take()
			if len(got) != 1 || got[0].Message.Channel != "news/today" || got[0].Message.Offset != 1 || got[0].Message.Seq != 0 {
				t.Errorf("%s got %+v", p.name, got)
			}
		}
		if got := carol.take(); len(got) != 0 {
			t.Errorf("carol got %+v", got)
		}
		bob.ok(&wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte("news/today")})
		alice.ok(publish("news/today", "two"))
		if got := bob.take(); len(got) != 0 {
			t.Errorf("after unsubscribe bob got %+v", got)
		}
	})
}

func TestChannelRecovers(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		at := bob.ok(subscribe("c"))
		for i := range 4 {
			alice.ok(publish("c", fmt.Sprint(i)))
		}
		bob.drop() // having read the first two
		for i := 4; i < 7; i++ {
			alice.ok(publish("c", fmt.Sprint(i)))
		}
		bob = w.back(bob, 0, wire.ChannelPosition{Channel: "c", Epoch: at.Epoch, Offset: 2})
		if got, want := datas(bob.take()), []string{`"2"`, `"3"`, `"4"`, `"5"`, `"6"`}; !slices.Equal(got, want) {
			t.Errorf("recovered %v, want %v", got, want)
		}
		alice.ok(publish("c", "live"))
		if got := bob.take(); len(got) != 1 || got[0].Message.Offset != 8 {
			t.Errorf("live after resume: got %+v", got)
		}
		sub := subscribe("c")
		sub.HasSince, sub.Since = true, wire.Since{Epoch: at.Epoch, Offset: 6}
		carol := w.join("carol")
		if ok := carol.ok(sub); !ok.Recovered || ok.Offset != 8 {
			t.Errorf("subscribe since: got %+v", ok)
		}
		if got := datas(carol.take()); !slices.Equal(got, []string{`"6"`, `"live"`}) {
			t.Errorf("since 6: got %v", got)
		}
		sub.Since.Epoch = "another"
		dave := w.join("dave")
		if ok := dave.ok(sub); ok.Recovered {
			t.Errorf("another epoch: got %+v", ok)
		}
		if got := only(dave.take(), wire.KindGap); len(got) != 1 || got[0].Gap.Channel != "c" {
			t.Errorf("another epoch: got %+v, want a gap", got)
		}
	})
}

func TestWindowTooShortIsAGap(t *testing.T) {
	small := func(c *Config) {
		c.Channels = []ChannelRule{{Match: allGlobs(t, "**"), Recent: RecentLimits{Count: 3}}}
	}
	inWorld(t, small, func(w *world) {
		alice := w.join("alice")
		var epoch string
		for i := range 10 {
			epoch = alice.ok(publish("c", fmt.Sprint(i))).Epoch
		}
		sub := subscribe("c")
		sub.HasSince, sub.Since = true, wire.Since{Epoch: epoch, Offset: 2}
		bob := w.join("bob")
		if ok := bob.ok(sub); ok.Recovered {
			t.Errorf("got %+v, want not recovered", ok)
		}
		got := bob.take()
		if len(got) != 4 || got[0].Kind != wire.KindGap || got[0].Gap.Missed != 5 || got[1].Message.Offset != 8 {
			t.Errorf("got %+v, want a gap of 5 and then 8, 9, 10", got)
		}
		h := bob.ok(&wire.Command{Kind: wire.KindHistory, Channel: []byte("c"), Limit: 2})
		if len(h.Messages) != 2 || h.Messages[1].Offset != 10 || h.Offset != 10 {
			t.Errorf("history: got %+v", h)
		}
	})
}

func TestSlowSubscriber(t *testing.T) {
	for name, policy := range map[string]queue.Policy{"oldest": queue.DropOldest, "newest": queue.DropNewest, "disconnect": queue.Refuse} {
		set := func(c *Config) {
			c.Queue = queue.Limits{Items: 8, Bytes: 1 << 20}
			c.Channels = []ChannelRule{{Match: allGlobs(t, "**"), Policy: policy}}
		}
		t.Run(name, func(t *testing.T) {
			inWorld(t, set, func(w *world) {
				alice, slow, fast := w.join("alice"), w.join("slow"), w.join("fast")
				slow.ok(subscribe("c"))
				fast.ok(subscribe("c"))
				slow.block()
				for i := range 40 {
					alice.ok(publish("c", fmt.Sprint(i)))
				}
				if n := len(fast.take()); n != 40 {
					t.Errorf("the other subscriber got %d of 40", n)
				}
				if policy == queue.Refuse {
					if slow.code() != wire.CloseSlowConsumer {
						t.Fatalf("got code %d, want 4002", slow.code())
					}
					return
				}
				slow.unblock()
				got, missed := slow.take(), uint64(0)
				seen := 0
				for _, ev := range got {
					if ev.Kind == wire.KindGap {
						missed += ev.Gap.Missed
					} else {
						seen++
					}
				}
				if missed == 0 || seen+int(missed) != 40 {
					t.Errorf("got %d messages and gaps of %d, want 40 together", seen, missed)
				}
			})
		})
	}
}

func TestDirectSurvivesSlowConsumer(t *testing.T) {
	inWorld(t, func(c *Config) { c.Queue.Items = 8 }, func(w *world) {
		alice, slow := w.join("alice"), w.join("slow")
		slow.block()
		for i := range 40 {
			alice.ok(send("slow", fmt.Sprint(i)))
		}
		if slow.code() != wire.CloseSlowConsumer {
			t.Fatalf("got code %d, want 4002", slow.code())
		}
		got := datas(w.back(slow, 0).take())
		if len(got) != 40 || got[39] != `"39"` {
			t.Errorf("after resume got %d messages: %v", len(got), got)
		}
	})
}

func TestStuckSocketIsCut(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, slow := w.join("alice"), w.join("slow")
		slow.block()
		alice.ok(send("slow", "x"))
		time.Sleep(12 * time.Second)
		if slow.code() != wire.CloseSlowConsumer {
			t.Errorf("got code %d, want 4002", slow.code())
		}
	})
}

func TestPriorityLeavesFirst(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		bob.block()
		alice.ok(send("bob", "fills the socket"))
		for _, class := range []wire.Class{wire.Low, wire.Normal, wire.High, wire.Critical} {
			for i := range 2 {
				c := send("bob", fmt.Sprint(class, i))
				c.Class = class
				alice.ok(c)
			}
		}
		bob.take()
		bob.unblock()
		got := strings.Join(datas(bob.take()), " ")
		if want := `"critical 0" "critical 1" "high 0" "high 1" "normal 0" "normal 1" "low 0" "low 1"`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestPresence(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		watch := w.join("watch")
		c := subscribe("room")
		c.Presence = true
		watch.ok(c)
		bob := w.join("bob")
		bob.ok(subscribe("room"))
		bob.ok(&wire.Command{Kind: wire.KindProfile, Profile: &wire.Profile{State: wire.Busy, Card: []byte(`{"name":"Bob"}`)}})
		got := only(watch.take(), wire.KindPresence)
		if len(got) != 2 || got[0].Presence.Event != "join" || got[0].Presence.Agent != "bob" || got[1].Presence.Event != "state" || got[1].Presence.State != wire.Busy {
			t.Errorf("got %+v", got)
		}
		m := watch.ok(&wire.Command{Kind: wire.KindPresence, Channel: []byte("room")}).Members
		if len(m) != 2 || m[0].Agent != "bob" || m[0].State != wire.Busy || m[0].Sessions != 1 || m[0].LastActiveMS == 0 {
			t.Errorf("members: got %+v", m)
		}
		bob.drop()
		if got := only(watch.take(), wire.KindPresence); len(got) != 1 || got[0].Presence.State != wire.Away {
			t.Errorf("after the socket was lost: got %+v, want away", got)
		}
		time.Sleep(3 * time.Minute)
		if got := only(watch.take(), wire.KindPresence); len(got) != 1 || got[0].Presence.Event != "leave" {
			t.Errorf("after the window: got %+v, want leave", got)
		}
		if m := watch.ok(&wire.Command{Kind: wire.KindPresence, Agent: []byte("bob")}).Members; len(m) != 1 || m[0].State != wire.Offline {
			t.Errorf("presence of an agent that is gone: got %+v", m)
		}
	})
}
