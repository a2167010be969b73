package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// panicking is a relay with a fault that holds a payload.
type panicking struct{ *fakeRelay }

func (panicking) Request(context.Context, *relay.Identity, relay.RequestArgs, func(relay.Answer) error) error {
	panic("payload " + canary)
}

func (panicking) Agents(context.Context, *relay.Identity, string, string, int) ([]wire.AgentInfo, relay.Page, error) {
	panic("payload " + canary)
}

func text(s string) wire.Payload { return wire.Payload{Data: []byte(s)} }

// three answers with two parts and an end.
func three(_ context.Context, each func(relay.Answer) error) error {
	for _, a := range []relay.Answer{
		{From: "bob", Payload: text(`{ "n":1}`), More: true},
		{From: "bob", Payload: wire.Payload{Data: []byte{1, 2}, Binary: true}, More: true},
		{From: "bob", Payload: text(`"<end>"`)},
	} {
		if err := each(a); err != nil {
			return err
		}
	}
	return nil
}

func TestRequestForms(t *testing.T) {
	refuse := func(_ context.Context, each func(relay.Answer) error) error {
		return each(relay.Answer{From: "bob", Err: &wire.Error{Code: "busy_today", Message: "come back tomorrow"}})
	}
	breaks := func(ctx context.Context, each func(relay.Answer) error) error {
		if err := each(relay.Answer{From: "bob", Payload: text(`1`), More: true}); err != nil {
			return err
		}
		return &wire.Error{Code: wire.Timeout, Message: "bob took too long"}
	}
	long := func(_ context.Context, each func(relay.Answer) error) error {
		for {
			if err := each(relay.Answer{From: "bob", Payload: text(`"` + strings.Repeat("x", 60000) + `"`), More: true}); err != nil {
				return err
			}
		}
	}
	empty := func(_ context.Context, each func(relay.Answer) error) error { return each(relay.Answer{From: "bob"}) }
	tests := []struct {
		name, accept string
		answer       func(context.Context, func(relay.Answer) error) error
		status       int
		body         string // for problems: a part of it
	}{
		{"document", "application/json", three, 200, `{"from":"bob","data":"<end>","earlier":[{"from":"bob","data":{ "n":1},"more":true},{"from":"bob","bytes":"AQI=","more":true}]}`},
		{"lines", "application/x-ndjson", three, 200, `{"from":"bob","data":{ "n":1},"more":true}` + "\n" + `{"from":"bob","bytes":"AQI=","more":true}` + "\n" + `{"from":"bob","data":"<end>"}` + "\n"},
		{"events", "text/event-stream", three, 200, "event: reply\ndata: " + `{"from":"bob","data":{ "n":1},"more":true}` + "\n\nevent: reply\ndata: " + `{"from":"bob","bytes":"AQI=","more":true}` + "\n\nevent: reply\ndata: " + `{"from":"bob","data":"<end>"}` + "\n\n"},
		{"empty reply", "", empty, 200, `{"from":"bob"}`},
		{"refused", "", refuse, 502, `"code":"busy_today","detail":"come back tomorrow","from":"bob"`},
		{"refused, lines", "application/x-ndjson", refuse, 502, `"code":"busy_today"`},
		{"breaks", "", breaks, 504, `"code":"timeout","detail":"bob took too long"`},
		{"breaks, lines", "application/x-ndjson", breaks, 200, `{"from":"bob","data":1,"more":true}` + "\n" + `{"error":{"code":"timeout","message":"bob took too long"}}` + "\n"},
		{"breaks, events", "text/event-stream", breaks, 200, "event: reply\ndata: " + `{"from":"bob","data":1,"more":true}` + "\n\nevent: error\ndata: " + `{"error":{"code":"timeout","message":"bob took too long"}}` + "\n\n"},
		{"too long for a document", "", long, 413, "application/x-ndjson"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			n.relay.answer = tt.answer
			got := n.do("POST", "/v1/request", goodToken, bodies["/v1/request"], "Accept", tt.accept)
			if tt.status != 200 {
				got.problem(t)
				if got.status != tt.status || !strings.Contains(got.body, tt.body) {
					t.Errorf("got %d %s, want %d with %s", got.status, got.body, tt.status, tt.body)
				}
				return
			}
			if got.status != 200 || got.body != tt.body {
				t.Errorf("got %d\n%s\nwant\n%s", got.status, got.body, tt.body)
			}
			if len(n.api.waiting) != 0 {
				t.Errorf("got %d requests that still wait, want 0", len(n.api.waiting))
			}
		})
	}
}

// post writes a request on a socket of its own, so that the test can hang up.
func post(t *testing.T, n *node, accept string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	body := bodies["/v1/request"]
	fmt.Fprintf(conn, "POST /v1/request HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s", goodToken, accept, len(body), body)
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func TestStreamedReplyComesAtOnce(t *testing.T) {
	n := newNode(t)
	next := make(chan struct{})
	n.relay.answer = func(ctx context.Context, each func(relay.Answer) error) error {
		for i := range 3 {
			if err := each(relay.Answer{From: "bob", Payload: text(fmt.Sprint(i)), More: i < 2}); err != nil {
				return err
			}
			<-next // the test has read the reply before the next one is made
		}
		return nil
	}
	conn := post(t, n, mimeLines)
	defer conn.Close()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		if !lines.Scan() {
			t.Fatalf("line %d: %v", i, lines.Err())
		}
		var line ReplyLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || string(line.Data) != fmt.Sprint(i) {
			t.Errorf("got %s (%v), want data %d", lines.Text(), err, i)
		}
		next <- struct{}{}
	}
}

func TestReaderWhoHangsUpEndsTheRequest(t *testing.T) {
	n := newNode(t)
	ended := make(chan error, 1)
	n.relay.answer = func(ctx context.Context, each func(relay.Answer) error) error {
		for {
			if err := each(relay.Answer{From: "bob", Payload: text(`"` + strings.Repeat("x", 30000) + `"`), More: true}); err != nil {
				ended <- err
				return err
			}
		}
	}
	conn := post(t, n, mimeLines)
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the request goes on although nobody reads it")
	}
}

func TestCloseEndsThoseWhoWait(t *testing.T) {
	for _, accept := range []string{"", mimeLines} {
		n := newNode(t)
		asked := make(chan struct{})
		n.relay.answer = func(ctx context.Context, each func(relay.Answer) error) error {
			if _, bounded := ctx.Deadline(); !bounded {
				panic("a request without a deadline")
			}
			close(asked)
			<-ctx.Done()
			return ctx.Err()
		}
		go func() { <-asked; n.api.Close() }()
		got := n.do("POST", "/v1/request", goodToken, bodies["/v1/request"], "Accept", accept)
		if got.status != 503 || got.problem(t).Code != wire.Unavailable {
			t.Errorf("got %d %s, want 503 unavailable", got.status, got.body)
		}
	}
}

func TestWaitingRequestsAreBounded(t *testing.T) {
	n := newNode(t, func(c *Config, _ *node) { c.Waiting = 1 })
	asked, release := make(chan struct{}), make(chan struct{})
	n.relay.answer = func(ctx context.Context, each func(relay.Answer) error) error {
		close(asked)
		<-release
		return each(relay.Answer{From: "bob"})
	}
	first := make(chan exchange, 1)
	go func() { first <- n.do("POST", "/v1/request", goodToken, bodies["/v1/request"]) }()
	<-asked
	if got := n.do("POST", "/v1/request", goodToken, bodies["/v1/request"]); got.status != 503 || got.problem(t).Code != wire.Overloaded {
		t.Errorf("got %d %s, want 503 overloaded", got.status, got.body)
	}
	close(release)
	if got := <-first; got.status != 200 {
		t.Errorf("got %d %s, want 200", got.status, got.body)
	}
}
