package ui

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Count writes a number of things: 1,284.
func Count(n int) string {
	text := strconv.Itoa(n)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(text) - 3; i > start; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Rate writes a number a second in three digits at most: 0, 0.4, 12, 8.4k.
func Rate(f float64) string {
	switch {
	case !(f > 0): // also NaN
		return "0"
	case f < 0.1:
		return "<0.1"
	case f < 9.95:
		return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64)
	case f < 999.5:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f < 999_500:
		return short(f/1000) + "k"
	default:
		return short(f/1_000_000) + "M"
	}
}

func short(f float64) string {
	if f < 99.95 {
		return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

// Latency writes a duration as a number and its unit: "11", "ms".
func Latency(d time.Duration) (value, unit string) {
	switch {
	case d <= 0:
		return "–", ""
	case d < time.Millisecond:
		return strconv.FormatInt(max(d.Microseconds(), 1), 10), "µs"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(math.Round(d.Seconds()*1e4)/10, 'f', -1, 64), "ms"
	case d < time.Second:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10), "ms"
	default:
		return strconv.FormatFloat(math.Round(d.Seconds()*10)/10, 'f', -1, 64), "s"
	}
}

// Uptime writes how long something runs, in its two largest units.
func Uptime(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	default:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
}

// Plural writes "1 agent" or "3 agents".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// Bytes writes an amount of memory as a number and its unit: "1.5", "MiB".
func Bytes(n int64) (value, unit string) {
	if n < 1<<10 {
		return strconv.FormatInt(max(n, 0), 10), byteWord(n)
	}
	f, units := float64(n)/(1<<10), []string{"KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; f >= 1023.5 && i < len(units)-1; i++ {
		f /= 1 << 10
	}
	return short(f), units[i]
}

func byteWord(n int64) string {
	if n == 1 {
		return "byte"
	}
	return "bytes"
}
