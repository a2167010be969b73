package web

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"agentnet/app/doctor"

	"github.com/gofiber/fiber/v2"
)

// Proxies knows which peers may speak for others. The zero value trusts nobody.
type Proxies struct {
	trusted []netip.Prefix
	header  string
}

// ForwardedHeader names the standard header (RFC 7239) for ParseProxies.
const ForwardedHeader = "Forwarded"

// ParseProxies reads addresses and networks such as "10.0.0.0/8" or "::1". header
// is the one header that these proxies write: X-Forwarded-For, also when it is
// "", or Forwarded. Only one is read, because a proxy passes on what a client
// wrote into the other.
func ParseProxies(list []string, header string) (Proxies, error) {
	switch {
	case header == "" || strings.EqualFold(header, fiber.HeaderXForwardedFor):
		header = fiber.HeaderXForwardedFor
	case strings.EqualFold(header, ForwardedHeader):
		header = ForwardedHeader
	default:
		return Proxies{}, fmt.Errorf("proxy header %q: expected X-Forwarded-For or Forwarded", header)
	}
	p := Proxies{header: header}
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return Proxies{}, fmt.Errorf("trusted proxy %q: expected an address or a network such as 10.0.0.0/8", text)
			}
			prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		p.trusted = append(p.trusted, prefix.Masked())
	}
	return p, nil
}

func (p Proxies) trusts(addr netip.Addr) bool {
	for _, prefix := range p.trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// ClientAddr is the address of the client: that of the peer, unless the peer is a
// trusted proxy. Then it is the last address in the header that no trusted proxy
// has, because each proxy appends whom it heard. It is the zero Addr when the
// peer has no IP address.
func (p Proxies) ClientAddr(c *fiber.Ctx) netip.Addr {
	peer := peerAddr(c)
	if !p.trusts(peer) {
		return peer
	}
	return p.walk(peer, c.Context().Request.Header.PeekAll(p.header))
}

// walk goes from the right through all values of the header, which count as one
// list. It stops at the first address that is not trusted, and at anything that
// is not an address: what is left of it may be forged.
func (p Proxies) walk(peer netip.Addr, values [][]byte) netip.Addr {
	client := peer
	for v := len(values) - 1; v >= 0; v-- {
		rest := string(values[v])
		for more := true; more; {
			var item string
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, item = rest[:cut], rest[cut+1:]
			} else {
				rest, item, more = "", rest, false
			}
			addr, ok := p.parse(item)
			if !ok {
				return client
			}
			if client = addr; !p.trusts(addr) {
				return client
			}
		}
	}
	return client
}

// parse reads one element of the header.
func (p Proxies) parse(item string) (netip.Addr, bool) {
	item = strings.TrimSpace(item)
	if p.header == ForwardedHeader {
		found := false
		for pair := range strings.SplitSeq(item, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if !strings.EqualFold(name, "for") {
				continue
			}
			if found { // twice in one element: malformed
				return netip.Addr{}, false
			}
			item, found = strings.Trim(value, `"`), true
		}
		if !found {
			return netip.Addr{}, false
		}
	}
	if port, err := netip.ParseAddrPort(item); err == nil {
		return port.Addr().Unmap().WithZone(""), true
	}
	item = strings.TrimSuffix(strings.TrimPrefix(item, "["), "]")
	addr, err := netip.ParseAddr(item)
	return addr.Unmap().WithZone(""), err == nil
}

// peerAddr is the other end of the socket.
func peerAddr(c *fiber.Ctx) netip.Addr {
	if tcp, ok := c.Context().RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// forwarded says that somebody passed the request on.
func forwarded(c *fiber.Ctx) bool {
	h := &c.Context().Request.Header
	for _, name := range []string{fiber.HeaderXForwardedFor, ForwardedHeader, "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if len(h.Peek(name)) > 0 {
			return true
		}
	}
	return false
}

// seen tells how a request arrived, for those who look for faults of proxies.
func (s *Server) seen(c *fiber.Ctx) doctor.Seen {
	peer := peerAddr(c)
	return doctor.Seen{Client: s.ClientAddr(c).String(), Peer: peer.String(), Forwarded: forwarded(c), Trusted: s.cfg.Proxies.trusts(peer)}
}
