package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pb "agentnet/app/wire/agentnetpb"
)

// seedVectors gives the frames of testdata/vectors.json to a fuzz target.
func seedVectors(f *testing.F, direction string, enc Encoding) {
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(text, &file); err != nil {
		f.Fatal(err)
	}
	for _, v := range file.Frames {
		if v.Direction != direction {
			continue
		}
		if enc == JSON {
			f.Add([]byte(v.JSON))
		} else if frame, err := hex.DecodeString(v.Protobuf); err == nil {
			f.Add(frame)
		}
	}
	for _, v := range file.Invalid {
		if enc == JSON && v.Encoding == "json" {
			f.Add([]byte(v.Message))
		} else if msg, err := hex.DecodeString(v.Message); err == nil && v.Encoding == "protobuf" && len(msg) > 0 {
			f.Add(msg[1:])
		}
	}
}

// A JSON frame is read as the reference decoder reads it, refused when it refuses
// it, and whatever comes, reading goes forward and ends.
func FuzzCommandJSON(f *testing.F) {
	seedVectors(f, "client", JSON)
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Command
		n, err := c.Read(JSON, text, nil)
		if len(bytes.Trim(text, " \t\r\n")) == 0 {
			if err != nil || n != len(text) || c.Kind != KindNone {
				t.Fatalf("white space %q: n %d, %v", text, n, err)
			}
			return
		}
		walk(t, JSON, text)
		if err == nil {
			checkAcross(t, &c)
		}
		if !utf8.Valid(text) || !json.Valid(text) {
			if err == nil && !utf8.Valid(text[:n]) {
				t.Fatalf("accepted %q, which is not UTF-8", text[:n])
			}
			if err == nil && !json.Valid(text[:n]) {
				t.Fatalf("accepted %q, which is not JSON", text[:n])
			}
			return
		}
		if depthOf(text) > MaxDepth {
			return
		}
		want, wantErr := referenceCommand(text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got %v, the reference decoder says %v", text, err, wantErr)
		}
		if err != nil {
			var refused *FrameError
			if !errors.As(err, &refused) {
				t.Fatalf("%q: got %v, want a FrameError", text, err)
			}
			return
		}
		if got := pbCommand(&c); !sameCommand(got, want) {
			t.Fatalf("%q:\ngot  %v\nwant %v", text, got, want)
		}
	})
}

// walk reads all frames of a message and checks that each step goes forward.
func walk(t *testing.T, enc Encoding, msg []byte) {
	t.Helper()
	var c Command
	for lim, rest := DefaultLimits(), msg; len(rest) > 0; {
		n, err := c.Read(enc, rest, &lim)
		if n < 1 || n > len(rest) {
			t.Fatalf("%q: got n %d of %d, %v", rest, n, len(rest), err)
		}
		rest = rest[n:]
	}
	var e Event
	for rest := msg; len(rest) > 0; {
		n, err := e.Read(enc, rest)
		if n < 1 || n > len(rest) {
			t.Fatalf("%q: got n %d of %d, %v", rest, n, len(rest), err)
		}
		if err == nil {
			_ = appendEvent(nil, JSON, &e)
		}
		rest = rest[n:]
	}
}

// checkAcross takes an accepted command to the other encoding and back.
func checkAcross(t *testing.T, c *Command) {
	t.Helper()
	want := pbCommand(c)
	for enc := range Encoding(Encodings) {
		var got Command
		msg := AppendFramedCommand(nil, enc, c)
		if n, err := got.Read(enc, msg, nil); err != nil || n != len(msg) {
			t.Fatalf("written again as %q: n %d of %d, %v", msg, n, len(msg), err)
		}
		if p := pbCommand(&got); !sameCommand(p, want) {
			t.Fatalf("written again as %q:\ngot  %v\nwant %v", msg, p, want)
		}
	}
}

// What the hand-laid decoder accepts, the generated one reads as the same.
func FuzzCommandProtobuf(f *testing.F) {
	seedVectors(f, "client", Protobuf)
	f.Fuzz(func(t *testing.T, frame []byte) {
		msg := framed(frame)
		walk(t, Protobuf, msg)
		walk(t, Protobuf, frame)
		var c Command
		n, err := c.Read(Protobuf, msg, nil)
		if n != len(msg) || errors.Is(err, ErrMalformed) {
			t.Fatalf("%x: n %d of %d, %v", msg, n, len(msg), err)
		}
		var generated pb.ClientFrame
		wantErr := proto.Unmarshal(frame, &generated)
		if err != nil {
			return
		}
		if wantErr != nil {
			t.Fatalf("%x was accepted, generated code says %v", frame, wantErr)
		}
		checkAcross(t, &c)
		proto.Reset(&generated)
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(frame, &generated); err != nil {
			t.Fatal(err)
		}
		oneLine(&generated)
		if got := pbCommand(&c); !sameCommand(got, &generated) {
			t.Fatalf("%x:\ngot  %v\nwant %v", frame, got, &generated)
		}
	})
}

// oneLine takes the line ends out of the JSON that a frame carries.
func oneLine(f *pb.ClientFrame) {
	switch k := f.Kind.(type) {
	case *pb.ClientFrame_Send:
		if p, ok := k.Send.Payload.(*pb.Send_Data); ok {
			p.Data = appendOneLine([]byte{}, p.Data)
		}
	case *pb.ClientFrame_Request:
		if p, ok := k.Request.Payload.(*pb.Request_Data); ok {
			p.Data = appendOneLine([]byte{}, p.Data)
		}
	case *pb.ClientFrame_Publish:
		if p, ok := k.Publish.Payload.(*pb.Publish_Data); ok {
			p.Data = appendOneLine([]byte{}, p.Data)
		}
	case *pb.ClientFrame_Reply:
		if p, ok := k.Reply.Payload.(*pb.Reply_Data); ok {
			p.Data = appendOneLine([]byte{}, p.Data)
		}
	case *pb.ClientFrame_Profile:
		for _, v := range []*[]byte{&k.Profile.Card, &k.Profile.Keys} {
			if *v = appendOneLine(nil, *v); string(*v) == "null" {
				*v = nil
			}
		}
	}
}

// What a client accepts from a relay, generated code reads as the same, and it
// comes back in both encodings.
func FuzzEventProtobuf(f *testing.F) {
	seedVectors(f, "server", Protobuf)
	f.Fuzz(func(t *testing.T, frame []byte) {
		walk(t, Protobuf, frame)
		var e Event
		if _, err := e.Read(Protobuf, framed(frame)); err != nil {
			return
		}
		if err := proto.Unmarshal(frame, &pb.ServerFrame{}); err != nil {
			t.Fatalf("%x was accepted, generated code says %v", frame, err)
		}
		eventAcross(t, &e)
	})
}

// FuzzEventJSON is the same for text.
func FuzzEventJSON(f *testing.F) {
	seedVectors(f, "server", JSON)
	f.Fuzz(func(t *testing.T, text []byte) {
		walk(t, JSON, text)
		var e Event
		n, err := e.Read(JSON, text)
		if err != nil || e.Kind == KindNone {
			return
		}
		if !json.Valid(text[:n]) || !utf8.Valid(text[:n]) {
			t.Fatalf("accepted %q, which is not JSON", text[:n])
		}
		eventAcross(t, &e)
	})
}

func eventAcross(t *testing.T, e *Event) {
	t.Helper()
	var first []byte
	for enc := range Encoding(Encodings) {
		msg := appendEvent(nil, enc, e)
		if enc == Protobuf {
			msg = append(binary.AppendUvarint(nil, uint64(len(msg))), msg...)
		}
		var got Event
		if n, err := got.Read(enc, msg); err != nil || n != len(msg) {
			t.Fatalf("written again as %q: n %d of %d, %v", msg, n, len(msg), err)
		}
		again := appendEvent(nil, JSON, &got)
		if enc == JSON {
			first = again
		} else if !bytes.Equal(first, again) {
			t.Fatalf("through JSON %s\nthrough protobuf %s", first, again)
		}
	}
}

// Random commands and events through all encodings and the generated code.
func FuzzSamples(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		for _, k := range ClientKinds() {
			checkCommand(t, newSampler(seed).command(k))
		}
		for _, k := range ServerKinds() {
			checkEvent(t, newSampler(seed).event(k))
		}
	})
}
