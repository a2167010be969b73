package ws

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"
)

// Handler upgrades requests of GET {base}/ws. Whatever speaks against an upgrade
// is answered before it with a problem document.
func (s *Server) Handler() fiber.Handler {
	upgrade := websocket.New(claim, websocket.Config{
		// The library's buffers are not used: the socket is ours at once.
		ReadBufferSize: 128, WriteBufferSize: 128,
		RecoverHandler: func(*websocket.Conn) {
			if v := recover(); v != nil {
				s.logPanic("upgrade", v)
			}
		},
	})
	return func(c *fiber.Ctx) error {
		s.asking()
		s.door.pass()
		if p := s.admit(c, upgrade); p != nil {
			s.tally.refuse(p.Code)
			return p.send(c)
		}
		return nil
	}
}

// admit goes through all that speaks against an upgrade, the cheapest first, and
// starts it when nothing does.
func (s *Server) admit(c *fiber.Ctx, upgrade fiber.Handler) *problem {
	if p := checkHandshake(c); p != nil {
		return p
	}
	subprotocol, encoding, p := chooseSubprotocol(headerValues(c, "Sec-WebSocket-Protocol"))
	if p != nil {
		return p
	}
	if p := s.checkOrigin(c); p != nil {
		return p
	}
	id, p := s.authorize(c)
	if p != nil {
		return p
	}
	if s.closing.Load() {
		return refusal(http.StatusServiceUnavailable, wire.Unavailable, goingAway)
	}
	addr := s.cfg.ClientAddr(c)
	if e := s.cfg.Hub.Admit(addr); e != nil {
		return fromWire(e)
	}
	t := s.issue(relay.ConnInfo{Encoding: encoding, Addr: addr, Identity: id})
	if err := s.upgrade(c, upgrade, t, subprotocol); err != nil {
		t.giveUp()
		return refusal(http.StatusUpgradeRequired, wire.BadFrame, "the request is not a WebSocket upgrade that we understand")
	}
	return nil
}

// upgrade lets the library answer 101. Its answer is sent by the ticket, which
// then knows whether it could be.
func (s *Server) upgrade(c *fiber.Ctx, upgrade fiber.Handler, t *ticket, subprotocol string) error {
	extension, deflate := "", false
	if s.cfg.Compression {
		extension, deflate = negotiateDeflate(headerValues(c, "Sec-WebSocket-Extensions"))
	}
	t.deflate, t.ctx = deflate, c.Context()
	c.Locals(ticketKey, t)
	// The library copies headers and cookies into maps that a pool keeps alive:
	// secrets must not be among them.
	header := &c.Context().Request.Header
	header.Del(fiber.HeaderAuthorization)
	header.DelAllCookies()
	if err := upgrade(c); err != nil {
		return err
	}
	if subprotocol != "" {
		c.Set("Sec-WebSocket-Protocol", subprotocol)
	}
	if deflate {
		c.Set("Sec-WebSocket-Extensions", extension)
	}
	c.Context().HijackSetNoResponse(true)
	return nil
}

// checkHandshake looks at the request as RFC 6455, section 4.2.1 does.
func checkHandshake(c *fiber.Ctx) *problem {
	header := &c.Context().Request.Header
	if !header.IsGet() || !header.IsHTTP11() ||
		!hasToken(headerValues(c, fiber.HeaderConnection), "upgrade") ||
		!hasToken(headerValues(c, fiber.HeaderUpgrade), "websocket") {
		return refusal(http.StatusUpgradeRequired, wire.BadFrame,
			"this address speaks WebSocket: send GET with Connection: Upgrade and Upgrade: websocket over HTTP/1.1")
	}
	if v := headerValues(c, "Sec-WebSocket-Version"); len(v) != 1 || strings.TrimSpace(v[0]) != "13" {
		return refusal(http.StatusUpgradeRequired, wire.BadFrame, "only version 13 of WebSocket is spoken")
	}
	keys := headerValues(c, "Sec-WebSocket-Key")
	if len(keys) == 1 {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0]))
		if err == nil && len(raw) == 16 {
			return nil
		}
	}
	return refusal(http.StatusBadRequest, wire.BadFrame, "Sec-WebSocket-Key must be given once, as 16 bytes in base64")
}

// chooseSubprotocol takes the first one offered that we speak. None offered means
// JSON, and then none is echoed.
func chooseSubprotocol(values []string) (name string, e wire.Encoding, p *problem) {
	offered := false
	for _, v := range values {
		for _, name := range strings.Split(v, ",") {
			switch strings.TrimSpace(name) {
			case wire.SubprotocolJSON:
				return wire.SubprotocolJSON, wire.JSON, nil
			case wire.SubprotocolProtobuf:
				return wire.SubprotocolProtobuf, wire.Protobuf, nil
			case "":
			default:
				offered = true
			}
		}
	}
	if offered {
		return "", 0, refusal(http.StatusBadRequest, wire.BadFrame, "none of the offered subprotocols is spoken here; offer "+
			wire.SubprotocolJSON+" or "+wire.SubprotocolProtobuf)
	}
	return "", wire.JSON, nil
}

func (s *Server) checkOrigin(c *fiber.Ctx) *problem {
	origins := headerValues(c, fiber.HeaderOrigin)
	switch {
	case len(origins) == 0:
		return nil
	case len(origins) == 1 && s.originAllowed(origins[0], string(c.Context().Host())):
		return nil
	}
	return refusal(http.StatusForbidden, wire.Forbidden, "pages of this origin may not connect; its operator can list it in origins")
}

// authorize checks the bearer token when there is one. No identity and no problem
// means that the first frame has to bring it.
func (s *Server) authorize(c *fiber.Ctx) (*relay.Identity, *problem) {
	values := headerValues(c, fiber.HeaderAuthorization)
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) > 1 {
		return nil, refusal(http.StatusUnauthorized, wire.Unauthorized, "the Authorization header was given more than once")
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, refusal(http.StatusUnauthorized, wire.Unauthorized, "the Authorization header must be: Bearer, a space, the token")
	}
	if s.cfg.Authorize == nil {
		return nil, refusal(http.StatusServiceUnavailable, wire.Unavailable, relay.ErrAuthUnavailable.Error())
	}
	ctx, cancel := context.WithTimeout(context.Background(), authorizeWait)
	defer cancel()
	id, err := s.cfg.Authorize(ctx, token)
	switch {
	case err == nil && id != nil:
		return id, nil
	case errors.Is(err, relay.ErrUnauthorized):
		return nil, refusal(http.StatusUnauthorized, wire.Unauthorized, relay.ErrUnauthorized.Error())
	case errors.Is(err, relay.ErrTokenExpired):
		return nil, refusal(http.StatusUnauthorized, wire.Unauthorized, relay.ErrTokenExpired.Error())
	}
	return nil, refusal(http.StatusServiceUnavailable, wire.Unavailable, relay.ErrAuthUnavailable.Error())
}

// headerValues returns copies of all values of a header: fasthttp writes over its
// own buffers.
func headerValues(c *fiber.Ctx, name string) []string {
	raw := c.Context().Request.Header.PeekAll(name)
	if len(raw) == 0 {
		return nil
	}
	out := make([]string, len(raw))
	for i, v := range raw {
		out[i] = string(v)
	}
	return out
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for _, t := range strings.Split(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}
