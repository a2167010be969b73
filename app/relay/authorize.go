package relay

import (
	"context"
	"errors"
	"time"

	"agentnet/app/wire"
)

// authorizeTime bounds how long a token may take to be checked.
const authorizeTime = 5 * time.Second

// authorize checks token and goes on with then, which runs with l.mu held: at
// once when memory knows the token, else from another goroutine.
func (l *link) authorize(t *Turn, id uint64, token string, then func(t *Turn, id *Identity)) {
	l.known = l.hub.endings.last.Load()
	if who, found := l.hub.cfg.Authorizer.Cached([]byte(token)); found && who != nil {
		then(t, who)
		return
	}
	l.state = linkAuthenticating
	ok := l.hub.later(authorizeTime, func(ctx context.Context) func(t *Turn) {
		who, err := l.hub.cfg.Authorizer.Authorize(ctx, token)
		return func(t *Turn) { l.authorized(t, id, who, err, then) }
	})
	if !ok {
		l.state = linkNew
		wait := l.hub.gate.Refuse(t.clock(), time.Second)
		l.refuseConnect(t, id, &wire.Error{Code: wire.Overloaded, Message: "too many tokens are being checked", RetryAfterMS: retryMS(wait)}, wire.CloseOverloaded)
	}
}

// authorized goes on when the Authorizer has answered, with what came meanwhile.
func (l *link) authorized(t *Turn, id uint64, who *Identity, err error, then func(t *Turn, id *Identity)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != linkAuthenticating {
		return
	}
	l.state = linkNew
	if err == nil && who == nil {
		err = ErrUnauthorized
	}
	if err != nil {
		code, e := authError(err)
		if code == wire.CloseInternal {
			e.RetryAfterMS = retryMS(l.hub.gate.Refuse(t.clock(), 2*time.Second))
		} else {
			l.hub.Failed(l.info.Addr)
		}
		l.refuseConnect(t, id, e, code)
		return
	}
	then(t, who)
	backlog := l.backlog
	l.backlog = nil
	for _, msg := range backlog {
		l.handle(t, msg)
	}
}

// authError is what a client is told when its token was not accepted.
func authError(err error) (wire.CloseCode, *wire.Error) {
	switch {
	case errors.Is(err, ErrTokenExpired):
		return wire.CloseTokenExpired, &wire.Error{Code: wire.Unauthorized, Message: ErrTokenExpired.Error()}
	case errors.Is(err, ErrUnauthorized):
		return wire.CloseAuthFailed, &wire.Error{Code: wire.Unauthorized, Message: ErrUnauthorized.Error()}
	}
	return wire.CloseInternal, &wire.Error{Code: wire.Unavailable, Message: ErrAuthUnavailable.Error()}
}

// refuseConnect answers the first frame with an error and closes.
func (l *link) refuseConnect(t *Turn, id uint64, e *wire.Error, code wire.CloseCode) {
	l.hub.totals.connects.add(string(e.Code))
	l.fail(t, id, "", *e)
	l.shut(t, code, e.Message)
}
