package doctor

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Seen is how a request arrived, as the server tells it at GET /v1/probe.
type Seen struct {
	Client    string `json:"client" doc:"Address that the server takes for the client's."`
	Forwarded bool   `json:"forwarded" doc:"Somebody passed the request on."`
	Trusted   bool   `json:"trusted" doc:"That one is in trusted_proxies."`
	Peer      string `json:"peer,omitempty" doc:"Address of the other end of the socket; only for this machine and admins."`
	Host      string `json:"host" doc:"Host header as it arrived."`
	TimeMS    int64  `json:"time_ms" doc:"The server's clock."`
}

const (
	probePath  = "/v1/probe"
	streamPath = "/v1/probe/stream"
	// forged is an address for documentation: nobody has it.
	forged = "203.0.113.77"
	// maxReply bounds what is read of an answer.
	maxReply = 1 << 20
)

func (c *Config) roots() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", c.CA)
	}
	return pool, nil
}

// client makes an HTTP client. It does not follow redirects: where the URL leads
// elsewhere, that is a finding. Certificates are not verified here, the check
// named certificate does that, and a wrong one must not hide all else.
func (c *Config) client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, ResponseHeaderTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// verified says that a token may be sent to the URL: to this machine, or with a
// certificate that proves whose it is.
func (c *Config) verified(ctx context.Context) bool {
	u, err := url.Parse(c.URL)
	if err != nil {
		return false
	}
	return local(u.Hostname()) || u.Scheme == "https" && c.servedCertificate(ctx, u).result == OK
}

func (c *Config) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.client().Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		if to := resp.Header.Get("Location"); to != "" {
			return nil, fmt.Errorf("%s answers %s and leads to %s", c.URL+path, resp.Status, to)
		}
		return nil, fmt.Errorf("%s answers %s: %s", c.URL+path, resp.Status, strings.Join(strings.Fields(string(text)), " "))
	}
	return resp, nil
}

func (c *Config) probe(ctx context.Context, header http.Header) (s Seen, err error) {
	resp, err := c.get(ctx, probePath, header)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(&s); err != nil {
		return s, fmt.Errorf("%s is no answer of a relay: %w", c.URL+probePath, err)
	}
	return s, nil
}

func (c *Config) unreachable(err error) outcome {
	return fail(err.Error(), "is the server running, does public_url or --url have the right host and path, and does the proxy pass all paths below base_path on?")
}

// serverOffset is how far this machine's clock is behind the server's. within is
// how exact that is.
func serverOffset(ctx context.Context, c *Config) (offset, within time.Duration, err error) {
	began := time.Now()
	s, err := c.probe(ctx, nil)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	return time.UnixMilli(s.TimeMS).Sub(began.Add(took / 2)), took/2 + time.Millisecond, nil
}

// proxyHeaders asks the server who it thinks is asking; then once more with an
// address that nobody has, as an attacker would.
func proxyHeaders(ctx context.Context, c *Config) outcome {
	if c.URL == "" {
		return skip("no server runs here; give --url")
	}
	header := http.Header{}
	if c.Token != "" && c.verified(ctx) {
		header.Set("Authorization", "Bearer "+c.Token)
	}
	plain, err := c.probe(ctx, header)
	if err != nil {
		return c.unreachable(err)
	}
	header.Set("X-Forwarded-For", forged)
	header.Set("Forwarded", "for="+forged)
	s, err := c.probe(ctx, header)
	if err != nil {
		return c.unreachable(err)
	}
	switch {
	case s.Client == forged && !plain.Forwarded:
		return skip("%s was asked directly, from an address that is in trusted_proxies; give the address that clients use with --url, or set public_url", c.URL)
	case s.Client == forged:
		return fail("the server believed an address that this request made up: limits and throttling of single clients can be avoided",
			"trusted_proxies must hold proxies only, not clients; and the proxy at the edge must replace the header (nginx: proxy_set_header X-Forwarded-For $remote_addr)")
	case plain.Forwarded && !plain.Trusted:
		peer := plain.Peer
		if peer == "" {
			peer = "ADDRESS-OF-THE-PROXY"
		}
		return fail(fmt.Sprintf("a proxy (%s) passes requests on and is not in trusted_proxies: all clients behind it count as one address and share its limits", peer),
			fmt.Sprintf("trusted_proxies: [%s]", peer))
	case !plain.Forwarded:
		return good("no proxy stands in front; the server takes %s for the client, and did not believe a made-up address", plain.Client)
	}
	return good("the proxy is trusted; the server takes %s for the client, and did not believe a made-up address", plain.Client)
}

// stream counts how server-sent events arrive: one by one, or all at the end
// because something buffers.
func stream(ctx context.Context, c *Config) outcome {
	if c.URL == "" {
		return skip("no server runs here; give --url")
	}
	resp, err := c.get(ctx, streamPath, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	var at []time.Time
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxReply))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			at = append(at, time.Now())
		}
	}
	if err := lines.Err(); err != nil || len(at) < 3 {
		return fail(fmt.Sprintf("%d of 4 events arrived (%v)", len(at), err), "the proxy ends responses early: raise its read timeout")
	}
	spread := at[len(at)-1].Sub(at[0])
	evidence := fmt.Sprintf("%d events arrived over %s", len(at), short(spread))
	if spread < 300*time.Millisecond {
		return fail(evidence+", sent over 600ms: something holds them back, so that live pages stand still",
			"nginx: proxy_buffering off, or let X-Accel-Buffering through; Caddy: flush_interval -1; no compression of text/event-stream")
	}
	return good("%s", evidence)
}

// webSocket opens a connection as a client does and sends a ping through it.
func webSocket(ctx context.Context, c *Config) outcome {
	if c.URL == "" {
		return skip("no server runs here; give --url")
	}
	conn, r, err := c.upgrade(ctx)
	if err != nil {
		return fail(err.Error(), "nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection $connection_upgrade; see packaging/proxies")
	}
	defer conn.Close()
	began := time.Now()
	if err := pingPong(conn, r); err != nil {
		return fail(fmt.Sprintf("the upgrade went well, but no data came through: %v", err), "the proxy answers the upgrade itself or cuts it: compare its configuration with packaging/proxies")
	}
	evidence := fmt.Sprintf("upgraded, and a ping was answered after %s", short(time.Since(began)))
	if c.Idle <= 0 {
		return good("%s", evidence)
	}
	return c.idle(ctx, evidence)
}

// idle leaves a stream of events alone: the server sends one at the start and one
// at the end, and nothing between but what keeps the connection open.
func (c *Config) idle(ctx context.Context, evidence string) outcome {
	header := http.Header{"Accept": {"text/event-stream"}}
	if c.Token == "" || !c.verified(ctx) {
		return warn(evidence+"; the idle time was not tried", "give a token of an admin by AGENTNET_TOKEN, and https where the server is not this machine")
	}
	header.Set("Authorization", "Bearer "+c.Token)
	began := time.Now()
	resp, err := c.get(ctx, fmt.Sprintf("%s?idle_ms=%d", streamPath, c.Idle.Milliseconds()), header)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	held := time.Since(began)
	if err != nil || !strings.Contains(string(text), "data: end") {
		return fail(fmt.Sprintf("%s; a connection was cut after %s of silence (%v)", evidence, short(held), err),
			"raise the proxy's idle time above 75 s, three of the relay's heartbeats: nginx proxy_read_timeout, HAProxy timeout tunnel, a load balancer's idle timeout")
	}
	return good("%s; a connection stayed open through %s of silence", evidence, short(c.Idle))
}

func (c *Config) upgrade(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var conn net.Conn
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	address := net.JoinHostPort(u.Hostname(), port)
	if u.Scheme == "https" {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", address)
	} else {
		conn, err = dialer.DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	_, err = fmt.Fprintf(conn, "GET %s/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: agentnet.v1.json\r\n\r\n",
		strings.TrimSuffix(u.Path, "/"), u.Host, base64.StdEncoding.EncodeToString(nonce[:]))
	r := bufio.NewReader(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r, nil)
	}
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		err = fmt.Errorf("%s/ws answers the upgrade with %s: %s", strings.TrimSuffix(c.URL, "/"), resp.Status, strings.Join(strings.Fields(string(text)), " "))
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, r, nil
}

// pingPong sends a masked ping and waits for its pong.
func pingPong(w io.Writer, r *bufio.Reader) error {
	payload := []byte("doctor")
	mask := [4]byte{7, 11, 13, 17}
	frame := []byte{0x89, 0x80 | byte(len(payload)), mask[0], mask[1], mask[2], mask[3]}
	for i, b := range payload {
		frame = append(frame, b^mask[i%4])
	}
	if _, err := w.Write(frame); err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if head[0] != 0x8A || int(head[1]) != len(payload) {
		return errors.New("what came was no pong")
	}
	got := make([]byte, len(payload))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if string(got) != string(payload) {
		return errors.New("the pong has another content than the ping")
	}
	return nil
}
