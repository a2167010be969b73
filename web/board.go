package web

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/account"
	"agentnet/web/dash"
	"agentnet/web/gate"
	"agentnet/web/static"

	"github.com/gofiber/fiber/v2"
)

// openBoard makes the console. It stands behind the gate: without accounts there
// is none, and everybody gets the first page.
func (s *Server) openBoard(files *static.Files) (err error) {
	if s.gate == nil {
		return nil
	}
	relay, ok := s.cfg.Relay.(dash.Relay)
	if !ok {
		return nil // a relay of a test that cannot tell about its agents
	}
	sources := s.cfg.Pages
	sources.Access = s.cfg.Access
	s.board, err = dash.NewBoard(dash.BoardConfig{Page: s.page, Relay: relay, Files: files, Who: s.visitor, Note: gate.Note,
		Base: s.cfg.Base, Name: s.cfg.Relay.Stats().Node, Version: s.cfg.Version, Sources: sources, PublicStatus: s.cfg.PublicPage, Every: s.cfg.PagesEvery, Logger: s.cfg.Logger})
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	return nil
}

// roles are what the gate asks for where the console names a role.
var roles = map[dash.Role]gate.Access{dash.Nobody: gate.Open, dash.Viewer: gate.Viewer, dash.Operator: gate.Operator, dash.Admin: gate.Admin}

// boardRoutes are the console's addresses for the gate.
func (s *Server) boardRoutes() (out []gate.Route) {
	for _, r := range s.board.Routes() {
		out = append(out, gate.Route{Method: r.Method, Path: r.Path, Access: roles[r.Need], Action: r.Action, Handler: r.Handler})
	}
	return out
}

// visitor says to the console who is signed in.
func (s *Server) visitor(c *fiber.Ctx) dash.Visitor {
	v, in, err := s.gate.Visitor(c)
	if err != nil || !in {
		return dash.Visitor{}
	}
	who := dash.Visitor{Name: v.Name, Account: s.cfg.Base + "/account", Token: s.gate.FormToken(c)}
	switch v.Role {
	case account.Viewer:
		who.Role = dash.Viewer
	case account.Operator:
		who.Role = dash.Operator
	case account.Admin:
		who.Role = dash.Admin
	}
	if secret := s.gate.Secret(c); secret != "" {
		still := s.cfg.Access.Still(secret, v.Role)
		who.Still = func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return still(ctx)
		}
	}
	return who
}

// Viewers is how many pages are watched live at this moment.
func (s *Server) Viewers() int {
	if s.board == nil {
		return 0
	}
	return s.board.Streams().Viewers
}
