package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"agentnet/app/redis"
)

// A redisConn is one connection that asks and waits. The doctor has its own few
// lines for that, so that it tells of Redis also when the node's own connections
// are what is broken.
type redisConn struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialRedis connects as the keys redis and redis_tls say: to the server, to the
// primary that the Sentinels name, or to the first server of a Cluster that answers.
// Its errors never hold the password; one that only a person can mend is a
// *redis.Fault.
func dialRedis(ctx context.Context, cfg *Config) (*redisConn, error) {
	a, err := redis.Parse(cfg.Redis)
	if err != nil {
		return nil, err
	}
	var secure *tls.Config
	if a.TLS {
		if secure, err = cfg.RedisTLS.Config(); err != nil {
			return nil, err
		}
	}
	if a.Kind != redis.Sentinel {
		return dialAny(ctx, a.Hosts, a.User, a.Password, secure)
	}
	guard, err := dialAny(ctx, a.Hosts, a.SentinelUser, a.SentinelPassword, secure)
	if err != nil {
		return nil, fmt.Errorf("sentinel: %w", err)
	}
	defer guard.close()
	got, err := guard.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", a.Master)
	if err != nil {
		return nil, fmt.Errorf("sentinel: %w", redis.Explain(err))
	}
	place, ok := got.([]any)
	if !ok || len(place) != 2 {
		return nil, fmt.Errorf("sentinel: it watches no master named %q", a.Master)
	}
	return dialAny(ctx, []string{net.JoinHostPort(fmt.Sprint(place[0]), fmt.Sprint(place[1]))}, a.User, a.Password, secure)
}

// dialAny returns the first server that answers, or all that went wrong.
func dialAny(ctx context.Context, hosts []string, user, password string, secure *tls.Config) (*redisConn, error) {
	var faults []error
	for _, host := range hosts {
		c, err := dialServer(ctx, host, user, password, secure)
		if err == nil {
			return c, nil
		}
		faults = append(faults, fmt.Errorf("redis at %s: %w", host, redis.Diagnose(ctx, err, []string{host}, secure)))
	}
	return nil, errors.Join(faults...)
}

func dialServer(ctx context.Context, host, user, password string, secure *tls.Config) (*redisConn, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	var conn net.Conn
	var err error
	if secure != nil {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: secure}).DialContext(ctx, "tcp", host)
	} else {
		conn, err = dialer.DialContext(ctx, "tcp", host)
	}
	if err != nil {
		return nil, err
	}
	until, ok := ctx.Deadline()
	if !ok || time.Until(until) > checkTime {
		until = time.Now().Add(checkTime)
	}
	_ = conn.SetDeadline(until)
	c := &redisConn{conn: conn, r: bufio.NewReader(conn)}
	if password != "" {
		args := []string{"AUTH", password}
		if user != "" {
			args = []string{"AUTH", user, password}
		}
		if _, err := c.do(args...); err != nil {
			c.close()
			return nil, fmt.Errorf("the password was refused: %w", err)
		}
	}
	if _, err := c.do("PING"); err != nil {
		c.close()
		return nil, err
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
