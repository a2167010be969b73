package wire

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "agentnet/app/wire/agentnetpb"
)

// The tables of the hand-laid codec say the same as the schema: words, numbers,
// and which message has which fields.
func TestFieldsMatchSchema(t *testing.T) {
	messages := pb.File_agentnet_proto.Messages()
	for i := range messages.Len() {
		m := messages.Get(i)
		if m.Name() == "ClientFrame" || m.Name() == "ServerFrame" {
			continue
		}
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			if n := int(f.Number()); n >= int(fieldCount) || fieldWords[n] != string(f.Name()) {
				t.Errorf("%s has number %d, which the codec reads as another word", f.FullName(), n)
			}
		}
	}
}

func checkFrame(t *testing.T, frame protoreflect.MessageDescriptor, kinds []Kind, number func(Kind) int, sets []fieldSet) {
	t.Helper()
	oneof := frame.Oneofs().Get(0).Fields()
	if got, want := oneof.Len(), len(kinds); got != want {
		t.Errorf("%s: got %d kinds in the schema, want %d", frame.Name(), got, want)
	}
	for _, k := range kinds {
		f := frame.Fields().ByName(protoreflect.Name(k.String()))
		if f == nil || int(f.Number()) != number(k) {
			t.Errorf("%s.%s: schema has %v, want number %d", frame.Name(), k, f, number(k))
			continue
		}
		var want fieldSet
		for j := range f.Message().Fields().Len() {
			want.add(field(f.Message().Fields().Get(j).Number()))
		}
		if sets[k] != want {
			t.Errorf("%s.%s: got fields %x, want %x as in the schema", frame.Name(), k, sets[k], want)
		}
	}
}

func TestKindsMatchSchema(t *testing.T) {
	messages := pb.File_agentnet_proto.Messages()
	checkFrame(t, messages.ByName("ClientFrame"), ClientKinds(), func(k Kind) int { return int(k) + 1 }, commandFields[:])
	checkFrame(t, messages.ByName("ServerFrame"), ServerKinds(), func(k Kind) int { return slices.Index(serverKinds[:], k) }, eventFields[:])
	for name, set := range map[protoreflect.Name]fieldSet{
		"Since": sinceFields, "Position": positionFields, "Resume": resumeFields, "Client": clientFields, "Server": serverFields,
		"Failure": errorFields, "Member": memberFields, "AgentInfo": agentFields, "Limits": limitFields, "Message": messageFields,
	} {
		var want fieldSet
		fields := messages.ByName(name).Fields()
		for j := range fields.Len() {
			want.add(field(fields.Get(j).Number()))
		}
		if set != want {
			t.Errorf("%s: got fields %x, want %x as in the schema", name, set, want)
		}
	}
}

func TestNumbersMatchKinds(t *testing.T) {
	for number, kind := range map[int]Kind{numberOK: KindOK, numberError: KindError, numberMessage: KindMessage,
		numberRequest: KindRequest, numberReply: KindReply, numberCancel: KindCancel, numberReceipt: KindReceipt,
		numberPresence: KindPresence, numberGap: KindGap, numberNotice: KindNotice, numberPong: KindPong, numberConnected: KindConnected} {
		if serverKinds[number] != kind {
			t.Errorf("number %d: got %v, want %v", number, serverKinds[number], kind)
		}
	}
	for c := range Class(Classes) {
		if got := pb.Priority(classNumbers[c]).String(); got != c.String() {
			t.Errorf("priority %d of the schema: got %s, want %s", classNumbers[c], got, c)
		}
		if classesByNumber[classNumbers[c]] != c {
			t.Errorf("class %v does not come back from its number", c)
		}
	}
}

// unframe takes the length prefix off and checks it.
func unframe(t *testing.T, framed []byte) []byte {
	t.Helper()
	n, size := binary.Uvarint(framed)
	if size <= 0 || int(n) != len(framed)-size {
		t.Fatalf("length prefix of %x: got %d, want %d", framed, n, len(framed)-size)
	}
	return framed[size:]
}

func framed(frame []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
}

// Commands of all kinds go through hand-laid and generated code both ways, and
// from JSON to protobuf and back.
func TestCommandsEqualGenerated(t *testing.T) {
	for seed := range uint64(400) {
		for _, kind := range ClientKinds() {
			c := newSampler(seed<<8 + uint64(kind)).command(kind)
			checkCommand(t, c)
		}
	}
}

func checkCommand(t *testing.T, c *Command) {
	t.Helper()
	want := pbCommand(c)
	hand := unframe(t, AppendFramedCommand(nil, Protobuf, c))
	if plain := AppendCommand(nil, Protobuf, c); string(plain) != string(hand) {
		t.Fatalf("%v: framed and plain differ:\n%x\n%x", c.Kind, hand, plain)
	}
	var generated pb.ClientFrame
	if err := proto.Unmarshal(hand, &generated); err != nil {
		t.Fatalf("%v: generated code cannot read %x: %v", c.Kind, hand, err)
	}
	if !proto.Equal(&generated, want) {
		t.Fatalf("%v: generated code read %v, want %v", c.Kind, &generated, want)
	}
	marshalled, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	lines := AppendFramedCommand(nil, JSON, c)
	for name, in := range map[string]struct {
		enc Encoding
		msg []byte
	}{
		"generated": {Protobuf, framed(marshalled)},
		"hand-laid": {Protobuf, framed(hand)},
		"json":      {JSON, lines},
	} {
		var got Command
		n, err := got.Read(in.enc, in.msg, nil)
		if err != nil || n != len(in.msg) {
			t.Fatalf("%v from %s %q: n %d of %d, error %v", c.Kind, name, in.msg, n, len(in.msg), err)
		}
		if p := pbCommand(&got); !proto.Equal(p, want) {
			t.Fatalf("%v from %s: got %v, want %v", c.Kind, name, p, want)
		}
		if again := AppendCommand(nil, JSON, &got); string(again)+"\n" != string(lines) && name != "generated" {
			t.Fatalf("%v from %s: got %s, want %s", c.Kind, name, again, lines)
		}
	}
}

func TestEventsEqualGenerated(t *testing.T) {
	for seed := range uint64(400) {
		for _, kind := range ServerKinds() {
			e := newSampler(seed<<8 + uint64(kind)).event(kind)
			checkEvent(t, e)
		}
	}
}

func checkEvent(t *testing.T, e *Event) {
	t.Helper()
	want := pbEvent(e)
	hand := appendEvent(nil, Protobuf, e)
	var generated pb.ServerFrame
	if err := proto.Unmarshal(hand, &generated); err != nil {
		t.Fatalf("%v: generated code cannot read %x: %v", e.Kind, hand, err)
	}
	if !proto.Equal(&generated, want) {
		t.Fatalf("%v: generated code read %v, want %v", e.Kind, &generated, want)
	}
	marshalled, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	line := appendEvent(nil, JSON, e)
	if strings.ContainsAny(string(line), "\n\r") {
		t.Fatalf("%v: a line end in %s", e.Kind, line)
	}
	if !ValidJSON(line) {
		t.Fatalf("%v: not JSON: %s", e.Kind, line)
	}
	var got Event // used again and again: nothing of one frame may reach the next
	for _, in := range []struct {
		enc Encoding
		msg []byte
	}{{Protobuf, framed(marshalled)}, {JSON, line}, {Protobuf, framed(hand)}, {JSON, line}} {
		n, err := got.Read(in.enc, in.msg)
		if err != nil || n != len(in.msg) {
			t.Fatalf("%v from %q: n %d of %d, error %v", e.Kind, in.msg, n, len(in.msg), err)
		}
		if p := pbEvent(&got); !proto.Equal(p, want) {
			t.Fatalf("%v from %q: got %v, want %v", e.Kind, in.msg, p, want)
		}
	}
}

// What proto3 asks of a decoder beyond canonical bytes.
func TestProtobufRules(t *testing.T) {
	send := func(fields ...string) string {
		body := strings.Join(fields, "")
		return string(framed(append(binary.AppendUvarint([]byte{3<<3 | 2}, uint64(len(body))), body...)))
	}
	const to, data = "\x0a\x01b", "\x1a\x011"
	long := strings.Repeat("\xff", 9) + "\x01"
	for _, tt := range []struct {
		name, msg string
		want      string // the command as JSON, or how the error ends
	}{
		{"plain", send(to, data), `{"send":{"to":"b","data":1}}`},
		{"last string wins", send("\x0a\x01a", to, data), `{"send":{"to":"b","data":1}}`},
		{"last payload wins", send(to, data, "\x22\x01\x00"), `{"send":{"to":"b","bytes":"AA=="}}`},
		{"last payload wins, data", send(to, "\x22\x01\x00", data), `{"send":{"to":"b","data":1}}`},
		{"last number wins", send(to, "\x98\x01\x05\x98\x01\x07"), `{"send":{"to":"b","ttl_ms":7}}`},
		{"unknown fields of all types", send("\xf0\x7f\x05", "\xf1\x7f12345678", "\xf2\x7f\x02xx", "\xf5\x7f1234", to), `{"send":{"to":"b"}}`},
		{"last of equal headers wins", send(to, "\x62\x06\x0a\x01k\x12\x01v", "\x62\x06\x0a\x01k\x12\x01w"), `{"send":{"to":"b","headers":{"k":"w"}}}`},
		{"padded varint", send(to, "\x98\x01\x85\x80\x00"), `{"send":{"to":"b","ttl_ms":5}}`},
		{"group", send(to, "\x0b\x0c"), "expected no group"},
		{"unknown group", send(to, "\xf3\x7f\xf4\x7f"), "expected no group"},
		{"wire type 7", send(to, "\x0f"), "expected no group"},
		{"wrong type of string", send("\x08\x01"), "send.to: expected a field of wire type 2"},
		{"wrong type of number", send(to, "\x9a\x01\x01x"), "send.ttl_ms: expected a field of wire type 0"},
		{"wrong type of flag", send(to, "\xa2\x01\x01x"), "send.receipts: expected a field of wire type 0"},
		{"number too large", send(to, "\x98\x01"+long), "send.ttl_ms: " + wantNumber},
		{"varint too long", send(to, "\x98\x01"+strings.Repeat("\x80", 10)+"\x01"), "expected a varint of 64 bits"},
		{"varint of 65 bits", send(to, "\x98\x01"+strings.Repeat("\x80", 9)+"\x02"), "expected a varint of 64 bits"},
		{"string that leaves its message", string(framed([]byte("\x1a\x05\x0a\x01b\x1a\x02\x08\x05"))), "expected a field that ends within its message"},
		{"fixed that leaves its message", string(framed([]byte("\x1a\x05\x0a\x01b\xf1\x7f\x08\x05\x08\x05\x08\x05\x08\x05"))), "expected a field that ends within its message"},
		{"varint that leaves its message", string(framed([]byte("\x1a\x06\x0a\x01b\x98\x01\x80\x08\x05"))), "expected a whole varint"},
		{"varint cut off", send(to, "\x98\x01\x80"), "expected a whole varint"},
		{"field over its message", send(to, "\x1a\x7f1"), "expected a field that ends within its message"},
		{"fixed over its message", send(to, "\xf1\x7f123"), "expected a field that ends within its message"},
		{"huge length", send(to, "\x1a"+long), "expected a field that ends within its message"},
		{"field number 0", send("\x02\x00"), "expected a field number"},
		{"data is not JSON", send(to, "\x1a\x02{]"), "send.data: expected JSON: expected a key in quotes"},
		{"data is empty", send(to, "\x1a\x00"), "send.data: expected JSON: expected a value"},
		{"data with line ends", send(to, "\x1a\x07[1,\r\n2]"), `{"send":{"to":"b","data":[1,2]}}`},
		{"data after a line end", send(to, "\x1a\x03\n1\n"), `{"send":{"to":"b","data":1}}`},
		{"data after a line end only", send(to, "\x1a\x02\n1"), `{"send":{"to":"b","data":1}}`},
		{"not UTF-8", send("\x0a\x01\xff"), "send.to: expected UTF-8"},
		{"unknown priority", send(to, "\x58\x04"), "send.priority: expected critical, high, normal or low"},
		{"a kind of the future", string(framed([]byte("\x08\x05\xa2\x06\x00"))), "unknown kind"},
		{"two kinds", string(framed([]byte("\x82\x01\x00\x82\x01\x00"))), "a frame has one kind, this one has two"},
		{"no kind", string(framed([]byte("\x08\x05"))), "the frame has no kind"},
		{"empty frame", "\x00", "the frame has no kind"},
		{"ack of 0", string(framed([]byte("\x7a\x00"))), `{"ack":{"seq":0}}`},
		{"nested too deep", send(to, "\x1a\xc8\x01"+strings.Repeat("[", 100)+strings.Repeat("]", 100)), "expected at most 64 levels of nesting"},
	} {
		var c Command
		n, err := c.Read(Protobuf, []byte(tt.msg), nil)
		if n != len(tt.msg) {
			t.Errorf("%s: got n %d, want %d", tt.name, n, len(tt.msg))
		}
		if err != nil {
			var refused *FrameError
			if !errors.As(err, &refused) || refused.Err.Code != BadFrame || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
			}
		} else if got := string(AppendCommand(nil, JSON, &c)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	for _, msg := range []string{"\x80", "\x05abc", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		var c Command
		if n, err := c.Read(Protobuf, []byte(msg), nil); !errors.Is(err, ErrMalformed) || n != len(msg) {
			t.Errorf("message %x: got n %d, %v, want all of it and ErrMalformed", msg, n, err)
		}
		var e Event
		if _, err := e.Read(Protobuf, []byte(msg)); !errors.Is(err, ErrMalformed) {
			t.Errorf("message %x: got %v, want ErrMalformed", msg, err)
		}
	}
}
