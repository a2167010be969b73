package relay

import (
	"slices"
	"testing"
	"time"

	"agentnet/app/wire"
)

// TestRepeatThroughAnotherNode: an agent sends with a key through a node that then
// dies, comes back at another one, and repeats. Its receiver gets the message once,
// wherever it is and whether it has a socket or not.
func TestRepeatThroughAnotherNode(t *testing.T) {
	for _, tt := range []struct {
		name  string
		at    int // where the receiver is
		away  bool
		again wire.Outcome
	}{
		{"the receiver elsewhere", 2, false, wire.Delivered},
		{"the receiver where the sender comes back", 1, false, wire.Delivered},
		{"the receiver without a socket", 2, true, wire.Parked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNation(t, 3, 1, nil, func(v *nation) {
				alice, bob := v.worlds[0].join("alice"), v.worlds[tt.at].join("bob")
				v.settle()
				if tt.away {
					bob.drop()
					v.settle()
				}
				keyed := send("bob", "once")
				keyed.Key, keyed.TTLMS = []byte("k1"), 60_000
				if ok := alice.ok(keyed); ok.Outcome != tt.again {
					t.Fatalf("first: got %+v, want %s", ok, tt.again)
				}
				v.kill(0)
				time.Sleep(3 * time.Second)
				v.settle()
				alice = v.worlds[1].join("alice")
				v.settle()
				if ok := alice.ok(keyed); ok.Outcome != tt.again || ok.MessageID == "" {
					t.Errorf("again: got %+v, want %s", ok, tt.again)
				}
				other := send("bob", "another")
				other.Key, other.TTLMS = []byte("k2"), 60_000
				alice.ok(other)
				v.settle()
				if tt.away {
					bob = v.worlds[tt.at].back(bob, 0)
				}
				if got := datas(only(bob.take(), wire.KindMessage)); !slices.Equal(got, []string{`"once"`, `"another"`}) {
					t.Errorf("bob got %q", got)
				}
				// Behind the window the key is a new one.
				time.Sleep(3 * time.Minute)
				alice.ok(keyed)
				v.settle()
				if got := datas(only(bob.take(), wire.KindMessage)); !slices.Equal(got, []string{`"once"`}) {
					t.Errorf("behind the window bob got %q", got)
				}
			})
		})
	}
}

// TestRefusedKeyIsNotRemembered: what did not arrive anywhere may be repeated.
func TestRefusedKeyIsNotRemembered(t *testing.T) {
	inNation(t, 2, 1, nil, func(v *nation) {
		alice := v.worlds[0].join("alice")
		keyed := send("bob", "x")
		keyed.Key = []byte("k")
		alice.refused(keyed, wire.AgentOffline)
		bob := v.worlds[1].join("bob")
		v.settle()
		alice.ok(keyed)
		alice.ok(keyed)
		v.settle()
		if got := datas(only(bob.take(), wire.KindMessage)); !slices.Equal(got, []string{`"x"`}) {
			t.Errorf("bob got %q", got)
		}
	})
}
