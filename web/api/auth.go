package api

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"agentnet/app/account"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// Access says who may use a route.
type Access uint8

const (
	// Public needs no token.
	Public Access = iota
	// AnyToken needs a token that is valid; the relay judges by its grants.
	AnyToken
	// Viewer needs one of the roles viewer, operator, admin, or metrics.
	Viewer
	// Scrape is Viewer, or this machine itself, or the token for metrics, or
	// everybody where that was configured.
	Scrape
	// Operator needs the role operator or admin.
	Operator
	// Admin needs the role admin.
	Admin
)

// String names the access in the words of the roles.
func (a Access) String() string {
	return [...]string{"public", "any token", "viewer", "scrape", "operator", "admin"}[a]
}

// watcherRoles may read what concerns the whole node.
var watcherRoles = []string{"viewer", "operator", "admin", "metrics"}

// bearer takes the token out of the one Authorization header. A second header is
// refused: a proxy may have looked at the other one.
func bearer(c *fiber.Ctx) ([]byte, *wire.Error) {
	headers := c.Context().Request.Header.PeekAll(fiber.HeaderAuthorization)
	switch {
	case len(headers) == 0:
		return nil, &wire.Error{Code: wire.Unauthorized, Message: "no token: send it as Authorization: Bearer"}
	case len(headers) > 1:
		return nil, &wire.Error{Code: wire.Unauthorized, Message: "more than one Authorization header"}
	}
	scheme, token, found := bytes.Cut(bytes.TrimSpace(headers[0]), []byte(" "))
	token = bytes.TrimSpace(token)
	if !found || !bytes.EqualFold(scheme, []byte("bearer")) || len(token) == 0 || bytes.ContainsAny(token, " \t,") {
		return nil, &wire.Error{Code: wire.Unauthorized, Message: "the Authorization header is not of the form Bearer TOKEN"}
	}
	return token, nil
}

// identify proves who is asking: by a token, or by the session of a browser that
// is signed in. Every refusal is a *wire.Error.
func (a *API) identify(c *fiber.Ctx) (*relay.Identity, *wire.Error) {
	if a.cfg.Session != nil && len(c.Context().Request.Header.PeekAll(fiber.HeaderAuthorization)) == 0 {
		if id, refused := a.cfg.Session(c); id != nil || refused != nil {
			return id, refused
		}
	}
	addr := a.cfg.ClientAddr(c)
	if a.cfg.Guard != nil {
		if e := a.cfg.Guard.Blocked(addr); e != nil {
			return nil, e
		}
	}
	token, refused := bearer(c)
	if refused != nil {
		return nil, refused
	}
	id, err := a.authorize(token)
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, relay.ErrTokenExpired):
		refused = &wire.Error{Code: wire.Unauthorized, Message: "the token has expired: get a new one"}
	case errors.Is(err, relay.ErrUnauthorized):
		refused = &wire.Error{Code: wire.Unauthorized, Message: "the token is not valid"}
	default:
		// The text of a key server or a database may name what nobody outside needs.
		a.cfg.Logger.Warn("a token could not be checked", "error", err)
		return nil, &wire.Error{Code: wire.Unavailable, Message: "tokens cannot be checked now; try again", RetryAfterMS: 1000}
	}
	if a.cfg.Guard != nil {
		a.cfg.Guard.Failed(addr)
	}
	return nil, refused
}

func (a *API) authorize(token []byte) (*relay.Identity, error) {
	id, found := a.cfg.Authorizer.Cached(token)
	if !found {
		ctx, cancel := context.WithTimeout(a.ctx, a.cfg.AuthTimeout)
		defer cancel()
		var err error
		if id, err = a.cfg.Authorizer.Authorize(ctx, string(token)); err != nil {
			return nil, err
		}
	}
	if id == nil {
		return nil, relay.ErrUnauthorized
	}
	if !id.Expires.IsZero() && !time.Now().Before(id.Expires) {
		return nil, relay.ErrTokenExpired
	}
	return id, nil
}

// watches says whether id may see what concerns the whole node.
func watches(id *relay.Identity) bool {
	return slices.ContainsFunc(id.Roles, func(role string) bool { return slices.Contains(watcherRoles, role) })
}

// admit decides whether c may use a route. id is nil where none was needed.
func (a *API) admit(c *fiber.Ctx, access Access) (id *relay.Identity, err *wire.Error) {
	if access == Public || access == Scrape && (a.cfg.MetricsPublic || a.cfg.Local(c) || a.isMetricsToken(c)) {
		return nil, nil
	}
	if id, err = a.identify(c); err != nil {
		return nil, err
	}
	if need, ok := roleFor[access]; ok && !account.Highest(id.Roles).Allows(need) {
		return id, &wire.Error{Code: wire.Forbidden, Message: "this needs the role " + string(need)}
	}
	if (access == Viewer || access == Scrape) && !watches(id) {
		return id, &wire.Error{Code: wire.Forbidden, Message: "this needs a token with the role viewer, operator, admin or metrics"}
	}
	return id, nil
}

// roleFor are the roles that change something.
var roleFor = map[Access]account.Role{Operator: account.Operator, Admin: account.Admin}
