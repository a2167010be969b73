package relay

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"agentnet/app/wire"
)

// bystanders are two clients of a hub that a third one sends anything at all to.
type bystanders struct {
	t          testing.TB
	hub        *Hub
	turn       *Turn
	alice, bob *tap
	from, to   Receiver
	hello      []byte
}

func newBystanders(t testing.TB) *bystanders {
	h := idleHub(t)
	b := &bystanders{t: t, hub: h, turn: h.NewTurn(), alice: &tap{}, bob: &tap{enc: wire.Protobuf}}
	b.from, b.to = plug(t, h, b.turn, b.alice, wire.JSON, "alice"), plug(t, h, b.turn, b.bob, wire.Protobuf, "bob")
	b.to.Receive(b.turn, frames(wire.Protobuf, subscribe("c")))
	b.hello = frames(wire.JSON, send("bob", "still here"))
	return b
}

// suffer lets a stranger send msg, before and after its `connect`, and checks that
// the others can still talk.
func (b *bystanders) suffer(enc wire.Encoding, msg []byte, connected bool) {
	c := &tap{enc: enc}
	var r Receiver
	if connected {
		r = plug(b.t, b.hub, b.turn, c, enc, "eve")
	} else {
		addr := netip.MustParseAddr("127.0.0.1")
		if e := b.hub.Admit(addr); e != nil {
			b.t.Fatal(e)
		}
		r = b.hub.Accept(c, ConnInfo{Encoding: enc, Addr: addr})
	}
	r.Receive(b.turn, msg)
	b.turn.Flush(true)
	b.from.Receive(b.turn, b.hello)
	b.turn.Flush(true)
	r.Closed(b.turn)
	b.turn.Flush(true)
	if s := r.(*link); s.session != nil {
		b.t.Fatal("a closed connection still has a session")
	}
	got, closed := b.bob.take()
	if closed {
		b.t.Fatalf("bob was closed after %q", msg)
	}
	for _, ev := range got {
		if ev.Kind == wire.KindMessage && ev.Message.From == "alice" && string(ev.Message.Payload.Data) == `"still here"` {
			b.to.Receive(b.turn, frames(wire.Protobuf, &wire.Command{Kind: wire.KindAck, Seq: ev.Message.Seq}))
			return
		}
	}
	b.t.Fatalf("bob did not get alice's message after %q", msg)
}

// samples are commands of every kind.
func samples() []*wire.Command {
	headers := []wire.Header{{Name: "trace", Value: "1"}}
	return []*wire.Command{
		{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: "eve", Resume: &wire.Resume{Session: "s_x", Seq: 7, Channels: []wire.ChannelPosition{{Channel: "c", Epoch: "e", Offset: 9}}}}},
		{ID: 2, Kind: wire.KindSend, To: []byte("bob"), Payload: text("x"), Class: wire.Low, TTLMS: 1000, Key: []byte("k"), Headers: headers, Receipts: true},
		{ID: 3, Kind: wire.KindSend, To: []byte("nobody"), Payload: wire.Payload{Data: []byte{0, 1, 255}, Binary: true}, Class: wire.Critical, TTLMS: 1 << 50},
		{ID: 4, Kind: wire.KindRequest, To: []byte("bob"), Method: []byte("m"), Payload: text("q"), TimeoutMS: 5, Class: wire.Normal},
		{Kind: wire.KindCancel, Request: 4},
		{Kind: wire.KindReply, Request: 1, Payload: text("r"), More: true},
		{Kind: wire.KindReply, Request: 1, Err: &wire.Error{Code: wire.Internal, Message: "no"}},
		{Kind: wire.KindReceipt, MessageID: []byte("01J"), State: wire.ReceiptDone, Note: []byte("n")},
		{ID: 5, Kind: wire.KindSubscribe, Channel: []byte("c"), Presence: true, HasSince: true, Since: wire.Since{Epoch: "e", Offset: 1 << 52}},
		{ID: 6, Kind: wire.KindSubscribe, Channel: []byte("c")},
		{ID: 7, Kind: wire.KindPublish, Channel: []byte("c"), Payload: text("p"), Key: []byte("k"), Headers: headers, Class: wire.High},
		{ID: 8, Kind: wire.KindHistory, Channel: []byte("c"), Limit: 1 << 30},
		{ID: 9, Kind: wire.KindPresence, Channel: []byte("c")},
		{ID: 10, Kind: wire.KindPresence, Agent: []byte("bob")},
		{ID: 11, Kind: wire.KindAgents, Match: []byte("**"), After: []byte("a"), Limit: 3},
		{ID: 12, Kind: wire.KindProfile, Profile: &wire.Profile{State: wire.Busy, Card: []byte(`{"a":1}`), Keys: []byte(`[1]`)}},
		{ID: 13, Kind: wire.KindUnsubscribe, Channel: []byte("c")},
		{Kind: wire.KindAck, Seq: 1 << 52},
		{ID: 14, Kind: wire.KindPing, RTTMS: 1 << 52},
	}
}

func FuzzReceive(f *testing.F) {
	for _, c := range samples() {
		f.Add(frames(wire.JSON, c), false, true)
		f.Add(frames(wire.Protobuf, c), true, true)
	}
	f.Add(frames(wire.JSON, samples()...), false, false)
	f.Add(frames(wire.Protobuf, samples()...), true, false)
	b := newBystanders(f)
	f.Fuzz(func(t *testing.T, msg []byte, binary, connected bool) {
		enc := wire.JSON
		if binary {
			enc = wire.Protobuf
		}
		b.t = t
		b.suffer(enc, msg, connected)
	})
}

// TestMutatedFramesHurtNobodyElse sends what was valid before some bytes of it were
// changed, left out or put in.
func TestMutatedFramesHurtNobodyElse(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	b := newBystanders(t)
	all := samples()
	for range 2000 {
		enc := wire.Encoding(rng.IntN(2))
		var cmds []*wire.Command
		for range 1 + rng.IntN(4) {
			cmds = append(cmds, all[rng.IntN(len(all))])
		}
		msg := frames(enc, cmds...)
		for range rng.IntN(4) {
			switch i := rng.IntN(len(msg)); rng.IntN(3) {
			case 0:
				msg[i] = byte(rng.Uint32())
			case 1:
				msg = append(msg[:i], msg[min(i+1+rng.IntN(3), len(msg)):]...)
			case 2:
				msg = append(msg[:i:i], append([]byte{byte(rng.Uint32())}, msg[i:]...)...)
			}
			if len(msg) == 0 {
				break
			}
		}
		b.suffer(enc, msg, rng.IntN(4) > 0)
	}
}
