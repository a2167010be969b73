package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// ProblemType is the media type of every error (RFC 9457).
const ProblemType = "application/problem+json"

// Problem is the body of every error.
type Problem struct {
	Type         string    `json:"type" doc:"Always about:blank: the code says what it is."`
	Title        string    `json:"title" doc:"The words of the HTTP status."`
	Status       int       `json:"status" doc:"The HTTP status."`
	Code         wire.Code `json:"code" doc:"The same word that an error frame carries."`
	Detail       string    `json:"detail,omitempty" doc:"What was wrong and what to do about it."`
	From         string    `json:"from,omitempty" doc:"The agent that refused a request; absent when the relay did."`
	Instance     string    `json:"instance,omitempty" doc:"Names the entry in the server's log, for code internal."`
	RetryAfterMS int64     `json:"retry_after_ms,omitempty" doc:"When to try again; Retry-After says the same in seconds."`
}

// Status is the HTTP status of a code. It is the only place that decides it.
//
// agent_offline is 409: the request is right, the agent's state does not allow
// it now, and a ttl_ms would let the message wait.
func Status(code wire.Code) int {
	switch code {
	case wire.BadFrame:
		return http.StatusBadRequest
	case wire.Unauthorized:
		return http.StatusUnauthorized
	case wire.Forbidden:
		return http.StatusForbidden
	case wire.NotFound:
		return http.StatusNotFound
	case wire.AgentOffline, wire.Conflict:
		return http.StatusConflict
	case wire.Gone:
		return http.StatusGone
	case wire.TooLarge:
		return http.StatusRequestEntityTooLarge
	case wire.RateLimited:
		return http.StatusTooManyRequests
	case wire.Overloaded, wire.Unavailable:
		return http.StatusServiceUnavailable
	case wire.Timeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// CodeFor is the word for a status that HTTP itself gave, such as 405.
func CodeFor(status int) wire.Code {
	switch status {
	case http.StatusUnauthorized:
		return wire.Unauthorized
	case http.StatusForbidden:
		return wire.Forbidden
	case http.StatusNotFound:
		return wire.NotFound
	case http.StatusConflict:
		return wire.Conflict
	case http.StatusGone:
		return wire.Gone
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return wire.Timeout
	case http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong:
		return wire.TooLarge
	case http.StatusTooManyRequests:
		return wire.RateLimited
	case http.StatusServiceUnavailable:
		return wire.Unavailable
	}
	if status < http.StatusInternalServerError {
		return wire.BadFrame
	}
	return wire.Internal
}

// WriteProblem answers c with p. Type and Title are filled in, Status too when it
// is 0, and the headers that belong to the status are set.
func WriteProblem(c *fiber.Ctx, p Problem) error {
	if p.Status == 0 {
		p.Status = Status(p.Code)
	}
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	switch p.Status {
	case http.StatusUnauthorized:
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="agentnet"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if p.RetryAfterMS <= 0 {
			p.RetryAfterMS = 1000
		}
		c.Set(fiber.HeaderRetryAfter, strconv.FormatInt((p.RetryAfterMS+999)/1000, 10))
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentType, ProblemType)
	return c.Status(p.Status).Send(body)
}

// fail answers c with err. What is not a *wire.Error is logged under a number
// that the answer names, and its text stays in the log.
func (a *API) fail(c *fiber.Ctx, err error) error {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return WriteProblem(c, Problem{Status: http.StatusBadGateway, Code: refused.err.Code,
			Detail: refused.err.Message, From: refused.from, RetryAfterMS: refused.err.RetryAfterMS})
	}
	if e, ok := errors.AsType[*unsupported](err); ok {
		return WriteProblem(c, Problem{Status: http.StatusUnsupportedMediaType, Code: wire.BadFrame, Detail: e.detail})
	}
	e, instance := a.explain(c.Path(), err)
	return WriteProblem(c, Problem{Code: e.Code, Detail: e.Message, RetryAfterMS: e.RetryAfterMS, Instance: instance})
}

// explain puts err into the words of the protocol.
func (a *API) explain(path string, err error) (e *wire.Error, instance string) {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e, ""
	}
	switch {
	case a.ctx.Err() != nil && errors.Is(err, context.Canceled):
		return &wire.Error{Code: wire.Unavailable, Message: "the server is stopping; try again", RetryAfterMS: 1000}, ""
	case errors.Is(err, context.DeadlineExceeded):
		return &wire.Error{Code: wire.Timeout, Message: "no answer came in time"}, ""
	}
	instance = NewInstance()
	a.cfg.Logger.Error("http request failed", "path", path, "instance", instance, "error", err)
	return &wire.Error{Code: wire.Internal, Message: "the server could not do it; its log has the reason under the instance named here"}, instance
}

// NewInstance is a number that links an answer to a line of the log.
func NewInstance() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, as crypto/rand promises
	return "urn:agentnet:error:" + hex.EncodeToString(b[:])
}

// A refusal is the answer of an agent that would not do what a request asked.
type refusal struct {
	from string
	err  *wire.Error
}

func (r *refusal) Error() string { return "refused by the agent: " + string(r.err.Code) }

// unsupported is a body in a form that is not read.
type unsupported struct{ detail string }

func (u *unsupported) Error() string { return u.detail }
