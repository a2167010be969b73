package web

import (
	"context"
	"fmt"
	"strings"

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
		ClientAddr: s.ClientAddr, Forwarded: s.forwarded(), Trusted: func(c *fiber.Ctx) bool { return s.cfg.Proxies.trusts(peerAddr(c)) }, Logger: s.cfg.Logger})
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

// Forward says in which headers a trusted proxy names the person that it signed in.
type Forward struct {
	UserHeader, GroupsHeader string
	Groups                   account.Groups
}

// forwarded answers who the proxy says is there; nil when its word is not taken.
func (s *Server) forwarded() func(c *fiber.Ctx) (account.Visitor, bool) {
	f := s.cfg.Forward
	if f == nil {
		return nil
	}
	return func(c *fiber.Ctx) (account.Visitor, bool) {
		if !s.cfg.Proxies.trusts(peerAddr(c)) {
			return account.Visitor{}, false
		}
		users := c.Context().Request.Header.PeekAll(f.UserHeader)
		if len(users) != 1 || len(users[0]) == 0 || len(users[0]) > 256 {
			return account.Visitor{}, false // two of them: one may be the client's own
		}
		name := string(users[0]) // before the next PeekAll, which uses the same slice
		var groups []string
		for _, line := range c.Context().Request.Header.PeekAll(f.GroupsHeader) {
			for name := range strings.SplitSeq(string(line), ",") {
				groups = append(groups, strings.TrimSpace(name))
			}
		}
		v, err := s.cfg.Access.Forwarded(c.UserContext(), account.Vouched{Key: "proxy " + name, Name: name, Role: f.Groups.Role(groups), How: "proxy"}, s.gate.Attempt(c))
		if err != nil {
			s.cfg.Logger.Warn("a person whom the proxy named may not come in", "error", err)
			return account.Visitor{}, false
		}
		return v, true
	}
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
