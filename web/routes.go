package web

import (
	"strings"

	"agentnet/web/api"
)

// A RouteAccess says who may use a route.
type RouteAccess struct {
	Method, Path string // the path with the base path
	// Access is public, any token, scrape, viewer, operator or admin.
	Access string
	// Page says that it takes sessions of browsers only, and forms.
	Page bool
	// Change says that it changes something.
	Change bool
}

// Routes lists every route with who may use it. A test compares it with what the
// router knows: a route that nobody declared does not pass.
func (s *Server) Routes() []RouteAccess {
	base := s.cfg.Base
	routes := []RouteAccess{
		{Method: "GET", Path: base + "/static/:file", Access: "public"},
		{Method: "GET", Path: base + "/runbooks", Access: "public"}, // the same in every copy of the program
		{Method: "GET", Path: base + "/runbooks/:name", Access: "public"},
		{Method: "GET", Path: base + "/", Access: "public", Page: true}, // shows numbers to viewers only, or to all with PublicPage
	}
	if s.cfg.Socket != nil {
		routes = append(routes, RouteAccess{Method: "GET", Path: base + "/ws", Access: "public"}) // the first frame or a header carries the token
	}
	for _, r := range s.api.Routes() {
		routes = append(routes, RouteAccess{Method: r.Method, Path: base + r.Path, Access: r.Access.String(), Change: r.Method != "GET" && r.Access != api.AnyToken})
	}
	if s.gate != nil {
		for _, r := range s.gate.Routes() {
			access := string(r.Access)
			if access == "open" {
				access = "public"
			}
			routes = append(routes, RouteAccess{Method: r.Method, Path: base + r.Path, Access: access, Page: true, Change: r.Method != "GET"})
		}
	}
	return routes
}

// undeclared lists the routes of the router that Routes does not name.
func (s *Server) undeclared() (missing []string) {
	declared := map[string]bool{}
	for _, r := range s.Routes() {
		path := strings.TrimSuffix(r.Path, "/")
		declared[r.Method+" "+path] = true
		if r.Method == "GET" {
			declared["HEAD "+path] = true
		}
	}
	for _, r := range s.app.GetRoutes(true) {
		if key := r.Method + " " + strings.TrimSuffix(r.Path, "/"); !declared[key] {
			missing = append(missing, key)
		}
	}
	return missing
}
