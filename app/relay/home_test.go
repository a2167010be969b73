package relay

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/wire"
)

// offsets are those of the channel messages among the events.
func offsets(evs []wire.Event) (out []uint64) {
	for _, ev := range only(evs, wire.KindMessage) {
		out = append(out, ev.Message.Offset)
	}
	return out
}

func upTo(from, to uint64) (out []uint64) {
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

func TestChannelOverNodes(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		var subs []*peer
		for i, w := range v.worlds {
			p := w.join(fmt.Sprint("s", i))
			if ok := p.ok(subscribe("c")); ok.Offset != 0 || ok.Epoch == "" {
				t.Errorf("got %+v", ok)
			}
			subs = append(subs, p)
		}
		v.settle()
		want := uint64(0)
		epoch := ""
		for range 20 {
			for i, w := range v.worlds {
				_ = w
				want++
				ok := subs[i].ok(publish("c", fmt.Sprint(want)))
				if ok.Offset != want || epoch != "" && ok.Epoch != epoch {
					t.Fatalf("publication %d got %+v", want, ok)
				}
				epoch = ok.Epoch
			}
		}
		v.settle()
		for i, p := range subs {
			evs := p.take()
			if got := offsets(evs); !slices.Equal(got, upTo(1, want)) {
				t.Errorf("node %d: got offsets %v, want 1 to %d", i+1, got, want)
			}
			for _, ev := range only(evs, wire.KindMessage) {
				if string(ev.Message.Payload.Data) != fmt.Sprintf("%q", fmt.Sprint(ev.Message.Offset)) {
					t.Errorf("node %d: offset %d holds %s", i+1, ev.Message.Offset, ev.Message.Payload.Data)
				}
			}
		}
		// Somebody who publishes only has no window, and hears nothing of the channel.
		late := v.worlds[2].join("late")
		sub := subscribe("c")
		sub.HasSince, sub.Since = true, wire.Since{Epoch: epoch, Offset: 10}
		if ok := late.ok(sub); !ok.Recovered || ok.Offset != want {
			t.Errorf("got %+v, want all after 10 recovered", ok)
		}
		if got := offsets(late.take()); !slices.Equal(got, upTo(11, want)) {
			t.Errorf("got %v", got)
		}
	})
}

func TestPublisherElsewhereDoesNotFollow(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		s, p := v.worlds[0].join("s"), v.worlds[1].join("p")
		s.ok(subscribe("c"))
		v.settle()
		for i := range 10 {
			if ok := p.ok(publish("c", "x")); ok.Offset != uint64(i+1) {
				t.Fatalf("got %+v", ok)
			}
		}
		if got := offsets(s.take()); !slices.Equal(got, upTo(1, 10)) {
			t.Errorf("got %v", got)
		}
		node := v.net.nodes["n1"]
		if got := node.Interested(nil, "c"); len(got) != 0 {
			t.Errorf("a node without subscribers is interested: %v", got)
		}
	})
}

func TestChannelFollowsAResume(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		s, p := v.worlds[0].join("s"), v.worlds[1].join("p")
		first := s.ok(subscribe("c"))
		for range 5 {
			p.ok(publish("c", "x"))
		}
		v.settle()
		s.take()
		s.drop()
		for range 5 {
			p.ok(publish("c", "x"))
		}
		s = v.move(s, 2, 0, wire.ChannelPosition{Channel: "c", Epoch: first.Epoch, Offset: 5})
		for range 5 {
			p.ok(publish("c", "x"))
		}
		v.settle()
		evs := s.take()
		if got := offsets(evs); !slices.Equal(got, upTo(6, 15)) || len(only(evs, wire.KindGap)) != 0 {
			t.Errorf("got %v: %+v", got, only(evs, wire.KindGap))
		}
	})
}

func TestHomeThatDiesIsToldByAGap(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		h := v.worlds[0].join("h")
		first := h.ok(publish("c", "x")) // the home is node 1
		s, p := v.worlds[1].join("s"), v.worlds[2].join("p")
		s.ok(subscribe("c"))
		p.ok(subscribe("c"))
		p.ok(publish("c", "x"))
		v.settle()
		s.take()
		p.take()
		v.kill(0)
		time.Sleep(2 * time.Second)
		v.settle()
		ok := p.ok(publish("c", "y"))
		if ok.Epoch == first.Epoch || ok.Offset != 1 {
			t.Errorf("got %+v, want a new epoch", ok)
		}
		v.settle()
		for _, one := range []*peer{s, p} {
			evs := one.take()
			gaps := only(evs, wire.KindGap)
			if len(gaps) != 1 || gaps[0].Gap.Channel != "c" || gaps[0].Gap.Epoch != ok.Epoch || gaps[0].Gap.Offset != 0 {
				t.Errorf("%s: got gaps %+v", one.name, gaps)
			}
			if got := offsets(evs); !slices.Equal(got, []uint64{1}) {
				t.Errorf("%s: got %v", one.name, got)
			}
		}
	})
}

func TestLostPublicationsAreFetched(t *testing.T) {
	inNation(t, 2, 5, nil, func(v *nation) {
		h := v.worlds[0].join("h")
		h.ok(publish("c", "x"))
		s := v.worlds[1].join("s")
		s.ok(subscribe("c"))
		v.settle()
		v.net.lose(0.3)
		for range 200 {
			h.ok(publish("c", "x"))
			time.Sleep(10 * time.Millisecond)
		}
		v.net.lose(0)
		time.Sleep(5 * time.Second)
		v.settle()
		evs := s.take()
		if got := offsets(evs); !slices.Equal(got, upTo(2, 201)) || len(only(evs, wire.KindGap)) != 0 {
			t.Errorf("got %v and gaps %+v", got, only(evs, wire.KindGap))
		}
	})
}

func TestWhatTheHomeForgotIsAGap(t *testing.T) {
	small := func(c *Config) {
		c.Channels = []ChannelRule{{Match: allGlobs(t, "**"), Recent: RecentLimits{Count: 4}}}
	}
	inNation(t, 2, 5, small, func(v *nation) {
		h := v.worlds[0].join("h")
		h.ok(publish("c", "x"))
		s := v.worlds[1].join("s")
		s.ok(subscribe("c"))
		v.settle()
		v.net.lose(1)
		for range 20 {
			h.ok(publish("c", "x"))
		}
		v.settle()
		v.net.lose(0)
		h.ok(publish("c", "x"))
		time.Sleep(5 * time.Second)
		v.settle()
		evs := s.take()
		gaps := only(evs, wire.KindGap)
		if len(gaps) != 1 || gaps[0].Gap.Missed == 0 || gaps[0].Gap.Epoch == "" {
			t.Fatalf("got gaps %+v", gaps)
		}
		if got := offsets(evs); !slices.Equal(got, upTo(2+gaps[0].Gap.Missed, 22)) || gaps[0].Gap.Offset != 1+gaps[0].Gap.Missed {
			t.Errorf("got %v after a gap of %d up to %d", got, gaps[0].Gap.Missed, gaps[0].Gap.Offset)
		}
	})
}

func TestDrainYieldsChannels(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		h := v.worlds[0].join("h")
		first := h.ok(publish("c", "x"))
		s, p := v.worlds[1].join("s"), v.worlds[2].join("p")
		s.ok(subscribe("c"))
		p.ok(subscribe("c"))
		v.settle()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- v.worlds[0].hub.Drain(ctx, time.Second) }()
		for range 400 {
			p.start(publish("c", "x"))
			time.Sleep(10 * time.Millisecond)
		}
		if n := only(h.take(), wire.KindNotice); len(n) != 1 || n[0].Notice.Kind != "drain" || len(n[0].Notice.Endpoints) == 0 {
			t.Errorf("got notices %+v", n)
		}
		time.Sleep(20 * time.Second)
		v.settle()
		if err := <-done; err != nil {
			t.Error(err)
		}
		v.net.remove("n1", true)
		time.Sleep(time.Second)
		last := p.ok(publish("c", "x"))
		v.settle()
		if last.Epoch != first.Epoch || last.Offset != 402 {
			t.Errorf("got %+v, want offset 402 of epoch %s", last, first.Epoch)
		}
		for _, one := range []*peer{s, p} {
			evs := one.take()
			if got := offsets(evs); !slices.Equal(got, upTo(2, 402)) || len(only(evs, wire.KindGap)) != 0 || len(only(evs, wire.KindError)) != 0 {
				t.Errorf("%s: got %v, gaps %+v, errors %+v", one.name, got, only(evs, wire.KindGap), only(evs, wire.KindError))
			}
		}
	})
}

func TestPresenceEventsCross(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		w := v.worlds[0].join("watcher")
		sub := subscribe("c")
		sub.Presence = true
		w.ok(sub)
		other := v.worlds[1].join("other")
		other.ok(subscribe("c"))
		v.settle()
		time.Sleep(10 * time.Second) // the wish to watch is told again to who came later
		w.take()
		third := v.worlds[1].join("third")
		third.ok(subscribe("c"))
		third.ok(&wire.Command{Kind: wire.KindProfile, Profile: &wire.Profile{State: wire.Busy}})
		third.ok(&wire.Command{Kind: wire.KindUnsubscribe, Channel: []byte("c")})
		v.settle()
		var got []string
		for _, ev := range only(w.take(), wire.KindPresence) {
			got = append(got, ev.Presence.Event+" "+ev.Presence.Agent)
		}
		if want := []string{"join third", "state third", "leave third"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
