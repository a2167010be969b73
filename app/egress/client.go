package egress

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config is what a Client works by.
type Config struct {
	Rules Rules
	// Unix is the path of a socket that every call goes to instead of the network.
	Unix string
	// TLS is for own roots and client certificates. May be nil.
	TLS *tls.Config
	// Timeout bounds a whole call. Defaults to 10 s.
	Timeout time.Duration
	// MaxReply bounds the body of an answer; what comes behind it is left unread.
	// Defaults to 64 KiB.
	MaxReply int64
	// Agent is told as User-Agent. Defaults to "agentnet".
	Agent string
}

const (
	defaultTimeout  = 10 * time.Second
	defaultMaxReply = 64 << 10
	maxHeader       = 16 << 10
	maxRedirects    = 3
)

// A Client makes HTTP calls. It may be used concurrently.
type Client struct {
	cfg  Config
	http *http.Client
}

// New makes a Client.
func New(cfg Config) *Client {
	cfg.Timeout, cfg.MaxReply = cmp.Or(max(cfg.Timeout, 0), defaultTimeout), cmp.Or(max(cfg.MaxReply, 0), defaultMaxReply)
	cfg.Agent = cmp.Or(cfg.Agent, "agentnet")
	dial := cfg.Rules.Dial
	if cfg.Unix != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTime}
			return d.DialContext(ctx, "unix", cfg.Unix)
		}
	}
	// No proxy of the environment: it would make the connection in our place, to
	// addresses that nobody checks.
	transport := &http.Transport{DialContext: dial, TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTime,
		ResponseHeaderTimeout: cfg.Timeout, MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: 1, MaxConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}
	return &Client{cfg: cfg, http: &http.Client{Transport: transport, CheckRedirect: sameHost}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ErrRedirect is wrapped by refusals to follow a redirect.
var ErrRedirect = errors.New("redirect refused")

// sameHost follows redirects that stay on the host and do not leave TLS.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d", ErrRedirect, maxRedirects)
	case !strings.EqualFold(req.URL.Host, first.Host):
		return fmt.Errorf("%w: it leads to another host (%s): give that address in the configuration if it is right", ErrRedirect, req.URL.Host)
	case first.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: it leaves TLS", ErrRedirect)
	}
	return nil
}

// A Request is one call. Its URL and headers may hold secrets and never show up
// in errors.
type Request struct {
	Method string
	URL    string
	Header map[string]string
	Body   []byte
}

// A Reply is an answer, whatever its status is.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte // at most Config.MaxReply
	Cut    bool   // there was more
	Took   time.Duration
}

// An Error is a call without an answer, or with one that is no success.
type Error struct {
	Host       string // and port; never the path, which may be a secret
	Status     int    // 0: there was no answer
	Reason     string // what the answer said, shortened
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string {
	switch {
	case e.Status == 0:
		return fmt.Sprintf("%s: %v", e.Host, e.Err)
	case e.Reason == "":
		return fmt.Sprintf("%s answered %d %s", e.Host, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s answered %d %s: %s", e.Host, e.Status, http.StatusText(e.Status), e.Reason)
}

func (e *Error) Unwrap() error { return e.Err }

// Do makes the call and returns the answer, whatever its status is.
func (c *Client) Do(ctx context.Context, r Request) (Reply, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Reply{}, &Error{Host: "the target", Err: errors.New("its address is not like https://host/path")}
	}
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.Method, http.MethodGet), u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return Reply{}, &Error{Host: u.Host, Err: errors.New("the request cannot be made: check method and address")}
	}
	req.Header.Set("User-Agent", c.cfg.Agent)
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return Reply{Took: time.Since(began)}, &Error{Host: u.Host, Err: bare(err)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, c.cfg.MaxReply+1))
	reply := Reply{Status: answer.StatusCode, Header: answer.Header, Body: body, Took: time.Since(began)}
	if int64(len(body)) > c.cfg.MaxReply {
		reply.Body, reply.Cut = body[:c.cfg.MaxReply], true
	}
	if err != nil {
		return reply, &Error{Host: u.Host, Err: fmt.Errorf("read the answer: %w", bare(err))}
	}
	return reply, nil
}

// Success makes an error of an answer whose status is not 2xx.
func (r *Reply) Success(host string) error {
	if r.Status >= 200 && r.Status < 300 {
		return nil
	}
	e := &Error{Host: host, Status: r.Status, Reason: Shorten(string(r.Body), 300)}
	if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, 3600)) * time.Second
	}
	return e
}

// Call is Do for callers to whom only 2xx is a success.
func (c *Client) Call(ctx context.Context, r Request) (Reply, error) {
	reply, err := c.Do(ctx, r)
	if err != nil {
		return reply, err
	}
	return reply, reply.Success(Host(r.URL))
}

// bare takes the URL out of an error.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		if e.Timeout() && errors.Is(e.Err, context.DeadlineExceeded) {
			return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
		}
		return e.Err
	}
	return err
}

// Host is the part of an address that may be shown.
func Host(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return "the target"
}

// Retryable reports whether the same call may succeed later.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, ErrAddress) || errors.Is(err, ErrRedirect) || errors.Is(err, context.Canceled) {
		return false
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status == 0 {
		return true
	}
	return e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooEarly || e.Status == http.StatusTooManyRequests
}

// Shorten makes one line of at most about n bytes of what somebody answered.
func Shorten(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}
