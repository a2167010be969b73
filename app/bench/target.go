package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// The key of every upgrade request and the answer that proves the server read it:
// the sample of RFC 6455. A generator guards against broken servers, not against
// caches between them, so one key does.
const (
	upgradeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	upgradeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// An endpoint is where the server is and what it is asked.
type endpoint struct {
	addr    netip.AddrPort
	request []byte // the upgrade request
}

// newTarget resolves the base URL and writes the upgrade request for the door
// at path below it.
func newTarget(base, path string, header []string) (*endpoint, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("not a URL: want http://HOST:PORT")
	}
	switch u.Scheme {
	case "http", "ws":
	case "https", "wss":
		return nil, fmt.Errorf("%s: the load generator speaks plain TCP only: measure the relay's plain port, or through a local TLS-terminating proxy", u.Scheme)
	default:
		return nil, fmt.Errorf("scheme %q: want http://HOST:PORT", u.Scheme)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return nil, errors.New("no host: want http://HOST:PORT")
	}
	if port == "" {
		port = "80"
	}
	resolved, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	addr := resolved.AddrPort()
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())

	var b strings.Builder
	fmt.Fprintf(&b, "GET %s%s HTTP/1.1\r\nHost: %s\r\n", strings.TrimSuffix(u.EscapedPath(), "/"), path, u.Host)
	b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + upgradeKey + "\r\n")
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return &endpoint{addr: addr, request: []byte(b.String())}, nil
}
