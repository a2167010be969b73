package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
	"unsafe"

	"agentnet/app/redis"

	"github.com/redis/rueidis"
)

// clientOptions say how to connect to one Redis.
type clientOptions struct {
	rueidis.ClientOption
	cluster bool
	real    bool // a server of its own, not the embedded one
}

// client connects within ctx.
func (o clientOptions) client(ctx context.Context) (rueidis.Client, error) {
	if until, ok := ctx.Deadline(); ok {
		o.Dialer.Timeout = max(min(time.Until(until), stall), time.Millisecond)
	}
	c, err := rueidis.NewClient(o.ClientOption)
	if err != nil {
		if o.real {
			err = redis.Diagnose(ctx, err, o.InitAddress, o.TLSConfig)
		}
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
		if opt, err = parseURL(cfg.URL, cfg.TLS); err != nil {
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
	opt.ClientSetInfo = rueidis.DisableClientSetInfo // one right less that the user needs
	opt.DisableCache = true                          // the embedded store has no CLIENT TRACKING
	opt.DisableRetry = true                          // who calls decides, within its own time
	opt.AlwaysPipelining = true                      // a call that runs out of time leaves the connection to the others
	opt.PipelineMultiplex = -1                       // one connection: what is sent first is done first
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	opt.Dialer.Timeout = stall
	opt.Dialer.KeepAlive = time.Second
	opt.ConnWriteTimeout = stall
	return opt, nil
}

// CheckURL says what is wrong with the URL of a Redis; see redis.Address. Its errors
// never repeat the URL, which may hold a password.
func CheckURL(text string) error {
	_, err := redis.Parse(text)
	return err
}

// parseURL reads the URL of a Redis.
func parseURL(text string, files redis.TLS) (opt clientOptions, err error) {
	a, err := redis.Parse(text)
	if err != nil {
		return opt, err
	}
	opt.InitAddress, opt.Username, opt.Password, opt.SelectDB = a.Hosts, a.User, a.Password, a.DB
	if a.TLS {
		if opt.TLSConfig, err = files.Config(); err != nil {
			return opt, err
		}
	}
	opt.cluster, opt.real = a.Kind == redis.Cluster, true
	if a.Kind == redis.Sentinel {
		opt.Sentinel = rueidis.SentinelOption{MasterSet: a.Master, Username: a.SentinelUser, Password: a.SentinelPassword, TLSConfig: opt.TLSConfig}
	}
	return opt, nil
}

// ownBytes returns the bytes of a message that the client has just made, and that
// nobody else has: it reads each into a slice of its own.
func ownBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
