package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"agentnet/app/wire"
	"agentnet/web/api"
	"agentnet/web/gate"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// contentPolicy lets pages use our own files and nothing else, and nobody frame
// them.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers that every answer has.
func (s *Server) secure(c *fiber.Ctx) {
	c.Set(fiber.HeaderContentSecurityPolicy, contentPolicy)
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderXFrameOptions, "DENY")
	// Not no-referrer, which would make browsers send forms with "Origin: null".
	c.Set(fiber.HeaderReferrerPolicy, "same-origin")
	c.Set("Cross-Origin-Opener-Policy", "same-origin")
	c.Set("Cross-Origin-Resource-Policy", "same-origin")
	if s.cfg.TLS || strings.HasPrefix(s.cfg.PublicURL, "https://") {
		c.Set(fiber.HeaderStrictTransportSecurity, "max-age=31536000")
	}
}

// known lets requests through whose method has a name that fiber knows. It would
// answer others by itself, without our headers.
func (s *Server) known(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			next(ctx)
			return
		}
		c := s.app.AcquireCtx(ctx)
		defer s.app.ReleaseCtx(c)
		_ = s.fail(c, fiber.ErrBadRequest) // writes to memory, where nothing fails
	}
}

// guard is around every handler: it sets the headers, keeps panics in and writes
// the access log.
func (s *Server) guard(c *fiber.Ctx) (err error) {
	began := time.Now()
	defer func() {
		if v := recover(); v != nil {
			err = s.caught(c, v)
		}
		if s.cfg.AccessLog {
			s.access(c, err, time.Since(began))
		}
	}()
	s.secure(c)
	return c.Next()
}

// caught answers after a panic. The value stays here: it may hold what a client
// sent, so that only its type is logged.
func (s *Server) caught(c *fiber.Ctx, v any) error {
	instance := api.NewInstance()
	s.cfg.Logger.Error("panic in an http handler", "route", c.Route().Path, "instance", instance,
		"type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
	c.Response().ResetBody()
	if s.person(c) {
		return s.login.Fault(c, fiber.StatusInternalServerError, "The server could not do it. Its log has the reason under "+instance+".")
	}
	return api.WriteProblem(c, api.Problem{Code: wire.Internal, Instance: instance,
		Detail: "the server could not do it; its log has the reason under the instance named here"})
}

// person says that a person looks at the answer: a browser opens an address that is
// not of the API.
func (s *Server) person(c *fiber.Ctx) bool {
	return s.login != nil && c.Method() == fiber.MethodGet && gate.WantsPage(c) && !strings.HasPrefix(c.Path(), s.cfg.Base+"/v1/")
}

// access writes one line. The route's pattern stands for the path, which may
// hold anything.
func (s *Server) access(c *fiber.Ctx, err error, took time.Duration) {
	status := c.Response().StatusCode()
	if e, ok := errors.AsType[*fiber.Error](err); ok {
		status = e.Code
	}
	s.cfg.Logger.Info("http request", "method", c.Method(), "route", c.Route().Path,
		"status", status, "took", took, "client", s.ClientAddr(c))
}

// details says what to do about a status that the server gave before any handler.
// The server's own texts repeat parts of the request and are not told.
var details = map[int]string{
	http.StatusBadRequest:                  "the request is not valid HTTP/1.1",
	http.StatusNotFound:                    "there is nothing at this path; /openapi.json lists what there is",
	http.StatusMethodNotAllowed:            "this path does not take the method; Allow says which it takes",
	http.StatusRequestTimeout:              "the request did not arrive in time",
	http.StatusRequestEntityTooLarge:       "the body is larger than a frame may be",
	http.StatusRequestHeaderFieldsTooLarge: "the headers are too large",
}

// fail answers with err as a problem document. It is the one place where an error
// that no handler answered becomes a status.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	s.secure(c)
	if e, ok := errors.AsType[*wire.Error](err); ok {
		if s.person(c) {
			return s.login.Fault(c, api.Status(e.Code), e.Message)
		}
		return api.WriteProblem(c, api.Problem{Code: e.Code, Detail: e.Message, RetryAfterMS: e.RetryAfterMS})
	}
	if e, ok := errors.AsType[*fiber.Error](err); ok && e.Code >= 400 && e.Code < 600 {
		if s.person(c) && e.Code == fiber.StatusNotFound {
			return s.login.Fault(c, e.Code, "There is nothing at this address.")
		}
		return api.WriteProblem(c, api.Problem{Status: e.Code, Code: api.CodeFor(e.Code), Detail: details[e.Code]})
	}
	instance := api.NewInstance()
	s.cfg.Logger.Error("http request failed", "route", c.Route().Path, "instance", instance, "error", err)
	return api.WriteProblem(c, api.Problem{Code: wire.Internal, Instance: instance,
		Detail: "the server could not do it; its log has the reason under the instance named here"})
}

// local says that the request comes from this machine, was not passed on by a
// proxy that we do not know, and was addressed to this machine: a foreign web
// page whose name was pointed at 127.0.0.1 is not local.
func (s *Server) local(c *fiber.Ctx) bool {
	if !s.ClientAddr(c).IsLoopback() {
		return false
	}
	if forwarded(c) && !s.cfg.Proxies.trusts(peerAddr(c)) {
		return false
	}
	host := strings.ToLower(string(c.Context().Request.Host()))
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || s.publicHost != "" && host == s.publicHost {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
