package link

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that says what it hears.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// round sends a text and waits for it.
func round(c net.Conn, text []byte) error {
	errs := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		errs <- err
	}()
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	if e := <-errs; err == nil {
		err = e
	}
	if err == nil && !bytes.Equal(got, text) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func TestBytesPassAndTakeTheirTime(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	if err := round(c, bytes.Repeat([]byte("0123456789"), 200_000)); err != nil {
		t.Fatalf("2 MB: %v", err)
	}
	p.Latency(100 * time.Millisecond)
	start := time.Now()
	if err := round(c, bytes.Repeat([]byte("0123456789"), 100_000)); err != nil {
		t.Fatalf("1 MB far away: %v", err)
	}
	if took := time.Since(start); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("1 MB took %v, want one round trip of 200 ms and not one for each read", took)
	}
	c.(*net.TCPConn).CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end of the client: got %v, want the end of the server", err)
	}
}

func TestCutSilenceAndSlow(t *testing.T) {
	p := New(t, echo(t))
	c := dial(t, p)
	if err := round(c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	p.Cut(true)
	if err := round(c, []byte("x")); err == nil {
		t.Error("a cut connection passed")
	}
	refused := dial(t, p)
	if err := round(refused, []byte("x")); err == nil {
		t.Error("a new connection passed while cut")
	}
	p.Cut(false)
	p.Silence(true)
	c = dial(t, p)
	c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if err := round(c, []byte("x")); err == nil {
		t.Error("a silent connection passed")
	} else if n, ok := err.(net.Error); !ok || !n.Timeout() {
		t.Errorf("a silent connection: got %v, want only silence", err)
	}
	p.Silence(false)
	c = dial(t, p)
	if err := round(c, []byte("x")); err != nil {
		t.Errorf("after the silence: %v", err)
	}
	th := p.Of(c)
	if th == nil {
		t.Fatal("the connection has no thread")
	}
	th.Slow(50 * time.Millisecond)
	start := time.Now()
	for range 3 {
		if err := round(c, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("three slow rounds took %v", took)
	}
	th.Cut()
	if err := round(c, []byte("x")); err == nil {
		t.Error("a cut thread passed")
	}
}
