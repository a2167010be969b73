package wire

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// The JSON that the relay writes, byte for byte: outside programs see it.
func TestAppendJSON(t *testing.T) {
	data := Payload{Data: []byte(`{"a":1}`)}
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"connected", AppendConnected(nil, JSON, &Connected{ID: 1, Session: "s_1", Agent: "alice/calendar", Node: "n1", Region: "local",
			HeartbeatMS: 25000, ResumeMS: 120000, Limits: Limits{FrameBytes: 65536}, Version: "1.0"}),
			`{"id":1,"connected":{"session":"s_1","agent":"alice/calendar","node":"n1","region":"local","resumed":false,"seq":0,"heartbeat_ms":25000,"resume_ms":120000,"limits":{"frame_bytes":65536},"server":{"version":"1.0"}}}`},
		{"sent", AppendOK(nil, JSON, &OK{ID: 2, For: KindSend, MessageID: "01J", Outcome: Delivered, Sessions: 1, Epoch: "not of send"}),
			`{"id":2,"ok":{"id":"01J","outcome":"delivered","sessions":1}}`},
		{"parked", AppendOK(nil, JSON, &OK{ID: 2, For: KindSend, MessageID: "01J", Outcome: Parked}),
			`{"id":2,"ok":{"id":"01J","outcome":"parked"}}`},
		{"subscribed", AppendOK(nil, JSON, &OK{ID: 2, For: KindSubscribe, Epoch: "e"}), `{"id":2,"ok":{"epoch":"e","offset":0,"recovered":false}}`},
		{"published", AppendOK(nil, JSON, &OK{ID: 2, For: KindPublish, Epoch: "e", Offset: 7}), `{"id":2,"ok":{"epoch":"e","offset":7}}`},
		{"history", AppendOK(nil, JSON, &OK{ID: 2, For: KindHistory, Epoch: "e", Offset: 7, Messages: []Message{{Channel: "a", Offset: 7, From: "b", Class: Normal, Payload: data}}}),
			`{"id":2,"ok":{"messages":[{"channel":"a","offset":7,"from":"b","data":{"a":1}}],"epoch":"e","offset":7}}`},
		{"no history", AppendOK(nil, JSON, &OK{ID: 2, For: KindHistory, Epoch: "e"}), `{"id":2,"ok":{"messages":[],"epoch":"e","offset":0}}`},
		{"members", AppendOK(nil, JSON, &OK{ID: 2, For: KindPresence, Members: []Member{{Agent: "a", State: Away}, {Agent: "b", State: Busy, Sessions: 2, LastActiveMS: 3, Queue: 4}}}),
			`{"id":2,"ok":{"members":[{"agent":"a","state":"away","sessions":0,"last_active_ms":0,"queue":0},{"agent":"b","state":"busy","sessions":2,"last_active_ms":3,"queue":4}]}}`},
		{"agents", AppendOK(nil, JSON, &OK{ID: 2, For: KindAgents, Agents: []AgentInfo{{Agent: "a", State: Available, Card: []byte(`{"n":1}`)}}, Next: "a"}),
			`{"id":2,"ok":{"agents":[{"agent":"a","state":"available","sessions":0,"last_active_ms":0,"queue":0,"card":{"n":1}}],"next":"a"}}`},
		{"no agents", AppendOK(nil, JSON, &OK{ID: 2, For: KindAgents}), `{"id":2,"ok":{"agents":[]}}`},
		{"unsubscribed", AppendOK(nil, JSON, &OK{ID: 2, For: KindUnsubscribe, Epoch: "e"}), `{"id":2,"ok":{}}`},
		{"error", AppendError(nil, JSON, &ErrorFrame{ID: 3, Err: Error{RateLimited, "slow \"down\"", 50}}),
			`{"id":3,"error":{"code":"rate_limited","message":"slow \"down\"","retry_after_ms":50}}`},
		{"error with key", AppendError(nil, JSON, &ErrorFrame{Key: "k", Err: Error{Code: NotFound}}), `{"error":{"code":"not_found","key":"k"}}`},
		{"direct message", AppendMessage(nil, JSON, &Message{Seq: 1, From: "bob/assistant", To: "alice/calendar", MessageID: "01J", TimeMS: 1795420800000, Class: Normal, Payload: data}),
			`{"message":{"seq":1,"from":"bob/assistant","to":"alice/calendar","id":"01J","time":1795420800000,"data":{"a":1}}}`},
		{"channel message", AppendMessage(nil, JSON, &Message{Channel: "c", Offset: 9, From: "b", Class: Critical, Headers: []Header{{"k", "v"}, {"l", ""}}, Payload: Payload{Data: []byte{0xfb, 0xff}, Binary: true}}),
			`{"message":{"channel":"c","offset":9,"from":"b","priority":"critical","headers":{"k":"v","l":""},"bytes":"+/8="}}`},
		{"message without payload", AppendMessage(nil, JSON, &Message{Seq: 1, From: "b", To: "a", Class: Normal}), `{"message":{"seq":1,"from":"b","to":"a"}}`},
		{"request", AppendRequest(nil, JSON, &Request{Seq: 1, Request: 5, From: "b", Method: "book", DeadlineMS: 5000, Payload: data}),
			`{"request":{"seq":1,"request":5,"from":"b","method":"book","deadline":5000,"data":{"a":1}}}`},
		{"reply", AppendReply(nil, JSON, &Reply{ID: 3, Seq: 2, From: "b", More: true, Payload: data}), `{"id":3,"reply":{"seq":2,"from":"b","more":true,"data":{"a":1}}}`},
		{"refusal", AppendReply(nil, JSON, &Reply{ID: 3, Seq: 2, From: "b", Err: &Error{Code: "full"}}), `{"id":3,"reply":{"seq":2,"from":"b","error":{"code":"full"}}}`},
		{"receipt", AppendReceipt(nil, JSON, &Receipt{2, "01J", "b", ReceiptDone, "ok", 5}), `{"receipt":{"seq":2,"id":"01J","from":"b","state":"done","note":"ok","time":5}}`},
		{"presence", AppendPresence(nil, JSON, &PresenceEvent{"c", "join", "a", Available}), `{"presence":{"channel":"c","event":"join","agent":"a","state":"available"}}`},
		{"gap", AppendGap(nil, JSON, &Gap{"c", 3, "e", 7}), `{"gap":{"channel":"c","missed":3,"epoch":"e","offset":7}}`},
		{"gap of the session", AppendGap(nil, JSON, &Gap{}), `{"gap":{}}`},
		{"notice", AppendNotice(nil, JSON, &Notice{"drain", "warning", "restart", 8, 9, []string{"wss://a", "wss://b"}}),
			`{"notice":{"kind":"drain","level":"warning","message":"restart","until":8,"reconnect_in_ms":9,"endpoints":["wss://a","wss://b"]}}`},
		{"pong", AppendPong(nil, JSON, &Pong{4, 5, 6}), `{"id":4,"pong":{"time":5,"heartbeat_ms":6}}`},
		{"cancel", AppendCancel(nil, JSON, 5), `{"cancel":{"request":5}}`},
	} {
		if string(tt.got) != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, tt.got, tt.want)
		}
	}
}

// What an agent says that is not UTF-8 must not break the frames of others.
func TestAppendRepairs(t *testing.T) {
	e := &Event{Kind: KindReceipt, Receipt: Receipt{MessageID: "m", From: "a", Note: "x\xffy"}}
	for enc := range Encoding(Encodings) {
		msg := appendEvent(nil, enc, e)
		if enc == Protobuf {
			msg = framed(msg)
		}
		var got Event
		if _, err := got.Read(enc, msg); err != nil || got.Receipt.Note != "x\ufffdy" {
			t.Errorf("encoding %d: got %q, %v, want %q", enc, got.Receipt.Note, err, "x\ufffdy")
		}
	}
}

// A reused Event tells nothing of the frame before.
func TestEventReuse(t *testing.T) {
	for _, kind := range ServerKinds() {
		var e, fresh Event
		full := newSampler(9).event(kind)
		e = *full
		e.OK.For = KindSend
		empty := []byte(`{"` + kind.String() + `":{}}`)
		if _, err := e.Read(JSON, empty); err != nil {
			t.Fatal(err)
		}
		if _, err := fresh.Read(JSON, empty); err != nil {
			t.Fatal(err)
		}
		if e.ID != 0 || !proto.Equal(pbEvent(&e), pbEvent(&fresh)) || e.OK.For != KindNone && kind == KindOK {
			t.Errorf("%v: got %v, want %v", kind, pbEvent(&e), pbEvent(&fresh))
		}
	}
}

// A client goes on when the relay is newer than it.
func TestEventOfTheFuture(t *testing.T) {
	msg := []byte("{\"id\":4,\"news\":{}}\n{\"pong\":{\"time\":5,\"shiny\":[1]}}\n{\"error\":{\"code\":\"brand_new\"}}")
	var e Event
	n, err := e.Read(JSON, msg)
	if err == nil || err.(*FrameError).ID != 4 {
		t.Errorf("got %v, want a refusal of frame 4", err)
	}
	m, err := e.Read(JSON, msg[n:])
	if err != nil || e.Kind != KindPong || e.Pong.TimeMS != 5 {
		t.Errorf("got %v %+v, %v", e.Kind, e.Pong, err)
	}
	if _, err = e.Read(JSON, msg[n+m:]); err != nil || e.Error.Err.Code != "brand_new" {
		t.Errorf("got %+v, %v", e.Error, err)
	}
}

func TestSeal(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 65533, 65535, 65536, 1 << 20} {
		for enc := range Encoding(Encodings) {
			frame := []byte(strings.Repeat("f", n))
			sealed := Seal(enc, append(make([]byte, HeaderRoom), frame...))
			body, want := frame, byte(0x81)
			if enc == Protobuf {
				body, want = framed(frame), 0x82
			}
			header, length := 2, len(body)
			switch {
			case length > 65535:
				header, length = 10, int(sealed[6])<<24|int(sealed[7])<<16|int(sealed[8])<<8|int(sealed[9])
			case length > 125:
				header, length = 4, int(sealed[2])<<8|int(sealed[3])
			default:
				length = int(sealed[1])
			}
			marks := map[int]byte{4: 126, 10: 127}
			if sealed[0] != want || length != len(body) || len(sealed) != header+len(body) || header > 2 && sealed[1] != marks[header] {
				t.Errorf("encoding %d, %d bytes: got header % x for %d bytes", enc, n, sealed[:min(10, len(sealed))], len(body))
			}
			if string(Body(sealed)) != string(body) {
				t.Errorf("encoding %d, %d bytes: the body is not what was sealed", enc, n)
			}
		}
	}
}

func TestJoined(t *testing.T) {
	for enc := range Encoding(Encodings) {
		for _, counts := range []int{0, 1, 2, 3, 200} {
			var sealed [][]byte
			for i := range counts {
				sealed = append(sealed, Seal(enc, AppendGap(make([]byte, HeaderRoom), enc, &Gap{Channel: strings.Repeat("c", i*7%128), Missed: uint64(i + 1)})))
			}
			joined := AppendJoined([]byte("before"), enc, sealed)
			if string(joined[:6]) != "before" || counts == 0 && len(joined) != 6 {
				t.Fatalf("got %q", joined[:6])
			}
			if counts == 0 {
				continue
			}
			joined = joined[6:]
			if counts == 1 && string(joined) != string(sealed[0]) {
				t.Errorf("one message joined is another: %q, want %q", joined, sealed[0])
			}
			rest := Body(joined)
			if header := len(joined) - len(rest); header != headerLen(len(rest)) {
				t.Errorf("header of %d bytes for %d", header, len(rest))
			}
			if enc == JSON && strings.Count(string(rest), "\n") != counts-1 {
				t.Errorf("got %d line ends, want %d", strings.Count(string(rest), "\n"), counts-1)
			}
			var e Event
			for i := range counts {
				n, err := e.Read(enc, rest)
				if err != nil || e.Kind != KindGap || e.Gap.Missed != uint64(i+1) {
					t.Fatalf("frame %d: got %v %+v, %v", i, e.Kind, e.Gap, err)
				}
				rest = rest[n:]
			}
			if len(rest) != 0 {
				t.Errorf("%d bytes left over", len(rest))
			}
		}
	}
}

// Frames of all lengths around the growth of a varint survive framing by a
// function and by guess.
func TestFramed(t *testing.T) {
	for _, n := range []int{0, 1, 60, 70, 79, 80, 81, 120, 127, 128, 129, 16300, 16383, 16384, 16385, 70000} {
		c := &Command{Kind: KindSend, To: []byte("b"), Class: Normal, Payload: Payload{Data: []byte(`"` + strings.Repeat("x", n) + `"`)}, Headers: []Header{{"h", strings.Repeat("y", n/3)}}}
		for enc := range Encoding(Encodings) {
			msg := AppendFramed(nil, enc, func(dst []byte) []byte { return AppendCommand(dst, enc, c) })
			msg = AppendFramedCommand(msg, enc, c)
			var got Command
			for rest := msg; len(rest) > 0; {
				k, err := got.Read(enc, rest, nil)
				if err != nil || string(got.Payload.Data) != string(c.Payload.Data) || got.Headers[0] != c.Headers[0] {
					t.Fatalf("encoding %d, %d bytes: %v", enc, n, err)
				}
				rest = rest[k:]
			}
		}
	}
}

// A payload that is empty but not nil is none: JSON has no empty value.
func TestAppendEmptyPayload(t *testing.T) {
	for enc := range Encodings {
		got := AppendMessage(nil, Encoding(enc), &Message{Channel: "c", Offset: 1, Payload: Payload{Data: []byte{}}})
		want := AppendMessage(nil, Encoding(enc), &Message{Channel: "c", Offset: 1})
		if string(got) != string(want) {
			t.Errorf("%v: got %q, want %q", Encoding(enc), got, want)
		}
	}
}
