package client

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestWindowAgainstASet plays numbers that overtake each other, repeat and leave
// holes, and compares with a plain set.
func TestWindowAgainstASet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		start := uint64(r.IntN(1000))
		w := newWindow(start, 64)
		met := map[uint64]bool{}
		high := start
		for range 500 {
			n := max(high+uint64(r.IntN(8)), 3) - uint64(r.IntN(3))
			if n <= start {
				continue
			}
			high = max(high, n)
			wantFresh := !met[n] && (high < 64 || n > high-64)
			got := w.add(n)
			if met[n] && got {
				t.Fatalf("round %d: add(%d) = true, want false: it was met before", round, n)
			}
			if wantFresh && !got && n > w.base {
				t.Fatalf("round %d: add(%d) = false, want true", round, n)
			}
			met[n] = true
			if len(w.above) > 64 {
				t.Fatalf("round %d: window holds %d numbers, want at most 64", round, len(w.above))
			}
			if w.base+64 < w.max {
				t.Fatalf("round %d: base %d is more than 64 below %d", round, w.base, w.max)
			}
			for m := start + 1; m <= w.base && w.max < start+64; m++ {
				if !met[m] {
					t.Fatalf("round %d: base is %d although %d was never met", round, w.base, m)
				}
			}
		}
	}
}

func TestWindowHoles(t *testing.T) {
	w := newWindow(5, 100)
	for _, n := range []uint64{6, 9, 8, 12} {
		w.add(n)
	}
	var got []uint64
	w.holes(func(n uint64) { got = append(got, n) })
	if len(got) != 3 || got[0] != 7 || got[1] != 10 || got[2] != 11 {
		t.Fatalf("got holes %v, want [7 10 11]", got)
	}
	for _, n := range got {
		w.add(n)
	}
	if w.base != 12 || len(w.above) != 0 {
		t.Errorf("got base %d with %d above, want 12 with none", w.base, len(w.above))
	}
}

func TestWindowTakesAHugeJump(t *testing.T) {
	w := newWindow(0, 64)
	w.add(3)
	if !w.add(1<<62) || w.base != 1<<62-64 || w.has(1<<62-63) || !w.has(3) {
		t.Errorf("got base %d, want %d", w.base, uint64(1<<62-64))
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	r := newRecent(10)
	for i := range 25 {
		if !r.add(strconv.Itoa(i)) {
			t.Fatalf("id %d is taken as met before", i)
		}
		if r.add(strconv.Itoa(i)) {
			t.Fatalf("id %d is new again at once", i)
		}
	}
	if len(r.set) != 10 || len(r.ring) != 10 {
		t.Errorf("got %d ids in the set and %d in the ring, want 10", len(r.set), len(r.ring))
	}
	if !r.add("0") || r.add("24") {
		t.Error("the oldest must be forgotten and the newest not")
	}
	for range 2 {
		if !r.add("") {
			t.Error("a message without an id is taken as a duplicate")
		}
	}
}

func TestBackoffBounds(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for n := range 80 {
		ceiling := 5 * time.Second
		if n < 6 {
			ceiling = 100 * time.Millisecond << n
		}
		var longest time.Duration
		for range 200 {
			d := b.delay(n, 0)
			if d < 0 || d >= ceiling {
				t.Fatalf("delay(%d) = %v, want in [0, %v)", n, d, ceiling)
			}
			longest = max(longest, d)
			if d := b.delay(n, 7*time.Second); d < 7*time.Second || d >= 7*time.Second+ceiling {
				t.Fatalf("delay(%d, 7s) = %v, want 7s and up to %v more", n, d, ceiling)
			}
		}
		if longest < ceiling/2 {
			t.Errorf("the longest of 200 delays(%d) is %v, want them spread up to %v", n, longest, ceiling)
		}
	}
	if d := b.delay(0, 1000*time.Hour); d > maxRetryAfter+time.Second {
		t.Errorf("got a wait of %v because the relay asked for 1000 h, want at most %v", d, maxRetryAfter)
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-1": 0, "soon": 0, "99999999999999": 0,
		"Mon, 23 Nov 2026 10:00:30 GMT": 30 * time.Second,
		"Mon, 23 Nov 2026 09:00:00 GMT": 0,
	} {
		if got := parseRetryAfter(text, now); got != want {
			t.Errorf("parseRetryAfter(%q) = %v, want %v", text, got, want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("7")
	f.Add("Mon, 23 Nov 2026 10:00:30 GMT")
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if d := parseRetryAfter(text, now); d < 0 {
			t.Errorf("parseRetryAfter(%q) = %v, want no negative wait", text, d)
		}
	})
}

func TestSocketURL(t *testing.T) {
	for base, want := range map[string]string{
		"http://127.0.0.1:8080":       "ws://127.0.0.1:8080/ws",
		"https://relay.example/":      "wss://relay.example/ws",
		"wss://relay.example/a/b/":    "wss://relay.example/a/b/ws",
		"ws://[::1]:80":               "ws://[::1]:80/ws",
		"127.0.0.1:8080":              "",
		"ftp://relay.example":         "",
		"http://":                     "",
		"http://user:pw@relay.test":   "",
		"http://relay.test/?token=ab": "",
		"":                            "",
		"http://a b":                  "",
	} {
		got, err := socketURL(base)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("socketURL(%q) = %q, %v, want %q", base, got, err, want)
		}
	}
}
