package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/redis/rueidis"
)

// clientOptions say how to connect to one Redis.
type clientOptions struct {
	rueidis.ClientOption
	cluster bool
}

// client connects within ctx.
func (o clientOptions) client(ctx context.Context) (rueidis.Client, error) {
	if until, ok := ctx.Deadline(); ok {
		o.Dialer.Timeout = max(min(time.Until(until), stall), time.Millisecond)
	}
	c, err := rueidis.NewClient(o.ClientOption)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return c, nil
}

// clientOption turns a BrokerConfig into the client's words.
func clientOption(cfg BrokerConfig) (opt clientOptions, err error) {
	switch {
	case (cfg.URL != "") == (cfg.Dial != nil):
		return opt, errors.New("give a redis URL or an embedded store, and not both")
	case cfg.URL != "":
		if opt, err = parseURL(cfg.URL); err != nil {
			return opt, err
		}
	default:
		opt.InitAddress = []string{"embedded:0"}
		opt.Password = cfg.Password
		opt.DialCtxFn = func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return cfg.Dial(ctx)
		}
	}
	opt.ForceSingleClient = !opt.cluster && opt.Sentinel.MasterSet == ""
	opt.DisableCache = true     // the embedded store has no CLIENT TRACKING
	opt.DisableRetry = true     // who calls decides, within its own time
	opt.AlwaysPipelining = true // a call that runs out of time leaves the connection to the others
	opt.PipelineMultiplex = -1  // one connection: what is sent first is done first
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	opt.Dialer.Timeout = stall
	opt.Dialer.KeepAlive = time.Second
	opt.ConnWriteTimeout = stall
	return opt, nil
}

// CheckURL says what is wrong with the URL of a Redis. It is one of
//
//	redis://[user:password@]host[:port][/db]
//	redis+sentinel://[user:password@]host[:port],host[:port]/master[?db=N]
//	redis+cluster://[user:password@]host[:port],host[:port]
//
// each with rediss for TLS. Its errors never repeat the URL, which may hold a
// password.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

const urlForms = "redis://[user:password@]host:port[/db], redis+sentinel://host:port,host:port/master or redis+cluster://host:port,host:port, with rediss for TLS"

// parseURL reads the URL of a Redis.
func parseURL(text string) (opt clientOptions, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	base, kind, _ := strings.Cut(scheme, "+")
	if !ok || base != "redis" && base != "rediss" || kind != "" && kind != "sentinel" && kind != "cluster" {
		return opt, errors.New("the redis URL must begin with redis:// or rediss://; it is " + urlForms)
	}
	// net/url takes one host only: the list is taken out before.
	at := strings.LastIndexByte(rest, '@') + 1
	end := len(rest)
	if i := strings.IndexAny(rest[at:], "/?#"); i >= 0 {
		end = at + i
	}
	hosts := rest[at:end]
	u, err := url.Parse("redis://" + rest[:at] + "host" + rest[end:])
	if err != nil {
		return opt, errors.New("the redis URL cannot be read; it is " + urlForms + ", and special characters of a password are written as %XX")
	}
	if kind == "" && strings.Contains(hosts, ",") {
		return opt, errors.New("the redis URL names several hosts; write redis+cluster:// or redis+sentinel://")
	}
	port := "6379"
	if kind == "sentinel" {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		address, err := hostPort(host, port)
		if err != nil {
			return opt, err
		}
		opt.InitAddress = append(opt.InitAddress, address)
	}
	if u.User != nil {
		opt.Username = u.User.Username()
		opt.Password, _ = u.User.Password()
	}
	if base == "rediss" {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(opt.InitAddress) == 1 {
			opt.TLSConfig.ServerName, _, _ = net.SplitHostPort(opt.InitAddress[0])
		}
	}
	return opt, opt.place(kind, u)
}

// place reads what stands behind the hosts.
func (o *clientOptions) place(kind string, u *url.URL) (err error) {
	path, query := strings.Trim(u.Path, "/"), u.Query()
	db := path
	if kind == "sentinel" {
		if path == "" || strings.Contains(path, "/") {
			return errors.New("the redis URL names no master; it is redis+sentinel://host:port,host:port/master")
		}
		o.Sentinel = rueidis.SentinelOption{MasterSet: path, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig}
		db = query.Get("db")
		query.Del("db")
		if query.Get("sentinel_password") != "" {
			o.Sentinel.Username, o.Sentinel.Password = query.Get("sentinel_user"), query.Get("sentinel_password")
			query.Del("sentinel_user")
			query.Del("sentinel_password")
		}
	}
	o.cluster = kind == "cluster"
	if len(query) > 0 || u.Fragment != "" {
		return errors.New("the redis URL takes no ? and no # part")
	}
	if db == "" {
		return nil
	}
	if o.cluster {
		return errors.New("the redis URL names a database; a Redis Cluster has none")
	}
	if o.SelectDB, err = strconv.Atoi(db); err != nil || o.SelectDB < 0 {
		return fmt.Errorf("the redis URL has database %q; a database is a number from 0", db)
	}
	return nil
}

// hostPort reads one host with its port.
func hostPort(text, port string) (string, error) {
	u, err := url.Parse("redis://" + text)
	if err != nil || u.Hostname() == "" {
		return "", errors.New("the redis URL names no host, or one that cannot be read")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("the redis URL has port %q; a port is 1 to 65535", port)
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// ownBytes returns the bytes of a message that the client has just made, and that
// nobody else has: it reads each into a slice of its own.
func ownBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
