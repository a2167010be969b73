package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// parseURL reads redis://[user:password@]host[:port][/db] and rediss://. Its
// errors name the part that is wrong and never the URL, which may hold a password.
func parseURL(text string) (opt rueidis.ClientOption, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return opt, errors.New("the redis URL cannot be read; it is redis://[user:password@]host:port[/db], and special characters of a password are written as %XX")
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return opt, errors.New("the redis URL must begin with redis:// or rediss://")
	}
	if u.Hostname() == "" {
		return opt, errors.New("the redis URL names no host")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return opt, errors.New("the redis URL takes no ? and no # part")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return opt, fmt.Errorf("the redis URL has port %q; a port is 1 to 65535", port)
	}
	opt.InitAddress = []string{net.JoinHostPort(u.Hostname(), port)}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if opt.SelectDB, err = strconv.Atoi(db); err != nil || opt.SelectDB < 0 {
			return opt, fmt.Errorf("the redis URL has database %q; a database is a number from 0", db)
		}
	}
	if u.User != nil {
		opt.Username = u.User.Username()
		opt.Password, _ = u.User.Password()
	}
	if u.Scheme == "rediss" {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	}
	return opt, nil
}
