package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A Kind is what stands behind an address.
type Kind string

// The kinds: one server, servers watched by Sentinels, and a Redis Cluster.
const (
	Single   Kind = ""
	Sentinel Kind = "sentinel"
	Cluster  Kind = "cluster"
)

// An Address is a URL that was read. It is one of
//
//	redis://[user:password@]host[:port][/db]
//	redis+sentinel://[user:password@]host[:port],host[:port]/master[?db=N]
//	redis+cluster://[user:password@]host[:port],host[:port]
//
// each with rediss for TLS.
type Address struct {
	Kind           Kind
	Hosts          []string // host:port; of Sentinels theirs
	User, Password string
	DB             int
	TLS            bool

	Master                         string // of Sentinels: what they call the primary
	SentinelUser, SentinelPassword string // how Sentinels themselves are asked
}

const forms = "redis://[user:password@]host:port[/db], redis+sentinel://host:port,host:port/master or redis+cluster://host:port,host:port, with rediss for TLS"

// Parse reads the URL of a Redis. Its errors never repeat the URL, which may hold a
// password.
func Parse(text string) (a Address, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	base, kind, _ := strings.Cut(scheme, "+")
	a.Kind, a.TLS = Kind(kind), base == "rediss"
	if !ok || base != "redis" && base != "rediss" || a.Kind != Single && a.Kind != Sentinel && a.Kind != Cluster {
		return a, errors.New("the redis URL must begin with redis:// or rediss://; it is " + forms)
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
		return a, errors.New("the redis URL cannot be read; it is " + forms + ", and special characters of a password are written as %XX")
	}
	if a.Kind == Single && strings.Contains(hosts, ",") {
		return a, errors.New("the redis URL names several hosts; write redis+cluster:// or redis+sentinel://")
	}
	port := "6379"
	if a.Kind == Sentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		address, err := hostPort(host, port)
		if err != nil {
			return a, err
		}
		a.Hosts = append(a.Hosts, address)
	}
	if u.User != nil {
		a.User = u.User.Username()
		a.Password, _ = u.User.Password()
	}
	return a, a.place(u)
}

// place reads what stands behind the hosts.
func (a *Address) place(u *url.URL) (err error) {
	path, query := strings.Trim(u.Path, "/"), u.Query()
	db := path
	if a.Kind == Sentinel {
		if path == "" || strings.Contains(path, "/") {
			return errors.New("the redis URL names no master; it is redis+sentinel://host:port,host:port/master")
		}
		a.Master, a.SentinelUser, a.SentinelPassword = path, a.User, a.Password
		db = query.Get("db")
		query.Del("db")
		if query.Get("sentinel_password") != "" {
			a.SentinelUser, a.SentinelPassword = query.Get("sentinel_user"), query.Get("sentinel_password")
			query.Del("sentinel_user")
			query.Del("sentinel_password")
		}
	}
	if len(query) > 0 || u.Fragment != "" {
		return errors.New("the redis URL takes no ? and no # part")
	}
	if db == "" {
		return nil
	}
	if a.Kind == Cluster {
		return errors.New("the redis URL names a database; a Redis Cluster has none")
	}
	if a.DB, err = strconv.Atoi(db); err != nil || a.DB < 0 {
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
