package replica

import (
	"reflect"
	"testing"
)

func parcels() []parcel {
	return []parcel{
		{kind: kindBeat, stream: "control", own: "o1", digest: 1<<63 + 7},
		{kind: kindWant, stream: "control", heads: map[string]uint64{"o1": 1, "o2": 1 << 60}},
		{kind: kindWant, stream: "control", heads: map[string]uint64{}},
		{kind: kindBatch, stream: "scaling", batch: Batch{Origin: "o", After: 3, UpTo: 9, Entries: []Entry{{4, []byte("a")}, {8, []byte{}}}}},
		{kind: kindBatch, stream: "scaling", batch: Batch{Origin: "o", After: 3, UpTo: 9, Entries: []Entry{}}},
		{kind: kindDone, stream: "control", more: true},
		{kind: kindDone, stream: "control"},
	}
}

func TestParcelsAreReadAsTheyWereWritten(t *testing.T) {
	for _, want := range parcels() {
		got, err := parse(want.append(nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

func TestPartsOfParcelsAreRefused(t *testing.T) {
	for _, p := range parcels() {
		text := p.append(nil)
		for n := range len(text) {
			if got, err := parse(text[:n]); err == nil {
				t.Errorf("kind %d cut at %d of %d bytes: got %+v", p.kind, n, len(text), got)
			}
		}
	}
	for name, b := range map[string]Batch{
		"falling numbers": {Origin: "o", UpTo: 9, Entries: []Entry{{5, nil}, {4, nil}}},
		"one above UpTo":  {Origin: "o", UpTo: 9, Entries: []Entry{{10, nil}}},
		"not above After": {Origin: "o", After: 4, UpTo: 9, Entries: []Entry{{4, nil}}},
		"no origin":       {UpTo: 1},
		"backwards":       {Origin: "o", After: 2, UpTo: 1},
	} {
		if got, err := parse((&parcel{kind: kindBatch, stream: "s", batch: b}).append(nil)); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func FuzzParcel(f *testing.F) {
	for _, p := range parcels() {
		f.Add(p.append(nil))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(p.append(nil))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("got %+v, %v after writing %+v again", again, err, p)
		}
	})
}
