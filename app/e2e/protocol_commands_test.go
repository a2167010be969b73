package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	pb "agentnet/app/wire/agentnetpb"
)

func TestProtocolConnect(t *testing.T) {
	n := calmNode(t, func(c *app.Config) { c.Node, c.Region = "n7", "north" })
	bothWays(t, func(t *testing.T, d dialect) {
		one, many := n.Token("con/one"), n.Token("con/*")
		h := joinWith(t, n, d, obj{"token": one, "client": obj{"name": "raw", "version": "1"}}).hello
		if h.Agent != "con/one" || h.Node != "n7" || h.Region != "north" || h.Session == "" || h.Server.GetVersion() == "" {
			t.Errorf("got %v", h)
		}
		if l := h.Limits; l.FrameBytes != 65536 || l.MessageBytes != 1<<20 || l.Subscriptions != 1024 || l.HeaderCount != 32 || l.HeaderBytes != 4096 ||
			l.MaxTtlMs != 604800000 || l.MaxTimeoutMs != 600000 || l.MessagesPerS != 0 || l.BytesPerS != 0 {
			t.Errorf("limits: got %v", l)
		}
		if got := joinWith(t, n, d, obj{"token": many, "agent": "con/two"}).hello.Agent; got != "con/two" {
			t.Errorf("got agent %q", got)
		}
		for _, c := range []struct {
			name    string
			connect obj
			code    string
			close   int
		}{
			{"no token", obj{"agent": "con/a"}, "unauthorized", 4000},
			{"wrong token", obj{"token": "agn_wrong", "agent": "con/a"}, "unauthorized", 4000},
			{"which agent", obj{"token": many}, "bad_frame", 4000},
			{"another agent", obj{"token": one, "agent": "con/two"}, "forbidden", 4000},
			{"no name", obj{"token": many, "agent": "con//a"}, "bad_frame", 4000},
			{"expired", obj{"token": jwt(t, -time.Hour, obj{"agents": "con/a"})}, "unauthorized", 4001},
			{"resume without session", obj{"token": one, "resume": obj{"seq": 1}}, "bad_frame", 4000},
		} {
			s := dialRaw(t, n.URL, d)
			s.refused(c.code, obj{"connect": c.connect})
			if got := s.end(); got.code != c.close {
				t.Errorf("%s: closed with %v, want %d", c.name, got, c.close)
			}
		}
		s := dialRaw(t, n.URL, d)
		s.refused("unauthorized", obj{"send": obj{"to": "con/one"}})
		s.wantClose(4000)
		s = joinWith(t, n, d, obj{"token": one})
		s.refused("conflict", obj{"connect": obj{"token": one}})
		s.quiet()
		// A session that is not there is no error.
		s = joinWith(t, n, d, obj{"token": one, "resume": obj{"session": "s_unknown", "seq": 3}})
		if s.hello.Resumed || s.hello.Seq != 0 {
			t.Errorf("unknown session: got %v", s.hello)
		}
	})
}

func TestProtocolSend(t *testing.T) { protocolSend(t, alone) }

func protocolSend(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		me, you := "snd/a-"+d.name, "snd/b-"+d.name
		a, b := join(t, n, d, me), join(t, n, d, you)
		headers := obj{"trace": "é \" \\ \n", "x": ""}
		before := time.Now().Add(-time.Second).UnixMilli()
		for _, priority := range []string{"critical", "high", "normal", "low"} {
			ok := a.ok(obj{"send": obj{"to": you, "data": raw(`1`), "priority": priority, "headers": headers}})
			m := b.next("message").GetMessage()
			if ok.Outcome != "delivered" || ok.Sessions != 1 || ok.Id != m.Id || m.Priority.String() != priority || m.Headers["trace"] != "é \" \\ \n" || len(m.Headers) != 2 || m.Channel != "" || m.Offset != 0 {
				t.Errorf("%s: got %v and %v", priority, ok, m)
			}
			if int64(m.Time) < before || int64(m.Time) > time.Now().Add(time.Second).UnixMilli() || len(m.Id) != 26 {
				t.Errorf("time %d or id %q", m.Time, m.Id)
			}
		}
		// Without an id: silence unless it fails, and then the key is told.
		a.tell(obj{"send": obj{"to": you, "key": "k1"}}, obj{"send": obj{"to": "snd/nobody", "key": "k2"}}, obj{"send": obj{"to": "snd/nobody"}})
		if e := a.next("error"); e.Id != 0 || e.code() != "agent_offline" || e.GetError().Key != "k2" {
			t.Errorf("got %v", e)
		}
		if e := a.next("error"); e.Id != 0 || e.GetError().Key != "" {
			t.Errorf("got %v", e)
		}
		a.quiet()
		b.next("message")
		a.refused("agent_offline", obj{"send": obj{"to": "snd/nobody"}})
		ok := a.ok(obj{"send": obj{"to": "snd/late-" + d.name, "data": raw(`"later"`), "ttl_ms": 60000}})
		if ok.Outcome != "parked" || ok.Id == "" || ok.Sessions != 0 {
			t.Errorf("parked: got %v", ok)
		}
		late := join(t, n, d, "snd/late-"+d.name)
		if m := late.next("message").GetMessage(); m.Id != ok.Id || m.Seq != 1 || string(m.GetData()) != `"later"` {
			t.Errorf("after parking: got %v", m)
		}
		for _, bad := range []obj{{}, {"to": ""}, {"to": "a//b"}, {"to": "a b"}, {"to": "a/*"}, {"to": strings.Repeat("a", 129)}} {
			a.refused("bad_frame", obj{"send": bad})
		}
		a.refused("too_large", obj{"send": obj{"to": you, "ttl_ms": 604800001}})
		a.refused("too_large", obj{"send": obj{"to": you, "key": strings.Repeat("k", 129)}})
		narrow := joinWith(t, n, d, obj{"token": jwt(t, time.Hour, obj{"agents": "snd/n", "send": "ok/*"})})
		narrow.refused("forbidden", obj{"send": obj{"to": you}})
		narrow.refused("forbidden", obj{"request": obj{"to": you}})
		narrow.refused("agent_offline", obj{"send": obj{"to": "ok/x"}})
		b.quiet()
	})
}

func TestProtocolRequest(t *testing.T) { protocolRequest(t, alone) }

func protocolRequest(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		a, b := join(t, n, d, "req/a-"+d.name), join(t, n, d, "req/b-"+d.name)
		ask := func(fields obj) (uint64, *pb.RequestEvent) {
			t.Helper()
			id := a.number()
			fields["to"] = "req/b-" + d.name
			a.tell(obj{"id": id, "request": fields})
			return id, b.next("request").GetRequest()
		}
		id, q := ask(obj{"method": "book", "timeout_ms": 5000, "headers": obj{"h": "1"}, "priority": "high"})
		if q.Method != "book" || q.From != "req/a-"+d.name || q.Seq != 1 || q.Request == 0 || q.Deadline == 0 || q.Deadline > 5000 || q.Headers["h"] != "1" {
			t.Errorf("got %v", q)
		}
		// Several replies, the last without more.
		for i := range 3 {
			b.tell(obj{"reply": obj{"request": q.Request, "data": raw(fmt.Sprint(i)), "more": i < 2}})
		}
		for i := range 3 {
			r := a.next("reply")
			if r.Id != id || r.GetReply().More != (i < 2) || string(r.GetReply().GetData()) != fmt.Sprint(i) || r.GetReply().From != "req/b-"+d.name || r.GetReply().Seq != uint64(i+1) {
				t.Errorf("reply %d: got %v", i, r)
			}
		}
		b.refused("gone", obj{"reply": obj{"request": q.Request}})
		_, q = ask(obj{}) // 30 s unless it says
		if q.Deadline != 30000 {
			t.Errorf("default deadline: got %d", q.Deadline)
		}
		// The agent's own refusal.
		b.tell(obj{"reply": obj{"request": q.Request, "error": obj{"code": "sold_out", "message": "no table", "retry_after_ms": 60}}})
		if e := a.next("reply").GetReply().Error; e.GetCode() != "sold_out" || e.GetMessage() != "no table" || e.GetRetryAfterMs() != 60 {
			t.Errorf("got %v", e)
		}
		// Nobody answers: timeout here, cancel there.
		id, q = ask(obj{"timeout_ms": 60})
		if r := a.next("reply"); r.Id != id || r.GetReply().Error.GetCode() != "timeout" {
			t.Errorf("got %v", r)
		}
		if c := b.next("cancel").GetCancel(); c.Request != q.Request {
			t.Errorf("got %v", c)
		}
		b.refused("gone", obj{"reply": obj{"request": q.Request}})
		// Own cancel.
		id, q = ask(obj{})
		a.tell(obj{"cancel": obj{"request": id}})
		if c := b.next("cancel").GetCancel(); c.Request != q.Request {
			t.Errorf("got %v", c)
		}
		b.refused("gone", obj{"reply": obj{"request": q.Request}})
		a.tell(obj{"cancel": obj{"request": id}}, obj{"cancel": obj{"request": 999}}) // over already: ignored
		a.quiet()
		// Requests that reach nobody.
		a.refused("agent_offline", obj{"request": obj{"to": "req/nobody"}})
		a.refused("too_large", obj{"request": obj{"to": "req/x", "timeout_ms": 600001}})
		a.refused("too_large", obj{"request": obj{"to": "req/x", "method": strings.Repeat("m", 129)}})
		a.tell(obj{"request": obj{"to": "req/b-" + d.name}}) // without an id
		if e := a.next("error"); e.code() != "bad_frame" || e.Id != 0 {
			t.Errorf("got %v", e)
		}
		for _, bad := range []obj{{}, {"request": 0}, {"request": 1, "error": obj{"message": "x"}}, {"request": 1, "error": obj{"code": "Not A Code"}}, {"request": 1, "error": obj{"code": "x"}, "data": raw(`1`)}} {
			b.refused("bad_frame", obj{"reply": bad})
		}
		a.refused("bad_frame", obj{"cancel": obj{"request": 0}})
		// Nobody else may answer.
		_, q = ask(obj{})
		c := join(t, n, d, "req/c")
		c.refused("gone", obj{"reply": obj{"request": q.Request}})
		a.quiet()
	})
}

func TestProtocolReceipts(t *testing.T) { protocolReceipts(t, alone) }

func protocolReceipts(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		me, you := "rcp/a-"+d.name, "rcp/b-"+d.name
		a, b := join(t, n, d, me), join(t, n, d, you)
		ok := a.ok(obj{"send": obj{"to": you, "receipts": true}})
		m := b.next("message").GetMessage()
		for i, state := range []string{"surfaced", "held", "done"} {
			b.tell(obj{"receipt": obj{"id": m.Id, "state": state, "note": "n" + state}})
			r := a.next("receipt").GetReceipt()
			if r.Id != ok.Id || r.State != state || r.Note != "n"+state || r.From != you || r.Seq != uint64(i+1) || r.Time == 0 {
				t.Errorf("got %v", r)
			}
		}
		b.refused("not_found", obj{"receipt": obj{"id": m.Id, "state": "done"}}) // done was the last word
		a.ok(obj{"send": obj{"to": you, "receipts": true}})
		m = b.next("message").GetMessage()
		join(t, n, d, "rcp/c-"+d.name).refused("not_found", obj{"receipt": obj{"id": m.Id, "state": "done"}}) // somebody else's
		b.tell(obj{"receipt": obj{"id": m.Id, "state": "refused"}})
		if r := a.next("receipt").GetReceipt(); r.State != "refused" {
			t.Errorf("got %v", r)
		}
		a.ok(obj{"send": obj{"to": you}}) // not asked for
		m = b.next("message").GetMessage()
		b.refused("not_found", obj{"receipt": obj{"id": m.Id, "state": "done"}})
		for _, bad := range []obj{{"state": "done"}, {"id": m.Id}, {"id": m.Id, "state": "delivered"}, {"id": m.Id, "state": "eaten"}} {
			b.refused("bad_frame", obj{"receipt": bad})
		}
		b.refused("too_large", obj{"receipt": obj{"id": m.Id, "state": "done", "note": strings.Repeat("n", 1025)}})
		// A parked message: delivered when it reaches a session, expired when not.
		parked := a.ok(obj{"send": obj{"to": "rcp/late-" + d.name, "ttl_ms": 60000, "receipts": true}})
		a.quiet()
		late := join(t, n, d, "rcp/late-"+d.name)
		late.next("message")
		if r := a.next("receipt").GetReceipt(); r.State != "delivered" || r.Id != parked.Id || r.From != "rcp/late-"+d.name {
			t.Errorf("got %v", r)
		}
		expiring := a.ok(obj{"send": obj{"to": "rcp/never-" + d.name, "ttl_ms": 100, "receipts": true}})
		if r := a.next("receipt").GetReceipt(); r.State != "expired" || r.Id != expiring.Id {
			t.Errorf("got %v", r)
		}
		never := join(t, n, d, "rcp/never-"+d.name)
		never.quiet()
	})
}

func TestProtocolChannels(t *testing.T) { protocolChannels(t, alone) }

func protocolChannels(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		ch := "rooms/" + d.name
		a, b := join(t, n, d, "chn/a"), join(t, n, d, "chn/b")
		sub := a.ok(obj{"subscribe": obj{"channel": ch}})
		if sub.Epoch == "" || sub.Offset != 0 || sub.Recovered {
			t.Errorf("subscribe: got %v", sub)
		}
		b.ok(obj{"subscribe": obj{"channel": ch}})
		for i := range 5 {
			p := b.ok(obj{"publish": obj{"channel": ch, "data": raw(fmt.Sprint(i)), "priority": "high", "headers": obj{"h": "v"}}})
			if p.Epoch != sub.Epoch || p.Offset != uint64(i+1) {
				t.Errorf("publish: got %v", p)
			}
			for _, s := range []*speaker{a, b} { // the sender too, as it is subscribed
				m := s.next("message").GetMessage()
				if m.Channel != ch || m.Offset != uint64(i+1) || m.Seq != 0 || m.To != "" || m.From != "chn/b" || m.Priority != pb.Priority_high || m.Headers["h"] != "v" || m.Id == "" || m.Time == 0 || string(m.GetData()) != fmt.Sprint(i) {
					t.Errorf("message: got %v", m)
				}
			}
		}
		b.tell(obj{"publish": obj{"channel": ch}}) // no id, no answer
		b.next("message")
		a.next("message")
		b.quiet()
		// since: what was missed comes behind the ok, in order.
		c := join(t, n, d, "chn/c")
		got := c.ok(obj{"subscribe": obj{"channel": ch, "since": obj{"epoch": sub.Epoch, "offset": 2}}})
		if !got.Recovered || got.Offset != 6 {
			t.Errorf("since: got %v", got)
		}
		for off := uint64(3); off <= 6; off++ {
			if m := c.next("message").GetMessage(); m.Offset != off {
				t.Errorf("missed: got %v, want offset %d", m, off)
			}
		}
		// An epoch that is over: a gap of unknown size.
		e := join(t, n, d, "chn/e")
		if got := e.ok(obj{"subscribe": obj{"channel": ch, "since": obj{"epoch": "old", "offset": 2}}}); got.Recovered {
			t.Errorf("old epoch: got %v", got)
		}
		if g := e.next("gap").GetGap(); g.Channel != ch || g.Missed != 0 {
			t.Errorf("gap: got %v", g)
		}
		// unsubscribe ends it.
		a.ok(obj{"unsubscribe": obj{"channel": ch}})
		b.ok(obj{"publish": obj{"channel": ch, "data": raw(`9`)}})
		a.quiet()
		// history
		h := a.ok(obj{"history": obj{"channel": ch, "since": obj{"epoch": sub.Epoch, "offset": 1}, "limit": 3}})
		if h.Epoch != sub.Epoch || h.Offset != 7 || len(h.Messages) != 3 || h.Messages[0].Offset != 2 || h.Messages[2].Offset != 4 || h.Messages[0].Channel != ch || h.Messages[0].From != "chn/b" {
			t.Errorf("history: got %v", h)
		}
		if h = a.ok(obj{"history": obj{"channel": ch, "limit": 2}}); len(h.Messages) != 2 || h.Messages[1].Offset != 7 {
			t.Errorf("the latest: got %v", h)
		}
		a.refused("gone", obj{"history": obj{"channel": ch, "since": obj{"epoch": "old", "offset": 1}}})
		narrow := joinWith(t, n, d, obj{"token": jwt(t, time.Hour, obj{"agents": "chn/n", "subscribe": "r/*", "publish": "p/**"})})
		for _, cmd := range []obj{{"subscribe": obj{"channel": ch}}, {"publish": obj{"channel": ch}}, {"history": obj{"channel": ch}}, {"presence": obj{"channel": ch}}, {"subscribe": obj{"channel": "r/a/b"}}, {"publish": obj{"channel": "p"}}} {
			narrow.refused("forbidden", cmd)
		}
		narrow.ok(obj{"subscribe": obj{"channel": "r/a"}})
		narrow.ok(obj{"publish": obj{"channel": "p/a/b"}})
		for _, kind := range []string{"subscribe", "unsubscribe", "publish", "history"} {
			a.refused("bad_frame", obj{kind: obj{}})
			a.refused("bad_frame", obj{kind: obj{"channel": "a//b"}})
		}
	})
}

// TestProtocolSubscribeTwice: PROTOCOL.md says that this is no error.
func TestProtocolSubscribeTwice(t *testing.T) { protocolSubscribeTwice(t, alone) }

func protocolSubscribeTwice(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "twice")
		a.ok(obj{"subscribe": obj{"channel": "x"}})
		a.ok(obj{"subscribe": obj{"channel": "x"}})
		a.ok(obj{"publish": obj{"channel": "x", "data": raw(`1`)}})
		a.next("message")
		a.quiet() // once, not twice
		a.ok(obj{"unsubscribe": obj{"channel": "x"}})
		a.refused("not_found", obj{"unsubscribe": obj{"channel": "x"}})
	})
}

func TestProtocolPresence(t *testing.T) { protocolPresence(t, alone) }

func protocolPresence(t *testing.T, g *ground) {
	n := g.fleet(t, func(c *app.Config) { c.Session.Resume = app.Duration(time.Second) })
	bothWays(t, func(t *testing.T, d dialect) {
		ch, you := "prs/room-"+d.name, "prs/b-"+d.name
		a := join(t, n, d, "prs/a-"+d.name)
		a.ok(obj{"subscribe": obj{"channel": ch, "presence": true}})
		a.fence() // its own coming may be told
		b := join(t, n, d, you)
		b.ok(obj{"subscribe": obj{"channel": ch}})
		event := func(what, state string) {
			t.Helper()
			e := a.want("presence").GetPresence()
			if e.Channel != ch || e.Event != what || e.Agent != you || e.State != state {
				t.Errorf("got %v, want %s %s", e, what, state)
			}
		}
		event("join", "available")
		b.ok(obj{"profile": obj{"state": "busy"}})
		event("state", "busy")
		b.ok(obj{"profile": obj{"state": "away"}})
		event("state", "away")
		got := a.ok(obj{"presence": obj{"channel": ch}}).Members
		if len(got) != 2 || got[0].Agent != "prs/a-"+d.name || got[1].Agent != you || got[1].State != "away" || got[1].Sessions != 1 || got[1].LastActiveMs == 0 || got[0].State != "available" {
			t.Errorf("members: got %v", got)
		}
		if got = a.ok(obj{"presence": obj{"agent": you}}).Members; len(got) != 1 || got[0].State != "away" || got[0].Sessions != 1 {
			t.Errorf("one agent: got %v", got)
		}
		if got = a.ok(obj{"presence": obj{"agent": "prs/nobody"}}).Members; len(got) != 1 || got[0].State != "offline" || got[0].Sessions != 0 {
			t.Errorf("nobody: got %v", got)
		}
		b.ok(obj{"unsubscribe": obj{"channel": ch}})
		event("leave", "")
		b.quiet() // it did not ask for events
		b.ok(obj{"subscribe": obj{"channel": ch}})
		event("join", "away")
		b.nc.Close() // the session ends a second later
		for {
			e := a.want("presence").GetPresence()
			if e.Event == "leave" && e.Agent == you {
				break
			}
			if e.Event != "state" || e.State != "away" {
				t.Errorf("got %v", e)
			}
		}
		a.refused("bad_frame", obj{"presence": obj{}})
		a.refused("bad_frame", obj{"presence": obj{"channel": "a b"}})
	})
}

func TestProtocolDirectory(t *testing.T) { protocolDirectory(t, alone) }

func protocolDirectory(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		dir := "dir-" + d.name + "/"
		var all []*speaker
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			all = append(all, join(t, n, d, dir+name))
		}
		a := all[0]
		card, keys := `{"name":"B","skills":[ {"id":"x"} ]}`, `[{"kty":"OKP","x":"AA"}]`
		all[1].ok(obj{"profile": obj{"card": raw(card), "keys": raw(keys), "state": "busy"}})
		all[1].ok(obj{"profile": obj{}}) // what is left out stays
		got := a.ok(obj{"agents": obj{"match": dir + "*"}})
		if len(got.Agents) != 5 || got.Next != "" {
			t.Fatalf("got %v", got)
		}
		if b := got.Agents[1]; b.Agent != dir+"b" || b.State != "busy" || b.Sessions != 1 || string(b.Card) != card || string(b.Keys) != keys || b.LastActiveMs == 0 {
			t.Errorf("got %v", b)
		}
		if c := got.Agents[2]; c.State != "available" || c.Card != nil || c.Keys != nil || c.Queue != 0 {
			t.Errorf("got %v", c)
		}
		var names []string
		for after := ""; ; {
			page := a.ok(obj{"agents": obj{"match": dir + "*", "limit": 2, "after": after}})
			for _, e := range page.Agents {
				names = append(names, e.Agent)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if want := []string{dir + "a", dir + "b", dir + "c", dir + "d", dir + "e"}; !slices.Equal(names, want) {
			t.Errorf("pages: got %v, want %v", names, want)
		}
		narrow := joinWith(t, n, d, obj{"token": jwt(t, time.Hour, obj{"agents": "dir/n", "send": dir + "c"})})
		if got := narrow.ok(obj{"agents": obj{"match": "dir*/**"}}); len(got.Agents) != 2 || got.Agents[0].Agent != dir+"c" && got.Agents[1].Agent != dir+"c" {
			t.Errorf("a narrow token sees %v", got)
		}
		narrow.refused("forbidden", obj{"presence": obj{"agent": dir + "d"}})
		a.refused("bad_frame", obj{"profile": obj{"state": "asleep"}})
		a.refused("bad_frame", obj{"agents": obj{"match": "a//b"}})
		// Each subscribes to a channel of its own, at its own node, and all to one.
		for i, s := range all {
			s.ok(obj{"subscribe": obj{"channel": dir + []string{"a", "b", "c", "d", "e"}[i]}})
			s.ok(obj{"subscribe": obj{"channel": dir + "z"}})
		}
		all[4].ok(obj{"publish": obj{"channel": dir + "z"}})
		protocolChannelList(t, n, dir)
	})
}

// protocolChannelList reads the channels of all nodes at each of them.
func protocolChannelList(t *testing.T, n *fleet, dir string) {
	t.Helper()
	token := jwt(t, time.Hour, obj{"agents": "dir/list", "send": "**", "subscribe": dir + "*"})
	defer n.stay(n.only)
	for _, at := range n.nodes {
		n.stay(at)
		var names []string
		for after := ""; ; {
			_, got := call(t, n, "GET", "/v1/channels?limit=4&after="+after, token, nil)
			list, _ := got["channels"].([]any)
			if len(list) > 4 || got["partial"] != nil || got["missing"] != nil {
				t.Errorf("%s: got %v", at.URL, got)
			}
			for _, e := range list {
				c := e.(map[string]any)
				names = append(names, c["channel"].(string))
				if c["channel"] == dir+"z" && (c["subscribers"] != 5.0 || c["offset"] != 1.0 || c["home"] == nil) {
					t.Errorf("%s: got %v, want the five subscribers of all nodes", at.URL, c)
				}
			}
			if after, _ = got["next"].(string); after == "" {
				break
			}
		}
		if want := []string{dir + "a", dir + "b", dir + "c", dir + "d", dir + "e", dir + "z"}; !slices.Equal(names, want) {
			t.Errorf("%s: got %v, want %v", at.URL, names, want)
		}
	}
}

func TestProtocolPing(t *testing.T) { protocolPing(t, alone) }

func protocolPing(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "ping/a")
		a.tell(obj{"ping": obj{}}) // answered without an id, too
		p := a.next("pong")
		if p.Id != 0 || p.GetPong().Time == 0 || p.GetPong().HeartbeatMs == 0 {
			t.Errorf("got %v", p)
		}
		first := a.hello.HeartbeatMs
		last := first
		for range 20 {
			last = a.ask(obj{"ping": obj{"rtt_ms": 5}}).GetPong().HeartbeatMs
		}
		if last <= first {
			t.Errorf("a good connection: the heartbeat went from %d to %d ms", first, last)
		}
		if bad := a.ask(obj{"ping": obj{"rtt_ms": 5000}}).GetPong().HeartbeatMs; bad >= last {
			t.Errorf("a bad connection: the heartbeat went from %d to %d ms", last, bad)
		}
	})
}
