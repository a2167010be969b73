package embedded

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"golang.org/x/net/nettest"
)

const password = "open sesame"

func listening(t testing.TB, cfg Config) *Server {
	t.Helper()
	cfg.Listen, cfg.Password = "127.0.0.1:0", password
	return start(t, cfg)
}

func dialTCP(t testing.TB, s *Server) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReader(c)}
}

func TestPassword(t *testing.T) {
	s := listening(t, Config{})
	for name, c := range map[string]*client{"tcp": dialTCP(t, s), "in process": dial(t, s)} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{"GET", "k"}, {"INFO"}, {"SUBSCRIBE", "c"}, {"AUTH", "wrong"}, {"AUTH", "someone", password}} {
				if v, err := c.do(args...); err == nil || strings.Contains(err.Error(), s.Stats().RunID) {
					t.Errorf("%v without the password = %v, %v, want an error", args, v, err)
				}
			}
			c.must(t, "AUTH", password)
			c.must(t, "SET", "k", strings.Repeat("x", 1<<20))
			if v := c.must(t, "GET", "k"); len(v.(string)) != 1<<20 {
				t.Errorf("got %d bytes back, want %d", len(v.(string)), 1<<20)
			}
		})
	}
	c := dialTCP(t, s)
	if _, err := c.do("HELLO", "2", "AUTH", "default", password); err != nil {
		t.Errorf("HELLO with the password: %v", err)
	}
	c.must(t, "SET", "k", strings.Repeat("x", 1<<20))
}

// TestHostileRequests sends what ends or bloats a bare miniredis. The connection is
// closed, nothing else happens.
func TestHostileRequests(t *testing.T) {
	s := listening(t, Config{})
	before := dialTCP(t, s)
	before.must(t, "AUTH", password)
	hostile := map[string]string{
		"no command":           "*0\r\n",
		"negative":             "*-1\r\n",
		"inline":               "PING\r\n",
		"empty name":           "*1\r\n$0\r\n\r\n",
		"huge argument":        "*2\r\n$4\r\nAUTH\r\n$99999999999\r\n",
		"many arguments":       "*1000000\r\n$4\r\nAUTH\r\n",
		"overflow":             "*2\r\n$4\r\nAUTH\r\n$18446744073709551615\r\n",
		"endless header":       "*" + strings.Repeat("0", 100),
		"negative argument":    "*2\r\n$3\r\nGET\r\n$-1\r\n",
		"other type":           "*2\r\n$3\r\nGET\r\n:1\r\n",
		"wrong end":            "*1\r\n$4\r\nPINGxx",
		"large before auth":    request("SET", "k", strings.Repeat("x", requestBytes+1)),
		"too many before auth": strings.Repeat(request("PING"), requestsAuth+1),
		"binary":               "\x16\x03\x01\x02\x00\x01\x00\x01",
	}
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			c := dialTCP(t, s)
			c.SetDeadline(time.Now().Add(authWithin / 2))
			io.WriteString(c, text)
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the connection stayed open")
			}
			before.must(t, "PING")
		})
	}
}

func TestTooManyClients(t *testing.T) {
	s := listening(t, Config{MaxClients: 2})
	first, second := dialTCP(t, s), dialTCP(t, s)
	first.must(t, "AUTH", password)
	second.must(t, "AUTH", password)
	third := dialTCP(t, s)
	third.SetDeadline(time.Now().Add(5 * time.Second))
	if b, _ := io.ReadAll(third); !strings.Contains(string(b), "max number of clients") {
		t.Errorf("the third client got %q, want a refusal", b)
	}
	first.Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c := dialTCP(t, s)
		if _, err := c.do("AUTH", password); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no room 5 s after one has left")
		}
	}
}

// TestPausedSubscriber lets one subscriber read nothing while far more is published
// than sockets buffer: nobody else waits, and in the end it is cut off.
func TestPausedSubscriber(t *testing.T) {
	s := listening(t, Config{})
	paused := dialTCP(t, s)
	paused.must(t, "AUTH", password)
	paused.must(t, "SUBSCRIBE", "news")
	c, other := dial(t, s), dial(t, s)
	c.must(t, "AUTH", password)
	other.must(t, "AUTH", password)
	message := strings.Repeat("x", 256<<10)
	slowest := time.Duration(0)
	cut := -1
	for i := range 2 * replyBuffer / len(message) {
		begin := time.Now()
		if n := c.must(t, "PUBLISH", "news", message); n != 1 && cut < 0 {
			cut = i
		}
		other.must(t, "SET", "k", "v")
		slowest = max(slowest, time.Since(begin))
	}
	if cut < 0 {
		t.Error("the subscriber was never cut off")
	}
	if slowest > time.Second {
		t.Errorf("a PUBLISH and a SET took %v", slowest)
	}
	t.Logf("cut off after %d MiB, slowest %v", cut*len(message)>>20, slowest)
}

func TestPipeConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		there, back := newPipe(4<<10, false), newPipe(4<<10, false)
		c1, c2 = &pipeConn{in: back, out: there}, &pipeConn{in: there, out: back}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

func TestPipeOverflow(t *testing.T) {
	client, srv := newPipeConns()
	defer client.Close()
	srv.SetWriteDeadline(time.Now().Add(10 * time.Second))
	n, err := srv.Write(make([]byte, replyBuffer+1))
	if err != errOverflow || n > replyBuffer {
		t.Errorf("Write of more than fits = %d, %v, want %v at once", n, err, errOverflow)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the broken connection can still be read")
	}
}

// TestPipeline sends far more than any buffer holds before it reads an answer.
func TestPipeline(t *testing.T) {
	s := start(t, Config{})
	c := dial(t, s)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	const n = 50_000
	sent := make(chan error, 1)
	go func() {
		w := bufio.NewWriter(c)
		for i := range n {
			io.WriteString(w, request("SET", fmt.Sprint("k", i%100), strings.Repeat("x", 100)))
		}
		sent <- w.Flush()
	}()
	for i := range n {
		if v, err := server.ParseReply(c.r); err != nil || v != server.Simple("OK") {
			t.Fatalf("reply %d: %v, %v", i, v, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// FuzzGuard feeds a stream in pieces. What the guard lets through must be whole
// commands within the bounds, and how it is cut must not matter.
func FuzzGuard(f *testing.F) {
	f.Add([]byte(request("AUTH", password)+request("SET", "k", "v", "PX", "1")), uint8(3), true)
	f.Add([]byte("*0\r\n"), uint8(1), false)
	f.Add([]byte("*1\r\n$99999999999\r\n"), uint8(1), false)
	f.Fuzz(func(t *testing.T, data []byte, piece uint8, secret bool) {
		whole, cut := guard{}, guard{}
		if secret {
			whole.password, cut.password = []byte(password), []byte(password)
		}
		err := whole.feed(data)
		var cutErr error
		for rest := range slicesOf(data, int(piece)+1) {
			if cutErr = cut.feed(bytes.Clone(rest)); cutErr != nil {
				break
			}
		}
		if (err == nil) != (cutErr == nil) {
			t.Fatalf("in one piece: %v, in many: %v", err, cutErr)
		}
		if err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(data))
		for { // the store's way of reading, which believes every length
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			var args int
			if _, err := fmt.Sscanf(line, "*%d\r\n", &args); err != nil || args < 1 || args > maxArgs {
				t.Fatalf("%q was let through", line)
			}
			for range args {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
				var n int
				if _, err := fmt.Sscanf(line, "$%d\r\n", &n); err != nil || n < 0 || n > maxBulk {
					t.Fatalf("%q was let through", line)
				}
				if m, err := r.Discard(n + 2); err != nil || m != n+2 {
					return
				}
			}
		}
	})
}

// slicesOf yields data in pieces of n bytes.
func slicesOf(data []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			k := min(n, len(data))
			if !yield(data[:k]) {
				return
			}
			data = data[k:]
		}
	}
}
