package e2e_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"agentnet/app"
)

// hostileNode forgives failed logins, because all attackers of these tests come
// from one address.
func hostileNode(t testing.TB, change func(*app.Config)) *fleet {
	t.Helper()
	return calmNode(t, func(c *app.Config) {
		c.Session.AuthTimeout = app.Duration(500 * time.Millisecond)
		if change != nil {
			change(c)
		}
	})
}

// unharmed runs attack while a pair of agents is connected, then wants the pair to
// talk as before, and goroutines, file descriptors, connections and memory to be
// back where they were.
func unharmed(t *testing.T, n *fleet, attack func(t *testing.T)) {
	t.Helper()
	a, b := join(t, n, inJSON, "well/a"), join(t, n, inProtobuf, "well/b")
	defer func() { a.nc.Close(); b.nc.Close() }()
	talk := func() {
		t.Helper()
		a.ok(obj{"send": obj{"to": "well/b", "data": raw(`"still here"`)}})
		if m := b.next("message").GetMessage(); string(m.GetData()) != `"still here"` {
			t.Errorf("got %v", m)
		}
		b.tell(obj{"ack": obj{"seq": b.hello.Seq}})
	}
	talk()
	goroutines, fds, rss, conns := goroutineCount(), openFiles(t), resident(t), n.App.Hub().Stats().Connections
	t.Run("attack", attack) // a test of its own, so that its sockets are closed after it
	talk()
	a.quiet()
	b.quiet()
	eventually(t, "connections to be gone", func() bool { return n.App.Hub().Stats().Connections <= conns })
	// Workers of the HTTP server and of finalizers come and go: a few are no leak.
	eventually(t, fmt.Sprintf("%d goroutines", goroutines), func() bool { return goroutineCount() <= goroutines+8 })
	eventually(t, fmt.Sprintf("%d open files", fds), func() bool { return openFiles(t) <= fds+4 })
	if now := resident(t); now > rss+128<<20 {
		t.Errorf("the process grew from %d to %d MiB", rss>>20, now>>20)
	}
}

// goroutineCount leaves out the workers that the HTTP server keeps for 10 s after
// their last connection; a connection that they still have shows as an open file.
func goroutineCount() (count int) {
	buf := make([]byte, 4<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(g, "workerPool).workerFunc") {
			count++
		}
	}
	return count
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// resident is the memory of this process in bytes, garbage not counted.
func resident(t testing.TB) int {
	t.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// rawHTTP sends bytes on a fresh connection and returns the statuses of all
// answers and their text. It does not mind that the server stops reading.
func rawHTTP(t testing.TB, url string, sent string) (statuses []int, text string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		io.WriteString(nc, sent)
		nc.(*net.TCPConn).CloseWrite()
	}()
	defer func() { nc.Close(); <-wrote }()
	br := bufio.NewReader(nc)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				t.Errorf("the connection was left open for %v", patience)
			}
			return statuses, text
		}
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		statuses = append(statuses, res.StatusCode)
		text += fmt.Sprint(res.Header) + string(body)
		if res.StatusCode == 101 {
			return statuses, text
		}
	}
}

const goodKey = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func TestHostileHandshake(t *testing.T) {
	n := hostileNode(t, nil)
	head := "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	up := "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	v13 := "Sec-WebSocket-Version: 13\r\n"
	many := strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(&many, "X-%d: y\r\n", i)
	}
	for _, c := range []struct {
		name, sent string
		want       []int
	}{
		{"no version", head + up + goodKey + "\r\n", []int{426}},
		{"version 8", head + up + goodKey + "Sec-WebSocket-Version: 8\r\n\r\n", []int{426}},
		{"version 13 twice", head + up + goodKey + v13 + v13 + "\r\n", []int{426}},
		{"no key", head + up + v13 + "\r\n", []int{400}},
		{"two keys", head + up + v13 + goodKey + goodKey + "\r\n", []int{400}},
		{"short key", head + up + v13 + "Sec-WebSocket-Key: AAAA\r\n\r\n", []int{400}},
		{"no upgrade", head + v13 + goodKey + "\r\n", []int{426}},
		{"POST", strings.Replace(head, "GET", "POST", 1) + up + v13 + goodKey + "Content-Length: 0\r\n\r\n", []int{405}},
		{"HTTP/1.0", strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1) + up + v13 + goodKey + "\r\n", []int{426}},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 505, 426}},
		{"TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
		{"garbage", "\x00\xff\xfe\r\n\r\n", []int{400}},
		{"header of 1 MiB", head + up + v13 + goodKey + "X: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", []int{431}},
		{"10,000 headers", head + up + v13 + goodKey + many.String() + "\r\n", []int{431}},
		{"foreign origin", head + up + v13 + goodKey + "Origin: https://evil.test\r\n\r\n", []int{403}},
		{"origin null", head + up + v13 + goodKey + "Origin: null\r\n\r\n", []int{403}},
		{"two origins", head + up + v13 + goodKey + "Origin: http://127.0.0.1\r\nOrigin: http://127.0.0.1\r\n\r\n", []int{403}},
		{"two tokens", head + up + v13 + goodKey + "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", []int{401}},
		{"basic auth", head + up + v13 + goodKey + "Authorization: Basic YTpi\r\n\r\n", []int{401}},
		{"CRLF in the path", "GET /ws%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"no request", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				got, text := rawHTTP(t, n.URL, c.sent)
				if len(c.want) == 0 && len(got) == 0 {
					return
				}
				if len(got) == 0 && len(c.sent) > 1<<17 {
					return // the answer can be lost when a reset overtakes it
				}
				ok := false
				for _, w := range c.want {
					ok = ok || len(got) > 0 && got[0] == w
				}
				if !ok {
					t.Errorf("got %v %.300s, want one of %v", got, text, c.want)
				}
			})
		})
	}
	t.Run("compression is not negotiated", func(t *testing.T) {
		s := knock(t, n.URL, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
		if res := s.answer(); res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("got %s %v", res.Status, res.Header)
		}
		s.d = inJSON
		s.push(frameBytes(0xc1, []byte("x"))) // RSV1 all the same
		s.wantClose(1002)
	})
	t.Run("pipelined", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) { // the frames behind the request count, and a second upgrade is no frame
			hello := inJSON.encode(t, obj{"id": 1, "connect": obj{"token": n.Token("pipe"), "agent": "pipe"}})
			s := knockWith(t, n.URL, "GET /ws HTTP/1.1", append(upgradeLines(n.URL), "Sec-WebSocket-Protocol: agentnet.v1.json")...)
			s.push(append(frameBytes(0x81, hello), "GET /ws HTTP/1.1\r\n\r\n"...))
			if res := s.answer(); res.StatusCode != 101 {
				t.Fatalf("got %s", res.Status)
			}
			s.d = inJSON
			s.wantClose(1002)
		})
	})
	t.Run("slow", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) {
			// Half a request is cut by the server's time for one; here 200 of them at
			// least do not keep others out. Connected but silent ones are cut sooner.
			var socks []net.Conn
			for range 200 {
				nc, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost: x\r\nX-Sl")
				socks = append(socks, nc)
			}
			var silent []*speaker
			for range 50 {
				silent = append(silent, dialRaw(t, n.URL, inJSON))
			}
			began := time.Now()
			join(t, n, inProtobuf, "legit").leave()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a good client waited %v", took)
			}
			for _, s := range silent {
				s.wantClose(4000)
				s.nc.Close()
			}
			for _, nc := range socks {
				nc.Close()
			}
		})
	})
}

func TestHostileFrames(t *testing.T) {
	n := hostileNode(t, nil)
	long := func(first byte, length uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{first, 0xff}, length), 1, 2, 3, 4)
	}
	bothWays(t, func(t *testing.T, d dialect) {
		op := d.opcode
		for _, c := range []struct {
			name string
			sent []byte
			want int
		}{
			{"top bit of a 64-bit length", long(0x80|op, 1<<63), 1002},
			{"1 GiB announced", long(0x80|op, 1<<30), 1009},
			{"2^62 announced", long(0x80|op, 1<<62), 1009},
			{"length not in the shortest form", append([]byte{0x80 | op, 0x80 | 126, 0, 5}, 1, 2, 3, 4, 5, 6, 7, 8, 9), 1002},
			{"unmasked", []byte{0x80 | op, 2, '{', '}'}, 1002},
			{"unknown opcode", frameBytes(0x83, nil), 1002},
			{"reserved bits", frameBytes(0xf0|op, nil), 1002},
			{"RSV1 without compression", frameBytes(0xc0|op, []byte("x")), 1002},
			{"long ping", frameBytes(0x89, make([]byte, 126)), 1002},
			{"fragmented ping", frameBytes(0x09, nil), 1002},
			{"continuation of nothing", frameBytes(0x80, nil), 1002},
			{"message in a message", append(frameBytes(op, []byte(" ")), frameBytes(0x80|op, nil)...), 1002},
			{"close of one byte", frameBytes(0x88, []byte{3}), 1002},
			{"close with code 1005", frameBytes(0x88, []byte{3, 0xed}), 1002},
			{"close with code 0", frameBytes(0x88, []byte{0, 0}), 1002},
			{"close with bad UTF-8", frameBytes(0x88, []byte{3, 0xe8, 0xff}), 1007},
			{"huge close reason", frameBytes(0x88, append([]byte{3, 0xe8}, make([]byte, 200)...)), 1002},
			{"flood of pings", flood(0x89, 5000), 1008},
			{"flood of pongs", flood(0x8a, 5000), 1008},
			{"flood of empty fragments", append(frameBytes(op, nil), flood(0x00, 5000)...), 1008},
		} {
			t.Run(c.name, func(t *testing.T) {
				unharmed(t, n, func(t *testing.T) {
					s := join(t, n, d, "hos/f")
					wrote := make(chan struct{})
					go func() { defer close(wrote); s.nc.Write(c.sent) }() // it may stop reading
					got := s.end()
					if got.code != c.want && !(got.code == 0 && len(c.sent) > 10000) {
						t.Errorf("closed with %v, want %d", got, c.want)
					}
					s.nc.Close()
					<-wrote
				})
			})
		}
		t.Run("half a frame", func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) { // announced, never sent: memory is taken for what came only
				var all []*speaker
				for range 50 {
					s := join(t, n, d, "hos/half")
					s.push(append(long(0x80|op, 1<<20), "begin"...))
					all = append(all, s)
				}
				for _, s := range all {
					s.nc.Close()
				}
			})
		})
	})
}

func flood(first byte, count int) (out []byte) {
	for range count {
		out = append(out, frameBytes(first, nil)...)
	}
	return out
}
