package ui

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1284: "1,284", 1234567: "1,234,567", -999: "-999", -1000: "-1,000"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d): got %q, want %q", n, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	for f, want := range map[float64]string{0: "0", -1: "0", math.NaN(): "0", 0.01: "<0.1", 0.44: "0.4", 2: "2", 9.94: "9.9", 9.96: "10",
		12.4: "12", 999.4: "999", 999.6: "1k", 8432: "8.4k", 99_949: "99.9k", 123_456: "123k", 999_600: "1M", 2_500_000: "2.5M"} {
		if got := Rate(f); got != want {
			t.Errorf("Rate(%v): got %q, want %q", f, got, want)
		}
	}
}

func TestLatency(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "–", 1: "1 µs", 850 * time.Microsecond: "850 µs", 5800 * time.Microsecond: "5.8 ms",
		11 * time.Millisecond: "11 ms", 999 * time.Millisecond: "999 ms", 1500 * time.Millisecond: "1.5 s"} {
		value, unit := Latency(d)
		if got := strings.TrimSpace(value + " " + unit); got != want {
			t.Errorf("Latency(%v): got %q, want %q", d, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", -4: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB", 1<<20 - 1: "1 MiB", 3 << 30: "3 GiB", math.MaxInt64: "8388608 TiB"} {
		value, unit := Bytes(n)
		if got := value + " " + unit; got != want {
			t.Errorf("Bytes(%d): got %q, want %q", n, got, want)
		}
	}
}

func TestUptime(t *testing.T) {
	for d, want := range map[time.Duration]string{-1: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 d 1 h"} {
		if got := Uptime(d); got != want {
			t.Errorf("Uptime(%v): got %q, want %q", d, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 agents", 1: "1 agent", 1000: "1,000 agents"} {
		if got := Plural(n, "agent", "agents"); got != want {
			t.Errorf("Plural(%d): got %q, want %q", n, got, want)
		}
	}
}

func TestSparkStaysInsideItsFrame(t *testing.T) {
	tests := []struct {
		points     []float64
		line, last string
	}{
		{[]float64{0, 0}, "M0.0 26.0L96.0 26.0", "M96.0 26.0h0"},
		{[]float64{1, 2, 4}, "M0.0 20.5L48.0 15.0L96.0 4.0", "M96.0 4.0h0"},
		{[]float64{5, 5}, "M0.0 4.0L96.0 4.0", "M96.0 4.0h0"},
	}
	for _, tt := range tests {
		s := Spark{Points: tt.points}
		if s.line() != tt.line || s.last() != tt.last {
			t.Errorf("%v: got %q and %q, want %q and %q", tt.points, s.line(), s.last(), tt.line, tt.last)
		}
	}
	for _, points := range [][]float64{nil, {1}} {
		var b strings.Builder
		if err := Sparkline(Spark{Points: points}).Render(context.Background(), &b); err != nil || b.Len() != 0 {
			t.Errorf("%v: got %q, %v, want nothing", points, b.String(), err)
		}
	}
}
