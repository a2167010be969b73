package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// publication returns one whose every field follows from its offset.
func publication(offset uint64, at time.Time) relay.Publication {
	p := relay.Publication{
		Offset: offset, MessageID: fmt.Sprintf("01J%023d", offset), From: fmt.Sprint("alice/", offset),
		TimeMS: at.UnixMilli(), Class: wire.Class(offset % wire.Classes),
		Payload: wire.Payload{Data: bytes.Repeat([]byte{byte(offset), 0, '\r', '\n'}, int(offset%9)), Binary: offset%2 == 0},
	}
	for i := range offset % 3 {
		p.Headers = append(p.Headers, wire.Header{Name: fmt.Sprint("h", i), Value: fmt.Sprint(offset)})
	}
	return p
}

func publications(from, to uint64, at time.Time) (out []relay.Publication) {
	for o := from; o <= to; o++ {
		out = append(out, publication(o, at))
	}
	return out
}

func offsets(pubs []relay.Publication) (out []uint64) {
	for _, p := range pubs {
		out = append(out, p.Offset)
	}
	return out
}

func span(from, to uint64) (out []uint64) {
	for o := from; o <= to; o++ {
		out = append(out, o)
	}
	return out
}

func mustOpen(t *testing.T, b *Broker, channel, newEpoch string, want relay.Position) {
	t.Helper()
	got, err := b.Open(within(t), channel, newEpoch)
	if err != nil || got != want {
		t.Fatalf("Open(%s, %s) = %+v, %v, want %+v", channel, newEpoch, got, err, want)
	}
}

func mustAppend(t *testing.T, b *Broker, channel, epoch string, keep relay.Keep, pubs []relay.Publication) {
	t.Helper()
	if err := b.Append(within(t), channel, epoch, keep, pubs); err != nil {
		t.Fatalf("Append(%s, %v): %v", channel, offsets(pubs), err)
	}
}

func wantRead(t *testing.T, b *Broker, channel, epoch string, after uint64, limit int, want []uint64, wantOK bool) []relay.Publication {
	t.Helper()
	pubs, ok, err := b.Read(within(t), channel, epoch, after, limit)
	if err != nil || ok != wantOK || !slices.Equal(offsets(pubs), want) {
		t.Fatalf("Read(%s, after %d, limit %d) = %v, %v, %v, want %v, %v", epoch, after, limit, offsets(pubs), ok, err, want, wantOK)
	}
	return pubs
}

var hour = relay.Keep{Count: 1000, Age: time.Hour}

func TestHistory(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		now := time.Now()
		mustOpen(t, b, "a/b", "E1", relay.Position{Epoch: "E1"})
		mustOpen(t, b, "a/b", "E2", relay.Position{Epoch: "E1"})
		wantRead(t, b, "a/b", "E1", 0, 10, nil, true)
		want := publications(1, 300, now)
		mustAppend(t, b, "a/b", "E1", hour, want[:7])
		mustAppend(t, b, "a/b", "E1", hour, want[3:])  // some a second time
		mustAppend(t, b, "a/b", "E1", hour, want[:20]) // all a second time
		mustOpen(t, b, "a/b", "E3", relay.Position{Epoch: "E1", Offset: 300})

		got := wantRead(t, b, "a/b", "E1", 0, 1000, span(1, 300), true)
		if !reflect.DeepEqual(got, want) {
			t.Error("what was read differs from what was appended")
		}
		wantRead(t, b, "a/b", "E1", 10, 5, span(11, 15), true)
		wantRead(t, b, "a/b", "E1", 300, 5, nil, true)
		wantRead(t, b, "a/b", "E1", 301, 5, nil, false)
		wantRead(t, b, "a/b", "E1", 0, 0, nil, true)
		wantRead(t, b, "a/b", "other", 0, 10, nil, false)
		wantRead(t, b, "unknown", "E1", 0, 10, nil, false)

		if err := b.Append(within(t), "a/b", "other", hour, publications(1, 2, now)); !errors.Is(err, ErrEpoch) {
			t.Errorf("Append of another epoch: %v, want %v", err, ErrEpoch)
		}
		wantRead(t, b, "a/b", "E1", 298, 5, span(299, 300), true)
	})
}

func TestKeepCount(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
		mustAppend(t, b, "c", "E", relay.Keep{Count: 10}, publications(1, 25, time.Now()))
		wantRead(t, b, "c", "E", 0, 100, span(16, 25), false)
		wantRead(t, b, "c", "E", 14, 3, span(16, 18), false)
		wantRead(t, b, "c", "E", 15, 100, span(16, 25), true)
		mustAppend(t, b, "c", "E", relay.Keep{Count: 10}, publications(1, 25, time.Now()))
		wantRead(t, b, "c", "E", 15, 100, span(16, 25), true)
	})
}

// TestNoHistory shows that a channel without stored history keeps its place, and
// that nothing that agents said gets into Redis.
func TestNoHistory(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
		p := publication(1, time.Now())
		const secret = "hunter2"
		p.From, p.MessageID, p.Payload.Data, p.Headers = secret, secret, []byte(secret), []wire.Header{{Name: secret, Value: secret}}
		mustAppend(t, b, "c", "E", relay.Keep{}, []relay.Publication{p})
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E", Offset: 1})
		wantRead(t, b, "c", "E", 0, 10, nil, false)
		wantRead(t, b, "c", "E", 1, 10, nil, true)
		results, err := b.do(within(t), b.client.B().Xrange().Key(streamKey("c", "E")).Start("-").End("+").Build())
		if err != nil {
			t.Fatal(err)
		}
		entries, err := results[0].AsXRange()
		if err != nil || len(entries) != 1 || strings.Contains(fmt.Sprint(entries), secret) {
			t.Errorf("stored: %v, %v, want one entry without the secret", entries, err)
		}
	})
}

func TestKeepAge(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		var mu sync.Mutex
		now := time.Now()
		s.config.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		b := connect(t, s.config)
		keep := relay.Keep{Count: 1000, Age: time.Minute}
		mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
		for o := uint64(1); o <= 40; o++ { // one each 3 s: two minutes
			mustAppend(t, b, "c", "E", keep, publications(o, o, now))
			mu.Lock()
			now = now.Add(3 * time.Second)
			mu.Unlock()
		}
		wantRead(t, b, "c", "E", 0, 100, span(21, 40), false) // exact, whatever is stored
		wantRead(t, b, "c", "E", 20, 100, span(21, 40), true)
		results, err := b.do(within(t), b.client.B().Xlen().Key(streamKey("c", "E")).Build())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := results[0].AsInt64(); err != nil || n < 20 || n > 24 {
			t.Errorf("%d entries are stored, %v, want about 20: the rest is removed, not only hidden", n, err)
		}
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E", Offset: 40})
	})
}

// TestIdleHistoryExpires waits for real, as only Redis' own clock does it.
func TestIdleHistoryExpires(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
		mustAppend(t, b, "c", "E", relay.Keep{Count: 10, Age: 700 * time.Millisecond}, publications(1, 3, time.Now().Add(time.Hour)))
		wantRead(t, b, "c", "E", 0, 10, span(1, 3), true)
		eventually(t, 5*time.Second, func() bool {
			results, err := b.do(within(t), b.client.B().Exists().Key(streamKey("c", "E")).Build())
			if err != nil {
				t.Fatal(err)
			}
			n, _ := results[0].AsInt64()
			return n == 0
		})
		wantRead(t, b, "c", "E", 0, 10, nil, false)
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E", Offset: 3}) // the place is remembered for longer
		mustAppend(t, b, "c", "E", hour, publications(4, 5, time.Now()))
		wantRead(t, b, "c", "E", 3, 10, span(4, 5), true)
		wantRead(t, b, "c", "E", 2, 10, span(4, 5), false)
	})
}

// eventually polls until ok or fails after limit: for what happens in another process.
func eventually(t testing.TB, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("it did not happen within %v", limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestHole loses an entry in the middle, as a Redis that came back from an older
// copy would: it is never jumped over in silence.
func TestHole(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
		mustAppend(t, b, "c", "E", hour, publications(1, 3, time.Now()))
		mustAppend(t, b, "c", "E", hour, publications(6, 8, time.Now()))
		wantRead(t, b, "c", "E", 0, 10, span(1, 3), true)
		wantRead(t, b, "c", "E", 3, 10, span(6, 8), false)
	})
}

// TestCutAppend stops an Append in the middle: the entries are there, the place is
// not noted. The next Open and Append put it right.
func TestCutAppend(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
		mustAppend(t, b, "c", "E", hour, publications(1, 5, time.Now()))
		if _, err := b.do(within(t), b.client.B().Hset().Key(metaKey("c")).FieldValue().FieldValue(fieldOffset, "2").Build()); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, b, "c", "E", hour, publications(3, 7, time.Now()))
		wantRead(t, b, "c", "E", 0, 10, span(1, 7), true)
		if _, err := b.do(within(t), b.client.B().Hset().Key(metaKey("c")).FieldValue().FieldValue(fieldOffset, "2").Build()); err != nil {
			t.Fatal(err)
		}
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E", Offset: 7})
	})
}

func FuzzDecodePublication(f *testing.F) {
	for o := range uint64(9) {
		p := publication(o, time.UnixMilli(int64(o)))
		f.Add(string(appendPublication(nil, &p, false)))
		f.Add(string(appendPublication(nil, &p, true)))
	}
	f.Add("\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, s string) {
		p, bare, err := decodePublication(s)
		if err != nil {
			return
		}
		again, againBare, err := decodePublication(string(appendPublication(nil, &p, bare)))
		if err != nil || againBare != bare || !reflect.DeepEqual(again, p) {
			t.Errorf("decoded again: %+v, %v, want %+v", again, err, p)
		}
	})
}
