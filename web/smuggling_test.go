package web

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// smuggled is a second request that hides behind a first. If it is ever carried
// out, a proxy in front and this server disagree about where a request ends.
const smuggled = "POST /v1/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good" + canary + "\r\nContent-Length: 12\r\n\r\n{\"to\":\"eve\"}"

// patience is long enough for an answer over loopback and short for the tests that
// wait for a connection to be closed.
const patience = 300 * time.Millisecond

func TestRequestSmuggling(t *testing.T) {
	head := "POST /v1/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer none\r\n"
	length := fmt.Sprint(len(smuggled))
	tests := []struct {
		name, request string
	}{
		{"content length and chunked", head + "Content-Length: " + length + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled},
		{"chunked and content length", head + "Transfer-Encoding: chunked\r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + smuggled},
		{"two content lengths", head + "Content-Length: 0\r\nContent-Length: " + length + "\r\n\r\n" + smuggled},
		{"two content lengths in one", head + "Content-Length: 0, " + length + "\r\n\r\n" + smuggled},
		{"two transfer encodings", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled},
		{"unknown transfer encoding", head + "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + smuggled},
		{"transfer encoding with a blank", head + "Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + smuggled},
		{"transfer encoding in a folded line", head + "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n" + smuggled},
		{"negative length", head + "Content-Length: -1\r\n\r\n" + smuggled},
		{"length with a sign", head + "Content-Length: +0\r\n\r\n" + smuggled},
		{"length in hexadecimal", head + "Content-Length: 0x0\r\n\r\n" + smuggled},
		{"line feed in a chunk extension", head + "Transfer-Encoding: chunked\r\n\r\n2;\n0\r\n\r\n" + smuggled},
		{"chunk size overflow", head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n" + smuggled},
		{"name with NUL", head + "Content-\x00Length: 5\r\n\r\n" + smuggled},
		{"line ends without carriage return", strings.ReplaceAll(head, "\r\n", "\n") + "Content-Length: " + length + "\n\n" + smuggled},
		{"a length behind a bare line feed", head + "X: a\nContent-Length: " + length + "\r\nContent-Length: 0\r\n\r\n" + smuggled},
		{"bare carriage return in a value", head + "X: a\rContent-Length: 5\r\n\r\n" + smuggled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, func(c *Config) { c.ReadTimeout, c.IdleTimeout = patience, patience })
			statuses, text := s.raw(tt.request)
			if s.relay.sends != 0 {
				t.Errorf("the smuggled request was carried out: answers %v", statuses)
			}
			if len(statuses) == 0 || slices.Contains(statuses, 200) {
				t.Errorf("got answers %v, want a refusal", statuses)
			}
			if strings.Contains(text, canary) {
				t.Errorf("an answer repeats what was sent: %s", text)
			}
		})
	}
}

func TestMalformedRequests(t *testing.T) {
	get := "GET /healthz HTTP/1.1\r\nHost: x\r\n"
	many := strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(&many, "X-%d: %s\r\n", i, canary)
	}
	tests := []struct {
		name, request string
		want          []int // the first answer is one of these
	}{
		{"a header of 1 MiB", get + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", []int{431, 400}},
		{"10,000 headers", get + many.String() + "\r\n", []int{431, 400}},
		{"a path of 1 MiB", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431, 414, 400}},
		{"not HTTP", canary + "\r\n\r\n", []int{400}},
		{"a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
		{"a body of 1 GiB announced", "POST /v1/send HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n", []int{413}},
		{"an unknown method", "BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 405, 501}},
		{"lower case method", "get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 405, 501}},
		{"a method that is not taken", "DELETE /v1/agents HTTP/1.1\r\nHost: x\r\n\r\n", []int{405}},
		{"percent signs", "GET /%zz%00%2e%2e%2f HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 404}},
		{"dots", "GET /static/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 404}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, func(c *Config) { c.ReadTimeout, c.IdleTimeout = patience, patience })
			statuses, text := s.raw(tt.request)
			if len(statuses) > 0 && !slices.Contains(tt.want, statuses[0]) {
				t.Errorf("got answers %v %s, want one of %v", statuses, text, tt.want)
			}
			if len(statuses) == 0 && len(tt.request) < 1<<16 {
				t.Error("got no answer")
			}
			if strings.Contains(text, canary) || strings.Contains(s.log.String(), canary) {
				t.Errorf("what was sent is repeated: %s %s", text, s.log)
			}
			// The server is as well as before.
			if resp, _ := s.do("GET", "/healthz", ""); resp.StatusCode != 200 {
				t.Errorf("afterwards: got %d, want 200", resp.StatusCode)
			}
		})
	}
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	const limit = 300 * time.Millisecond
	s := newSite(t, func(c *Config) { c.ReadTimeout, c.IdleTimeout = limit, limit })
	for name, start := range map[string]string{"headers": "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", "body": "POST /v1/send HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			began := time.Now()
			conn.SetReadDeadline(began.Add(5 * time.Second))
			io.WriteString(conn, start)
			ended := make(chan struct{})
			go func() { // a byte now and then does not buy more time
				defer close(ended)
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for range tick.C {
					if start == "" || time.Since(began) > 5*time.Second {
						return
					}
					if _, err := io.WriteString(conn, "a"); err != nil {
						return
					}
				}
			}()
			_, err = io.Copy(io.Discard, conn)
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("the connection was not closed")
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("closed after %v, want about %v", took, limit)
			}
			conn.Close()
			<-ended
		})
	}
}
