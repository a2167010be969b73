package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		addr string
		ok   bool
	}{
		{"8.8.8.8", true}, {"1.1.1.1", true}, {"2606:4700::1111", true}, {"99.255.255.255", true}, {"172.32.0.1", true},
		{"127.0.0.1", false}, {"127.255.0.9", false}, {"::1", false}, {"0.0.0.0", false}, {"0.1.2.3", false}, {"::", false},
		{"10.0.0.1", false}, {"172.16.0.1", false}, {"192.168.1.1", false}, {"fc00::1", false}, {"fd00:ec2::254", false},
		{"169.254.169.254", false}, {"fe80::1", false}, {"fe80::1%eth0", false}, {"224.0.0.1", false}, {"ff02::1", false}, {"255.255.255.255", false},
		{"100.64.0.1", false}, {"100.127.255.255", false}, {"198.18.0.1", false}, {"240.0.0.1", false}, {"192.0.0.192", false},
		{"::ffff:127.0.0.1", false}, {"::ffff:10.1.2.3", false}, {"::ffff:8.8.8.8", true},
		{"64:ff9b::7f00:1", false}, {"2002:7f00:1::", false}, {"2001:0:4136:e378::", false}, {"fec0::1", false},
	} {
		r := Rules{}
		if err := r.Check(netip.MustParseAddr(tt.addr)); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want allowed %v", tt.addr, err, tt.ok)
		}
		all := Rules{All: true}
		if err := all.Check(netip.MustParseAddr(tt.addr)); err != nil {
			t.Errorf("%s with all allowed: got %v", tt.addr, err)
		}
	}
	if err := (&Rules{}).Check(netip.Addr{}); err == nil {
		t.Error("no address was allowed")
	}
	allow, err := ParseNetworks([]string{"10.1.0.0/16", " 127.0.0.1 ", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	r := Rules{Allow: allow}
	for addr, ok := range map[string]bool{"10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": true, "127.0.0.2": false, "fd12::1": true, "::ffff:10.1.9.9": true} {
		if err := r.Check(netip.MustParseAddr(addr)); (err == nil) != ok {
			t.Errorf("%s with networks: got %v, want allowed %v", addr, err, ok)
		}
	}
	if _, err := ParseNetworks([]string{"10.0.0.0/8", "nonsense", "10.0.0.0/99"}); err == nil || !strings.Contains(err.Error(), "nonsense") || !strings.Contains(err.Error(), "/99") {
		t.Errorf("bad networks: got %v, want both named", err)
	}
}

// open allows the test servers on this machine.
var open = Rules{Allow: prefixes("127.0.0.0/8", "::1/128")}

func TestClientRefusesThisMachine(t *testing.T) {
	hit := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	for _, target := range []string{srv.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://0:" + port, "http://2130706433:" + port} {
		c := New(Config{})
		_, err := c.Do(context.Background(), Request{URL: target + "/secret-path"})
		if err == nil || hit {
			t.Errorf("%s: got %v, reached: %v; want a refusal", target, err, hit)
		}
		if err != nil && strings.Contains(err.Error(), "secret-path") {
			t.Errorf("the error tells the path: %v", err)
		}
	}
	c := New(Config{})
	if _, err := c.Do(context.Background(), Request{URL: srv.URL}); !errors.Is(err, ErrAddress) || Retryable(err) {
		t.Errorf("got %v, want ErrAddress, not retried", err)
	}
}

func TestClientRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the other host was reached") }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusFound) })
	mux.HandleFunc("/there", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "arrived") })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := New(Config{Rules: open})
	defer c.Close()
	if r, err := c.Call(context.Background(), Request{URL: srv.URL + "/here"}); err != nil || string(r.Body) != "arrived" {
		t.Errorf("same host: got %q, %v", r.Body, err)
	}
	for _, path := range []string{"/away", "/round"} {
		if _, err := c.Call(context.Background(), Request{URL: srv.URL + path}); !errors.Is(err, ErrRedirect) {
			t.Errorf("%s: got %v, want ErrRedirect", path, err)
		}
	}
}

func TestClientBounds(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("x", 5000)) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "too\nmuch \x01", http.StatusTooManyRequests)
	})
	mux.HandleFunc("/no", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "who are you", http.StatusForbidden) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(release)
	c := New(Config{Rules: open, MaxReply: 1000, Timeout: 150 * time.Millisecond})
	defer c.Close()
	if r, err := c.Call(context.Background(), Request{URL: srv.URL + "/large"}); err != nil || len(r.Body) != 1000 || !r.Cut {
		t.Errorf("large: got %d bytes, cut %v, %v", len(r.Body), r.Cut, err)
	}
	if _, err := c.Call(context.Background(), Request{URL: srv.URL + "/slow"}); !errors.Is(err, context.DeadlineExceeded) || !Retryable(err) {
		t.Errorf("slow: got %v, want the deadline, retried", err)
	}
	_, err := c.Call(context.Background(), Request{URL: srv.URL + "/busy"})
	if e, ok := errors.AsType[*Error](err); !ok || e.RetryAfter != 7*time.Second || e.Reason != "too much" || !Retryable(err) {
		t.Errorf("busy: got %v", err)
	}
	if got := (Backoff{}).Wait(1, err); got < 7*time.Second {
		t.Errorf("wait after Retry-After 7: got %v", got)
	}
	if _, err := c.Call(context.Background(), Request{URL: srv.URL + "/no"}); Retryable(err) || !strings.Contains(err.Error(), "403 Forbidden: who are you") {
		t.Errorf("forbidden: got %v, want no retry and the reason", err)
	}
	for _, bad := range []string{"", "ftp://x", "http://", "%%", "http://a b"} {
		if _, err := c.Call(context.Background(), Request{URL: bad}); err == nil {
			t.Errorf("address %q was taken", bad)
		}
	}
}

func TestClientUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	c := New(Config{Unix: path})
	defer c.Close()
	if r, err := c.Call(context.Background(), Request{URL: "http://docker/v1/x"}); err != nil || string(r.Body) != "/v1/x" {
		t.Errorf("got %q, %v", r.Body, err)
	}
}

func TestBackoffBounds(t *testing.T) {
	b := Backoff{First: time.Second, Most: 10 * time.Second, Rand: func() float64 { return 1 }}
	for failures, want := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 99: 10 * time.Second} {
		if got := b.Wait(failures, nil); got != want {
			t.Errorf("after %d failures: got %v, want %v", failures, got, want)
		}
	}
	b.Rand = func() float64 { return 0 }
	if got := b.Wait(9, nil); got != 0 {
		t.Errorf("full jitter: got %v, want 0 at its lower end", got)
	}
}

func TestBreaker(t *testing.T) {
	b := Breaker{Failures: 2, Rest: 10 * time.Second}
	now := time.Unix(1000, 0)
	fault := errors.New("refused")
	call := func(at int, err error, let bool) {
		t.Helper()
		now := now.Add(time.Duration(at) * time.Second)
		if got := b.Allow(now); (got == nil) != let {
			t.Fatalf("at %d s: got %v, want let through %v", at, got, let)
		}
		if let {
			b.Done(now, err)
		}
	}
	call(0, fault, true)
	call(1, nil, true) // a success in between begins the count anew
	call(2, fault, true)
	call(3, fault, true)
	call(4, nil, false)
	call(12, nil, false)
	call(13, fault, true) // the try fails: twice the rest
	call(32, nil, false)
	if err := b.Allow(now.Add(33 * time.Second)); err != nil {
		t.Fatal(err)
	}
	call(34, nil, false) // only one try at a time
	b.Done(now.Add(35*time.Second), nil)
	call(36, fault, true) // closed again
	call(37, nil, true)
}

func TestBucket(t *testing.T) {
	b := Bucket{Every: 10 * time.Second, Burst: 2}
	now := time.Unix(1000, 0)
	for i, want := range []time.Duration{0, 0, 10 * time.Second} {
		if got := b.Take(now); got != want {
			t.Errorf("take %d: got %v, want %v", i, got, want)
		}
	}
	if got := b.Take(now.Add(4 * time.Second)); got != 6*time.Second {
		t.Errorf("after 4 s: got %v, want 6s", got)
	}
	if got := b.Take(now.Add(10 * time.Second)); got != 0 {
		t.Errorf("after 10 s: got %v, want none", got)
	}
	if got := b.Take(now); got <= 0 {
		t.Errorf("time set back: got %v, want a wait", got)
	}
}
