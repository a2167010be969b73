//go:build linux

package e2e

import (
	"fmt"
	"testing"
	"time"

	"agentnet/app/wire"
)

// TestReturnWithoutSession covers an agent whose process dies with messages that it
// had not acknowledged, and that comes back knowing nothing of its session: before
// or after the relay has given that session up. Messages with a ttl come again.
func TestReturnWithoutSession(t *testing.T) {
	p := newHouse(t, "session: {resume: 1500ms}\ndrain: {window: 100ms}\nlog: {level: warn, format: text}\n").start()
	for _, early := range []bool{true, false} {
		for _, how := range []wire.Outcome{wire.Delivered, wire.Parked} {
			t.Run(fmt.Sprintf("%s, back early %v", how, early), func(t *testing.T) {
				t.Parallel()
				bob, alice := fmt.Sprintf("e2e/bob-%s-%v", how, early), fmt.Sprintf("e2e/alice-%s-%v", how, early)
				a := p.join(alice, wire.JSON)
				defer a.leave()
				var b *socket
				if how == wire.Delivered {
					b = p.join(bob, wire.JSON)
				}
				acknowledge(t, a, b, p, bob, how, &b)
				id := sendKept(t, a, bob, "unacknowledged", how)
				if how == wire.Parked {
					b = p.join(bob, wire.Protobuf)
				}
				expect(t, b, id)
				b.reset()
				if !early {
					waitFor(patience, func() bool { return p.offline(a, bob) }, func() { t.Error("the session was not given up") })
				}
				again := p.join(bob, wire.JSON)
				defer again.leave()
				expect(t, again, id)
			})
		}
	}
}

// acknowledge lets bob handle one message, so that the relay knows him as one who
// acknowledges, and leaves him as the case needs him.
func acknowledge(t *testing.T, a, b *socket, p *process, bob string, how wire.Outcome, keep **socket) {
	t.Helper()
	if b == nil {
		b = p.join(bob, wire.JSON)
	}
	id := sendKept(t, a, bob, "first", wire.Delivered)
	seq := expect(t, b, id)
	if err := b.write(&wire.Command{Kind: wire.KindAck, Seq: seq, Class: wire.Normal}, &wire.Command{ID: 9, Kind: wire.KindPing, Class: wire.Normal}); err != nil {
		t.Fatal(err)
	}
	var ev wire.Event
	for answered := false; !answered; {
		if err := b.read(&ev, func(ev *wire.Event) { answered = answered || ev.Kind == wire.KindPong }); err != nil {
			t.Fatal(err)
		}
	}
	if how == wire.Parked {
		b.leave()
		waitFor(patience, func() bool { return p.offline(a, bob) }, func() { t.Error("the first session was not given up") })
		*keep = nil
	}
}

// sendKept sends a message with a long ttl and returns its id.
func sendKept(t *testing.T, a *socket, to, text string, want wire.Outcome) (id string) {
	t.Helper()
	if err := a.write(&wire.Command{ID: 7, Kind: wire.KindSend, To: []byte(to), TTLMS: time.Hour.Milliseconds(), Payload: wire.Payload{Data: []byte(`"` + text + `"`)}, Class: wire.Normal}); err != nil {
		t.Fatal(err)
	}
	var ev wire.Event
	for id == "" {
		if err := a.read(&ev, func(ev *wire.Event) {
			if ev.ID != 7 {
				return
			}
			if id = ev.OK.MessageID; ev.Kind != wire.KindOK || ev.OK.Outcome != want {
				t.Fatalf("send %s: got %v %q %v, want %q", text, ev.Kind, ev.OK.Outcome, ev.Error.Err, want)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// expect waits for the message id and returns its seq.
func expect(t *testing.T, s *socket, id string) (seq uint64) {
	t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	defer s.conn.SetReadDeadline(time.Time{})
	var ev wire.Event
	for seq == 0 {
		if err := s.read(&ev, func(ev *wire.Event) {
			if ev.Kind == wire.KindMessage && ev.Message.MessageID == id {
				seq = ev.Message.Seq
			}
		}); err != nil {
			t.Fatalf("the message did not come: %v", err)
		}
	}
	return seq
}

// offline says whether an agent has no session left.
func (p *process) offline(a *socket, agent string) (yes bool) {
	if err := a.write(&wire.Command{ID: 8, Kind: wire.KindPresence, Agent: []byte(agent), Class: wire.Normal}); err != nil {
		p.t.Fatal(err)
	}
	var ev wire.Event
	for answered := false; !answered; {
		if err := a.read(&ev, func(ev *wire.Event) {
			if ev.ID == 8 {
				answered = true
				yes = len(ev.OK.Members) == 0 || ev.OK.Members[0].State == wire.Offline && ev.OK.Members[0].Sessions == 0
			}
		}); err != nil {
			p.t.Fatal(err)
		}
	}
	return yes
}
