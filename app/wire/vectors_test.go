package wire

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"testing"
)

// update fills what is missing in testdata/vectors.json from the JSON text of each
// vector, to add new ones: go test -run Vectors -update.
var update = flag.Bool("update", false, "fill in testdata/vectors.json")

// vectorFile is testdata/vectors.json; testdata/README.md tells its format.
type vectorFile struct {
	Frames  []vector  `json:"frames"`
	Invalid []invalid `json:"invalid"`
}

type vector struct {
	Name      string         `json:"name"`
	Direction string         `json:"direction"`
	JSON      string         `json:"json"`
	Canonical string         `json:"canonical,omitempty"`
	Answers   string         `json:"answers,omitempty"`
	Protobuf  string         `json:"protobuf"`
	ID        uint64         `json:"id"`
	Kind      string         `json:"kind"`
	Fields    map[string]any `json:"fields"`
}

type invalid struct {
	Name      string    `json:"name"`
	Direction string    `json:"direction"`
	Encoding  string    `json:"encoding"`
	Message   string    `json:"message"`
	ID        uint64    `json:"id"`
	Code      Code      `json:"code,omitempty"`
	Close     CloseCode `json:"close,omitempty"`
}

// kindOf returns the kind with this word.
func kindOf(word string) Kind {
	for _, k := range AllKinds() {
		if k.String() == word {
			return k
		}
	}
	return KindNone
}

// codecOf returns functions that read a message and write what was read.
func codecOf(direction, answers string) (read func(Encoding, []byte) (int, error), write func(Encoding) []byte, seen func() (uint64, Kind)) {
	lim := DefaultLimits()
	if direction == "client" {
		c := new(Command)
		return func(enc Encoding, msg []byte) (int, error) { return c.Read(enc, msg, &lim) },
			func(enc Encoding) []byte { return AppendCommand(nil, enc, c) },
			func() (uint64, Kind) { return c.ID, c.Kind }
	}
	e := new(Event)
	return func(enc Encoding, msg []byte) (int, error) {
			n, err := e.Read(enc, msg)
			e.OK.For = kindOf(answers)
			return n, err
		},
		func(enc Encoding) []byte { return appendEvent(nil, enc, e) },
		func() (uint64, Kind) { return e.ID, e.Kind }
}

func (v *vector) canonical() string {
	if v.Canonical != "" {
		return v.Canonical
	}
	return v.JSON
}

func (v *vector) check(t *testing.T) {
	t.Helper()
	read, write, seen := codecOf(v.Direction, v.Answers)
	if *update {
		if _, err := read(JSON, []byte(v.JSON)); err != nil {
			t.Fatal(err)
		}
		if text := string(write(JSON)); text != v.JSON {
			v.Canonical = text
		}
		v.Protobuf = hex.EncodeToString(write(Protobuf))
		id, kind := seen()
		v.ID, v.Kind = id, kind.String()
		var frame map[string]json.RawMessage
		v.Fields = nil
		if json.Unmarshal([]byte(v.canonical()), &frame) != nil || json.Unmarshal(frame[v.Kind], &v.Fields) != nil {
			t.Fatalf("%s: fields of %s", v.Name, v.canonical())
		}
	}
	binary, err := hex.DecodeString(v.Protobuf)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []struct {
		enc Encoding
		msg []byte
	}{{JSON, []byte(v.JSON)}, {JSON, []byte(v.canonical())}, {Protobuf, framed(binary)}} {
		if n, err := read(in.enc, in.msg); err != nil || n != len(in.msg) {
			t.Errorf("%s: reading %q: n %d of %d, %v", v.Name, in.msg, n, len(in.msg), err)
			continue
		}
		if id, kind := seen(); id != v.ID || kind.String() != v.Kind {
			t.Errorf("%s: got id %d and %v, want %d and %s", v.Name, id, kind, v.ID, v.Kind)
		}
		if got := string(write(JSON)); got != v.canonical() {
			t.Errorf("%s from %q:\ngot  %s\nwant %s", v.Name, in.msg, got, v.canonical())
		}
		if got := hex.EncodeToString(write(Protobuf)); got != v.Protobuf {
			t.Errorf("%s from %q:\ngot  %s\nwant %s", v.Name, in.msg, got, v.Protobuf)
		}
	}
	var frame map[string]any
	if err := json.Unmarshal([]byte(v.canonical()), &frame); err != nil || !reflect.DeepEqual(frame[v.Kind], any(v.Fields)) {
		t.Errorf("%s: fields: got %v, want %v", v.Name, frame[v.Kind], v.Fields)
	}
}

func (v *invalid) check(t *testing.T) {
	t.Helper()
	read, _, _ := codecOf(v.Direction, "")
	enc, msg := JSON, []byte(v.Message)
	switch v.Encoding {
	case "protobuf", "json-base64":
		var err error
		if v.Encoding == "protobuf" {
			enc = Protobuf
			msg, err = hex.DecodeString(v.Message)
		} else {
			msg, err = base64.StdEncoding.DecodeString(v.Message)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := read(enc, msg)
	var refused *FrameError
	switch {
	case errors.As(err, &refused):
		if refused.Err.Code != v.Code || refused.ID != v.ID || v.Close != 0 {
			t.Errorf("%s: got id %d, %s, want %d, %s, close %d", v.Name, refused.ID, refused.Err.Code, v.ID, v.Code, v.Close)
		}
	case !errors.Is(err, ErrMalformed) || v.Close != CloseProtocolError:
		t.Errorf("%s: got %v, want id %d, %s, close %d", v.Name, err, v.ID, v.Code, v.Close)
	}
}

func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range file.Frames {
		file.Frames[i].check(t)
		seen[file.Frames[i].Direction+" "+file.Frames[i].Kind] = true
	}
	for i := range file.Invalid {
		file.Invalid[i].check(t)
	}
	for _, k := range ClientKinds() {
		if !seen["client "+k.String()] {
			t.Errorf("no vector for the client's %v", k)
		}
	}
	for _, k := range ServerKinds() {
		if !seen["server "+k.String()] {
			t.Errorf("no vector for the relay's %v", k)
		}
	}
	if *update && !t.Failed() {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := json.NewEncoder(f)
		w.SetIndent("", "  ")
		w.SetEscapeHTML(false)
		if err := errors.Join(w.Encode(&file), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
