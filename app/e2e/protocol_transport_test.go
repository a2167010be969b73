package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"agentnet/app"
)

// TestProtocolExample is the conversation at the end of the contract.
func TestProtocolExample(t *testing.T) { protocolExample(t, alone) }

func protocolExample(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		a, b := join(t, n, d, "alice/calendar"), join(t, n, d, "bob/assistant")
		h := a.hello
		if h.Agent != "alice/calendar" || len(n.nodes) == 1 && (h.Node != "n1" || h.Region != "local") || h.Resumed || h.Seq != 0 || h.HeartbeatMs != 25000 || h.ResumeMs != 120000 || h.Limits.FrameBytes != 65536 {
			t.Errorf("connected: got %v", h)
		}
		got := a.ok(obj{"send": obj{"to": "bob/assistant", "data": raw(`{"text":"free on Friday?"}`)}})
		if got.Outcome != "delivered" || got.Sessions != 1 || got.Id == "" {
			t.Errorf("send: got %v", got)
		}
		m := b.next("message").GetMessage()
		if m.From != "alice/calendar" || m.To != "bob/assistant" || m.Seq != 1 || string(m.GetData()) != `{"text":"free on Friday?"}` || m.Id != got.Id || m.Time == 0 {
			t.Errorf("message: got %v", m)
		}
		id := a.number()
		a.tell(obj{"id": id, "request": obj{"to": "bob/assistant", "method": "book", "data": raw(`{"at":"15:30"}`), "timeout_ms": 5000}})
		q := b.next("request").GetRequest()
		if q.From != "alice/calendar" || q.Method != "book" || q.Deadline != 5000 || q.Seq != 2 || q.Request == 0 || string(q.GetData()) != `{"at":"15:30"}` {
			t.Errorf("request: got %v", q)
		}
		b.tell(obj{"reply": obj{"request": q.Request, "data": raw(`{"ok":true}`)}})
		r := a.next("reply")
		if r.Id != id || r.GetReply().Seq != 1 || r.GetReply().From != "bob/assistant" || string(r.GetReply().GetData()) != `{"ok":true}` || r.GetReply().More {
			t.Errorf("reply: got %v", r)
		}
		a.quiet()
		b.quiet()
	})
}

func TestProtocolSubprotocols(t *testing.T) {
	n := calmNode(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		// The first one that is spoken counts, among unknown ones too.
		s := knock(t, n.URL, "Sec-WebSocket-Protocol: chat, "+d.subprotocol+", "+d.other().subprotocol)
		if got := s.answer(); got.StatusCode != 101 || got.Header.Get("Sec-WebSocket-Protocol") != d.subprotocol {
			t.Errorf("got %s %q, want 101 and %s", got.Status, got.Header, d.subprotocol)
		}
		s.d = d
		if got := s.ask(obj{"connect": obj{"token": n.Token("a"), "agent": "a"}}); got.kind() != "connected" {
			t.Errorf("got %v", got)
		}
		wrong := join(t, n, d, "a")
		wrong.d = dialect{"", "", d.other().opcode} // text on protobuf, binary on JSON
		wrong.say([]byte(`{"id":1,"ping":{}}`))
		wrong.wantClose(1003)
	})
	t.Run("none is json", func(t *testing.T) {
		s := knock(t, n.URL)
		if got := s.answer(); got.StatusCode != 101 || got.Header.Get("Sec-WebSocket-Protocol") != "" {
			t.Fatalf("got %s %q", got.Status, got.Header)
		}
		s.d = inJSON
		if got := s.ask(obj{"connect": obj{"token": n.Token("a"), "agent": "a"}}); got.kind() != "connected" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("unknown is 400", func(t *testing.T) {
		res := knock(t, n.URL, "Sec-WebSocket-Protocol: agentnet.v2.json, chat").answer()
		wantProblem(t, res, 400, "bad_frame")
	})
}

// TestProtocolBatches sends several frames in a message and wants the same order
// of answers, and reads messages of several frames.
func TestProtocolBatches(t *testing.T) { protocolBatches(t, alone) }

func protocolBatches(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		a, b := join(t, n, d, "batch/a"), join(t, n, d, "batch/b")
		const count = 100
		var cmds []obj
		for i := range count {
			cmds = append(cmds, obj{"id": 1000 + i, "send": obj{"to": "batch/b", "data": raw(fmt.Sprint(i))}})
		}
		a.tell(cmds...)
		for i := range count {
			if got := a.next("ok"); got.Id != uint64(1000+i) {
				t.Fatalf("answer %d has the id %d", i, got.Id)
			}
			if got := b.next("message").GetMessage(); string(got.GetData()) != fmt.Sprint(i) {
				t.Fatalf("message %d: got %v", i, got)
			}
		}
		// connect and what follows it in one message, and a message in fragments.
		c := dialRaw(t, n.URL, d)
		first := d.join(d.encode(t, obj{"id": 1, "connect": obj{"token": n.Token("c"), "agent": "c"}}), d.encode(t, obj{"id": 2, "ping": obj{}}), d.encode(t, obj{"id": 3, "send": obj{"to": "batch/b"}}))
		for i, p := range first {
			op := byte(0)
			if i == 0 {
				op = d.opcode
			}
			if i == len(first)-1 {
				op |= 0x80
			}
			c.push(frameBytes(op, []byte{p}))
		}
		for i, kind := range []string{"connected", "pong", "ok"} {
			if got := c.next(kind); got.Id != uint64(i+1) {
				t.Errorf("got %v", got)
			}
		}
		b.next("message")
	})
}

// TestProtocolJSONForm holds what is said of JSON alone.
func TestProtocolJSONForm(t *testing.T) {
	n := calmNode(t, nil)
	a, b, p := join(t, n, inJSON, "form/a"), join(t, n, inJSON, "form/b"), join(t, n, inProtobuf, "form/b")
	t.Run("white space between frames", func(t *testing.T) {
		for _, between := range []string{"\n", "\r\n", " ", "", "\n\n\n", "\t \r\n ", "\n"} {
			a.say([]byte(" " + `{"id":7,"ping":{}}` + between + `{"id":8,"ping":{}}` + "\n"))
			if x, y := a.next("pong").Id, a.next("pong").Id; x != 7 || y != 8 {
				t.Errorf("%q between frames: got ids %d and %d", between, x, y)
			}
		}
	})
	t.Run("pretty", func(t *testing.T) {
		a.say([]byte("{\n  \"id\": 9,\n\t\"send\": {\r\n    \"to\": \"form/b\",\n    \"data\": {\n      \"a\": [1,\r\n 2],\n \"text\": \"x\\ny\"\n    }\n  }\n}\n"))
		if got := a.next("ok"); got.Id != 9 {
			t.Fatalf("got %v", got)
		}
		want := "{      \"a\": [1, 2], \"text\": \"x\\ny\"    }" // raw line ends are gone, all else is as it was
		for _, s := range []*speaker{b, p} {
			h := s.next("message")
			if got := string(h.GetMessage().GetData()); got != want {
				t.Errorf("%s: got %q, want %q", s.d.name, got, want)
			}
			if s.d == inJSON && bytes.ContainsAny(h.text, "\r\n") {
				t.Errorf("a frame has a line end: %q", h.text)
			}
		}
	})
	t.Run("data is untouched", func(t *testing.T) {
		for _, data := range []string{`{"b":1,"a":1.0e5,"a":2}`, `"\u00e9\/<&>\ud83d\ude00"`, `"é<&>"`, ` [ 1 , 2 ] `, `null`, `1E400`, `-0.10`, `""`, `"\u2028"`, `"\ud800"`, `{}`, `true`} {
			a.ok(obj{"send": obj{"to": "form/b", "data": raw(data)}})
			for _, s := range []*speaker{b, p} {
				if got := string(s.next("message").GetMessage().GetData()); got != strings.TrimSpace(data) {
					t.Errorf("%s: sent %q, got %q", s.d.name, data, got)
				}
			}
		}
	})
	t.Run("zeros that say something are written", func(t *testing.T) {
		c := dialRaw(t, n.URL, inJSON)
		got := c.ask(obj{"connect": obj{"token": n.Token("form/c"), "agent": "form/c"}})
		wantFields(t, got.text, "connected", "resumed", "seq")
		wantFields(t, c.ask(obj{"subscribe": obj{"channel": "form/none"}}).text, "ok", "offset", "recovered", "epoch")
		wantFields(t, c.ask(obj{"history": obj{"channel": "form/none"}}).text, "ok", "offset", "messages", "epoch")
		wantFields(t, c.ask(obj{"presence": obj{"channel": "form/nobody"}}).text, "ok", "members")
		wantFields(t, c.ask(obj{"agents": obj{"match": "nobody"}}).text, "ok", "agents")
	})
	t.Run("numbers, names and null", func(t *testing.T) {
		a := join(t, n, inJSON, "form/d")
		for _, frame := range []string{`{"ping":{},"id":5}`, `{"id":5,"ping":{"rtt_ms":null}}`, `{"id":5,"ping":{"new_field":[{"x":1}]}}`, `{"id":5,"p\u0069ng":{}}`} {
			a.say([]byte(frame))
			if got := a.next("pong"); got.Id != 5 {
				t.Errorf("%s: got %v", frame, got)
			}
		}
	})
}

// wantFields fails unless the kind in text has all the fields.
func wantFields(t *testing.T, text []byte, kind string, fields ...string) {
	t.Helper()
	var frame map[string]map[string]json.RawMessage
	var id struct{ ID json.RawMessage }
	if json.Unmarshal(text, &id) == nil {
		text = bytes.Replace(text, []byte(`"id":`+string(id.ID)+`,`), nil, 1)
	}
	if err := json.Unmarshal(text, &frame); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for _, f := range fields {
		if _, there := frame[kind][f]; !there {
			t.Errorf("%s is not written in %s", f, text)
		}
	}
}

// TestProtocolPayloads carries data and bytes through each kind that has them, in
// every pair of encodings.
func TestProtocolPayloads(t *testing.T) { protocolPayloads(t, alone) }

func protocolPayloads(t *testing.T, g *ground) {
	n := g.fleet(t, nil)
	binary := []byte{0, 1, 0xff, 0xfe, '\n', '"'}
	bothWays(t, func(t *testing.T, d dialect) {
		a := join(t, n, d, "pay/a")
		for _, to := range []dialect{inJSON, inProtobuf} {
			name := "pay/" + d.name + "-" + to.name
			b := join(t, n, to, name)
			b.ok(obj{"subscribe": obj{"channel": name}})
			for _, payload := range []obj{{"data": raw(`{"x":[1,"é"]}`)}, {"bytes": binary}, {}, {"bytes": []byte{}}} {
				with := func(kind string, fields obj) obj {
					for k, v := range payload {
						fields[k] = v
					}
					return obj{kind: fields}
				}
				check := func(kind string, data, bin []byte) {
					t.Helper()
					want, _ := payload["data"].(raw)
					wantBin, _ := payload["bytes"].([]byte)
					if !bytes.Equal(data, want) || !bytes.Equal(bin, wantBin) {
						t.Errorf("%s with %v to %s: got data %q and bytes %x", kind, payload, to.name, data, bin)
					}
				}
				a.ok(with("send", obj{"to": name}))
				m := b.next("message").GetMessage()
				check("send", m.GetData(), m.GetBytes())
				a.ok(with("publish", obj{"channel": name}))
				m = b.next("message").GetMessage()
				check("publish", m.GetData(), m.GetBytes())
				a.tell(obj{"id": a.number(), "request": with("request", obj{"to": name})["request"]})
				q := b.next("request").GetRequest()
				check("request", q.GetData(), q.GetBytes())
				b.tell(with("reply", obj{"request": q.Request}))
				r := a.next("reply").GetReply()
				check("reply", r.GetData(), r.GetBytes())
				h := b.ok(obj{"history": obj{"channel": name, "limit": 1}})
				check("history", h.Messages[0].GetData(), h.Messages[0].GetBytes())
			}
			a.refused("bad_frame", obj{"cancel": obj{}})
		}
		if d == inJSON { // in protobuf the last of a oneof counts
			a.refused("bad_frame", obj{"send": obj{"to": "pay/a", "data": raw(`1`), "bytes": binary}})
		}
	})
}

func TestProtocolTokenPlaces(t *testing.T) {
	n := calmNode(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		token := n.Token("place/a")
		s := dialRaw(t, n.URL, d, "Authorization: Bearer "+token)
		if got := s.ask(obj{"connect": obj{}}); got.kind() != "connected" || got.GetConnected().Agent != "place/a" {
			t.Errorf("token in the header: got %v", got)
		}
		s = dialRaw(t, n.URL, d)
		if got := s.ask(obj{"connect": obj{"token": token}}); got.kind() != "connected" {
			t.Errorf("token in the frame: got %v", got)
		}
		// The frame's counts when both are there.
		s = dialRaw(t, n.URL, d, "Authorization: Bearer "+token)
		if got := s.ask(obj{"connect": obj{"token": n.Token("place/b")}}); got.GetConnected().GetAgent() != "place/b" {
			t.Errorf("two tokens: got %v", got)
		}
		s = dialRaw(t, n.URL, d)
		s.refused("unauthorized", obj{"connect": obj{"agent": "place/a"}})
		s.wantClose(4000)
		wantProblem(t, knock(t, n.URL, "Sec-WebSocket-Protocol: "+d.subprotocol, "Authorization: Bearer "+token+"x").answer(), 401, "unauthorized")
	})
	// A token in the URL opens nothing, neither here nor over HTTP.
	token := n.Token("place/a")
	for _, q := range []string{"token", "access_token", "authorization", "bearer"} {
		s := knockAt(t, n.URL, "/ws?"+q+"="+token)
		if res := s.answer(); res.StatusCode == 101 {
			s.d = inJSON
			s.refused("unauthorized", obj{"connect": obj{"agent": "place/a"}})
			s.wantClose(4000)
		}
		res, err := http.Get(n.URL + "/v1/agents?" + q + "=" + token)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, res, 401, "unauthorized")
	}
	if strings.Contains(n.Log(), token) {
		t.Error("the log has a token of an URL")
	}
}

// TestProtocolBasePath: everything is under {base}.
func TestProtocolBasePath(t *testing.T) {
	n := calmNode(t, func(c *app.Config) { c.BasePath = "/relay" })
	bothWays(t, func(t *testing.T, d dialect) {
		s := knockAt(t, n.URL, "/relay/ws", "Sec-WebSocket-Protocol: "+d.subprotocol)
		if res := s.answer(); res.StatusCode != 101 {
			t.Fatalf("got %s", res.Status)
		}
		s.d = d
		if got := s.ask(obj{"connect": obj{"token": n.Token("a"), "agent": "a"}}); got.kind() != "connected" {
			t.Errorf("got %v", got)
		}
		wantProblem(t, knock(t, n.URL, "Sec-WebSocket-Protocol: "+d.subprotocol).answer(), 404, "not_found")
	})
}

// knockAt is knock at another path.
func knockAt(t testing.TB, url, path string, lines ...string) *speaker {
	t.Helper()
	s := knockWith(t, url, "GET "+path+" HTTP/1.1", append(upgradeLines(url), lines...)...)
	return s
}

// wantProblem fails unless res is a problem document with status and code.
func wantProblem(t testing.TB, res *http.Response, status int, code string) map[string]any {
	t.Helper()
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	var p map[string]any
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("got %s %q, want a problem document with %d %s", res.Status, body, status, code)
	}
	if res.StatusCode != status || p["code"] != code || p["status"] != float64(status) || p["title"] == "" || p["type"] == nil || p["detail"] == nil ||
		res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %s %s %s, want %d %s", res.Status, res.Header.Get("Content-Type"), body, status, code)
	}
	return p
}
