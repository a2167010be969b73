package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// listen subscribes to a channel and answers for the relay.
func (s *scene) listen(channel string, o SubscribeOptions, ok wire.OK, got *inbasket) *Subscription {
	s.Helper()
	sub := start(func() (*Subscription, error) { return s.client.Subscribe(s.Context(), channel, o, got.message) })
	s.peer.ok(s.peer.nextOf(wire.KindSubscribe), ok)
	v, err := sub()
	if err != nil {
		s.Fatal(err)
	}
	return v
}

func TestSubscribeAndResume(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		got := &inbasket{}
		sub := s.listen("news", SubscribeOptions{Presence: true}, wire.OK{Epoch: "e1", Offset: 10}, got)
		if p := sub.Position(); p != (wire.Since{Epoch: "e1", Offset: 10}) {
			s.Errorf("got position %v, want e1/10", p)
		}
		// 13 is urgent and overtakes 12, which the drop swallows.
		s.peer.send(s.peer.published("news", 11, "a", "a"), s.peer.published("news", 13, "c", "c"))
		synctest.Wait()
		s.peer.drop()
		cmd := s.rejoin("s_1", true)
		want := wire.ChannelPosition{Channel: "news", Epoch: "e1", Offset: 11}
		if r := cmd.Connect.Resume; len(r.Channels) != 1 || r.Channels[0] != want {
			s.Errorf("got resume of %v, want %v", r.Channels, want)
		}
		s.peer.send(s.peer.published("news", 12, "b", "b"), s.peer.published("news", 13, "c", "c"), s.peer.published("news", 14, "d", "d"))
		synctest.Wait()
		if want := []string{`"a"`, `"c"`, `"b"`, `"d"`}; !slices.Equal(got.all(), want) {
			s.Errorf("got %v, want %v", got.all(), want)
		}
		// The session is gone: the client subscribes anew, from where it was.
		s.peer.drop()
		s.rejoin("s_2", false)
		again := s.peer.nextOf(wire.KindSubscribe)
		if !again.HasSince || again.Since != (wire.Since{Epoch: "e1", Offset: 14}) || !again.Presence {
			s.Errorf("got subscribe %+v presence %v, want since e1/14 with presence", again.Since, again.Presence)
		}
		s.peer.ok(again, wire.OK{Epoch: "e1", Offset: 15, Recovered: true})
		s.peer.send(s.peer.published("news", 15, "e", "e"))
		synctest.Wait()
		if all := got.all(); len(all) != 5 || !sub.Recovered() || sub.Position().Offset != 15 {
			s.Errorf("got %v, recovered %v, position %v", all, sub.Recovered(), sub.Position())
		}
		// The relay itself began anew: other epoch, offsets from 1.
		s.peer.drop()
		s.rejoin("s_3", false)
		s.peer.ok(s.peer.nextOf(wire.KindSubscribe), wire.OK{Epoch: "e2", Offset: 3})
		if p := func() wire.Since { synctest.Wait(); return sub.Position() }(); p != (wire.Since{Epoch: "e2", Offset: 3}) {
			s.Errorf("got position %v, want e2/3", p)
		}
		s.peer.send(s.peer.published("news", 4, "f", "f"))
		synctest.Wait()
		if all := got.all(); len(all) != 6 || sub.Position() != (wire.Since{Epoch: "e2", Offset: 4}) {
			s.Errorf("got %v at %v, want the message of the new epoch", all, sub.Position())
		}
	})
}

// TestGapAsksForTheEpoch resumes a session over a channel whose history is gone:
// offsets begin anew, and messages with low offsets are no duplicates.
func TestGapAsksForTheEpoch(t *testing.T) {
	var gaps inbasket
	play(t, Config{OnGap: func(g Gap) { gaps.put(g.Channel) }}, func(s *scene) {
		got := &inbasket{}
		sub := s.listen("news", SubscribeOptions{}, wire.OK{Epoch: "e1", Offset: 100}, got)
		s.peer.drop()
		s.rejoin("s_1", true)
		s.peer.send(wire.AppendGap(nil, s.peer.encoding, &wire.Gap{Channel: "news"}), s.peer.published("news", 1, "a", "a"))
		cmd := s.peer.nextOf(wire.KindSubscribe)
		if cmd.HasSince {
			s.Errorf("got since %v, want none: only the epoch is asked for", cmd.Since)
		}
		s.peer.send(s.peer.published("news", 2, "b", "b"))
		s.peer.ok(cmd, wire.OK{Epoch: "e2", Offset: 2})
		s.peer.send(s.peer.published("news", 3, "c", "c"))
		synctest.Wait()
		if want := []string{`"a"`, `"b"`, `"c"`}; !slices.Equal(got.all(), want) {
			s.Errorf("got %v, want %v", got.all(), want)
		}
		if p := sub.Position(); p != (wire.Since{Epoch: "e2", Offset: 3}) {
			s.Errorf("got position %v, want e2/3", p)
		}
		// Many gaps do not become many questions.
		for range 20 {
			s.peer.send(wire.AppendGap(nil, s.peer.encoding, &wire.Gap{Channel: "news", Missed: 1}))
		}
		s.peer.quiet(time.Second)
	})
	if n := len(gaps.all()); n != 42 {
		t.Errorf("got %d gaps, want 21 for each encoding", n)
	}
}

func TestSubscribeRefused(t *testing.T) {
	var told inbasket
	play(t, Config{OnError: func(e wire.Error) { told.put(e.Error()) }}, func(s *scene) {
		sub := start(func() (*Subscription, error) {
			return s.client.Subscribe(s.Context(), "news", SubscribeOptions{}, nil)
		})
		s.peer.refuse(s.peer.nextOf(wire.KindSubscribe), wire.Error{Code: wire.Forbidden, Message: "no grant"})
		_, err := sub()
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.Forbidden {
			s.Errorf("got %v, want forbidden", err)
		}
		got := &inbasket{}
		s.listen("news", SubscribeOptions{}, wire.OK{Epoch: "e", Offset: 1}, got) // it may be tried again
		if _, err := s.client.Subscribe(s.Context(), "news", SubscribeOptions{}, nil); !errors.Is(err, ErrSubscribed) {
			s.Errorf("got %v for the second subscription, want ErrSubscribed", err)
		}
		s.peer.drop()
		s.rejoin("s_2", false)
		s.peer.refuse(s.peer.nextOf(wire.KindSubscribe), wire.Error{Code: wire.Forbidden, Message: "revoked"})
		synctest.Wait()
		s.peer.drop()
		if r := s.rejoin("s_2", true).Connect.Resume; len(r.Channels) != 0 {
			s.Errorf("resumed %v although the subscription was refused", r.Channels)
		}
	})
	if all := told.all(); len(all) != 2 || all[0] != "forbidden: subscription to news ended: revoked" {
		t.Errorf("got errors %q", all)
	}
}

func TestUnsubscribe(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		got := &inbasket{}
		s.listen("news", SubscribeOptions{}, wire.OK{Epoch: "e", Offset: 0}, got)
		un := start(func() (int, error) { return 0, s.client.Unsubscribe(s.Context(), "news") })
		cmd := s.peer.nextOf(wire.KindUnsubscribe)
		s.peer.send(s.peer.published("news", 1, "a", "a"))
		s.peer.ok(cmd, wire.OK{})
		if _, err := un(); err != nil {
			s.Error(err)
		}
		synctest.Wait()
		if all := got.all(); len(all) != 0 {
			s.Errorf("got %v after Unsubscribe", all)
		}
		// A subscribe that is given up may have reached the relay: it is taken back.
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		if _, err := s.client.Subscribe(ctx, "slow", SubscribeOptions{}, got.message); !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("got %v, want DeadlineExceeded", err)
		}
		s.peer.nextOf(wire.KindSubscribe)
		if cmd := s.peer.nextOf(wire.KindUnsubscribe); string(cmd.Channel) != "slow" {
			s.Errorf("got unsubscribe of %s", cmd.Channel)
		}
	})
}

func TestLists(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		names := start(func() (names []string, err error) {
			for a, err := range s.client.Agents(s.Context(), "bob/**") {
				if err != nil {
					return names, err
				}
				names = append(names, a.Agent)
			}
			return names, nil
		})
		cmd := s.peer.nextOf(wire.KindAgents)
		if string(cmd.Match) != "bob/**" || len(cmd.After) != 0 {
			s.Errorf("got agents %s after %s", cmd.Match, cmd.After)
		}
		s.peer.ok(cmd, wire.OK{Agents: []wire.AgentInfo{{Agent: "bob/a"}, {Agent: "bob/b"}}, Next: "bob/b"})
		s.peer.drop() // reading is repeated by itself
		s.rejoin("s_1", true)
		cmd = s.peer.nextOf(wire.KindAgents)
		if string(cmd.After) != "bob/b" {
			s.Errorf("got the second page after %q, want bob/b", cmd.After)
		}
		s.peer.ok(cmd, wire.OK{Agents: []wire.AgentInfo{{Agent: "bob/c"}}})
		if got, err := names(); err != nil || !slices.Equal(got, []string{"bob/a", "bob/b", "bob/c"}) {
			s.Errorf("got %v, %v", got, err)
		}

		history := start(func() ([]wire.Message, error) {
			m, at, err := s.client.History(s.Context(), "news", &wire.Since{Epoch: "e", Offset: 4}, 10)
			if at != (wire.Since{Epoch: "e", Offset: 6}) {
				s.Errorf("got end %v, want e/6", at)
			}
			return m, err
		})
		cmd = s.peer.nextOf(wire.KindHistory)
		if cmd.Limit != 10 || cmd.Since.Offset != 4 {
			s.Errorf("got history %+v limit %d", cmd.Since, cmd.Limit)
		}
		s.peer.ok(cmd, wire.OK{Epoch: "e", Offset: 6, Messages: []wire.Message{
			{Channel: "news", Offset: 5, Class: wire.Normal, Payload: text("five")},
			{Channel: "news", Offset: 6, Class: wire.Normal, Payload: text("six")},
		}})
		s.peer.send(s.peer.direct(1, "m", "overwrites the buffer of the answer before"))
		if m, err := history(); err != nil || len(m) != 2 || string(m[0].Payload.Data) != `"five"` || string(m[1].Payload.Data) != `"six"` {
			s.Errorf("got %+v, %v", m, err)
		}

		for _, of := range []string{"channel", "agent"} {
			members := start(func() ([]wire.Member, error) {
				if of == "agent" {
					return s.client.AgentPresence(s.Context(), "bob")
				}
				return s.client.Presence(s.Context(), "news")
			})
			cmd = s.peer.nextOf(wire.KindPresence)
			if string(cmd.Channel) == "" && string(cmd.Agent) != "bob" {
				s.Errorf("got presence of %q %q", cmd.Channel, cmd.Agent)
			}
			s.peer.ok(cmd, wire.OK{Members: []wire.Member{{Agent: "bob", State: wire.Busy, Sessions: 1}}})
			if m, err := members(); err != nil || len(m) != 1 || m[0].State != wire.Busy {
				s.Errorf("got %+v, %v", m, err)
			}
		}
	})
}

func TestProfileIsPublishedAgainInANewSession(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		for _, p := range []wire.Profile{{Card: []byte(`{"name":"Al"}`), State: wire.Available}, {State: wire.Busy}} {
			set := start(func() (int, error) { return 0, s.client.Profile(s.Context(), p) })
			s.peer.ok(s.peer.nextOf(wire.KindProfile), wire.OK{})
			if _, err := set(); err != nil {
				s.Error(err)
			}
		}
		s.peer.drop()
		s.rejoin("s_1", true)
		s.peer.quiet(time.Second)
		s.peer.drop()
		s.rejoin("s_2", false)
		cmd := s.peer.nextOf(wire.KindProfile)
		if got := fmt.Sprintf("%s %s", cmd.Profile.Card, cmd.Profile.State); got != `{"name":"Al"} busy` {
			s.Errorf("got profile %s", got)
		}
		if err := s.client.Profile(s.Context(), wire.Profile{Card: []byte("{")}); err == nil {
			s.Error("took a card that is no JSON")
		}
	})
}

func TestPresenceEvents(t *testing.T) {
	var got inbasket
	play(t, Config{OnPresence: func(p wire.PresenceEvent) { got.put(p.Event + " " + p.Agent) }}, func(s *scene) {
		s.peer.send(wire.AppendPresence(nil, s.peer.encoding, &wire.PresenceEvent{Channel: "news", Event: "join", Agent: "bob"}))
		synctest.Wait()
	})
	if all := got.all(); !slices.Equal(all, []string{"join bob", "join bob"}) {
		t.Errorf("got %v", all)
	}
}
