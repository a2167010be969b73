package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
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
func eventually(t *testing.T, limit time.Duration, ok func() bool) {
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

// TestLostContent restarts Redis without its content: the connection comes back by
// itself and channels get new epochs.
func TestLostContent(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		mustOpen(t, b, "c", "E1", relay.Position{Epoch: "E1"})
		mustAppend(t, b, "c", "E1", hour, publications(1, 5, time.Now()))
		if err := b.Announce(within(t), "n1", []string{"alice", "bob"}, nil, time.Minute); err != nil {
			t.Fatal(err)
		}
		s.restart(t, false)
		eventually(t, 10*time.Second, func() bool {
			_, err := b.readRunID(within(t))
			return err == nil
		})
		wantRead(t, b, "c", "E1", 3, 10, nil, false)
		if err := b.Announce(within(t), "n1", nil, []string{"bob"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		if hosts, err := b.Hosts(within(t), "alice"); err != nil || !slices.Equal(hosts, []string{"n1"}) {
			t.Errorf("Hosts(alice) = %v, %v, want n1: it is announced again by itself", hosts, err)
		}
		if hosts, err := b.Hosts(within(t), "bob"); err != nil || len(hosts) != 0 {
			t.Errorf("Hosts(bob) = %v, %v, want none", hosts, err)
		}
		mustOpen(t, b, "c", "E2", relay.Position{Epoch: "E2"})
	})
}

// TestRunOfRedis shows what a restart means: a clean one of the embedded store keeps
// epochs; one of a real Redis, even with its content, does not, since the last
// seconds may be missing.
func TestRunOfRedis(t *testing.T) {
	want := map[string]relay.Position{"embedded": {Epoch: "E1", Offset: 5}, "redis": {Epoch: "E2"}}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := k.start(t)
			b, err := New(within(t), s.config)
			if err != nil {
				t.Fatal(err)
			}
			mustOpen(t, b, "c", "E1", relay.Position{Epoch: "E1"})
			mustAppend(t, b, "c", "E1", hour, publications(1, 5, time.Now()))
			b.Close()
			s.restart(t, true)
			b = connect(t, s.config)
			mustOpen(t, b, "c", "E2", want[k.name])
			wantRead(t, b, "c", want[k.name].Epoch, want[k.name].Offset, 10, nil, true)
		})
	}
}

func TestPresence(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		check := func(agent string, want ...string) {
			t.Helper()
			if got, err := b.Hosts(within(t), agent); err != nil || !slices.Equal(got, want) {
				t.Errorf("Hosts(%s) = %v, %v, want %v", agent, got, err, want)
			}
		}
		announce := func(node string, came, left []string) {
			t.Helper()
			if err := b.Announce(within(t), node, came, left, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		check("alice")
		var many []string
		for i := range 1500 {
			many = append(many, fmt.Sprint("many/", i))
		}
		announce("n1", []string{"alice", "bob"}, nil)
		announce("n2", append(many, "alice"), nil)
		check("alice", "n1", "n2")
		check("bob", "n1")
		check("many/1499", "n2")
		announce("n1", []string{"carol"}, []string{"alice"})
		announce("n1", nil, nil)
		check("alice", "n2")
		check("carol", "n1")
		check(aliveMember)

		// Another process under the same name replaces what the first one left.
		again := connect(t, s.config)
		if err := again.Announce(within(t), "n2", []string{"dave"}, nil, 400*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		check("many/0")
		check("dave", "n2")
		eventually(t, 5*time.Second, func() bool {
			hosts, err := b.Hosts(within(t), "dave")
			return err == nil && len(hosts) == 0
		})
		check("bob", "n1")
	})
}

func TestCount(t *testing.T) {
	onBoth(t, func(t *testing.T, s *store) {
		b := connect(t, s.config)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 10 {
					if _, err := b.Count(within(t), "logins", 2, time.Minute); err != nil {
						t.Errorf("Count: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if n, err := b.Count(within(t), "logins", -100, time.Minute); err != nil || n != 300 {
			t.Errorf("Count = %d, %v, want 300", n, err)
		}
		start := time.Now()
		for n := int64(1); ; n++ {
			got, err := b.Count(within(t), "short", 1, 600*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if got != n { // it began anew, although it was added to all the time
				if since := time.Since(start); got != 1 || since < 600*time.Millisecond {
					t.Errorf("after %v the counter went from %d to %d", since, n-1, got)
				}
				break
			}
			if time.Since(start) > 5*time.Second {
				t.Fatal("the counter was not forgotten within 5 s")
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// TestDeadline uses a Redis that takes connections and commands and says nothing.
func TestDeadline(t *testing.T) {
	s := startEmbedded(t)
	silent := make(chan struct{})
	dial := s.config.Dial
	s.config.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &silencedConn{Conn: c, silent: silent, closed: make(chan struct{})}, nil
	}
	b := connect(t, s.config)
	mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
	close(silent)
	var wg sync.WaitGroup
	for range 3 * inFlight {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := b.Count(ctx, "x", 1, time.Minute)
			if took := time.Since(start); err == nil || took > 2*time.Second {
				t.Errorf("Count: %v after %v, want an error after 200 ms", err, took)
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil && !strings.Contains(err.Error(), "still wait") {
		t.Errorf("Close: %v", err)
	}
	if _, err := b.Count(within(t), "x", 1, time.Minute); !errors.Is(err, ErrClosed) {
		t.Errorf("Count after Close: %v, want %v", err, ErrClosed)
	}
}

// A silencedConn reads nothing more once silent is closed.
type silencedConn struct {
	net.Conn
	silent, closed chan struct{}
	once           sync.Once
}

func (c *silencedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.silent:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *silencedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestConfigFaults(t *testing.T) {
	s := startEmbedded(t)
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"neither", Config{}, "redis URL"},
		{"both", Config{URL: "redis://x", Dial: s.config.Dial}, "not both"},
		{"scheme", Config{URL: "http://localhost"}, "redis://"},
		{"host", Config{URL: "redis://"}, "host"},
		{"port", Config{URL: "redis://h:99999"}, "port"},
		{"database", Config{URL: "redis://h/x"}, "database"},
		{"query", Config{URL: "redis://h?db=1"}, "?"},
		{"unreadable", Config{URL: "redis://u:sec%ret@h"}, "%XX"},
		{"refused", Config{URL: "redis://u:secret@127.0.0.1:1"}, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := New(within(t), tt.cfg)
			if err == nil {
				b.Close()
				t.Fatal("New succeeded, want an error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "ret@") || strings.Contains(err.Error(), "secret") {
				t.Errorf("New: %v, want it to name %q and no secret", err, tt.want)
			}
		})
	}
}

func TestParseURL(t *testing.T) {
	opt, err := parseURL("rediss://user:p%40ss@[::1]:7000/3")
	if err != nil || opt.InitAddress[0] != "[::1]:7000" || opt.Username != "user" || opt.Password != "p@ss" || opt.SelectDB != 3 || opt.TLSConfig == nil {
		t.Errorf("got %+v, %v", opt, err)
	}
	opt, err = parseURL("redis://redis.example")
	if err != nil || opt.InitAddress[0] != "redis.example:6379" || opt.TLSConfig != nil || opt.SelectDB != 0 {
		t.Errorf("got %+v, %v", opt, err)
	}
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
