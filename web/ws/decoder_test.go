package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// decode feeds stream in pieces that cut gives the sizes of, and returns what came
// out as text. It also checks what a decoder promises about memory.
func decode(t testing.TB, stream []byte, accept byte, deflate bool, cut func() int) (out []string) {
	var bufs buffers
	const limit = 1000
	d := decoder{bufs: &bufs, limit: limit, accept: accept, deflate: deflate}
	for len(stream) > 0 {
		n := min(max(cut(), 1), len(stream))
		// A copy with no room behind it: reading past the end would panic.
		p := bytes.Clone(stream[:n:n])
		stream = stream[n:]
		for {
			ev, rest, f := d.next(p)
			if f.bad() {
				d.drop()
				return append(out, fmt.Sprintf("fault %d %s", f.code, f.label))
			}
			if len(d.msg) > limit+limit>>10+64 || len(d.ctl) > maxControl {
				t.Fatalf("the decoder keeps %d and %d bytes", len(d.msg), len(d.ctl))
			}
			if ev.op == opNone {
				break
			}
			if ev.op != opEmpty {
				out = append(out, fmt.Sprintf("%d %v %x", ev.op, ev.deflated, ev.payload))
			}
			p = rest
		}
	}
	if !d.unfinished() && (d.msg != nil || d.ctl != nil) {
		t.Fatal("a decoder that waits for nothing keeps a buffer")
	}
	d.drop()
	return out
}

// FuzzDecoder holds that nothing panics, and that it does not matter how a stream
// is cut.
func FuzzDecoder(f *testing.F) {
	for _, group := range [][]conformance{framingCases()[:8], pingCases(), reservedCases(), fragmentCases()[:12], closeCases(), lengthCases()[:6]} {
		for _, tc := range group {
			if len(tc.in) < 4096 {
				f.Add(tc.in, uint16(3), tc.binary, false)
			}
		}
	}
	f.Add(seq(frag(bitRSV1|opText, "a"), frag(bitFin|opContinuation, "b")), uint16(1), false, true)
	f.Fuzz(func(t *testing.T, stream []byte, seed uint16, protobuf, deflate bool) {
		if len(stream) > 1<<16 {
			return
		}
		accept := byte(opText)
		if protobuf {
			accept = opBinary
		}
		whole := decode(t, stream, accept, deflate, func() int { return len(stream) })
		bytewise := decode(t, stream, accept, deflate, func() int { return 1 })
		x := uint32(seed)
		random := decode(t, stream, accept, deflate, func() int {
			x = x*1664525 + 1013904223
			return int(x>>24)%23 + 1
		})
		if a, b, c := fmt.Sprint(whole), fmt.Sprint(bytewise), fmt.Sprint(random); a != b || a != c {
			t.Fatalf("the cut matters:\nwhole    %s\nbytewise %s\nrandom   %s", a, b, c)
		}
	})
}

// TestEveryCut splits a stream that has everything at each of its bytes.
func TestEveryCut(t *testing.T) {
	stream := seq(text("one"), frag(opText, "tw"), ping("between"), frag(opContinuation, ""), frag(bitFin|opContinuation, "o"),
		text(string(bytes.Repeat([]byte("long"), 200))), masked(bitFin|opPong, nil), text(""), closing(codeBytes(1000)+"bye"))
	want := fmt.Sprint(decode(t, stream, opText, false, func() int { return len(stream) }))
	for at := range stream {
		first := true
		got := fmt.Sprint(decode(t, stream, opText, false, func() int {
			if first {
				first = false
				return at
			}
			return len(stream)
		}))
		if got != want {
			t.Fatalf("cut at %d:\ngot  %s\nwant %s", at, got, want)
		}
	}
}

func TestUnmask(t *testing.T) {
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	for n := range 80 {
		for split := 0; split <= n; split++ {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(i*7) ^ key[i&3]
			}
			k := unmask(p[:split], binary.LittleEndian.Uint32(key[:]))
			unmask(p[split:], k)
			for i := range p {
				if p[i] != byte(i*7) {
					t.Fatalf("length %d, cut at %d: byte %d: got %#x, want %#x", n, split, i, p[i], byte(i*7))
				}
			}
		}
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	took := 0
	for b.take(1) {
		took++
	}
	if took != floodBurst {
		t.Errorf("at once: got %d, want %d", took, floodBurst)
	}
	took = 0
	for b.take(1001) {
		took++
	}
	if took != floodPerSec {
		t.Errorf("a second later: got %d, want %d", took, floodPerSec)
	}
	took = 0
	for b.take(1 << 40) {
		took++
	}
	if took != floodBurst {
		t.Errorf("long after: got %d, want %d", took, floodBurst)
	}
}

func TestBuffers(t *testing.T) {
	var s buffers
	for _, n := range []int{0, 1, 511, 512, 513, 4096, 1 << 20, 1<<24 + 1} {
		b := s.get(n)
		if len(b) != 0 || cap(b) < n {
			t.Errorf("get(%d): got length %d, capacity %d", n, len(b), cap(b))
		}
		s.put(b)
	}
	var whole, want []byte
	for i := range 3000 {
		p := bytes.Repeat([]byte{byte(i)}, i%50)
		whole, want = s.append(whole, p), append(want, p...)
	}
	if !bytes.Equal(whole, want) {
		t.Error("append lost something on the way")
	}
	s.put(make([]byte, 1000)) // not of get: must not come back
	if c := cap(s.get(1000)); c != 1024 {
		t.Errorf("capacity: got %d, want 1024", c)
	}
}

func TestCutText(t *testing.T) {
	cases := []struct {
		in   string
		n    int
		want string
	}{{"abc", 5, "abc"}, {"abcdef", 3, "abc"}, {"aüü", 2, "a"}, {"aüü", 4, "aü"}, {"日本", 5, "日"}, {"bad\xff", 10, ""}}
	for _, tc := range cases {
		got := cutText(tc.in, tc.n)
		if got != tc.want {
			t.Errorf("cutText(%q, %d): got %q, want %q", tc.in, tc.n, got, tc.want)
		}
	}
}

// TestUnfinishedBound: what all clients keep under way together is bounded, counted
// rightly, and whole messages still get through.
func TestUnfinishedBound(t *testing.T) {
	n := startNode(t, false, func(c *Config, _ *timeouts) { c.Limits.MessageBytes = 1 << 20 })
	kept := &n.srv.bufs.unfinished
	c := n.dial()
	c.send(frag(opText, string(make([]byte, 100_000))))
	until(t, "a fragment is kept", func() bool { return kept.Load() == 128<<10 })
	kept.Add(unfinishedBound)
	whole := n.dial()
	whole.send(text("whole"))
	whole.want(bitFin|opText, "whole")
	whole.send(frag(opText, "part"))
	whole.wantClose(4005)
	kept.Add(-unfinishedBound)
	c.send(frag(bitFin|opContinuation, "end"))
	if _, p, err := c.frame(); err != nil || len(p) != 100_003 {
		t.Fatalf("got %d bytes and %v, want 100003", len(p), err)
	}
	gone := n.dial()
	gone.send(frag(opText, "part"))
	until(t, "a fragment is kept", func() bool { return kept.Load() == 1<<minBufferBits })
	gone.nc.Close()
	until(t, "nothing is kept", func() bool { return kept.Load() == 0 })
}
