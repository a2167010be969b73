package e2e_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
)

// TestProtocolRule1Resume: replay of all direct kinds and of channels, in order,
// each once, in the same and in the other encoding.
func TestProtocolRule1Resume(t *testing.T) { protocolRule1Resume(t, alone) }

func protocolRule1Resume(t *testing.T, g *ground) {
	n := g.fleet(t, func(c *app.Config) {
		c.Channels = []app.ChannelRule{{Match: []string{"few/**"}, Policy: "drop_oldest", RecentCount: 3, RecentBytes: 1 << 20, RecentAge: app.Duration(time.Minute)}}
	})
	bothWays(t, func(t *testing.T, d dialect) {
		for _, back := range []dialect{d, d.other()} {
			me, you, ch, few := "res/a-"+d.name+back.name, "res/b-"+d.name+back.name, "res/"+d.name+back.name, "few/"+d.name+back.name
			a, b := join(t, n, d, me), join(t, n, d, you)
			epoch := a.ok(obj{"subscribe": obj{"channel": ch}}).Epoch
			a.ok(obj{"subscribe": obj{"channel": few}})
			b.ok(obj{"publish": obj{"channel": ch, "data": raw(`1`)}})
			a.next("message")
			b.ok(obj{"send": obj{"to": me, "data": raw(`1`)}})
			a.next("message")
			b.ok(obj{"send": obj{"to": me, "data": raw(`2`)}})
			a.next("message")
			asked := a.number()
			a.tell(obj{"id": asked, "request": obj{"to": you}}, obj{"ack": obj{"seq": 1}}) // goes on over the resume
			q := b.next("request").GetRequest()
			own := a.ok(obj{"send": obj{"to": you, "receipts": true}})
			b.next("message")
			a.drop()
			// What comes meanwhile: a message, a question, an answer, a receipt, publications.
			if got := b.ok(obj{"send": obj{"to": me, "data": raw(`{"n":3}`), "headers": obj{"k": "v"}, "priority": "high"}}); got.Outcome != "parked" {
				t.Errorf("to a session that is away: got %v", got)
			}
			theirs := b.number()
			b.tell(obj{"id": theirs, "request": obj{"to": me, "method": "m", "bytes": []byte{1, 2}}})
			b.tell(obj{"reply": obj{"request": q.Request, "data": raw(`"late"`)}}, obj{"receipt": obj{"id": own.Id, "state": "done"}})
			b.ok(obj{"publish": obj{"channel": ch, "data": raw(`2`)}})
			for i := range 6 {
				b.ok(obj{"publish": obj{"channel": few, "data": raw(fmt.Sprint(i))}})
			}
			b.fence()
			r := a.resume(n, back, 2, obj{"channel": ch, "epoch": epoch, "offset": 1})
			// On another node the session goes on under another secret.
			if !r.hello.Resumed || r.hello.Seq != 2 || (r.hello.Session == a.hello.Session) != (r.at == a.at) {
				t.Fatalf("got %v", r.hello)
			}
			var direct, publications []heard
			for _, h := range r.fence() {
				if m := h.GetMessage(); m.GetChannel() != "" || h.kind() == "gap" {
					publications = append(publications, h)
				} else {
					direct = append(direct, h)
				}
			}
			if len(direct) != 4 || direct[0].GetMessage().GetSeq() != 3 || direct[1].GetRequest().GetSeq() != 4 || direct[2].GetReply().GetSeq() != 5 || direct[3].GetReceipt().GetSeq() != 6 {
				t.Fatalf("replayed: got %v", direct)
			}
			if m := direct[0].GetMessage(); string(m.GetData()) != `{"n":3}` || m.Headers["k"] != "v" || m.From != you || m.Priority.String() != "high" {
				t.Errorf("got %v", m)
			}
			if string(direct[1].GetRequest().GetBytes()) != "\x01\x02" || direct[2].Id != asked || direct[3].GetReceipt().Id != own.Id {
				t.Errorf("got %v", direct)
			}
			// One publication of ch; of few a gap, then the three that are left.
			var got []string
			for _, h := range publications {
				if g := h.GetGap(); g != nil {
					got = append(got, fmt.Sprint("gap ", g.Channel, " ", g.Missed))
				} else {
					got = append(got, fmt.Sprint(h.GetMessage().Channel, " ", h.GetMessage().Offset))
				}
			}
			slices.SortStableFunc(got, func(a, b string) int { // between channels there is no order
				return cmp.Compare(strings.Count(b, ch), strings.Count(a, ch))
			})
			if want := fmt.Sprint([]string{ch + " 2", "gap " + few + " 3", few + " 4", few + " 5", few + " 6"}); fmt.Sprint(got) != want {
				t.Errorf("channels: got %v, want %s", got, want)
			}
			// The subscription is alive, the question can be answered, an ack counts.
			b.ok(obj{"publish": obj{"channel": ch}})
			if m := r.next("message").GetMessage(); m.Offset != 3 {
				t.Errorf("after the resume: got %v", m)
			}
			r.tell(obj{"reply": obj{"request": direct[1].GetRequest().Request, "data": raw(`1`)}}, obj{"ack": obj{"seq": 6}})
			if rep := b.next("reply"); rep.Id != theirs {
				t.Errorf("got %v", rep)
			}
			r.refused("bad_frame", obj{"ack": obj{"seq": 7}})
			r.tell(obj{"ack": obj{"seq": 1}}) // older: ignored
			r.quiet()
			// Nothing of it comes a second time.
			r.drop()
			again := r.resume(n, d, 6, obj{"channel": ch, "epoch": epoch, "offset": 3}, obj{"channel": few, "epoch": b.ok(obj{"history": obj{"channel": few}}).Epoch, "offset": 6})
			again.quiet()
		}
	})
}

// TestProtocolRule1Bounds: what does not fit is told by a gap, what was never sent
// cannot be acked, and a session ends with its window.
func TestProtocolRule1Bounds(t *testing.T) { protocolRule1Bounds(t, alone) }

func protocolRule1Bounds(t *testing.T, g *ground) {
	n := g.fleet(t, func(c *app.Config) {
		c.Session.ReplayFrames, c.Session.Resume = 4, app.Duration(2*time.Second)
	})
	bothWays(t, func(t *testing.T, d dialect) {
		me, you := "bnd/a-"+d.name, "bnd/b-"+d.name
		a, b := join(t, n, d, me), join(t, n, d, you)
		for i := range 10 { // never acked: the oldest make room
			b.ok(obj{"send": obj{"to": me, "data": raw(fmt.Sprint(i))}})
			a.next("message")
		}
		a.drop()
		r := a.resume(n, d, 0)
		if !r.hello.Resumed || r.hello.Seq != 6 {
			t.Errorf("got %v", r.hello)
		}
		got := r.fence()
		if len(got) != 5 || got[0].GetGap().GetMissed() != 6 || got[0].GetGap().Channel != "" || got[1].GetMessage().GetSeq() != 7 || got[4].GetMessage().GetSeq() != 10 {
			t.Errorf("got %v, want a gap of 6 and 4 messages", got)
		}
		r.drop()
		if x := r.resume(n, d, 99); x.hello.Resumed || x.hello.Seq != 0 { // never sent
			t.Errorf("a seq of the future: got %v", x.hello)
		}
		// The window is over: a new session, and what was parked comes to it.
		c := join(t, n, d, me+"2")
		c.drop()
		b.ok(obj{"send": obj{"to": me + "2", "ttl_ms": 60000, "data": raw(`"kept"`)}})
		eventually(t, "the session to end", func() bool {
			return n.sum(func(n *apptest.Node) int { return n.App.Hub().Stats().Resumable }) == 0
		})
		x := c.resume(n, d, 0)
		if x.hello.Resumed || x.hello.Session == c.hello.Session {
			t.Errorf("too late: got %v", x.hello)
		}
		// Another node does not know what the old session had: it tells of that.
		got = x.fence()
		if c.at != x.at && len(got) > 0 && got[0].kind() == "gap" && got[0].GetGap().Channel == "" {
			got = got[1:]
		}
		if m := got[0].GetMessage(); len(got) != 1 || m.GetSeq() != 1 || string(m.GetData()) != `"kept"` {
			t.Errorf("got %v, want what was parked", got)
		}
	})
}

func TestProtocolRule2Order(t *testing.T) { protocolRule2Order(t, alone) }

func protocolRule2Order(t *testing.T, g *ground) {
	n := g.fleet(t, func(c *app.Config) { c.Queue.Frames, c.Session.ReplayFrames = 1<<16, 1<<16 })
	bothWays(t, func(t *testing.T, d dialect) {
		you, ch := "ord/b-"+d.name, "ord/"+d.name
		b := join(t, n, d.other(), you)
		b.ok(obj{"subscribe": obj{"channel": ch}})
		const count = 200
		var senders []*speaker
		for i := range 3 {
			a := join(t, n, d, fmt.Sprint("ord/a", i))
			senders = append(senders, a)
			var cmds []obj
			for k := range count {
				cmds = append(cmds, obj{"send": obj{"to": you, "data": raw(fmt.Sprint(k))}}, obj{"publish": obj{"channel": ch, "data": raw(fmt.Sprint(k))}})
			}
			a.tell(cmds...)
		}
		for _, a := range senders {
			a.quiet()
		}
		direct, published, last, seq := map[string]int{}, map[string]int{}, uint64(0), uint64(0)
		for range 2 * 3 * count {
			m := b.next("message").GetMessage()
			next := direct
			if m.Channel != "" {
				next = published
				if m.Offset != last+1 {
					t.Fatalf("offset %d after %d", m.Offset, last)
				}
				last++
			} else if seq++; m.Seq != seq {
				t.Fatalf("seq %d, want %d", m.Seq, seq)
			}
			if string(m.GetData()) != fmt.Sprint(next[m.From]) {
				t.Fatalf("from %s: got %s, want %d", m.From, m.GetData(), next[m.From])
			}
			next[m.From]++
		}
		b.quiet()
	})
}

// TestProtocolRule3Priority fills a receiver's socket and wants what waited to
// leave by class.
func TestProtocolRule3Priority(t *testing.T) {
	n := calmNode(t, func(c *app.Config) {
		c.Queue.Frames, c.Queue.Bytes, c.Session.ReplayFrames, c.Session.ReplayBytes = 1<<16, 64<<20, 1<<16, 64<<20
		c.Queue.SlowAfter = app.Duration(time.Minute)
	})
	bothWays(t, func(t *testing.T, d dialect) {
		you := "pri/b-" + d.name
		a, b := join(t, n, d, "pri/a"), join(t, n, d, you)
		fill := raw(`"` + strings.Repeat("x", 60000) + `"`)
		for n.App.Hub().Stats().QueueFrames < 8 { // until the socket takes no more
			a.ok(obj{"send": obj{"to": you, "data": fill}})
		}
		classes := []string{"low", "normal", "high", "critical"}
		for _, class := range classes {
			for i := range 3 {
				a.ok(obj{"send": obj{"to": you, "data": raw(fmt.Sprint(i)), "priority": class}})
			}
		}
		var got []string
		for len(got) < 12 {
			m := b.next("message").GetMessage()
			if len(m.GetData()) < 10 {
				got = append(got, m.Priority.String()+string(m.GetData()))
			}
		}
		want := "[critical0 critical1 critical2 high0 high1 high2 normal0 normal1 normal2 low0 low1 low2]"
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
}

func TestProtocolRule4Outcome(t *testing.T) { protocolRule4Outcome(t, alone) }

func protocolRule4Outcome(t *testing.T, g *ground) {
	n := g.fleet(t, func(c *app.Config) {
		c.Mailbox.AgentCount = 3
	})
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "out/a-"+d.name)
		a.refused("agent_offline", obj{"send": obj{"to": "out/none", "receipts": true}})
		b := join(t, n, d, "out/b-"+d.name)
		if got := a.ok(obj{"send": obj{"to": "out/b-" + d.name}}); got.Outcome != "delivered" || got.Sessions != 1 {
			t.Errorf("got %v", got)
		}
		b.drop()
		got := a.ok(obj{"send": obj{"to": "out/b-" + d.name, "receipts": true}}) // no ttl, but it can still resume
		if got.Outcome != "parked" || got.Sessions != 0 {
			t.Errorf("got %v", got)
		}
		r := b.resume(n, d, 1)
		if m := r.next("message").GetMessage(); m.Id != got.Id {
			t.Errorf("got %v", m)
		}
		if rc := a.next("receipt").GetReceipt(); rc.Id != got.Id || rc.State != "delivered" {
			t.Errorf("got %v", rc)
		}
		for range 3 {
			a.ok(obj{"send": obj{"to": "out/full-" + d.name, "ttl_ms": 60000}})
		}
		if e := a.refused("overloaded", obj{"send": obj{"to": "out/full-" + d.name, "ttl_ms": 60000}}); e.RetryAfterMs == 0 {
			t.Errorf("a full mailbox: got %v", e)
		}
		a.quiet()
	})
}

func TestProtocolRule5Dedup(t *testing.T) { protocolRule5Dedup(t, alone) }

func protocolRule5Dedup(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		me, you := "dup/a-"+d.name, "dup/b-"+d.name
		token := n.Token(me)
		b := join(t, n, d, you)
		// Of an agent that has sessions on several nodes each node knows its own keys;
		// they move with a session, and here all of it is on one node.
		a := joinWith(t, n, d, obj{"token": token})
		n.stay(a.at)
		other := joinWith(t, n, d.other(), obj{"token": token}) // the key counts for the agent, over its sessions
		b.ok(obj{"subscribe": obj{"channel": you}})
		first := a.ok(obj{"send": obj{"to": you, "key": "k"}})
		for _, s := range []*speaker{a, other} {
			if got := s.ok(obj{"send": obj{"to": you, "key": "k"}}); got.Id != first.Id || got.Outcome != first.Outcome || got.Sessions != first.Sessions {
				t.Errorf("the second answer: got %v, want %v", got, first)
			}
		}
		res, body := call(t, n, "POST", "/v1/send", token, obj{"to": you, "key": "k"})
		if res.StatusCode != 200 || body["id"] != first.Id || body["outcome"] != "delivered" {
			t.Errorf("over HTTP: got %s %v", res.Status, body)
		}
		_, body = call(t, n, "POST", "/v1/publish", token, obj{"channel": you, "key": "p"})
		if got := a.ok(obj{"publish": obj{"channel": you, "key": "p"}}); fmt.Sprint(got.Offset) != fmt.Sprint(body["offset"]) || got.Epoch != body["epoch"] {
			t.Errorf("publish: got %v, want %v", got, body)
		}
		a.refused("conflict", obj{"publish": obj{"channel": you, "key": "k"}}) // another kind of command
		b.next("message")
		b.next("message")
		b.quiet()
		n.stay(nil)
		join(t, n, d, "dup/c-"+d.name).ok(obj{"send": obj{"to": you, "key": "k"}}) // another agent's key is another key
		b.next("message")
		// A refused command may be tried again with its key.
		a.refused("agent_offline", obj{"send": obj{"to": you + "2", "key": "r"}})
		c := join(t, n, d, you+"2")
		a.ok(obj{"send": obj{"to": you + "2", "key": "r"}})
		c.next("message")
	})
}

func TestProtocolRule6Names(t *testing.T) { protocolRule6Names(t, alone) }

func protocolRule6Names(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "nam/a")
		for _, name := range []string{"a", "A/b", "0.9_-:@/Z", strings.Repeat("n", 128)} {
			a.refused("agent_offline", obj{"send": obj{"to": name}})
			a.ok(obj{"publish": obj{"channel": name}})
		}
		a.ok(obj{"publish": obj{"channel": "a/b/c/d"}})
		for _, name := range badNames() {
			if d.opcode == inProtobuf.opcode && name == "\xff" {
				continue // proto strings are UTF-8; hostile_protobuf_test.go sends it by hand
			}
			a.refused("bad_frame", obj{"send": obj{"to": name}})
			a.refused("bad_frame", obj{"publish": obj{"channel": name}})
		}
		for glob, cases := range map[string]map[string]bool{
			"g/*":    {"g/x": true, "g": false, "g/x/y": false, "h/x": false},
			"g/**":   {"g/x": true, "g/x/y": true, "g": false, "gg/x": false},
			"g/*/z":  {"g/a/z": true, "g/z": false, "g/a/b/z": false},
			"g/a*c":  {"g/abc": true, "g/ac": true, "g/ab": false},
			"**":     {"x": true, "a/b/c": true},
			"g/A":    {"g/A": true, "g/a": false},
			"**/end": {"a/end": true, "a/b/end": true, "a/b": false},
		} {
			s := joinWith(t, n, d, obj{"token": jwt(t, time.Hour, obj{"agents": "nam/g", "subscribe": glob})})
			for name, allowed := range cases {
				if got := s.ask(obj{"history": obj{"channel": name}}); (got.kind() == "ok") != allowed || !allowed && got.code() != "forbidden" {
					t.Errorf("the grant %s and %s: got %v, want %v", glob, name, got, allowed)
				}
			}
		}
	})
}

// badNames are none by rule 6.
func badNames() []string {
	return []string{"", "/", "a/", "/a", "a//b", "a b", "a\x00b", "a\r\nb", "a*", "a?", "é", "a\u200bb", "а" /* Cyrillic */, "a\\b", "a#b", "%61", "\xff", strings.Repeat("n", 129)}
}

func TestProtocolRule7Limits(t *testing.T) {
	n := calmNode(t, func(c *app.Config) {
		l := &c.Limits
		l.FrameBytes, l.MessageBytes, l.Subscriptions, l.HeaderCount, l.HeaderBytes = 2000, 5000, 3, 2, 100
		l.MaxTTL, l.MaxTimeout = app.Duration(time.Minute), app.Duration(time.Minute)
		l.Channels = 8
	})
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "lim/a")
		l := a.hello.Limits
		if l.FrameBytes != 2000 || l.MessageBytes != 5000 || l.Subscriptions != 3 || l.HeaderCount != 2 || l.HeaderBytes != 100 || l.MaxTtlMs != 60000 || l.MaxTimeoutMs != 60000 {
			t.Errorf("limits: got %v", l)
		}
		big := raw(`"` + strings.Repeat("x", 2000) + `"`)
		a.refused("too_large", obj{"send": obj{"to": "lim/a", "data": big}})
		a.refused("too_large", obj{"send": obj{"to": "lim/a", "headers": obj{"a": "", "b": "", "c": ""}}})
		a.refused("too_large", obj{"send": obj{"to": "lim/a", "headers": obj{"a": strings.Repeat("h", 100)}}})
		a.refused("too_large", obj{"send": obj{"to": "lim/a", "ttl_ms": 60001}})
		a.refused("too_large", obj{"request": obj{"to": "lim/a", "timeout_ms": 60001}})
		for i := range 3 {
			a.ok(obj{"subscribe": obj{"channel": fmt.Sprint(d.name, i)}})
		}
		a.refused("rate_limited", obj{"subscribe": obj{"channel": "lim/x"}})
		a.ok(obj{"unsubscribe": obj{"channel": d.name + "0"}})
		a.ok(obj{"subscribe": obj{"channel": d.name + "0"}})
		if d.opcode == inProtobuf.opcode { // three of each encoding, then two more
			a.ok(obj{"publish": obj{"channel": "lim/7"}})
			a.ok(obj{"publish": obj{"channel": "lim/8"}})
			a.refused("overloaded", obj{"publish": obj{"channel": "lim/9"}})
		}
		a.quiet() // the socket is still up
		a.say([]byte(strings.Repeat(" ", 5001)))
		a.wantClose(1009)
	})
}

func TestProtocolRule7Rates(t *testing.T) {
	n := calmNode(t, func(c *app.Config) {
		l := &c.Limits
		l.MessagesPerS, l.MessagesBurst, l.BytesPerS, l.BytesBurst = 5, 10, 1000, 4000
	})
	bothWays(t, func(t *testing.T, d dialect) {
		b := join(t, n, d, "rat/b-"+d.name)
		a := join(t, n, d, "rat/a-"+d.name)
		if l := a.hello.Limits; l.MessagesPerS != 5 || l.BytesPerS != 1000 {
			t.Errorf("got %v", l)
		}
		taken := 0
		var refused heard
		for refused.ServerFrame == nil {
			if got := a.ask(obj{"send": obj{"to": "rat/b-" + d.name}}); got.kind() == "ok" {
				taken++
			} else {
				refused = got
			}
		}
		if refused.code() != "rate_limited" || refused.GetError().RetryAfterMs == 0 || refused.GetError().RetryAfterMs > 1000 || taken < 10 || taken > 40 {
			t.Errorf("after %d: got %v", taken, refused)
		}
		c := join(t, n, d, "rat/c-"+d.name)
		fill := raw(`"` + strings.Repeat("x", 3900) + `"`)
		c.ok(obj{"publish": obj{"channel": "rat", "data": fill}})
		if e := c.refused("rate_limited", obj{"publish": obj{"channel": "rat", "data": fill}}); e.RetryAfterMs < 1000 {
			t.Errorf("bytes: got %v", e)
		}
		for range taken {
			b.next("message")
		}
		b.quiet()
	})
}

func TestProtocolRule10Sessions(t *testing.T) { protocolRule10Sessions(t, alone) }

func protocolRule10Sessions(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		you := "ses/b-" + d.name
		a := join(t, n, d, "ses/a-"+d.name)
		b1, b2 := join(t, n, d, you), join(t, n, d.other(), you)
		b2.ok(obj{"profile": obj{"state": "busy"}})
		if got := a.ok(obj{"send": obj{"to": you, "data": raw(`1`)}}); got.Sessions != 2 {
			t.Errorf("got %v", got)
		}
		for _, b := range []*speaker{b1, b2} {
			if m := b.next("message").GetMessage(); m.Seq != 1 {
				t.Errorf("got %v", m)
			}
		}
		// A request goes to one: available before busy before away.
		ask := func() { t.Helper(); a.tell(obj{"id": a.number(), "request": obj{"to": you}}) }
		ask()
		if q := b1.next("request").GetRequest(); q.Seq != 2 {
			t.Errorf("got %v", q)
		}
		b1.ok(obj{"profile": obj{"state": "away"}})
		ask()
		if q := b2.next("request").GetRequest(); q.Seq != 2 { // each session its own seq
			t.Errorf("got %v", q)
		}
		b1.quiet()
		b2.quiet()
		// Resuming a session closes its older socket, and not the other session.
		r := b1.resume(n, d.other(), 2)
		if !r.hello.Resumed {
			t.Errorf("got %v", r.hello)
		}
		b1.wantClose(4003)
		a.ok(obj{"send": obj{"to": you, "data": raw(`2`)}})
		if x, y := r.next("message").GetMessage(), b2.next("message").GetMessage(); x.Seq != 3 || y.Seq != 3 {
			t.Errorf("got %v and %v", x, y)
		}
		if got := a.ok(obj{"presence": obj{"agent": you}}).Members[0]; got.Sessions != 2 || got.State != "busy" {
			t.Errorf("got %v", got)
		}
	})
}

func TestProtocolRule11Unknown(t *testing.T) { protocolRule11Unknown(t, alone) }

func protocolRule11Unknown(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	t.Run("json", func(t *testing.T) {
		a := join(t, n, inJSON, "unk/a")
		a.say([]byte(`{"id":4,"send":{"to":"unk/a","color":"red","nested":{"x":[1,{}]},"receipts":false}}`))
		if got := a.want("ok"); got.Id != 4 {
			t.Errorf("got %v", got)
		}
		a.want("message")
		for _, frame := range []string{`{"id":5,"dance":{}}`, `{"id":5}`, `{"id":5,"ping":{},"send":{"to":"x"}}`, `{"id":5,"ok":{}}`, `{"id":5,"ping":1}`} {
			a.say([]byte(frame))
			if got := a.next("error"); got.code() != "bad_frame" || got.Id != 5 && !strings.Contains(frame, "ping") {
				t.Errorf("%s: got %v", frame, got)
			}
		}
		a.quiet()
	})
	t.Run("protobuf", func(t *testing.T) {
		a := join(t, n, inProtobuf, "unk/p")
		send := []byte("\x08\x04\x1a\x07\x0a\x05unk/p")
		inner := []byte("\x08\x04\x1a\x0a\x0a\x05unk/p\xf8\x3f\x07")  // field 1023 of send
		text := []byte("\x08\x04\x1a\x0c\x0a\x05unk/p\xfa\x3f\x02hi") // the same as bytes
		for i, frame := range [][]byte{send, inner, text} {
			a.say(inProtobuf.join(frame))
			if got := a.want("ok"); got.Id != 4 {
				t.Errorf("frame %d: got %v", i, got)
			}
			a.want("message")
		}
		for _, frame := range []string{"\x08\x05", "\x08\x05\xa2\x06\x00", "\x08\x05\x1a\x00\x82\x01\x00", "\x08\x05\x82\x01\x00\xf8\x3f\x07"} { // no kind, kind 100, two kinds, one kind and field 1023
			a.say(inProtobuf.join([]byte(frame)))
			if got := a.next("error"); got.code() != "bad_frame" || got.Id != 5 {
				t.Errorf("%x: got %v", frame, got)
			}
		}
		a.quiet()
	})
}
