package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/fasthttp/websocket"

	"agentnet/app/wire"
)

// frameOverhead is the most that a frame takes in a WebSocket message besides its
// own bytes: a line feed, or its length as a varint.
const frameOverhead = binary.MaxVarintLen32

// writeTimeout bounds the writing of one WebSocket message. Above it the
// connection is taken as dead.
const writeTimeout = 15 * time.Second

// A link is one connection that the relay has accepted.
type link struct {
	ws        *websocket.Conn
	encoding  wire.Encoding
	connected wire.Connected
	first     []byte // frames that came together with connected
	buf       bytes.Buffer
}

// attempt makes one connection: dial, upgrade, connect.
func (c *Client) attempt(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.AttemptTimeout,
		fmt.Errorf("the relay did not answer within %v", c.cfg.AttemptTimeout))
	defer cancel()
	token := c.cfg.Token
	if c.cfg.TokenSource != nil {
		var err error
		if token, err = c.cfg.TokenSource(ctx); err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
	}
	c.lastToken = token
	g := &guard{ctx: ctx}
	l, err := c.open(g, token)
	if released := g.release(); err == nil && !released {
		l.ws.Close()
		err = context.Cause(ctx)
	}
	if err == nil {
		return l, nil
	}
	if ctx.Err() != nil { // else it says only that its socket was closed
		err = fmt.Errorf("connect to %s: %w", c.cfg.URL, context.Cause(ctx))
	}
	return nil, err
}

// A guard closes the network connection of an attempt when its context ends,
// whatever the attempt is waiting for at that time.
type guard struct {
	ctx  context.Context
	stop func() bool
}

func (g *guard) watch(conn net.Conn) net.Conn {
	g.stop = context.AfterFunc(g.ctx, func() { conn.Close() })
	return conn
}

// release ends the watch and says whether the connection was left alone.
func (g *guard) release() bool { return g.stop == nil || g.stop() }

// open dials, upgrades and connects.
func (c *Client) open(g *guard, token string) (*link, error) {
	if len(c.again.endpoints) == 0 && c.places.last == "" { // no place to go back to
		c.locate(g.ctx, token)
	}
	var address string
	address, c.again.endpoints = c.places.choose(c.again.endpoints)
	ws, err := c.upgrade(g, address)
	if err != nil {
		return nil, err
	}
	l := &link{ws: ws, encoding: c.cfg.Encoding}
	if err := l.hello(c.hello(token)); err != nil {
		ws.Close()
		return nil, err
	}
	return l, nil
}

func (c *Client) upgrade(g *guard, address string) (*websocket.Conn, error) {
	subprotocol := wire.SubprotocolJSON
	if c.cfg.Encoding == wire.Protobuf {
		subprotocol = wire.SubprotocolProtobuf
	}
	dial := c.cfg.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	watched := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return g.watch(conn), nil
	}
	d := websocket.Dialer{
		NetDialContext: watched, Proxy: http.ProxyFromEnvironment, TLSClientConfig: c.cfg.TLS,
		Subprotocols: []string{subprotocol}, EnableCompression: c.cfg.Compress,
		ReadBufferSize: 4096, WriteBufferSize: 4096,
	}
	ws, resp, err := d.DialContext(g.ctx, address, c.cfg.Header)
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, handshakeError(resp)
		}
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	if got := ws.Subprotocol(); got != subprotocol && (got != "" || c.cfg.Encoding != wire.JSON) {
		ws.Close()
		return nil, fmt.Errorf("connect to %s: the other side speaks %q, not %q: is it an agentnet relay?", address, got, subprotocol)
	}
	ws.SetReadLimit(c.cfg.MaxMessageBytes)
	return ws, nil
}

// handshakeError reads what an HTTP answer says. The body was cut to 1 KiB by the
// WebSocket library.
func handshakeError(resp *http.Response) error {
	e := &HandshakeError{Status: resp.StatusCode}
	var problem struct {
		Code   wire.Code `json:"code"`
		Detail string    `json:"detail"`
		Title  string    `json:"title"`
	}
	if body, err := io.ReadAll(io.LimitReader(resp.Body, 4096)); err == nil && json.Unmarshal(body, &problem) == nil {
		e.Problem = wire.Error{Code: problem.Code, Message: problem.Detail}
		if problem.Detail == "" {
			e.Problem.Message = problem.Title
		}
	}
	e.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	return e
}

// parseRetryAfter reads seconds or an HTTP date; 0 when there is neither.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// hello makes the connect frame: a new session, or the former one.
func (c *Client) hello(token string) *wire.Command {
	connect := &wire.Connect{
		Token: token, Agent: c.cfg.Agent,
		Client: wire.ClientInfo{Name: c.cfg.Name, Version: c.cfg.Version},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != "" {
		connect.Resume = &wire.Resume{Session: c.session, Seq: c.got.base}
		for _, s := range c.subs {
			if p, ok := s.positionLocked(); ok {
				connect.Resume.Channels = append(connect.Resume.Channels, p)
			}
		}
	}
	return &wire.Command{ID: c.lastID.Add(1), Kind: wire.KindConnect, Connect: connect, Class: wire.Normal}
}

// hello sends connect and waits for its answer. The caller closes the network
// connection when it takes too long.
func (l *link) hello(cmd *wire.Command) error {
	frame := wire.AppendCommand(nil, l.encoding, cmd)
	if err := l.write(appendFrame(nil, l.encoding, frame)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	for {
		msg, err := l.read()
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		for len(msg) > 0 {
			var ev wire.Event
			n, err := ev.Read(l.encoding, msg)
			if n <= 0 {
				return fmt.Errorf("connect: the relay sent what is no frame: %w", err)
			}
			msg = msg[n:]
			switch {
			case err != nil: // a frame of a later protocol version
			case ev.Kind == wire.KindConnected:
				l.connected = ev.Connected
				l.first = bytes.Clone(msg)
				return nil
			case ev.Kind == wire.KindError:
				return &refusal{&ev.Error.Err}
			}
		}
	}
}

// read returns the next WebSocket message, valid until the next read.
func (l *link) read() ([]byte, error) {
	_, r, err := l.ws.NextReader()
	if err == nil {
		l.buf.Reset()
		_, err = l.buf.ReadFrom(r)
	}
	if err != nil {
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code != websocket.CloseAbnormalClosure {
			return nil, &CloseError{Code: wire.CloseCode(closed.Code), Reason: closed.Text}
		}
		return nil, fmt.Errorf("read: %w", err)
	}
	msg := l.buf.Bytes()
	if l.buf.Cap() > 1<<20 { // one huge message must not keep its memory for ever
		l.buf = bytes.Buffer{}
	}
	return msg, nil
}

func (l *link) write(msg []byte) error {
	kind := websocket.TextMessage
	if l.encoding == wire.Protobuf {
		kind = websocket.BinaryMessage
	}
	_ = l.ws.SetWriteDeadline(time.Now().Add(writeTimeout)) // it only stores the time
	return l.ws.WriteMessage(kind, msg)
}

// appendFrame adds frame to a WebSocket message that may hold several.
func appendFrame(msg []byte, encoding wire.Encoding, frame []byte) []byte {
	if encoding == wire.Protobuf {
		return append(binary.AppendUvarint(msg, uint64(len(frame))), frame...)
	}
	if len(msg) > 0 {
		msg = append(msg, '\n')
	}
	return append(msg, frame...)
}

// plan is what the relay asked for the time after the connection.
type plan struct {
	notBefore time.Time
	endpoints []string // base addresses of other nodes, tried once each
}

// note takes what a notice says of reconnecting.
func (p *plan) note(n wire.Notice, base string) {
	if n.ReconnectInMS > 0 {
		p.notBefore = time.Now().Add(min(time.Duration(n.ReconnectInMS)*time.Millisecond, maxRetryAfter))
	}
	p.endpoints = p.endpoints[:0]
	for _, e := range n.Endpoints {
		// The token goes there: never over a weaker scheme than the first address.
		if u, err := socketURL(e); err == nil && len(p.endpoints) < 16 && (u[:4] == "wss:" || base[:4] != "wss:") {
			p.endpoints = append(p.endpoints, u)
		}
	}
}

// wait is the time before attempt number n after err.
func (p *plan) wait(b Backoff, n int, err error) time.Duration {
	asked := retryAfter(err)
	if e, ok := errors.AsType[*CloseError](err); ok && e.Code == wire.CloseOverloaded {
		asked = max(asked, b.Min)
	}
	if left := time.Until(p.notBefore); left > 0 {
		asked = max(asked, left)
	}
	return b.delay(n, asked)
}
