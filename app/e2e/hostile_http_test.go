package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentnet/app"
)

// TestHostileHTTP sends requests that hide a second one, and bodies that lie.
func TestHostileHTTP(t *testing.T) {
	n := hostileNode(t, nil)
	token := jwt(t, time.Hour, obj{"agents": "evil", "send": "**", "publish": "**"})
	hidden := "POST /v1/send HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 21\r\n\r\n" + `{"to":"hidden/target"`
	hidden = strings.Replace(hidden, "Content-Length: 21", "Content-Length: 22", 1) + "}"
	head := "POST /v1/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer none\r\n"
	length := fmt.Sprint(len(hidden))
	for _, c := range []struct {
		name, sent string
		want       []int
	}{
		{"CL and TE", head + "Content-Length: " + length + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{400, 401}},
		{"TE and CL", head + "Transfer-Encoding: chunked\r\nContent-Length: " + length + "\r\n\r\n0\r\n\r\n" + hidden, []int{400, 401}},
		{"two CL", head + "Content-Length: 0\r\nContent-Length: " + length + "\r\n\r\n" + hidden, []int{400}},
		{"two TE", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden, []int{400, 501}},
		{"line feeds only", strings.ReplaceAll(head, "\r\n", "\n") + "Content-Length: " + length + "\n\n" + hidden, []int{400, 401}},
		{"line feed in a chunk extension", head + "Transfer-Encoding: chunked\r\n\r\n2;\n0\r\n\r\n" + hidden, []int{400}},
		{"chunk size overflow", head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n" + hidden, []int{400}},
		{"negative length", head + "Content-Length: -1\r\n\r\n" + hidden, []int{400}},
		{"length with a blank in its name", head + "Content-Length : 5\r\n\r\n" + hidden, []int{400}},
		{"folded header", head + "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n" + hidden, []int{400, 401}},
		{"NUL in a name", head + "X\x00: 5\r\n\r\n" + hidden, []int{400}},
		{"header of 1 MiB", head + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n" + hidden, []int{431}},
		{"10,000 headers", head + strings.Repeat("X: y\r\n", 10_000) + "\r\n" + hidden, []int{431}},
		{"body of 1 GiB", head + "Content-Length: 1073741824\r\n\r\n{", []int{413}},
		{"CONNECT", "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", []int{400, 404, 405}},
		{"unknown method", "BREW /v1/send HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", []int{400, 405, 501}},
		{"dots", "GET /static/../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", []int{400, 404}},
		{"coded dots", "GET /static/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", []int{400, 404}},
		{"no host", "GET /healthz HTTP/1.1\r\n\r\n", []int{200, 400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := join(t, n, inJSON, "hidden/target")
			unharmed(t, n, func(t *testing.T) {
				got, text := rawHTTP(t, n.URL, c.sent)
				if len(got) == 0 && len(c.sent) > 1<<16 {
					return // the answer can be lost when a reset overtakes it
				}
				if len(got) == 0 || !slices.Contains(c.want, got[0]) || strings.Contains(text, token) || strings.Contains(text, "root:") {
					t.Errorf("got %v %.300s, want one of %v", got, text, c.want)
				}
				target.quiet() // the hidden request was not carried out
			})
			target.leave()
		})
	}
}

func TestHostileBodies(t *testing.T) {
	n := hostileNode(t, nil)
	token := jwt(t, time.Hour, obj{"agents": "evil/*", "send": "**", "publish": "**"})
	one := jwt(t, time.Hour, obj{"agents": "evil/one", "send": "**", "publish": "**"})
	for _, c := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"empty", "", 400, "bad_frame"},
		{"null", "null", 400, "bad_frame"},
		{"array", `[{"to":"x"}]`, 400, "bad_frame"},
		{"two objects", `{"to":"x"}{"to":"y"}`, 400, "bad_frame"},
		{"closes the frame around it", `{"to":"x"},"ping":{}`, 400, "bad_frame"},
		{"unfinished", `{"to":"x"`, 400, "bad_frame"},
		{"bad UTF-8", "{\"to\":\"x\",\"data\":\"\xff\"}", 400, "bad_frame"},
		{"deep", `{"to":"x","data":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `}`, 400, "bad_frame"},
		{"too large", `{"to":"x","data":"` + strings.Repeat("x", 65536) + `"}`, 413, "too_large"},
		{"field twice", `{"to":"x","to":"y"}`, 400, "bad_frame"},
		{"agent twice", `{"agent":"evil/one","agent":"evil/two","to":"x"}`, 400, "bad_frame"},
		{"agent that is none", `{"agent":"a\r\nb","to":"x"}`, 400, "bad_frame"},
		{"agent of another", `{"agent":"good/a","to":"x"}`, 403, "forbidden"},
		{"agent as a number", `{"agent":5,"to":"x"}`, 400, "bad_frame"},
		{"name with CR LF", `{"agent":"evil/one","to":"a\r\nX: y"}`, 400, "bad_frame"},
		{"name with NUL", `{"agent":"evil/one","to":"a\u0000"}`, 400, "bad_frame"},
		{"negative ttl", `{"agent":"evil/one","to":"x","ttl_ms":-5}`, 400, "bad_frame"},
	} {
		t.Run(c.name, func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				res, text := request(t, "POST", n.URL+"/v1/send", token, []byte(c.body))
				if res.StatusCode != c.status || !strings.Contains(string(text), `"code":"`+c.code+`"`) || len(text) > 1000 || strings.Contains(string(text), "xxxxxx") {
					t.Errorf("got %s %.300s, want %d %s", res.Status, text, c.status, c.code)
				}
			})
		})
	}
	t.Run("1 MiB", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) {
			req, err := http.NewRequest("POST", n.URL+"/v1/send", strings.NewReader(`{"to":"x","data":"`+strings.Repeat("x", 1<<20)+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := http.DefaultTransport.RoundTrip(req)
			if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
				return // refused and hung up on while the rest of it was still on its way
			}
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != 413 {
				t.Errorf("got %s, want 413", res.Status)
			}
		})
	})
	for _, encoding := range []string{"gzip", "br", "deflate", "zstd"} {
		res, text := request(t, "POST", n.URL+"/v1/send", one, []byte("\x1f\x8b\x08\x00"), "Content-Encoding", encoding)
		if res.StatusCode != 415 {
			t.Errorf("%s: got %s %s", encoding, res.Status, text)
		}
	}
}

// TestHostileLimits: who wants too much of one thing gets errors and hurts nobody.
func TestHostileLimits(t *testing.T) {
	n := hostileNode(t, func(c *app.Config) {
		l := &c.Limits
		l.AddressConnections, l.Subscriptions = 90, 10
		l.Channels = 20
	})
	bothWays(t, func(t *testing.T, d dialect) {
		t.Run("channels", func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				s := join(t, n, d, "hos/l")
				counts := map[string]int{}
				for i := range 40 {
					counts[s.ask(obj{"subscribe": obj{"channel": fmt.Sprint("l/", i)}}).code()]++
					counts[s.ask(obj{"publish": obj{"channel": fmt.Sprint("p/", d.name, i)}}).code()]++
				}
				if counts["rate_limited"] < 30 || counts["overloaded"] < 10 {
					t.Errorf("got %v", counts)
				}
				s.leave()
			})
		})
		t.Run("unanswered requests", func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				deaf := join(t, n, d, "hos/deaf")
				s := join(t, n, d, "hos/asks")
				for i := range 1024 {
					s.tell(obj{"id": 10000 + i, "request": obj{"to": "hos/deaf", "timeout_ms": 60000}})
				}
				if e := s.refused("rate_limited", obj{"request": obj{"to": "hos/deaf"}}); e.RetryAfterMs == 0 {
					t.Errorf("got %v", e)
				}
				for i := range 1024 {
					s.tell(obj{"cancel": obj{"request": 10000 + i}})
				}
				s.quiet()
				s.leave()
				deaf.leave()
			})
		})
		t.Run("too much before connected", func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				// The token is not known yet, so that the relay has to look it up.
				s := dialRaw(t, n.URL, d)
				first := frameBytes(0x80|d.opcode, d.join(d.encode(t, obj{"id": 1, "connect": obj{"token": n.Token("hos/b"), "agent": "hos/b"}})))
				ping := frameBytes(0x80|d.opcode, d.join(d.encode(t, obj{"id": 2, "ping": obj{}})))
				for range 200 {
					first = append(first, ping...)
				}
				s.push(first)
				s.nc.(*net.TCPConn).CloseWrite()
				if got := s.end(); got.code != 1008 && len(s.kept) != 201 && got.code != 0 {
					t.Errorf("got %v after %d frames", got, len(s.kept))
				}
				s.nc.Close()
			})
		})
	})
	t.Run("connections of one address", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) {
			var all []*speaker
			refused := 0
			for range 110 {
				s := knock(t, n.URL, "Sec-WebSocket-Protocol: agentnet.v1.json")
				res := s.answer()
				if all = append(all, s); res.StatusCode == 101 {
					continue
				}
				if refused++; res.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				wantProblem(t, res, 429, "rate_limited")
			}
			if refused < 20 {
				t.Errorf("%d were refused", refused)
			}
			for _, s := range all {
				s.nc.Close()
			}
		})
	})
	t.Run("sessions of one agent", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) {
			for range 80 { // each leaves a session that could be resumed
				join(t, n, inJSON, "hos/many").leave()
			}
			s := dialRaw(t, n.URL, inProtobuf)
			got := s.ask(obj{"connect": obj{"token": jwt(t, time.Hour, obj{"agents": "hos/many"})}})
			if got.kind() != "connected" && got.code() != "rate_limited" && got.code() != "overloaded" {
				t.Errorf("got %v", got)
			}
			if now := n.App.Hub().Stats().Sessions; now > 64+40 {
				t.Errorf("%d sessions are kept", now)
			}
			s.nc.Close()
		})
	})
}
