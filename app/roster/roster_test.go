package roster

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

func TestFilterAgents(t *testing.T) {
	rows := []Row{{Agent: "ci/a", State: "available", Queue: 60, RTT: 5 * time.Millisecond}, {Agent: "lab/b", State: "offline"}, {Agent: "lab/c", State: "slow", Queue: 900, Encoding: "json"}}
	tests := []struct{ text, want, fault string }{
		{"", "ci/a lab/b lab/c", ""}, {"lab/", "lab/b lab/c", ""}, {"!lab/", "ci/a", ""}, {"queue>50", "ci/a lab/c", ""}, {"queue:>50 state:slow", "lab/c", ""},
		{"!state:offline", "ci/a lab/c", ""}, {"rtt<10 queue>0", "ci/a lab/c", ""}, {"wire:json", "lab/c", ""}, {"queue>many", "", "no number"}, {"nosuch:1", "", "none of"}, {strings.Repeat("a", 300), "", "longer"},
	}
	for _, tt := range tests {
		found, err := filter(rows, tt.text)
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) || len(found) != len(rows) {
				t.Errorf("%.20q: got %v and %d rows, want %q and all", tt.text, err, len(found), tt.fault)
			}
			continue
		}
		var names []string
		for _, a := range found {
			names = append(names, a.Agent)
		}
		if got := strings.Join(names, " "); err != nil || got != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.text, got, err, tt.want)
		}
	}
}

func FuzzFilterAgents(f *testing.F) {
	f.Add("queue>50 !ci/ state:slow")
	f.Add(":<>")
	f.Fuzz(func(t *testing.T, text string) {
		rows := []Row{{Agent: "a"}, {Agent: "b", Queue: 3}}
		if found, err := filter(rows, text); len(found) > 2 || err != nil && len(found) != 2 {
			t.Errorf("got %d rows, %v", len(found), err)
		}
	})
}

func TestAgentsOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, sent := 0, uint64(10)
		b := New("n1", "home", func(_ bool, match func(string) bool) (out []relay.SessionInfo) {
			asked++
			for i := range 120 {
				s := relay.SessionInfo{Agent: fmt.Sprintf("a/%03d", i), State: wire.Available, Connected: i > 0, Queue: i, Sent: sent}
				if match == nil || match(s.Agent) {
					out = append(out, s)
				}
			}
			return append(out, relay.SessionInfo{Agent: "a/007", State: wire.Busy, Connected: true, Full: true, Since: time.Now()})
		})
		l, err := b.Find(Query{Filter: "a/", Limit: 50})
		if err != nil || l.Matched != 120 || len(l.Rows) != 50 || l.Online != 119 || l.Slow != 1 || l.Rows[0].Agent != "a/119" || l.Rows[0].Node != "n1" || l.Rows[0].Measured {
			t.Fatalf("got %d of %d, %d online, %d slow, %v; first %+v", len(l.Rows), l.Matched, l.Online, l.Slow, err, l.Rows[0])
		}
		if len(l.Quick) != len(Quick()) || l.Quick[4] != 1 {
			t.Errorf("got counts %v, want one away to return", l.Quick)
		}
		if b.Find(Query{Limit: 1}); asked != 1 {
			t.Errorf("the relay was asked %d times within a second, want once", asked)
		}
		time.Sleep(2 * time.Second)
		sent = 30
		if l, _ = b.Find(Query{Filter: "a/005", Limit: 5}); len(l.Rows) != 1 || l.Rows[0].SentPerS != 10 {
			t.Errorf("got %+v, want 10 frames a second", l.Rows)
		}
		if _, err := b.Find(Query{Filter: "nosuch:1"}); err == nil {
			t.Error("a wrong filter was taken")
		}
		some := b.Sessions("a/007")
		if row := Sum("a/007", some); len(some) != 2 || some[0].Node != "n1" || row.Sessions != 2 || row.State != "slow" {
			t.Errorf("got %d sessions, %+v", len(some), row)
		}
		if row := Sum("nobody", nil); row.State != string(wire.Offline) || row.Agent != "nobody" {
			t.Errorf("got %+v for nobody", row)
		}
	})
}

func TestMerge(t *testing.T) {
	one := List{Rows: []Row{{Agent: "c", Queue: 9, Node: "1"}, {Agent: "a", Queue: 1, Node: "1"}}, Matched: 7, Online: 5, Quick: []int{7, 5, 0, 2, 1}}
	two := List{Rows: []Row{{Agent: "b", Queue: 5, Node: "2"}, {Agent: "a", Queue: 1, Node: "2"}}, Matched: 2, Slow: 1, Quick: []int{2, 2}}
	for sort, want := range map[string]string{"": "c1 b2 a1", "agent": "a1 a2 b2", "-agent": "c1 b2 a1", "node": "a1 c1 a2", "nosuch": "c1 b2 a1"} {
		l := Merge(Query{Sort: sort, Limit: 3}, one, two)
		var got []string
		for _, r := range l.Rows {
			got = append(got, r.Agent+r.Node)
		}
		if strings.Join(got, " ") != want || l.Matched != 9 || l.Slow != 1 || l.Quick[0] != 9 {
			t.Errorf("by %q: got %v of %d, want %s", sort, got, l.Matched, want)
		}
	}
}
