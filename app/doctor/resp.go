package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A redisConn is one connection that asks and waits. The doctor has its own few
// lines for that, so that it tells of Redis also when the node's own connections
// are what is broken.
type redisConn struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialRedis connects as the key redis says. Its errors never hold the password.
func dialRedis(ctx context.Context, address string) (*redisConn, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, errors.New("redis: want redis://[user:password@]host:port[/db] or rediss://")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	host := net.JoinHostPort(u.Hostname(), port)
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	var conn net.Conn
	if u.Scheme == "rediss" {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{ServerName: u.Hostname()}}).DialContext(ctx, "tcp", host)
	} else {
		conn, err = dialer.DialContext(ctx, "tcp", host)
	}
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	until, ok := ctx.Deadline()
	if !ok || time.Until(until) > checkTime {
		until = time.Now().Add(checkTime)
	}
	_ = conn.SetDeadline(until)
	c := &redisConn{conn: conn, r: bufio.NewReader(conn)}
	if password, ok := u.User.Password(); ok {
		args := []string{"AUTH", password}
		if user := u.User.Username(); user != "" {
			args = []string{"AUTH", user, password}
		}
		if _, err := c.do(args...); err != nil {
			c.close()
			return nil, fmt.Errorf("redis at %s: the password was refused: %w", host, err)
		}
	}
	if _, err := c.do("PING"); err != nil {
		c.close()
		return nil, fmt.Errorf("redis at %s: %w", host, err)
	}
	return c, nil
}

func (c *redisConn) close() { c.conn.Close() }

// do sends one command and reads its answer.
func (c *redisConn) do(args ...string) (any, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c.conn, b.String()); err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	v, err := c.read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return v, nil
}

func (c *redisConn) text(args ...string) (string, error) {
	v, err := c.do(args...)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s: the answer is no text", args[0])
	}
	return s, nil
}

func (c *redisConn) read() (any, error) { return readRESP(c.r, 0) }

// errRESP means that what answers does not speak Redis' protocol.
var errRESP = errors.New("what answers there does not speak the protocol of Redis")

// readRESP reads one value: string, int64, nil or []any. An error answer is an error.
func readRESP(r *bufio.Reader, depth int) (any, error) {
	const maxText, maxList, maxDepth = 1 << 20, 1 << 12, 4
	line, err := r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, errRESP
		}
		return nil, err
	}
	text := strings.TrimRight(string(line), "\r\n")
	if text == "" || depth > maxDepth {
		return nil, errRESP
	}
	kind, rest := text[0], text[1:]
	if kind == '+' {
		return rest, nil
	}
	if kind == '-' {
		return nil, errors.New(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, errRESP
	}
	switch {
	case kind == ':':
		return n, nil
	case (kind == '$' || kind == '*') && n == -1:
		return nil, nil
	case kind == '$' && n >= 0 && n <= maxText:
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case kind == '*' && n >= 0 && n <= maxList:
		var list []any
		for range n {
			v, err := readRESP(r, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	return nil, errRESP
}
