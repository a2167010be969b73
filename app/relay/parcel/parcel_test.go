package parcel

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"agentnet/app/wire"
)

// bodies returns an empty one of each kind.
func bodies() []Body {
	return []Body{&Letter{}, &Outcomes{}, &Receipt{}, &Ask{}, &Answer{}, &Cancel{}, &Reply{}, &Mail{}, &Take{}, &Handover{}, &Taken{}, &Tail{},
		&Publish{}, &Pubs{}, &Sync{}, &State{}, &Event{}, &Query{}, &Found{}, &Listed{}}
}

// fill sets every field of v to something that is not zero.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Slice:
		n := 1 + r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(string(byte('a'+r.IntN(26))) + "text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(1 + r.IntN(3)))
	case reflect.Uint64:
		v.SetUint(r.Uint64())
	case reflect.Int64:
		v.SetInt(r.Int64() - r.Int64())
	case reflect.Int:
		v.SetInt(int64(r.IntN(1 << 20)))
	}
}

// normal takes out what an outcome does not carry with its result.
func normal(b Body) {
	if o, ok := b.(*Outcomes); ok {
		for i := range o.List {
			v := &o.List[i]
			keep := Outcome{Number: v.Number, Result: v.Result}
			switch v.Result {
			case Failed:
				keep.Err = v.Err
			case Delivered:
				keep.Sessions = v.Sessions
			case Published:
				keep.Epoch, keep.Offset = v.Epoch, v.Offset
			}
			*v = keep
		}
	}
}

// older is how long b would be if an older node had written it, which does not know
// the fields that were added to its kind; 0 when there are none. Zero, such a field
// takes one byte.
func older(b Body) int {
	switch v := b.(type) {
	case *Handover:
		o := *v
		o.Newest = nil
		return len(Append(nil, &o)) - 1
	case *Mail:
		o := *v
		o.Private = false
		return len(Append(nil, &o)) - 1
	case *Tail:
		o := *v
		o.Owed = 0
		return len(Append(nil, &o)) - 1
	}
	return 0
}

// TestFieldsThatWereAdded: what an older node writes is read, with the added fields
// zero, and an older node reads what this one writes (TestEveryKindComesBack).
func TestFieldsThatWereAdded(t *testing.T) {
	for _, b := range []Body{&Handover{Ticket: 7, Lately: []uint64{1}}, &Mail{Number: 9, Secret: []byte("s")}, &Tail{Secret: []byte("s"), Lost: 3, Frames: []Frame{{Data: []byte("x")}}}} {
		old := Append(nil, b)[:older(b)]
		got := reflect.New(reflect.TypeOf(b).Elem()).Interface().(Body)
		if !Read(old, got) || !reflect.DeepEqual(got, b) {
			t.Errorf("got %+v, want %+v", got, b)
		}
	}
}

func TestEveryKindComesBack(t *testing.T) {
	seen := map[Kind]bool{}
	for seed := range uint64(200) {
		for _, b := range bodies() {
			r := rand.New(rand.NewPCG(seed, uint64(b.Kind())))
			fill(r, reflect.ValueOf(b).Elem())
			normal(b)
			seen[b.Kind()] = true
			p := Append(nil, b)
			got := reflect.New(reflect.TypeOf(b).Elem()).Interface().(Body)
			if KindOf(p) != b.Kind() || !Read(p, got) || !reflect.DeepEqual(got, b) {
				t.Fatalf("kind %d: got %+v, want %+v", b.Kind(), got, b)
			}
			older := older(b)
			for n := range len(p) { // cut off anywhere, it is refused
				if n != older && Read(p[:n], reflect.New(reflect.TypeOf(b).Elem()).Interface().(Body)) {
					t.Fatalf("kind %d: the first %d of %d bytes were taken for a whole parcel", b.Kind(), n, len(p))
				}
			}
			if !Read(append(p, 1, 2, 3), got) {
				t.Fatalf("kind %d: a later version's fields at the end were not left alone", b.Kind())
			}
		}
	}
	if len(seen) != int(Kinds)-1 {
		t.Errorf("%d kinds were tested, want %d", len(seen), Kinds-1)
	}
}

func TestPayloadsAreKeptApart(t *testing.T) {
	for _, p := range []wire.Payload{{}, {Data: []byte{}}, {Data: []byte{}, Binary: true}, {Data: []byte("x"), Binary: true}, {Data: []byte(" { } ")}} {
		var got Letter
		if !Read(Append(nil, &Letter{Payload: p}), &got) || !reflect.DeepEqual(got.Payload, p) {
			t.Errorf("got %#v, want %#v", got.Payload, p)
		}
	}
}

func TestUnknownIsLeftAlone(t *testing.T) {
	for _, p := range [][]byte{nil, {Version}, {Version, 0}, {Version, uint8(Kinds)}, {Version + 1, 1}, {0, 1}} {
		if k := KindOf(p); k != 0 {
			t.Errorf("%v: got kind %d, want none", p, k)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, b := range bodies() {
		fill(rand.New(rand.NewPCG(1, 2)), reflect.ValueOf(b).Elem())
		f.Add(Append(nil, b))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, b := range bodies() {
			if !Read(p, b) {
				continue
			}
			again := Append(nil, b)
			back := reflect.New(reflect.TypeOf(b).Elem()).Interface().(Body)
			if !Read(again, back) || !bytes.Equal(Append(nil, back), again) {
				t.Fatalf("kind %d: %v is not stable", b.Kind(), p)
			}
		}
	})
}

func BenchmarkLetter(b *testing.B) {
	l := &Letter{Number: 1 << 40, From: "alice/calendar", To: "bob/assistant", ID: "01JABCDEFGHJKMNPQRSTVWXYZ0", TimeMS: 1795420800000, Class: wire.Normal,
		Payload: wire.Payload{Data: bytes.Repeat([]byte("x"), 100)}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], l)
		var got Letter
		if !Read(buf, &got) {
			b.Fatal("not read")
		}
	}
}

// TestSentReadsAsLetter: nodes that do not know keys read the letter, and a letter of
// theirs has no key.
func TestSentReadsAsLetter(t *testing.T) {
	sent := &Sent{Letter: Letter{Number: 7, From: "a", To: "b", ID: "i", TTLMS: 5, ExpiresMS: 9}, Key: []byte("key")}
	var old Letter
	if !Read(Append(nil, sent), &old) || old.To != "b" || old.ExpiresMS != 9 {
		t.Errorf("an older node reads %+v", old)
	}
	var got Sent
	if !Read(Append(nil, sent), &got) || string(got.Key) != "key" || got.ID != "i" {
		t.Errorf("got %+v", got)
	}
	got = Sent{}
	if !Read(Append(nil, &sent.Letter), &got) || len(got.Key) != 0 || got.ExpiresMS != 9 {
		t.Errorf("of an older node: got %+v", got)
	}
}
