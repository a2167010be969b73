package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"

	pb "agentnet/app/wire/agentnetpb"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// obj is a frame, or a part of one, as a test writes it.
type obj = map[string]any

// raw is JSON text that is sent as it is.
type raw = json.RawMessage

// A dialect is one of the two encodings.
type dialect struct {
	name        string
	subprotocol string
	opcode      byte
}

var (
	inJSON     = dialect{"json", "agentnet.v1.json", 1}
	inProtobuf = dialect{"protobuf", "agentnet.v1.protobuf", 2}
)

func (d dialect) other() dialect {
	if d.opcode == inJSON.opcode {
		return inProtobuf
	}
	return inJSON
}

// bothWays runs f once in each encoding.
func bothWays(t *testing.T, f func(t *testing.T, d dialect)) {
	t.Helper()
	for _, d := range []dialect{inJSON, inProtobuf} {
		t.Run(d.name, func(t *testing.T) { f(t, d) })
	}
}

// encode turns a command into one frame, without separator or length.
func (d dialect) encode(t testing.TB, cmd obj) []byte {
	t.Helper()
	if d.opcode == inJSON.opcode {
		return appendJSON(nil, cmd)
	}
	var frame pb.ClientFrame
	if err := protojson.Unmarshal(appendJSON(nil, lower(cmd)), &frame); err != nil {
		t.Fatalf("the test's own frame %v: %v", cmd, err)
	}
	out, err := proto.Marshal(&frame)
	if err != nil {
		t.Fatalf("encode %v: %v", cmd, err)
	}
	return out
}

// join makes one WebSocket message of frames.
func (d dialect) join(frames ...[]byte) []byte {
	if d.opcode == inJSON.opcode {
		return bytes.Join(frames, []byte("\n"))
	}
	var out []byte
	for _, f := range frames {
		out = append(binary.AppendUvarint(out, uint64(len(f))), f...)
	}
	return out
}

// appendJSON writes v with `raw` values byte for byte, which encoding/json would
// compact. id comes first, as people write it.
func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case raw:
		return append(dst, v...)
	case obj:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		if i := slices.Index(names, "id"); i > 0 {
			names = append([]string{"id"}, slices.Delete(names, i, i+1)...)
		}
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			quoted, _ := json.Marshal(name)
			dst = appendJSON(append(append(dst, quoted...), ':'), v[name])
		}
		return append(dst, '}')
	case []obj:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a test's own literal
	}
	return append(dst, text...)
}

// jsonFields hold JSON text: bytes in the schema, values in JSON.
var jsonFields = []string{"data", "card", "keys"}

// lower turns a command into the plain proto3 JSON form of the schema.
func lower(cmd obj) obj {
	out := obj{}
	for name, v := range cmd {
		switch inner := v.(type) {
		case obj:
			if name != "headers" {
				v = lower(inner)
			}
		case raw:
			if slices.Contains(jsonFields, name) {
				v = base64.StdEncoding.EncodeToString(inner)
			}
		}
		out[name] = v
	}
	return out
}

// lift does the same with the text of a frame that was received.
func lift(text raw) (raw, error) {
	switch text[0] {
	case '{':
		var fields map[string]raw
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, err
		}
		for name, v := range fields {
			var err error
			switch {
			case slices.Contains(jsonFields, name):
				v, err = json.Marshal(base64.StdEncoding.EncodeToString(v))
			case name != "headers":
				v, err = lift(v)
			}
			if err != nil {
				return nil, err
			}
			fields[name] = v
		}
		return json.Marshal(fields)
	case '[':
		var list []raw
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, err
		}
		for i, v := range list {
			var err error
			if list[i], err = lift(v); err != nil {
				return nil, err
			}
		}
		return json.Marshal(list)
	}
	return text, nil
}

// A heard frame is one that the relay sent.
type heard struct {
	*pb.ServerFrame
	text []byte // as it came
}

// kind is the word of the frame.
func (h heard) kind() string {
	m := h.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("kind")); f != nil {
		return string(f.Name())
	}
	return ""
}

func (h heard) String() string { return fmt.Sprintf("%s %.600q", h.kind(), h.text) }

// code is that of an error frame, else "".
func (h heard) code() string { return h.GetError().GetCode() }

// decode reads the frames of one message. Every deviation from the contract is an
// error: an unknown field, an empty line, a line end within a frame.
func (d dialect) decode(msg []byte) (out []heard, err error) {
	if d.opcode == inJSON.opcode {
		if !utf8.Valid(msg) {
			return nil, errors.New("not UTF-8")
		}
		for _, line := range bytes.Split(msg, []byte("\n")) {
			if !json.Valid(line) || line[0] != '{' || line[len(line)-1] != '}' {
				return nil, fmt.Errorf("the line %q is not one JSON object", line)
			}
			plain, err := lift(line)
			if err != nil {
				return nil, err
			}
			f := new(pb.ServerFrame)
			if err := protojson.Unmarshal(plain, f); err != nil {
				return nil, fmt.Errorf("%s: %w", line, err)
			}
			out = append(out, heard{f, line})
		}
		return out, nil
	}
	for len(msg) > 0 {
		n, used := binary.Uvarint(msg)
		if used <= 0 || n > uint64(len(msg)-used) {
			return nil, errors.New("a length does not fit the message")
		}
		text := msg[used : used+int(n)]
		msg = msg[used+int(n):]
		f := new(pb.ServerFrame)
		if err := proto.Unmarshal(text, f); err != nil {
			return nil, err
		}
		if unknown := hasUnknown(f.ProtoReflect()); unknown {
			return nil, fmt.Errorf("a field that is not in the schema: %x", text)
		}
		out = append(out, heard{f, text})
	}
	return out, nil
}

func hasUnknown(m protoreflect.Message) (found bool) {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsMap() {
			return true
		}
		if !f.IsList() {
			found = found || hasUnknown(v.Message())
			return true
		}
		for i := range v.List().Len() {
			found = found || hasUnknown(v.List().Get(i).Message())
		}
		return true
	})
	return found
}
