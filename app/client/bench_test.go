package client

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"agentnet/app/wire"
)

// echoRelay answers every send with ok and hands its payload back as a direct
// message, over real sockets, in as few WebSocket messages as came.
func echoRelay(t testing.TB) (url string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolJSON, wire.SubprotocolProtobuf}}
		if ws, err := up.Upgrade(w, r, nil); err == nil {
			serveEcho(ws)
		}
	})}
	go func() { defer close(done); _ = srv.Serve(ln) }()
	return "http://" + ln.Addr().String(), func() { _ = srv.Close(); <-done }
}

func serveEcho(ws *websocket.Conn) {
	defer ws.Close()
	enc, kind := wire.JSON, websocket.TextMessage
	if ws.Subprotocol() == wire.SubprotocolProtobuf {
		enc, kind = wire.Protobuf, websocket.BinaryMessage
	}
	limits := wire.DefaultLimits()
	var (
		cmd   wire.Command
		frame []byte
		seq   uint64
	)
	for {
		_, msg, err := ws.ReadMessage()
		if err != nil {
			return
		}
		var out []byte
		add := func(f []byte) { frame = f; out = appendFrame(out, enc, f) }
		for len(msg) > 0 {
			n, err := cmd.Read(enc, msg, &limits)
			if err != nil {
				return
			}
			msg = msg[n:]
			switch cmd.Kind {
			case wire.KindConnect:
				add(wire.AppendConnected(frame[:0], enc, &wire.Connected{ID: cmd.ID, Session: "s", HeartbeatMS: 25000, Limits: limits}))
			case wire.KindSend:
				seq++
				add(wire.AppendOK(frame[:0], enc, &wire.OK{ID: cmd.ID, For: wire.KindSend, MessageID: "01J", Outcome: wire.Delivered, Sessions: 1}))
				add(wire.AppendMessage(frame[:0], enc, &wire.Message{Seq: seq, From: "bob", To: "alice", Class: wire.Normal, Payload: cmd.Payload}))
			case wire.KindPing:
				add(wire.AppendPong(frame[:0], enc, &wire.Pong{ID: cmd.ID, TimeMS: 1}))
			}
		}
		if len(out) > 0 && ws.WriteMessage(kind, out) != nil {
			return
		}
	}
}

// TestOverRealSockets sends and receives through TCP with both encodings; the rest
// of the tests use pipes and virtual time.
func TestOverRealSockets(t *testing.T) {
	url, stop := echoRelay(t)
	defer stop()
	for _, enc := range []wire.Encoding{wire.JSON, wire.Protobuf} {
		const count = 5000
		got := make(chan int, 1)
		n := 0
		c, err := Dial(t.Context(), Config{URL: url, Token: "t", Encoding: enc, OnMessage: func(context.Context, *Message) {
			if n++; n == count {
				got <- n
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		var last *Pending
		for range count {
			if last, err = c.SendAsync(t.Context(), "bob", RawJSON([]byte(`{"text":"hello"}`))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := last.Sent(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
		case <-time.After(20 * time.Second):
			t.Fatalf("encoding %d: the messages did not all come back", enc)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-c.Done()
	}
}

// BenchmarkSend measures one message there, its answer and the same message back,
// client and echo in one process: in a row, and many under way.
func BenchmarkSend(b *testing.B) {
	url, stop := echoRelay(b)
	defer stop()
	payload := RawJSON([]byte(`{"text":"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901"}`))
	for name, enc := range map[string]wire.Encoding{"json": wire.JSON, "protobuf": wire.Protobuf} {
		c, err := Dial(b.Context(), Config{URL: url, Token: "t", Encoding: enc, OnMessage: func(context.Context, *Message) {}})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/one", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Send(b.Context(), "bob", payload); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/pipelined", func(b *testing.B) {
			b.ReportAllocs()
			var last *Pending
			for b.Loop() {
				if last, err = c.SendAsync(b.Context(), "bob", payload); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := last.Sent(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
		c.Close()
	}
}
