package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"agentnet/app/wire"
)

var (
	// ErrClosed is returned by calls on a client that was closed or that gave up.
	// The cause follows it in the chain.
	ErrClosed = errors.New("the client is closed")
	// ErrNotSent says that the command never left this process.
	ErrNotSent = errors.New("not sent")
	// ErrUncertain says that the command was written but its answer was lost: the
	// relay may or may not have accepted it.
	ErrUncertain = errors.New("the answer was lost: it may or may not have been accepted")
	// ErrSubscribed is returned for a second subscription to one channel.
	ErrSubscribed = errors.New("this client is already subscribed to the channel")
)

// A CloseError is a connection that the relay ended.
type CloseError struct {
	Code   wire.CloseCode
	Reason string
}

func (e *CloseError) Error() string {
	text := fmt.Sprintf("the relay closed the connection with %d", e.Code)
	if name := closeName(e.Code); name != "" {
		text += " (" + name + ")"
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func closeName(code wire.CloseCode) string {
	switch code {
	case wire.CloseGoingAway:
		return "going away"
	case wire.ClosePolicy:
		return "policy"
	case wire.CloseTooBig:
		return "too big"
	case wire.CloseAuthFailed:
		return "authentication failed"
	case wire.CloseTokenExpired:
		return "token expired"
	case wire.CloseSlowConsumer:
		return "slow consumer"
	case wire.CloseReplaced:
		return "replaced by another connection"
	case wire.CloseDrain:
		return "drain"
	case wire.CloseOverloaded:
		return "overloaded"
	case wire.CloseHeartbeatMissed:
		return "heartbeat missed"
	}
	return ""
}

// A HandshakeError is an HTTP answer other than the upgrade.
type HandshakeError struct {
	Status     int           // HTTP status
	Problem    wire.Error    // from the problem document; Code is "" when there was none
	RetryAfter time.Duration // 0: not said
}

func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("the relay answered %d %s instead of a WebSocket upgrade", e.Status, http.StatusText(e.Status))
	if e.Problem.Code != "" {
		text += ": " + e.Problem.Error()
	}
	return text
}

// refusal is an error frame that answered connect.
type refusal struct{ err *wire.Error }

func (e *refusal) Error() string { return "connect: " + e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// retryAfter is how long the relay asked to stay away; 0 when it did not.
func retryAfter(err error) time.Duration {
	if h, ok := errors.AsType[*HandshakeError](err); ok {
		return h.RetryAfter
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return time.Duration(r.err.RetryAfterMS) * time.Millisecond
	}
	return 0
}

// final says that err will be met again at each attempt: the credentials or the
// address are wrong. A client that was connected before is harder to turn away,
// because a proxy in front of a restarting relay may answer anything.
func final(err error, wasConnected bool) bool {
	if r, ok := errors.AsType[*refusal](err); ok {
		switch r.err.Code {
		case wire.Unauthorized, wire.Forbidden, wire.BadFrame, wire.NotFound, wire.TooLarge:
			return true
		}
		return false
	}
	if h, ok := errors.AsType[*HandshakeError](err); ok {
		switch h.Status {
		case http.StatusUnauthorized:
			return true
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return false
		}
		return !wasConnected && h.Status < 500
	}
	e, ok := errors.AsType[*CloseError](err)
	return ok && e.Code.Final()
}

// tokenExpired says that a fresh token may help.
func tokenExpired(err error) bool {
	if e, ok := errors.AsType[*CloseError](err); ok {
		return e.Code == wire.CloseTokenExpired
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.err.Code == wire.Unauthorized
	}
	h, ok := errors.AsType[*HandshakeError](err)
	return ok && h.Status == http.StatusUnauthorized
}

func notSent(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
}
