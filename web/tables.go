package web

import (
	"agentnet/web/api"
	"agentnet/web/dash"
)

// shareConsole gives the API what the console shows, so that nothing is seen there
// that a program cannot have.
func (s *Server) shareConsole(c *api.Config) {
	if s.cfg.Pages.Agents != nil {
		c.AgentSessions = s.cfg.Pages.Agents.Sessions
	}
	if s.board == nil {
		return
	}
	if s.cfg.Pages.Scaling != nil {
		c.Advice = s.board.Advice
	}
	for _, rows := range s.board.Tables() {
		if rows.Need == dash.Operator {
			continue // has a route of its own
		}
		c.Tables = append(c.Tables, api.Table{Name: rows.Name, About: rows.About, Admin: rows.Need == dash.Admin, Rows: rows.Make})
	}
}
