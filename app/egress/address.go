package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Rules say which addresses may be connected to. The zero value allows every
// public address and no other.
type Rules struct {
	// Allow opens networks that are closed by default, such as 10.0.0.0/8.
	Allow []netip.Prefix
	// All opens every address: for targets that only the operator of the machine
	// names, such as its own control plane.
	All bool
}

// closed are networks that no public service lives in, besides those that netip
// knows by its predicates. Some carry an IPv4 address inside, which would be a
// way around the rules.
var closed = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10")

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// ParseNetworks reads addresses and networks for Rules.Allow.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	var errs []error
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			addr, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil || addr.Zone() != "" {
				errs = append(errs, fmt.Errorf("%.60q is neither an address nor a network like 10.0.0.0/8", text))
				continue
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, errors.Join(errs...)
}

// ErrAddress is wrapped by every refusal to connect to an address.
var ErrAddress = errors.New("the address is not allowed")

// Check refuses an address that the rules do not open.
func (r *Rules) Check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if r.All {
		return nil
	}
	for _, p := range r.Allow {
		if p.Contains(addr) {
			return nil
		}
	}
	what := ""
	switch {
	case !addr.IsValid():
		what = "no address"
	case addr.IsLoopback():
		what = "this machine"
	case addr.IsPrivate():
		what = "a private network"
	case addr.IsLinkLocalUnicast(), addr.IsLinkLocalMulticast(), addr.IsInterfaceLocalMulticast():
		what = "link-local, where metadata services are"
	case addr.IsUnspecified(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		what = "no single machine"
	}
	for _, p := range closed {
		if what == "" && p.Contains(addr) {
			what = "in the reserved network " + p.String()
		}
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%v is %s: %w; allow its network in the configuration if it is meant", addr, what, ErrAddress)
}

// dialTime bounds one connect.
const dialTime = 5 * time.Second

// Dial connects to a TCP address. The check is made on each address that the
// name resolves to, when it is about to be used, so that a name server that
// changes its answer gains nothing.
func (r *Rules) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%q: %w", address, ErrAddress)
		}
		return r.Check(at.Addr())
	}}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}
