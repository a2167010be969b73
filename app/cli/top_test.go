package cli

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"agentnet/app/wire"
)

func aReading(ms int64, messages uint64) *reading {
	r := &reading{at: time.UnixMilli(ms)}
	r.stats.Node, r.stats.Region, r.stats.Level, r.stats.StartedMS, r.stats.TimeMS = "n1", "home", "normal", 1000, ms
	r.stats.Counters.Messages, r.stats.Counters.Dropped = messages, map[string]uint64{"a": messages / 10, "b": messages / 10}
	r.agents = []wire.AgentInfo{{Agent: "bob", Queue: 5, Sessions: 1, LastActiveMS: 30}, {Agent: "alice", Queue: 9, Sessions: 3, LastActiveMS: 10}, {Agent: "eve\x1b[2J", Sessions: 2, LastActiveMS: 20}}
	return r
}

func TestTopViewRatesAndOrder(t *testing.T) {
	v := &topView{sort: "queue", last: aReading(10_000, 100)}
	v.take(aReading(12_000, 300))
	if v.rate.in != 100 || v.rate.dropped != 20 {
		t.Errorf("got %+v, want 100 in and 20 dropped a second", v.rate)
	}
	for _, tt := range []struct{ keys, want string }{
		{"", "alice bob eve"}, {"s", "alice bob eve"}, {"ss", "bob eve alice"}, {"sss", "alice eve bob"}, {"ssss", "alice bob eve"}, {"r", "eve bob alice"}, {"rr", "alice bob eve"}, {"x", "alice bob eve"},
	} {
		v := &topView{sort: "queue", last: v.last}
		for i := range len(tt.keys) {
			if !v.press(tt.keys[i]) {
				t.Fatalf("%q ends", tt.keys)
			}
		}
		var got []string
		for _, a := range v.sorted() {
			got = append(got, strings.TrimSuffix(a.Agent, "\x1b[2J"))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: got %v, want %s", tt.keys, got, tt.want)
		}
	}
	for _, key := range []byte{'q', 3, 4} {
		if v.press(key) {
			t.Errorf("key %d does not end it", key)
		}
	}
	restarted := aReading(14_000, 5)
	restarted.stats.StartedMS = 13_000
	v.take(restarted)
	if v.rate.in != 0 {
		t.Errorf("after a restart: got %v in, want 0", v.rate.in)
	}
}

func TestTopViewFitsAnyScreen(t *testing.T) {
	r := aReading(10_000, 0)
	for range 100 {
		r.agents = append(r.agents, wire.AgentInfo{Agent: strings.Repeat("long-name/", 20)})
	}
	r.nodes = []topNode{{Node: "n1", Self: true, Leader: true}, {Node: "n2"}}
	v := &topView{sort: "name", last: r, fault: errors.New("gone\nfor now")}
	for width := 1; width < 200; width += 13 {
		for height := 1; height < 60; height += 7 {
			lines := v.draw(width, height)
			if len(lines) > max(height, 2) {
				t.Fatalf("%d×%d: got %d lines", width, height, len(lines))
			}
			for _, line := range lines {
				if utf8.RuneCountInString(line) > width || strings.ContainsRune(line, '\x1b') || strings.ContainsRune(line, '\n') {
					t.Fatalf("%d×%d: got the line %q", width, height, line)
				}
			}
		}
	}
	page := strings.Join(v.draw(120, 40), "\n")
	for _, want := range []string{"agentnet top · n1 (home)", "! gone; for now", "n1 *", "eve?[2J", "… and ", "q quit   s sort (name)   r reverse (↓)"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
