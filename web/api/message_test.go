package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

func TestSendHandsEveryFieldOver(t *testing.T) {
	n := newNode(t)
	body, err := json.Marshal(SendBody{Agent: "alice/calendar", To: "bob", Bytes: []byte{0, 255, 10}, Priority: "critical",
		TTLMS: 1500, Key: "k1", Headers: map[string]string{"trace": "t1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := n.do("POST", "/v1/send", goodToken, string(body))
	if want := `{"id":"01J0000000000000000000000A","outcome":"delivered","sessions":2}`; got.status != 200 || got.body != want {
		t.Errorf("got %d %s, want 200 %s", got.status, got.body, want)
	}
	want := relay.SendArgs{From: "alice/calendar", To: "bob", Payload: wire.Payload{Data: []byte{0, 255, 10}, Binary: true},
		Class: wire.Critical, TTL: 1500 * time.Millisecond, Key: "k1", Headers: []wire.Header{{Name: "trace", Value: "t1"}}}
	if !reflect.DeepEqual(n.relay.sends[0], want) {
		t.Errorf("got %+v, want %+v", n.relay.sends[0], want)
	}
}

func TestPublishAndRequestHandEveryFieldOver(t *testing.T) {
	n := newNode(t)
	body, _ := json.Marshal(PublishBody{Agent: "alice", Channel: "a/b", Data: json.RawMessage(`[1]`), Priority: "low", Key: "k", Headers: map[string]string{"h": "v"}})
	if got := n.do("POST", "/v1/publish", goodToken, string(body)); got.body != `{"epoch":"e1","offset":7}` {
		t.Errorf("got %d %s", got.status, got.body)
	}
	wantPublish := relay.PublishArgs{From: "alice", Channel: "a/b", Payload: wire.Payload{Data: []byte(`[1]`)}, Class: wire.Low, Key: "k", Headers: []wire.Header{{Name: "h", Value: "v"}}}
	if !reflect.DeepEqual(n.relay.publishes[0], wantPublish) {
		t.Errorf("got %+v, want %+v", n.relay.publishes[0], wantPublish)
	}
	body, _ = json.Marshal(RequestBody{Agent: "alice", To: "bob", Method: "book", Data: json.RawMessage(`{}`), TimeoutMS: 700, Priority: "high", Headers: map[string]string{"h": "v"}})
	if got := n.do("POST", "/v1/request", goodToken, string(body)); got.body != `{"from":"bob","data":{"ok":true}}` {
		t.Errorf("got %d %s", got.status, got.body)
	}
	wantRequest := relay.RequestArgs{From: "alice", To: "bob", Method: "book", Payload: wire.Payload{Data: []byte(`{}`)}, Class: wire.High,
		Timeout: 700 * time.Millisecond, Headers: []wire.Header{{Name: "h", Value: "v"}}}
	if !reflect.DeepEqual(n.relay.requests[0], wantRequest) {
		t.Errorf("got %+v, want %+v", n.relay.requests[0], wantRequest)
	}
}

func TestDataIsCarriedByteForByte(t *testing.T) {
	n := newNode(t)
	tests := []struct{ in, want string }{
		{`{ "a" : 1.0e+0 ,"a":2, "x":"\u003c<>&\u2028 é\/" }`, `{ "a" : 1.0e+0 ,"a":2, "x":"\u003c<>&\u2028 é\/" }`},
		{`12345678901234567890123`, `12345678901234567890123`},
		{`null`, ``}, // null is as good as absent
		{`"agent"`, `"agent"`},
		{"[1,\r\n\t2]", "[1,\t2]"}, // frames are one line
	}
	for i, tt := range tests {
		got := n.do("POST", "/v1/send", goodToken, `{"unknown":[{}],"data":`+tt.in+`,"to":"bob"}`)
		if got.status != 200 {
			t.Fatalf("%s: got %d %s", tt.in, got.status, got.body)
		}
		sent := n.relay.sends[i]
		if string(sent.Payload.Data) != tt.want && !(tt.in == "null" && string(sent.Payload.Data) == "null") {
			t.Errorf("got data %q, want %q", sent.Payload.Data, tt.want)
		}
		if sent.Class != wire.Normal || sent.From != "" || sent.TTL != 0 {
			t.Errorf("got %+v, want the defaults", sent)
		}
	}
}

func TestBadBodiesAreRefusedByField(t *testing.T) {
	n := newNode(t)
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	tests := []struct {
		name, path, body string
		code             wire.Code
		says             string
	}{
		{"empty", "/v1/send", ``, wire.BadFrame, "not valid JSON"},
		{"not JSON", "/v1/send", `{"to":`, wire.BadFrame, "not valid JSON"},
		{"an array", "/v1/send", `[]`, wire.BadFrame, "one JSON object"},
		{"a string", "/v1/send", `"x"`, wire.BadFrame, "one JSON object"},
		{"two objects", "/v1/send", `{"to":"bob"}{"to":"eve"}`, wire.BadFrame, "not valid JSON"},
		{"closing the frame early", "/v1/send", `{"to":"bob"}},"publish":{"channel":"x"}`, wire.BadFrame, "not valid JSON"},
		{"without to", "/v1/send", `{"data":1}`, wire.BadFrame, "send.to"},
		{"to is a number", "/v1/send", `{"to":5}`, wire.BadFrame, "send.to"},
		{"to is no name", "/v1/send", `{"to":"a b"}`, wire.BadFrame, "send.to"},
		{"to is given twice", "/v1/send", `{"to":"a","to":"b"}`, wire.BadFrame, "to"},
		{"ttl is text", "/v1/send", `{"to":"a","ttl_ms":"1"}`, wire.BadFrame, "send.ttl_ms"},
		{"ttl is negative", "/v1/send", `{"to":"a","ttl_ms":-1}`, wire.BadFrame, "send.ttl_ms"},
		{"ttl is too long", "/v1/send", `{"to":"a","ttl_ms":9007199254740991}`, wire.TooLarge, "send.ttl_ms"},
		{"unknown priority", "/v1/send", `{"to":"a","priority":"urgent"}`, wire.BadFrame, "send.priority"},
		{"bytes are not base64", "/v1/send", `{"to":"a","bytes":"%"}`, wire.BadFrame, "send.bytes"},
		{"data and bytes", "/v1/send", `{"to":"a","data":1,"bytes":"AA=="}`, wire.BadFrame, ""},
		{"agent is a number", "/v1/send", `{"to":"a","agent":1}`, wire.BadFrame, "agent"},
		{"agent is no name", "/v1/send", `{"to":"a","agent":"a\nb"}`, wire.BadFrame, "agent"},
		{"agent is given twice", "/v1/send", `{"to":"a","agent":"x","agent":"y"}`, wire.BadFrame, "agent"},
		{"data is too deep", "/v1/send", `{"to":"a","data":` + deep + `}`, wire.BadFrame, ""},
		{"too large", "/v1/send", `{"to":"a","data":"` + strings.Repeat("x", 70000) + `"}`, wire.TooLarge, "65536"},
		{"without channel", "/v1/publish", `{}`, wire.BadFrame, "publish.channel"},
		{"method is an object", "/v1/request", `{"to":"a","method":{}}`, wire.BadFrame, "request.method"},
		{"timeout is too long", "/v1/request", `{"to":"a","timeout_ms":86400000}`, wire.TooLarge, "request.timeout_ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := n.do("POST", tt.path, goodToken, tt.body)
			p := got.problem(t)
			if got.status != Status(tt.code) || p.Code != tt.code || !strings.Contains(p.Detail, tt.says) {
				t.Errorf("got %d %s %q, want %s with %q", got.status, p.Code, p.Detail, tt.code, tt.says)
			}
		})
	}
	if len(n.relay.sends)+len(n.relay.publishes)+len(n.relay.requests) != 0 {
		t.Error("a bad body reached the relay")
	}
}

func TestCompressedBodiesAreRefused(t *testing.T) {
	n := newNode(t)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	fmt.Fprintf(w, `{"to":"bob","data":"%s"}`, strings.Repeat("x", 4<<20))
	w.Close()
	got := n.do("POST", "/v1/send", goodToken, bomb.String(), "Content-Encoding", "gzip")
	if got.status != http.StatusUnsupportedMediaType || got.problem(t).Code != wire.BadFrame {
		t.Errorf("got %d %s, want 415", got.status, got.body)
	}
}

func TestEveryCodeHasItsStatus(t *testing.T) {
	n := newNode(t)
	want := map[wire.Code]int{
		wire.BadFrame: 400, wire.Unauthorized: 401, wire.Forbidden: 403, wire.NotFound: 404, wire.AgentOffline: 409,
		wire.Timeout: 504, wire.TooLarge: 413, wire.RateLimited: 429, wire.Overloaded: 503, wire.Unavailable: 503,
		wire.Conflict: 409, wire.Gone: 410, wire.Internal: 500,
	}
	for _, code := range wire.AllCodes() {
		n.relay.err = &wire.Error{Code: code, Message: "because", RetryAfterMS: 1}
		for path, body := range bodies {
			got := n.do("POST", path, goodToken, body)
			p := got.problem(t)
			if got.status != want[code] || p.Code != code || p.Detail != "because" {
				t.Errorf("%s %s: got %d %+v, want %d", path, code, got.status, p, want[code])
			}
			if (got.status == 429 || got.status == 503) != (got.header.Get("Retry-After") == "1") {
				t.Errorf("%s: got Retry-After %q", code, got.header.Get("Retry-After"))
			}
		}
	}
}

func TestUnknownErrorsStayInTheLog(t *testing.T) {
	n := newNode(t)
	n.relay.err = errors.New("disk /dev/sda is on fire")
	got := n.do("POST", "/v1/send", goodToken, bodies["/v1/send"])
	p := got.problem(t)
	if got.status != 500 || p.Code != wire.Internal || strings.Contains(got.body, "fire") {
		t.Errorf("got %d %s, want 500 without the reason", got.status, got.body)
	}
	if p.Instance == "" || !strings.Contains(n.log.String(), p.Instance) || !strings.Contains(n.log.String(), "on fire") {
		t.Errorf("got instance %q, want it in the log with the reason: %s", p.Instance, n.log)
	}
}

func TestPanicStaysInside(t *testing.T) {
	n := newNode(t)
	n.relay.reasons = nil
	n.api.cfg.Relay = panicking{n.relay}
	for _, accept := range []string{"", "application/x-ndjson"} {
		got := n.do("POST", "/v1/request", goodToken, bodies["/v1/request"], "Accept", accept)
		if got.status != 500 || strings.Contains(got.body, canary) {
			t.Errorf("got %d %s, want 500 without the value", got.status, got.body)
		}
	}
	if got := n.do("GET", "/v1/agents", goodToken, ""); got.status != 500 {
		t.Errorf("got %d, want 500", got.status)
	}
	if log := n.log.String(); strings.Contains(log, "payload "+canary) || strings.Count(log, "panic in an http handler") != 3 {
		t.Errorf("got log %s, want three panics without the value", log)
	}
}

func TestListsAndPaging(t *testing.T) {
	n := newNode(t)
	got := n.do("GET", "/v1/agents?match=a*&after=aa%2Fb&limit=7", goodToken, "")
	want := `{"agents":[{"agent":"alice","state":"busy","sessions":2,"last_active_ms":5,"queue":1,"card":{"name":"A"}},` +
		`{"agent":"bob","state":"","sessions":0,"last_active_ms":0,"queue":0}],"next":"bob"}`
	if got.status != 200 || got.body != want {
		t.Errorf("got %d %s, want %s", got.status, got.body, want)
	}
	if got := n.do("GET", "/v1/channels", goodToken, ""); got.body != `{"channels":[]}` {
		t.Errorf("got %s, want an empty list", got.body)
	}
	n.relay.page = relay.Page{Next: "z", Partial: true, Missing: []string{"n2", "n3"}}
	if got, want := n.do("GET", "/v1/channels?limit=9", goodToken, ""), `{"channels":[],"next":"z","partial":true,"missing":["n2","n3"]}`; got.body != want {
		t.Errorf("got %s, want %s", got.body, want)
	}
	if want := []string{`["a*","aa/b",7]`, `["","",100]`, `["","",9]`}; !reflect.DeepEqual(n.relay.lists, want) {
		t.Errorf("got %v, want %v", n.relay.lists, want)
	}
	for _, limit := range []string{"0", "-1", "1001", "x", "1e3", "99999999999999999999"} {
		if got := n.do("GET", "/v1/agents?limit="+limit, goodToken, ""); got.status != 400 || !strings.Contains(got.problem(t).Detail, "limit") {
			t.Errorf("limit %s: got %d %s, want 400 that names it", limit, got.status, got.body)
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	f.Add([]byte(`{"agent":"a","to":"b","data":{"x":[1,2,{"y":"\ud800"}]},"headers":{"a":"b"}}`))
	f.Add([]byte(`{"to":"b"}},"ack":{"seq":1}`))
	f.Add([]byte("{\"to\":\"b\",\"data\":\"\xff\"}"))
	limits := wire.DefaultLimits()
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		command, agent, err := decode(body, wire.KindSend, "send", &limits)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			var refused *wire.Error
			if !errors.As(err, &refused) || refused.Message == "" {
				t.Fatalf("got %v, want a *wire.Error with a text", err)
			}
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatalf("accepted what is not a JSON object: %q", body)
		}
		if !wire.ValidAgent(command.To) || agent != "" && !wire.ValidAgent(agent) {
			t.Fatalf("accepted names %q and %q", command.To, agent)
		}
		if data := command.Payload.Data; !command.Payload.Binary && (len(data) > 0 && !json.Valid(data) || bytes.ContainsAny(data, "\r\n")) {
			t.Fatalf("accepted data %q", data)
		}
	})
}
