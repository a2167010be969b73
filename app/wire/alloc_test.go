package wire

import (
	"fmt"
	"strings"
	"testing"
)

// hotCommands are what clients send all the time, with 128 bytes of payload.
func hotCommands() []*Command {
	payload := Payload{Data: []byte(`{"text":"` + strings.Repeat("x", 117) + `"}`)}
	return []*Command{
		{ID: 7, Kind: KindSend, To: []byte("bob/assistant"), Class: Normal, Payload: payload},
		{ID: 7, Kind: KindPublish, Channel: []byte("rooms/42"), Class: High, Key: []byte("k-17"), Payload: payload},
		{ID: 7, Kind: KindRequest, To: []byte("bob/assistant"), Method: []byte("book"), TimeoutMS: 5000, Class: Normal, Payload: payload},
		{Kind: KindReply, Request: 12345, Payload: payload},
		{Kind: KindAck, Seq: 123456},
		{ID: 7, Kind: KindPing, RTTMS: 12},
		{Kind: KindReceipt, MessageID: []byte("01JD0000000000000000000000"), State: ReceiptDone},
		{Kind: KindCancel, Request: 12},
		{ID: 7, Kind: KindSend, To: []byte("bob/assistant"), Class: Normal, Payload: Payload{Data: make([]byte, 96), Binary: true}},
	}
}

// hotEvents are what the relay sends all the time.
func hotEvents() []*Event {
	payload := Payload{Data: []byte(`{"text":"` + strings.Repeat("x", 117) + `"}`)}
	return []*Event{
		{Kind: KindMessage, Message: Message{Seq: 9, From: "bob/assistant", To: "alice/calendar", MessageID: "01JD0000000000000000000000", TimeMS: 1795420800000, Class: Normal, Payload: payload}},
		{Kind: KindMessage, Message: Message{Channel: "rooms/42", Offset: 99, From: "bob/assistant", MessageID: "01JD0000000000000000000000", TimeMS: 1795420800000, Class: High, Headers: []Header{{"trace", "abc"}}, Payload: payload}},
		{Kind: KindOK, OK: OK{ID: 7, For: KindSend, MessageID: "01JD0000000000000000000000", Outcome: Delivered, Sessions: 1}},
		{Kind: KindOK, OK: OK{ID: 7, For: KindPublish, Epoch: "01JD", Offset: 5}},
		{Kind: KindRequest, Request: Request{Seq: 9, Request: 44, From: "bob/assistant", Method: "book", DeadlineMS: 5000, Payload: payload}},
		{Kind: KindReply, Reply: Reply{ID: 7, Seq: 9, From: "bob/assistant", Payload: payload}},
		{Kind: KindError, Error: ErrorFrame{ID: 7, Err: Error{Code: AgentOffline, Message: "nobody is there", RetryAfterMS: 5}}},
		{Kind: KindReceipt, Receipt: Receipt{Seq: 9, MessageID: "01JD0000000000000000000000", From: "b", State: ReceiptDone, TimeMS: 1795420800000}},
		{Kind: KindPong, Pong: Pong{7, 1795420800000, 25000}},
		{Kind: KindCancel, CancelRequest: 44},
	}
}

func noAllocs(t *testing.T, name string, f func()) {
	t.Helper()
	f() // room that is grown once is kept
	if n := testing.AllocsPerRun(100, f); n != 0 {
		t.Errorf("%s: got %v allocations, want 0", name, n)
	}
}

func TestNoAllocations(t *testing.T) {
	lim := DefaultLimits()
	dst := make([]byte, 0, 4096)
	for enc := range Encoding(Encodings) {
		for _, hot := range hotCommands() {
			msg := AppendFramedCommand(nil, enc, hot)
			var c Command
			noAllocs(t, fmt.Sprintf("read %v in %d", hot.Kind, enc), func() {
				if _, err := c.Read(enc, msg, &lim); err != nil {
					t.Fatal(err)
				}
			})
			noAllocs(t, fmt.Sprintf("append command %v in %d", hot.Kind, enc), func() { dst = AppendFramedCommand(dst[:0], enc, hot) })
		}
		var sealed [][]byte
		for _, hot := range hotEvents() {
			noAllocs(t, fmt.Sprintf("append %v in %d", hot.Kind, enc), func() { dst = appendEvent(dst[:0], enc, hot) })
			buf := appendEvent(make([]byte, HeaderRoom), enc, hot)
			noAllocs(t, "seal", func() { Seal(enc, buf) })
			sealed = append(sealed, Seal(enc, buf))
		}
		noAllocs(t, "join", func() { dst = AppendJoined(dst[:0], enc, sealed) })
	}
	gs, err := ParseGlobs([]string{"x", "bench/*", "**a*b**", "alice/**"})
	if err != nil {
		t.Fatal(err)
	}
	name := []byte("alice/calendar")
	noAllocs(t, "globs and names", func() {
		if !gs.Match("alice/calendar") || !gs.MatchBytes(name) || !ValidAgent(name) || !ValidChannel("alice/calendar") {
			t.Fatal("no match")
		}
	})
	// What needs the scratch space needs it once.
	lines := []byte("{\"send\":{\"to\":\"\\u0062ob\",\"data\":[1,\n2],\"key\":\"a\\nb\"}}")
	var c Command
	noAllocs(t, "read with scratch", func() {
		if _, err := c.Read(JSON, lines, &lim); err != nil {
			t.Fatal(err)
		}
	})
}

var encodingNames = [Encodings]string{"json", "protobuf"}

func BenchmarkRead(b *testing.B) {
	lim := DefaultLimits()
	for enc := range Encoding(Encodings) {
		for _, hot := range hotCommands()[:6] {
			b.Run(encodingNames[enc]+"/"+hot.Kind.String(), func(b *testing.B) {
				msg := AppendFramedCommand(nil, enc, hot)
				b.SetBytes(int64(len(msg)))
				b.ReportAllocs()
				var c Command
				for b.Loop() {
					if _, err := c.Read(enc, msg, &lim); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for enc := range Encoding(Encodings) {
		for _, hot := range hotEvents()[:7] {
			b.Run(encodingNames[enc]+"/"+hot.Kind.String(), func(b *testing.B) {
				b.ReportAllocs()
				buf := make([]byte, HeaderRoom, 4096)
				for b.Loop() {
					Seal(enc, appendEvent(buf, enc, hot))
				}
			})
		}
	}
}

func BenchmarkEvent(b *testing.B) {
	for enc := range Encoding(Encodings) {
		b.Run(encodingNames[enc]+"/message", func(b *testing.B) {
			msg := appendEvent(nil, enc, hotEvents()[0])
			if enc == Protobuf {
				msg = insertLength(msg, 0, 0)
			}
			b.ReportAllocs()
			var e Event
			for b.Loop() {
				if _, err := e.Read(enc, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkData(b *testing.B) {
	for name, data := range map[string]string{
		"text-4k": `"` + strings.Repeat("x", 4096) + `"`, "numbers-4k": "[" + strings.Repeat("123.5,", 682) + "1]",
		"objects-4k": "[" + strings.Repeat(`{"id":17,"name":"someone"},`, 151) + "1]", "cjk-4k": `"` + strings.Repeat("語", 1365) + `"`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			text := []byte(data)
			for b.Loop() {
				if !ValidJSON(text) {
					b.Fatal("not valid")
				}
			}
		})
	}
}

func BenchmarkGlobs(b *testing.B) {
	gs, err := ParseGlobs([]string{"x", "bench/*", "a*b**c", "alice/**"})
	if err != nil {
		b.Fatal(err)
	}
	name := []byte("alice/calendar")
	b.ReportAllocs()
	for b.Loop() {
		gs.MatchBytes(name)
	}
}
