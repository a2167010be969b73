package api

import (
	"net/http"
	"time"

	"agentnet/app/relay"

	"github.com/gofiber/fiber/v2"
)

// HealthReply says that the process lives.
type HealthReply struct {
	Status  string `json:"status" enum:"ok"`
	Version string `json:"version,omitempty"`
}

func (a *API) healthz(c *fiber.Ctx, _ *relay.Identity) error {
	return writeJSON(c, http.StatusOK, HealthReply{Status: "ok", Version: a.cfg.Version})
}

// ReadyReply says whether the node wants traffic.
type ReadyReply struct {
	Ready   bool           `json:"ready"`
	Reasons []relay.Reason `json:"reasons" doc:"Every check, the bad ones first."`
}

// readiness reads the relay's reasons, the bad ones first.
func (a *API) readiness() ReadyReply {
	reply := ReadyReply{Ready: true, Reasons: []relay.Reason{}}
	var good []relay.Reason
	for _, r := range a.cfg.Relay.Ready() {
		if r.OK {
			good = append(good, r)
			continue
		}
		reply.Ready = false
		reply.Reasons = append(reply.Reasons, r)
	}
	reply.Reasons = append(reply.Reasons, good...)
	return reply
}

// confides says whether c may read the texts of reasons, which may name files and
// addresses of this machine.
func (a *API) confides(c *fiber.Ctx) bool {
	if a.cfg.Local(c) {
		return true
	}
	if len(c.Context().Request.Header.Peek(fiber.HeaderAuthorization)) == 0 {
		return false
	}
	id, refused := a.identify(c)
	return refused == nil && watches(id)
}

func (a *API) readyz(c *fiber.Ctx, _ *relay.Identity) error {
	reply := a.readiness()
	if !a.confides(c) {
		for i := range reply.Reasons {
			reply.Reasons[i].Message = ""
		}
	}
	if !reply.Ready {
		c.Set(fiber.HeaderRetryAfter, "1")
		return writeJSON(c, http.StatusServiceUnavailable, reply)
	}
	return writeJSON(c, http.StatusOK, reply)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
