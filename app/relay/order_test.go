package relay

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// TestIDsOfOneSessionGrow: within one ms, when the clock goes back, and at the node
// that the session moves to.
func TestIDsOfOneSessionGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Authorizer: &grants{}})
		if err != nil {
			t.Fatal(err)
		}
		s, last := &Session{}, ""
		tn := h.NewTurn()
		for i := range 5000 {
			switch {
			case i%1000 == 999:
				s = &Session{newest: stampOf(s.newest.bytes())} // it moves
			case i%500 == 0:
				s.newest.hi += 5000 << 16 // the clock of its last node was 5 s ahead
			case i%100 == 0:
				time.Sleep(time.Millisecond)
				tn = h.NewTurn()
			}
			id := cloneString(tn.newID(s))
			if id <= last {
				t.Fatalf("message %d: %s came after %s", i, id, last)
			}
			last = id
		}
		s.newest = stamp{1 << 60, ^uint64(0)}
		if v := s.newest.after(0); v != (stamp{1<<60 + 1, 0}) {
			t.Errorf("got %x, want a carry", v)
		}
	})
}

// numbered sends n messages and returns what is to come.
func numbered(v *nation, from *peer, to string, first, n int) (want []string) {
	for i := range n {
		c := send(to, fmt.Sprint(first+i))
		c.TTLMS = 60_000
		from.tell(c)
		want = append(want, fmt.Sprintf("%q", fmt.Sprint(first+i)))
	}
	return want
}

// TestMailGoesAlongThoughAnotherStays: a session that moves takes along what waits for
// it, although another session of its agent stays and waits for the same; neither
// gets it twice or behind what was sent later.
func TestMailGoesAlongThoughAnotherStays(t *testing.T) {
	inNation(t, 2, 1, func(c *Config) { c.ReplayFrames = 4 }, func(v *nation) {
		alice := v.worlds[1].join("alice")
		one, two := v.worlds[0].join("bob"), v.worlds[0].join("bob")
		v.settle()
		one.drop()
		two.drop()
		v.settle()
		want := numbered(v, alice, "bob", 0, 20) // 4 fit the replay, the others wait
		v.settle()
		moved := v.worlds[1].back(one, 0)
		v.settle()
		v.settle()
		more := numbered(v, alice, "bob", 20, 5)
		v.settle()
		if got := datas(only(moved.take(), wire.KindMessage)); !moved.hello.Resumed || !slices.Equal(got, slices.Concat(want, more)) {
			t.Errorf("the one that moved got %q", got)
		}
		moved.tell(&wire.Command{Kind: wire.KindAck, Seq: 25})
		v.settle()
		stayed := v.worlds[0].back(two, 0)
		v.settle()
		if got := datas(only(stayed.take(), wire.KindMessage)); !stayed.hello.Resumed || !slices.Equal(got, slices.Concat(want, more)) {
			t.Errorf("the one that stayed got %q", got)
		}
	})
}

// TestReadMessageStaysForOthers: what one session acknowledges still comes to the
// other that it waited for, and to no new one.
func TestReadMessageStaysForOthers(t *testing.T) {
	inWorld(t, func(c *Config) { c.ReplayFrames = 4 }, func(w *world) {
		alice, one, two := w.join("alice"), w.join("bob"), w.join("bob")
		one.drop()
		two.drop()
		var want []string
		for i := range 10 {
			c := send("bob", fmt.Sprint(i))
			c.TTLMS = 60_000
			alice.ok(c)
			want = append(want, fmt.Sprintf("%q", fmt.Sprint(i)))
		}
		one = w.back(one, 0)
		if got := datas(only(one.take(), wire.KindMessage)); !slices.Equal(got, want) {
			t.Errorf("the first got %q", got)
		}
		one.tell(&wire.Command{Kind: wire.KindAck, Seq: 10})
		three := w.join("bob")
		if got := datas(only(three.take(), wire.KindMessage)); len(got) > 0 {
			t.Errorf("a new session got %q, which was read", got)
		}
		two = w.back(two, 0)
		if got := datas(only(two.take(), wire.KindMessage)); !slices.Equal(got, want) {
			t.Errorf("the second got %q", got)
		}
		two.tell(&wire.Command{Kind: wire.KindAck, Seq: 10})
		if n := w.hub.mail.Count(); n != 0 {
			t.Errorf("%d are left in the mailbox", n)
		}
	})
}

// TestTwoWaysToOneSession: what is under way to the old node of a session when it
// moves comes before what its sender sends to the new node, where another session of
// the agent is. When the old node is gone the wait ends.
func TestTwoWaysToOneSession(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint("dies=", dies), func(t *testing.T) {
			inNation(t, 3, 1, nil, func(v *nation) {
				alice, one, two := v.worlds[0].join("alice"), v.worlds[1].join("bob"), v.worlds[2].join("bob")
				v.worlds[1].join("bob") // stays: the old node goes on being sent to
				v.settle()
				v.net.slow("n1", "n2", 300*time.Millisecond)
				want := numbered(v, alice, "bob", 0, 3)
				v.settle()
				one.drop()
				moved := v.worlds[2].back(one, 0)
				v.settle()
				more := numbered(v, alice, "bob", 3, 3)
				v.settle()
				if dies {
					v.kill(1)
					want = nil
				}
				time.Sleep(3 * time.Second)
				v.settle()
				if got := datas(only(moved.take(), wire.KindMessage)); !moved.hello.Resumed || !slices.Equal(got, slices.Concat(want, more)) {
					t.Errorf("the session that moved got %q, want %q then %q", got, want, more)
				}
				if got := datas(only(two.take(), wire.KindMessage)); len(got) != 6 || !slices.IsSorted(got) {
					t.Errorf("the other got %q", got)
				}
			})
		})
	}
}

// TestCopyDoesNotOvertakeTheMail: a copy that the old node sends after its session goes
// behind what waits for the session, and letters that come late still come first.
func TestCopyDoesNotOvertakeTheMail(t *testing.T) {
	inNation(t, 2, 1, func(c *Config) { c.ReplayFrames = 4 }, func(v *nation) {
		alice, bob := v.worlds[1].join("alice"), v.worlds[0].join("bob")
		v.settle()
		bob.drop()
		v.settle()
		want := numbered(v, alice, "bob", 0, 12)
		v.settle()
		n1 := v.net.nodes["n1"]
		lost := 0
		n1.lose = func(p []byte) bool { // the first parcel with the mail of the session
			if parcel.KindOf(p) != parcel.KindMail || lost > 0 {
				return false
			}
			lost++
			return true
		}
		bob = v.worlds[1].back(bob, 0)
		v.settle()
		want = append(want, numbered(v, alice, "bob", 12, 5)...)
		time.Sleep(2 * time.Second)
		v.settle()
		if got := datas(only(bob.take(), wire.KindMessage)); lost != 1 || !slices.Equal(got, want) {
			t.Errorf("%d lost; got %q, want %q", lost, got, want)
		}
	})
}

// TestLeftBehindIsNotGivenAgain: what an ended session leaves unread is not given to
// one that moved here and had the message at its old node.
func TestLeftBehindIsNotGivenAgain(t *testing.T) {
	inNation(t, 2, 1, func(c *Config) { c.Resume = 20 * time.Second }, func(v *nation) {
		alice := v.worlds[0].join("alice")
		one, two := v.worlds[0].join("bob"), v.worlds[1].join("bob")
		v.settle()
		two.drop()
		v.settle()
		want := numbered(v, alice, "bob", 0, 5)
		v.settle()
		if got := datas(only(one.take(), wire.KindMessage)); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		one.tell(&wire.Command{Kind: wire.KindAck, Seq: 5})
		one.drop()
		one = v.worlds[1].back(one, 5)
		time.Sleep(25 * time.Second) // the other is not coming back
		v.settle()
		if got := datas(only(one.take(), wire.KindMessage)); !one.hello.Resumed || len(got) > 0 {
			t.Errorf("got %q again", got)
		}
	})
}

// TestMessageOfTwoNodesIsKnownAtOnce: what went to another node as well is not given
// again to a session that follows it there, although the fleet had not told yet that the
// other node holds the agent.
func TestMessageOfTwoNodesIsKnownAtOnce(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice, one, two := v.worlds[0].join("alice"), v.worlds[0].join("bob"), v.worlds[0].join("bob")
		v.settle()
		v.net.slow("n2", "n1", 300*time.Millisecond)
		one.drop()
		one = v.worlds[1].back(one, 0)
		if !one.hello.Resumed {
			t.Fatal("the first did not move")
		}
		one.drop()
		time.Sleep(450 * time.Millisecond) // n1 has let go, and was not told where the agent is
		if n := len(v.net.nodes["n1"].Hosts(nil, "bob")); n != 0 {
			t.Fatalf("n1 knows %d hosts, want none yet", n)
		}
		want := numbered(v, alice, "bob", 0, 3)
		v.settle()
		if got := datas(only(two.take(), wire.KindMessage)); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		two.tell(&wire.Command{Kind: wire.KindAck, Seq: 3})
		time.Sleep(time.Second)
		two.drop()
		two = v.worlds[1].back(two, 3)
		time.Sleep(time.Second)
		v.settle()
		if got := datas(only(two.take(), wire.KindMessage)); !two.hello.Resumed || len(got) > 0 {
			t.Errorf("after its move the second got %q again", got)
		}
		one = v.worlds[1].back(one, 0)
		if got := datas(only(one.take(), wire.KindMessage)); !slices.Equal(got, want) {
			t.Errorf("the first got %q, want %q", got, want)
		}
	})
}

// TestMovedMailStaysUntilRead: what was parked and came along with a session stays on
// disk until it is read, and comes to the agent's next session when this one ends.
func TestMovedMailStaysUntilRead(t *testing.T) {
	inNation(t, 2, 1, func(c *Config) { c.Resume = 10 * time.Second }, func(v *nation) {
		alice, bob := v.worlds[0].join("alice"), v.worlds[0].join("bob")
		v.settle()
		bob.drop()
		v.settle()
		want := numbered(v, alice, "bob", 0, 3)
		v.settle()
		bob = v.worlds[1].back(bob, 0)
		v.settle()
		if got := datas(only(bob.take(), wire.KindMessage)); !bob.hello.Resumed || !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := v.worlds[1].hub.mail.Count(); n != 3 {
			t.Errorf("%d are parked where the session is, want 3: none was read", n)
		}
		bob.drop()
		time.Sleep(15 * time.Second) // it does not come back
		next := v.worlds[0].join("bob")
		time.Sleep(time.Second)
		v.settle()
		if got := datas(only(next.take(), wire.KindMessage)); !slices.Equal(got, want) {
			t.Errorf("the next session got %q, want %q", got, want)
		}
		next.tell(&wire.Command{Kind: wire.KindAck, Seq: 3})
		v.settle()
		for i, w := range v.worlds {
			if n := w.hub.mail.Count(); n != 0 {
				t.Errorf("%d are left on node %d after the ack", n, i+1)
			}
		}
	})
}
