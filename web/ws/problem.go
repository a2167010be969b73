package ws

import (
	"encoding/json"
	"net/http"
	"strconv"

	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A problem is a refusal before the upgrade, an RFC 9457 document.
type problem struct {
	Type   string    `json:"type"`
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Code   wire.Code `json:"code"`
	Detail string    `json:"detail"`

	retryAfterMS int64
}

func refusal(status int, code wire.Code, detail string) *problem {
	return &problem{
		Type: "about:blank", Title: http.StatusText(status),
		Status: status, Code: code, Detail: detail,
	}
}

// send answers the request with p.
func (p *problem) send(c *fiber.Ctx) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	switch p.Status {
	case http.StatusUpgradeRequired:
		c.Set(fiber.HeaderUpgrade, "websocket")
		c.Set(fiber.HeaderConnection, "Upgrade")
		c.Set("Sec-WebSocket-Version", "13")
	case http.StatusUnauthorized:
		c.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		// Seconds, rounded up: a client that comes too early is refused again.
		c.Set(fiber.HeaderRetryAfter, strconv.FormatInt(max(1, (p.retryAfterMS+999)/1000), 10))
	}
	c.Set(fiber.HeaderContentType, "application/problem+json")
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(p.Status).Send(body)
}

// fromWire is the answer to an admission that the relay refused.
func fromWire(e *wire.Error) *problem {
	status := http.StatusServiceUnavailable
	if e.Code == wire.RateLimited {
		status = http.StatusTooManyRequests
	}
	p := refusal(status, e.Code, e.Message)
	p.retryAfterMS = e.RetryAfterMS
	return p
}
