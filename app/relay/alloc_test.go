package relay

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"agentnet/app/wire"
)

// sink is a Conn that takes everything and keeps nothing.
type sink struct{ writes, bytes int }

func (c *sink) Write(p []byte) bool          { c.writes++; c.bytes += len(p); return false }
func (c *sink) Ping()                        {}
func (c *sink) Close(wire.CloseCode, string) {}

// idleHub is a hub whose clock does not run.
func idleHub(t testing.TB) *Hub {
	g := &grants{ids: map[string]*Identity{}}
	g.add(t, "all", &Identity{})
	h, err := New(Config{Authorizer: g})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// plug connects an agent over c.
func plug(t testing.TB, h *Hub, turn *Turn, c Conn, enc wire.Encoding, name string) Receiver {
	addr := netip.MustParseAddr("127.0.0.1")
	if e := h.Admit(addr); e != nil {
		t.Fatal(e)
	}
	r := h.Accept(c, ConnInfo{Encoding: enc, Addr: addr})
	r.Receive(turn, frames(enc, &wire.Command{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: name}}))
	turn.Flush(true)
	return r
}

// frames is one WebSocket message of commands.
func frames(enc wire.Encoding, cmds ...*wire.Command) (msg []byte) {
	for _, c := range cmds {
		msg = wire.AppendFramedCommand(msg, enc, c)
	}
	return msg
}

// exchange is one direct message with its answer and the receiver's ack.
type exchange struct {
	turn     *Turn
	from, to Receiver
	send     []byte
	ack      wire.Command
	enc      wire.Encoding
	buf      []byte
}

func newExchange(t testing.TB, enc wire.Encoding) *exchange {
	h := idleHub(t)
	x := &exchange{turn: h.NewTurn(), enc: enc, ack: wire.Command{Kind: wire.KindAck}}
	x.from, x.to = plug(t, h, x.turn, &sink{}, enc, "alice"), plug(t, h, x.turn, &sink{}, enc, "bob")
	c := send("bob", "a hundred bytes or so of what agents say to each other, which is about the usual length of it all")
	c.ID = 2
	x.send = frames(enc, c)
	return x
}

func (x *exchange) once() {
	x.from.Receive(x.turn, x.send)
	x.turn.Flush(true)
	x.ack.Seq++
	x.buf = wire.AppendFramedCommand(x.buf[:0], x.enc, &x.ack)
	x.to.Receive(x.turn, x.buf)
	x.turn.Flush(true)
}

func encodings(f func(name string, enc wire.Encoding)) {
	f("json", wire.JSON)
	f("protobuf", wire.Protobuf)
}

func TestDirectSendAllocatesNothing(t *testing.T) {
	encodings(func(name string, enc wire.Encoding) {
		x := newExchange(t, enc)
		for range 200 {
			x.once()
		}
		if n := testing.AllocsPerRun(500, x.once); n > spare {
			t.Errorf("%s: %v allocations a message, want 0", name, n)
		}
	})
}

// newFanOut returns a publication to n subscribers.
func newFanOut(t testing.TB, enc wire.Encoding, n int) func() {
	h := idleHub(t)
	turn := h.NewTurn()
	sub := subscribe("news")
	for i := range n {
		r := plug(t, h, turn, &sink{}, enc, fmt.Sprint("agent", i))
		r.Receive(turn, frames(enc, sub))
	}
	from := plug(t, h, turn, &sink{}, enc, "alice")
	c := publish("news", "a hundred bytes or so of what agents say to each other, which is about the usual length of it all")
	c.ID = 2
	msg := frames(enc, c)
	return func() {
		from.Receive(turn, msg)
		turn.Flush(true)
	}
}

func TestPublishAllocatesNothingForEachSubscriber(t *testing.T) {
	encodings(func(name string, enc wire.Encoding) {
		few, many := newFanOut(t, enc, 2), newFanOut(t, enc, 100)
		for range 300 { // the channel's window is full then
			few()
			many()
		}
		a, b := testing.AllocsPerRun(500, few), testing.AllocsPerRun(500, many)
		if b > 4+spare || b > a+spare {
			t.Errorf("%s: %v allocations for 2 subscribers, %v for 100; want at most 4 and the same", name, a, b)
		}
	})
}

func BenchmarkDirectSend(b *testing.B) {
	encodings(func(name string, enc wire.Encoding) {
		b.Run(name, func(b *testing.B) {
			x := newExchange(b, enc)
			b.ReportAllocs()
			for b.Loop() {
				x.once()
			}
		})
	})
}

func BenchmarkPublishTo100(b *testing.B) {
	encodings(func(name string, enc wire.Encoding) {
		b.Run(name, func(b *testing.B) {
			once := newFanOut(b, enc, 100)
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	})
}

// TestLongBatchDoesNotCutItsReceiver: what one message of a sender holds is more
// than a queue does, but the receiver's socket takes it all.
func TestLongBatchDoesNotCutItsReceiver(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		var batch []*wire.Command
		for range 5000 {
			batch = append(batch, send("bob", "x"))
		}
		alice.tell(batch...)
		if n := len(bob.take()); n != 5000 || bob.code() != 0 {
			t.Errorf("got %d messages and code %d, want 5000 and an open socket", n, bob.code())
		}
		if st := w.hub.Stats(); st.QueueBytes != 0 || st.QueueFrames != 0 {
			t.Errorf("%d bytes in %d frames are still counted as queued", st.QueueBytes, st.QueueFrames)
		}
	})
}

// TestFlushDoesNotStayWithABusyChannel: while others publish without a pause, the
// loop that passes comes back and a goroutine takes over.
func TestFlushDoesNotStayWithABusyChannel(t *testing.T) {
	h := idleHub(t)
	turn := h.NewTurn()
	r := plug(t, h, turn, &sink{}, wire.JSON, "alice")
	r.Receive(turn, frames(wire.JSON, subscribe("news")))
	turn.Flush(true)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		other := h.NewTurn()
		from := plug(t, h, other, &sink{}, wire.JSON, "bob")
		msg := frames(wire.JSON, publish("news", "x"))
		for ctx.Err() == nil {
			from.Receive(other, msg)
			other.Flush(true)
		}
	}()
	msg := frames(wire.JSON, publish("news", "y"))
	for range 2000 {
		r.Receive(turn, msg)
		turn.Flush(true)
	}
	stop()
	<-done
}
