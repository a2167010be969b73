package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"agentnet/app"
)

// TestProtocolRestart: parked messages survive, channels with a rule that keeps
// them keep epoch and history, all others begin a new epoch and say so, and
// sessions are gone.
func TestProtocolRestart(t *testing.T) {
	keep := func(c *app.Config) {
		calm(c)
		c.Channels = []app.ChannelRule{{Match: []string{"keep/**"}, Policy: "drop_oldest", RecentCount: 2, RecentBytes: 1 << 20, RecentAge: app.Duration(time.Minute), KeepCount: 100}}
	}
	bothWays(t, func(t *testing.T, d dialect) {
		n := calmNode(t, keep)
		a := join(t, n, d, "rst/a")
		epochs := map[string]string{}
		for _, ch := range []string{"keep/x", "lose/x"} {
			epochs[ch] = a.ok(obj{"subscribe": obj{"channel": ch}}).Epoch
			for i := range 5 {
				a.ok(obj{"publish": obj{"channel": ch, "data": raw(fmt.Sprint(i)), "headers": obj{"h": "v"}}})
			}
		}
		// Beyond the window of 2 the stored history helps.
		b := join(t, n, d, "rst/b")
		if got := b.ok(obj{"subscribe": obj{"channel": "keep/x", "since": obj{"epoch": epochs["keep/x"], "offset": 1}}}); !got.Recovered {
			t.Errorf("got %v", got)
		}
		for off := uint64(2); off <= 5; off++ {
			if m := b.next("message").GetMessage(); m.Offset != off {
				t.Errorf("got %v, want offset %d", m, off)
			}
		}
		parked := a.ok(obj{"send": obj{"to": "rst/later", "ttl_ms": 60000, "data": raw(`{"kept":true}`), "headers": obj{"h": "v"}, "receipts": true}})
		token := n.Token("rst/a") // tokens survive, too
		n2 := lone(n.Restart(keep))
		if got := a.end(); got.code != 4004 {
			t.Errorf("got %v", got)
		}
		a = joinWith(t, n2, d, obj{"token": token, "agent": "rst/a", "resume": obj{"session": a.hello.Session, "seq": 0}})
		if a.hello.Resumed || a.hello.Seq != 0 {
			t.Errorf("got %v", a.hello)
		}
		got := a.ok(obj{"subscribe": obj{"channel": "keep/x", "since": obj{"epoch": epochs["keep/x"], "offset": 2}}})
		if !got.Recovered || got.Epoch != epochs["keep/x"] || got.Offset != 5 {
			t.Errorf("a kept channel: got %v", got)
		}
		for off := uint64(3); off <= 5; off++ {
			if m := a.next("message").GetMessage(); m.Offset != off || string(m.GetData()) != fmt.Sprint(off-1) || m.Headers["h"] != "v" || m.From != "rst/a" {
				t.Errorf("got %v, want offset %d", m, off)
			}
		}
		if p := a.ok(obj{"publish": obj{"channel": "keep/x"}}); p.Offset != 6 || p.Epoch != epochs["keep/x"] {
			t.Errorf("goes on: got %v", p)
		}
		a.next("message")
		if h := a.ok(obj{"history": obj{"channel": "keep/x", "limit": 10}}); len(h.Messages) != 6 || h.Messages[0].Offset != 1 {
			t.Errorf("history: got %v", h)
		}
		got = a.ok(obj{"subscribe": obj{"channel": "lose/x", "since": obj{"epoch": epochs["lose/x"], "offset": 2}}})
		if got.Recovered || got.Epoch == epochs["lose/x"] || got.Offset != 0 {
			t.Errorf("another channel: got %v", got)
		}
		if g := a.next("gap").GetGap(); g.Channel != "lose/x" || g.Missed != 0 {
			t.Errorf("got %v", g)
		}
		a.refused("gone", obj{"history": obj{"channel": "lose/x", "since": obj{"epoch": epochs["lose/x"], "offset": 1}}})
		later := join(t, n2, d, "rst/later")
		if m := later.next("message").GetMessage(); m.Id != parked.Id || string(m.GetData()) != `{"kept":true}` || m.Headers["h"] != "v" {
			t.Errorf("parked: got %v", m)
		}
		if r := a.next("receipt").GetReceipt(); r.Id != parked.Id || r.State != "delivered" {
			t.Errorf("got %v", r)
		}
		later.quiet()
	})
}
