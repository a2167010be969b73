package journal

import (
	"bytes"
	"reflect"
	"testing"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

func TestMessageRoundTrip(t *testing.T) {
	tests := map[string]*relay.Parked{
		"empty":      {},
		"no payload": {MessageID: "1", From: "a", To: "b", TimeMS: -1, ExpiresMS: 1 << 60},
		"empty data": {MessageID: "1", Payload: wire.Payload{Data: []byte{}}},
		"binary":     {MessageID: "1", Payload: wire.Payload{Data: []byte{0, 255}, Binary: true}, Class: wire.Low, Receipts: true},
		"headers":    {MessageID: "1", Headers: []wire.Header{{Name: "a", Value: ""}, {}}},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			b := appendMessage(nil, want)
			got, err := decodeMessage(b)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if id, ok := messageID(b); !ok || id != want.MessageID {
				t.Errorf("messageID: got %q, %v, want %q", id, ok, want.MessageID)
			}
			for n := range b {
				if got, err := decodeMessage(b[:n]); err == nil {
					t.Errorf("the first %d of %d bytes gave %+v, want an error", n, len(b), got)
				}
			}
			if _, err := decodeMessage(append(b, 0)); err == nil {
				t.Error("a byte too many was taken, want an error")
			}
		})
	}
}

func TestUnknownVersion(t *testing.T) {
	b := appendMessage(nil, message(1))
	b[0] = 9
	if _, err := decodeMessage(b); err == nil {
		t.Error("version 9 was read, want an error")
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for n := range 8 {
		f.Add(appendMessage(nil, message(n)))
	}
	f.Add([]byte{1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeMessage(b)
		if err != nil {
			return
		}
		again, err := decodeMessage(appendMessage(nil, p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("decoded again: %+v, %v, want %+v", again, err, p)
		}
		if id, ok := messageID(b); !ok || id != p.MessageID {
			t.Errorf("messageID = %q, %v, want %q", id, ok, p.MessageID)
		}
	})
}

// FuzzScan feeds arbitrary bytes after a genuine header: scan ends, stays within
// the data, and gives only frames that carry the right checksum.
func FuzzScan(f *testing.F) {
	k := key{marker: [4]byte{'m', 'a', 'r', 'k'}, salt: [8]byte{1, 2, 3}}
	var genuine []byte
	for n := range 3 {
		var start int
		genuine, start = beginFrame(genuine, &k, kindPut, uint64(n))
		genuine = appendMessage(genuine, message(n))
		endFrame(genuine, &k, start)
	}
	f.Add(genuine, 0)
	f.Add(append([]byte("mark"), genuine...), 17)
	f.Add(bytes.Repeat([]byte("mark"), 100), 3)
	f.Fuzz(func(t *testing.T, data []byte, flip int) {
		if len(data) > 0 {
			data = bytes.Clone(data)
			data[uint(flip)%uint(len(data))] ^= 1
		}
		covered := 0
		damaged, tail := scan(data, 0, &k, func(off int, fr frame) {
			again, start := beginFrame(nil, &k, fr.kind, fr.seq)
			again = append(again, fr.body...)
			endFrame(again, &k, start)
			if !bytes.Equal(again, data[off:off+fr.size]) {
				t.Errorf("frame at %d is not what its bytes say", off)
			}
			covered += fr.size
		})
		for _, d := range damaged {
			covered += d[1]
		}
		if covered != tail || tail > len(data) {
			t.Errorf("covered %d, tail %d of %d", covered, tail, len(data))
		}
	})
}
