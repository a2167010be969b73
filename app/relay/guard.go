package relay

import (
	"net/netip"
	"time"

	"agentnet/app/wire"
)

// Blocked is nil when a token from addr may be checked: the address has not
// failed too often lately.
func (h *Hub) Blocked(addr netip.Addr) *wire.Error {
	if wait := h.addresses.Blocked(int64(time.Since(h.started))+1, addr); wait > 0 {
		return &wire.Error{Code: wire.RateLimited, Message: "too many failed logins from this address", RetryAfterMS: retryMS(wait)}
	}
	return nil
}
