package bench

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// A target is an endpoint in the kernel's terms.
type target struct {
	family  int
	addr    unix.Sockaddr
	request []byte
	at      netip.AddrPort
	sources []unix.Sockaddr // addresses to connect from; empty: as the kernel chooses
}

// dialTarget prepares an endpoint; sources above 1 spreads connections over so
// many loopback addresses, where the endpoint is one, because a pair of addresses
// has only some 28,000 ports.
func dialTarget(e *endpoint, sources int) *target {
	t := &target{family: unix.AF_INET6, addr: sockaddr(e.addr), request: e.request, at: e.addr}
	if e.addr.Addr().Is4() {
		t.family = unix.AF_INET
	}
	if e.addr.Addr().Is4() && e.addr.Addr().IsLoopback() && sources > 1 {
		for i := range sources {
			t.sources = append(t.sources, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + i)}})
		}
	}
	return t
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// source is the address that connection number i comes from; nil: as the kernel chooses.
func (t *target) source(i int) unix.Sockaddr {
	if len(t.sources) == 0 {
		return nil
	}
	return t.sources[i%len(t.sources)]
}
