package web

import (
	"context"
	"fmt"

	"agentnet/app/account"
	"agentnet/app/relay"
	"agentnet/app/wire"
	"agentnet/web/api"
	"agentnet/web/gate"
	"agentnet/web/login"
	"agentnet/web/static"

	"github.com/gofiber/fiber/v2"
)

// openGate makes the gate before the pages and the pages by which people come in.
func (s *Server) openGate(files *static.Files) (err error) {
	desk := s.cfg.Access
	if desk == nil {
		return nil
	}
	s.gate, err = gate.New(gate.Config{Accounts: desk.Service, Base: s.cfg.Base, PublicURL: s.cfg.PublicURL, TLS: s.cfg.TLS,
		ClientAddr: s.ClientAddr, Trusted: func(c *fiber.Ctx) bool { return s.cfg.Proxies.trusts(peerAddr(c)) }, Logger: s.cfg.Logger})
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	node := s.cfg.Relay.Stats().Node
	s.login, err = login.New(login.Config{Accounts: desk.Service, Gate: s.gate, Files: files, Base: s.cfg.Base, PublicURL: s.cfg.PublicURL,
		Node: node, Version: s.cfg.Version, Lifetime: s.cfg.SessionLifetime, Outside: s.cfg.Outside, Logger: s.cfg.Logger})
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	s.gate.SetPage(s.login.Refuse)
	return nil
}

// signedIn says that the request is from somebody who may see figures.
func (s *Server) signedIn(c *fiber.Ctx) bool { return s.gate != nil && s.gate.May(c, account.Viewer) }

// session lets the API take the session of a browser for a token. A person reads
// what their role allows and acts as no agent.
func (s *Server) session(c *fiber.Ctx) (*relay.Identity, *wire.Error) {
	if s.gate == nil {
		return nil, nil
	}
	v, in, err := s.gate.Visitor(c)
	if err != nil {
		return nil, &wire.Error{Code: wire.Unavailable, Message: "sessions cannot be read now; try again", RetryAfterMS: 1000}
	}
	if !in {
		return nil, nil
	}
	if method := c.Method(); method != fiber.MethodGet && method != fiber.MethodHead {
		if text := s.gate.FromUs(c); text != "" {
			return nil, &wire.Error{Code: wire.Forbidden, Message: text + " (a script sends the page's form token as " + gate.FormHeader + ")"}
		}
	}
	return &relay.Identity{Token: api.SessionPrefix + v.Name, Subject: v.Name, Send: everything, Subscribe: everything, Roles: []string{string(v.Role)}}, nil
}

// everything is what a person may look at: names, never payloads.
var everything = mustGlobs("**")

func mustGlobs(texts ...string) wire.Globs {
	globs, err := wire.ParseGlobs(texts)
	if err != nil {
		panic(err) // the texts are constants
	}
	return globs
}

// keeper is what the API needs of the desk; nil when there is none.
func (s *Server) keeper() api.AccessKeeper {
	if s.cfg.Access == nil {
		return nil
	}
	return s.cfg.Access
}

// recorder writes changes made through the API into the audit log.
func (s *Server) recorder() func(context.Context, account.Entry) error {
	if s.cfg.Access == nil {
		return nil
	}
	return s.cfg.Access.Record
}
