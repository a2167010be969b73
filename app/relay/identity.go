package relay

import (
	"context"
	"errors"
	"time"

	"agentnet/app/wire"
)

// An Identity is what a token proves: who may act, and what they may do. It is
// immutable and shared by all sessions of the token.
type Identity struct {
	Token     string     // public name of the credential (never the secret), for revocation and logs
	Subject   string     // who it was given to, for lists; may be ""
	Agents    wire.Globs // agents that it may act as
	Send      wire.Globs // agents that it may send to and ask
	Subscribe wire.Globs // channels that it may subscribe to and read
	Publish   wire.Globs // channels that it may publish to
	Roles     []string   // viewer, operator, admin: for the HTTP API and the dashboard
	Expires   time.Time  // zero: never
}

// Errors of an Authorizer. Anything else counts as ErrAuthUnavailable.
var (
	ErrUnauthorized    = errors.New("the token is not valid")
	ErrTokenExpired    = errors.New("the token has expired")
	ErrAuthUnavailable = errors.New("the token cannot be checked now")
)

// An Authorizer turns a token into an Identity.
type Authorizer interface {
	// Cached answers from memory and never waits. found is false when only
	// Authorize can tell.
	Cached(token []byte) (id *Identity, found bool)
	// Authorize may wait for a database or a key server, within ctx.
	Authorize(ctx context.Context, token string) (*Identity, error)
}
